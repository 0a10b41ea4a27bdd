// The operations, differentiable unless they say otherwise. Each stands in ops_*.cpp beside its gradient, on one screen.
// Shapes are given as (B, T, C); "rows" means all dimensions but the last. Wrong shapes throw Error and name the op.
#pragma once

#include <vector>

#include "core/autograd.h"
#include "core/kernels/table.h"

namespace qd {

// --- elementwise (ops_elementwise.cpp). Operands have one shape, or one is a scalar or has the other's trailing shape.
Tensor operator+(const Tensor& a, const Tensor& b);
Tensor operator-(const Tensor& a, const Tensor& b);
Tensor operator*(const Tensor& a, const Tensor& b);
Tensor operator/(const Tensor& a, const Tensor& b);
Tensor operator+(const Tensor& a, float b);
Tensor operator*(const Tensor& a, float b);
Tensor operator-(const Tensor& a);
Tensor residual(const Tensor& x, float alpha, const Tensor& f);   // alpha x + f, one shape
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor square(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor absolute(const Tensor& x);                                // gradient 0 at 0
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor relu(const Tensor& x);                                    // gradient 0 at 0
Tensor silu(const Tensor& x);                                    // x sigmoid(x)
Tensor gelu(const Tensor& x);                                    // tanh form, "gelu_new" (Hendrycks and Gimpel 2016)
Tensor gelu_erf(const Tensor& x);                                // x Phi(x)
Tensor activate(Activation f, const Tensor& x);                  // one of relu, gelu, gelu_erf, silu, none
Tensor dropout(const Tensor& x, float p);                        // x / (1 - p) or 0; draws its mask from random_state(). p in [0, 1)

// --- reductions and rows (ops_rows.cpp)
Tensor sum(const Tensor& x);                                     // scalar; chunks added in a fixed order in f64
Tensor mean(const Tensor& x);                                    // scalar; of at least one element
Tensor sum_last(const Tensor& x);                                // (..., C) -> (...)
Tensor mean_last(const Tensor& x);
Tensor max_last(const Tensor& x);                                // no gradient
Tensor argmax_last(const Tensor& x);                             // i32, the first of equals; no gradient
Tensor softmax(const Tensor& x);                                 // over the last dimension; a row of -infinity gives zeros
struct NormOptions {
  float epsilon = 1e-5f;
  bool rms = false;                                              // RMS norm (Zhang and Sennrich 2019): no mean is subtracted
};
// weight * (x - mean) / sqrt(variance + epsilon) + bias over the last dimension (Ba et al. 2016); weight, bias (C) may be undefined.
Tensor norm(const Tensor& x, const Tensor& weight, const Tensor& bias, NormOptions options = {});
// weight * (x - mean) / sqrt(variance + epsilon) + bias, channel by channel: x (..., C), weight and bias (C), mean and (biased) variance over all
// rows, which `found` receives (Ioffe and Szegedy 2015). Of at least one row.
struct BatchStatistics {
  Tensor mean, variance;                                         // (C) each
};
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon, BatchStatistics& found);
// The same with mean and variance of each sample alone, over all of its rows and C / groups neighbouring channels (Wu and He 2018): x (B, ..., C)
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, float epsilon);
// norm(alpha x + f), fused: the post-norm residual (DeepNorm, Wang et al. 2022)
Tensor residual_norm(const Tensor& x, float alpha, const Tensor& f, const Tensor& weight, const Tensor& bias, NormOptions options = {});

// --- products (ops_matmul.cpp)
// a (..., m, k) b (..., k, n) -> (..., m, n); leading dimensions equal, or b has none. transpose_a: a is (..., k, m); likewise b.
Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a = false, bool transpose_b = false);
enum class Layout { out_in, in_out };                            // a dense weight is stored (out, in) as in BERT, or (in, out) as in GPT-2
// activation(x W + bias): x (..., in) -> (..., out); bias (out) may be undefined
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Layout layout = Layout::out_in, Activation f = Activation::none);

// --- tables and losses (ops_loss.cpp). Ids are i32; one outside the table throws and names it.
Tensor embedding(const Tensor& table, const Tensor& ids);        // (V, C), (...) -> (..., C)
constexpr int32_t ignored = -100;                                // a target that does not count
// Mean over the counted targets of -log softmax(logits)[target], in nats: logits (..., V), targets (...). No counted target: 0.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, int32_t ignored_target = ignored);
// The same with logits = x weight^T, by row chunks: the logits never exist whole. x (..., C), weight (V, C)
Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets, int32_t ignored_target = ignored);
Tensor mse(const Tensor& a, const Tensor& b);                    // mean squared difference, one shape

// --- attention (ops_attention.cpp)
// Where one of q, k, v lies: head h of token t starts at column `column + h * head_dim` of row t of x (B, T, row length).
struct Heads {
  const Tensor& x;
  int64_t column = 0;
};
struct AttentionOptions {
  int64_t heads;
  int64_t kv_heads = 0;                                          // 0: as many as heads; else a divisor (grouped queries, Ainslie et al. 2023)
  int64_t head_dim;
  float scale = 0;                                               // 0: 1/sqrt(head_dim)
  Mask mask = Mask::causal;
  std::vector<int32_t> prefix = {};                              // per sequence, for Mask::prefix
  std::vector<int32_t> lengths = {};                             // per sequence: keys from here on are padding
  int64_t query_offset = 0;                                      // position of the first query among the keys (cached generation)
  std::vector<float> slopes = {};                                // per head: ALiBi
  Tensor table = {};                                             // (buckets, heads): T5's relative bias, with gradient
  int64_t max_distance = 128;                                    // T5: farther keys share the last bucket
  Tensor rotary = {};                                            // (positions, rotary_dim) from rotary_table(): RoPE on q and k
  bool keys_turned = false;                                      // RoPE has turned k already, as in a cache (store_heads); no gradient
  float dropout = 0;                                             // on the attention weights
};
// softmax(scale q k^T + bias) v -> (B, Tq, heads * head_dim). q, k, v may be one packed tensor: attention({x}, {x, C}, {x, 2 * C}, ...).
Tensor attention(Heads q, Heads k, Heads v, const AttentionOptions& options);
// The attention weights themselves, without dropout: (B, heads, Tq, Tk). No gradient.
Tensor attention_probabilities(Heads q, Heads k, const AttentionOptions& options);
// Writes heads of x's T tokens to rows first .. first + T - 1 of each sequence of `cache` (B, capacity, width), where width is a multiple
// of head_dim. With a rotary table they are turned by the angles of these positions. Throws Error where a gradient would be lost.
void store_heads(const Heads& x, int64_t head_dim, const Tensor& rotary, int64_t first, Tensor& cache);
// cos and sin of t * base^(-2i/dim), t < positions, i < dim/2: (positions, dim). Su et al. 2021 (RoFormer)
Tensor rotary_table(int64_t positions, int64_t dim, double base = 10000);
// ALiBi's slopes 2^(-8h/H); for other numbers of heads the odd steps of the next power of two follow (Press et al. 2021)
std::vector<float> alibi_slopes(int64_t heads);
// T5's bucket of key - query (Raffel et al. 2020): half of the buckets exact, half logarithmic; one direction (causal) or both
int32_t t5_bucket(int64_t key_minus_query, bool both_directions, int64_t buckets, int64_t max_distance);

// --- convolution (ops_conv.cpp). Pictures are channel-last: (B, H, W, C).
struct PerAxis {
  PerAxis(int64_t both) : y(both), x(both) {}
  PerAxis(int64_t y, int64_t x) : y(y), x(x) {}
  int64_t y, x;
};
struct ConvOptions {
  PerAxis stride = 1, padding = 0, dilation = 1;                 // zeros are padded on both sides
  PerAxis output_padding = 0;                                    // of conv_transpose2d: so many rows and columns more, below the larger of stride and dilation
  std::vector<uint8_t> taps = {};                                // kh * kw, of conv2d: a tap with 0 is skipped (masked convolutions); empty: all count
};
// What a convolution does on its way in and out, without passes of its own.
struct ConvFused {
  bool relu_input = false;                                       // of conv2d: relu(x) is convolved, and never stored
  Activation activation = Activation::none;
  Tensor residual = {};                                          // of conv2d, of the output's shape: added after the activation
};
// activation(relu?(x) * weight + bias) + residual: x (B, H, W, C), weight (O, kh, kw, C), bias (O) or undefined
// -> (B, H', W', O), H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvOptions& options = {}, const ConvFused& fused = {});
// The gradient of conv2d by its input (Zeiler et al. 2010): x (B, H, W, C), weight (C, kh, kw, O), that of the conv2d from O to C channels
// -> (B, H', W', O), H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvOptions& options = {}, const ConvFused& fused = {});
// The taps of a masked convolution (van den Oord et al. 2016, PixelCNN): those before the middle one in reading order; type B has it as well.
std::vector<uint8_t> causal_taps(int64_t kernel_height, int64_t kernel_width, bool type_b);

// --- pooling (ops_pool.cpp): x (B, H, W, C) -> (B, H', W', C), H' = floor((H + 2 padding - window) / stride) + 1
struct PoolOptions {
  PerAxis window = 2;
  PerAxis stride = 0;                                            // 0: as far as the window is wide
  PerAxis padding = 0;                                           // at most half a window, on both sides
};
Tensor max_pool2d(const Tensor& x, const PoolOptions& options = {});    // the gradient goes to the first of equals; padding never wins
Tensor average_pool2d(const Tensor& x, const PoolOptions& options = {});   // padding counts as zeros
Tensor upsample_nearest(const Tensor& x, PerAxis factor);        // (B, H, W, C) -> (B, H factor.y, W factor.x, C), each pixel repeated

// --- quantisation (ops_quantise.cpp)
Tensor stop_gradient(const Tensor& x);                           // sg[x]: the same numbers, constant to the gradient
Tensor straight_through(const Tensor& x, const Tensor& q);       // x + sg[q - x]: q forward, the identity backward (Bengio et al. 2013)
// For each row of x (..., D) the number of the nearest row of codebook (K, D), the first of equals: i32 (...). No gradient.
Tensor nearest(const Tensor& x, const Tensor& codebook);

// --- along time (ops_fft.cpp): signals (B, T, C). Errors of a transform are about 1e-7 of the signal's norm, at any length.
// Real Fourier transform of x followed by zeros up to n >= T: X_f = sum over t of x_t exp(-2 pi i f t / n), f = 0 .. n/2, as rows of real parts
// and rows of imaginary parts: (B, n/2 + 1, 2, C). Any n; products of 2, 3 and 5 are quickest.
Tensor rfft(const Tensor& x, int64_t n);
Tensor irfft(const Tensor& x, int64_t n);                        // its inverse: (B, n/2 + 1, 2, C) -> (B, n, C); Im X_0 and Im X_{n/2} do not count
// y_t = sum over j <= t of k_j u_{t-j} + skip u_t, channel by channel: u (B, T, C), k (at most T steps, C), skip (C) may be undefined
Tensor long_convolution(const Tensor& u, const Tensor& k, const Tensor& skip = {});
// The kernel (length, C) of a rational transfer function, a and b (C, N): k = inverse DFT of (b_1 + b_2 z + .. + b_N z^(N-1)) / (1 + a_1 z + .. + a_N z^N)
// at the roots of unity z^length = 1 (Parnichkun et al. 2024, without their delay; kexue.fm/archives/10180). It is the first `length` values
// C A^j B of the recurrence with the companion matrix A of a, B = e_1 and C = b (I - A^length)^-1. Any length, any N, unstable poles too; a pole on
// one of the roots gives infinities.
Tensor rational_kernel(const Tensor& a, const Tensor& b, int64_t length);
// The layer: long_convolution(u, rational_kernel(a, b, T), skip)
Tensor rational_transfer(const Tensor& u, const Tensor& a, const Tensor& b, const Tensor& skip = {});

}  // namespace qd
