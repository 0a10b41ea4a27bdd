// The kernel table: one struct of function pointers per instruction set, chosen once at start-up.
// Plain pointers and sizes only: this header is compiled for every instruction set and must define nothing that the linker could merge.
// Conventions: row-major f32; a "matrix" argument pair (rows, cols) is contiguous; `add` means y += result instead of y = result;
// every kernel runs in parallel by itself, and its result does not depend on the number of threads.
#pragma once

#include <cstdint>

namespace qd {

// Elementwise functions; the gradient of each uses its output (exp, sqrt, reciprocal, tanh, sigmoid, relu) or its input (the rest).
enum class Unary : int { exp, log, sqrt, square, reciprocal, absolute, tanh, sigmoid, relu, gelu, gelu_erf, silu, count };
constexpr bool saves_output(Unary f) {
  return f == Unary::exp || f == Unary::sqrt || f == Unary::reciprocal || f == Unary::tanh || f == Unary::sigmoid || f == Unary::relu;
}

enum class Binary : int { add, sub, mul, div, count };

// One operand of a broadcasting product over (rows, cols): element (r, c) is data[r * row + c * col]; row is cols or 0, col is 1 or 0.
struct Strided {
  const float* data;
  int64_t row, col;
};

// What happens to C on its way out of a product: C = activation(scale * A B + bias) + residual, or C += scale * A B when `add`.
enum class Activation : int { none, relu, gelu, gelu_erf, silu };
constexpr Unary unary_of(Activation f) {   // f is not `none`
  return f == Activation::gelu ? Unary::gelu : f == Activation::gelu_erf ? Unary::gelu_erf : f == Activation::silu ? Unary::silu : Unary::relu;
}
struct Epilogue {
  float scale = 1;
  bool add = false;                        // C += ; then bias, activation, pre and residual must be absent
  const float* bias = nullptr;             // (n)
  Activation activation = Activation::none;
  float* pre = nullptr;                    // (m, n), leading dimension ldc: scale * A B + bias before the activation, for its gradient
  const float* residual = nullptr;         // (m, n), leading dimension ldc
};

// One stored matrix: element (i, j) of the operand is data[i * ld + j], or data[j * ld + i] when transposed.
struct Matrix {
  const float* data;
  int64_t ld;
  bool transposed = false;
};

// What the factors of a product are rounded to on their way into it; sums are f32, as is everything that is stored.
enum class Precision : int { f32, bf16 };
Precision precision();                     // the switch that products read when they are asked for
void set_precision(Precision p);           // bf16: f32 all the same where bf16_products() is null

// C (m,n) = A (m,k) B (k,n), `batch` times with the given distances between consecutive matrices (in elements; 0 shares one).
struct Gemm {
  int64_t m, n, k;
  Matrix a, b;
  float* c;
  int64_t ldc;
  Epilogue out = {};
  int64_t batch = 1, step_a = 0, step_b = 0, step_c = 0;
  Precision precision = qd::precision();
};

// Which keys a query may see (Radford 2019; T5; kexue.fm/archives/9529 for the mixed mask). Position of query i is i + query_offset.
enum class Mask : int {
  bidirectional,   // all keys
  causal,          // keys at or before the query
  prefix,          // keys at or before the query, and all keys below prefix[b]
  mixed,           // head h < heads/2: at or before the query; the other heads: at or after the query
};

namespace kernel {   // arguments whose names are also those of layers and optimisers

// y = weight * (s - mean) * rstd + bias with s = x, or s = alpha * residual + x. RMS norm: no mean is subtracted.
struct Norm {
  int64_t rows, cols;
  bool rms;
  float epsilon;
  const float* x;                          // (rows, cols)
  const float* weight;                     // (cols) or null
  const float* bias;                       // (cols) or null
  const float* residual = nullptr;         // (rows, cols) or null
  float alpha = 1;
  float* sum = nullptr;                    // (rows, cols): s, needed by the gradient; only with residual
  float* y;                                // (rows, cols)
  float *mean, *rstd;                      // (rows) statistics for the gradient; mean unused for RMS norm
};
struct NormGradient {
  int64_t rows, cols;
  bool rms;
  const float *s, *weight, *mean, *rstd, *dy;
  float* dx;                               // (rows, cols) ds, or null
  bool add_dx;
  float* dweight;                          // (cols) or null
  bool add_dweight;
  float* dbias;                            // (cols) or null
  bool add_dbias;
};

// Multi-head attention over head slices of row-major sequences. Vaswani et al. 2017; blocks with online softmax: Dao et al. 2022.
// Query head h reads key/value head h / (heads / kv_heads). A row that sees no key gives zeros and zero gradient.
struct Attention {
  int64_t batch, queries, keys;            // sequence lengths Tq and Tk
  int64_t heads, kv_heads, head_dim;
  const float *q, *k, *v;                  // first element of head 0, token 0; head h starts h * head_dim further
  int64_t q_row, k_row, v_row;             // distance between tokens; between sequences it is q_batch, k_batch, v_batch
  int64_t q_batch, k_batch, v_batch;
  float* y;                                // (batch, queries, heads * head_dim)
  float* lse;                              // (batch, heads, queries) log-sum-exp of the scores, for the gradient (null: not wanted)
  float scale;                             // scores = scale * q.k + bias
  Mask mask = Mask::bidirectional;
  int64_t query_offset = 0;                // position of query 0 on the keys' axis (KV cache: keys - queries)
  const int32_t* prefix = nullptr;         // (batch)
  const int32_t* lengths = nullptr;        // (batch): keys at or beyond lengths[b] are padding
  const float* slopes = nullptr;           // (heads) ALiBi (Press et al. 2021): score -= slopes[h] * |query - key|
  const float* table = nullptr;            // (buckets, heads) T5 relative bias (Raffel et al. 2020) ...
  const int32_t* bucket = nullptr;         // ... score += table[bucket[key - query + queries_span]][h]; entries 0 .. 2 * queries_span
  int64_t bucket_span = 0;                 // queries_span: the largest |key - query| plus slack, so that the index is never negative
  int64_t buckets = 0;
  const float* rotary = nullptr;           // (positions, rotary_dim): cos and sin of RoPE (Su et al. 2021), pairs (i, i + rotary_dim/2):
  int64_t rotary_dim = 0;                  //   row t holds cos(t f_0) .. cos(t f_{r/2-1}), sin(t f_0) ..; position of key j is j
  bool keys_turned = false;                // k holds keys that RoPE has turned already (KV cache); no gradient then
  float dropout = 0;                       // probability of dropping a weight; kept weights are divided by 1 - dropout
  uint64_t seed = 0, stream = 0;           // the counter-based random stream of the dropout mask
};
struct AttentionGradient {
  const float *dy, *y, *lse;
  float *dq, *dk, *dv;                     // laid out and strided like q, k, v; each may be null (not wanted)
  bool add_dq, add_dk, add_dv;
  float* dtable;                           // (buckets, heads) or null
  bool add_dtable;
};

// Cross-correlation of channel-last pictures: y[b, i, j, o] = sum over (u, v, c) of
//   x[b, i * stride_y - padding_y + u * dilation_y, j * stride_x - padding_x + v * dilation_x, c] * weight[o, u, v, c], zeros beyond x.
struct Convolution {
  int64_t batch, height, width, in;        // x (batch, height, width, in)
  int64_t out_height, out_width, out;      // y (batch, out_height, out_width, out)
  int64_t kernel_height, kernel_width;     // weight (out, kernel_height, kernel_width, in)
  int64_t stride_y = 1, stride_x = 1, padding_y = 0, padding_x = 0, dilation_y = 1, dilation_x = 1;
  const uint8_t* taps = nullptr;           // (kernel_height, kernel_width): taps with 0 are left out, as if their weight were zero
  bool rectify = false;                    // relu(x) takes the place of x
  Precision precision = qd::precision();
};

struct AdamW {                             // Loshchilov and Hutter 2019; one sweep over n values
  float rate, beta1, beta2, rest1, rest2;  // rest: 1 - beta, taken in f64
  float epsilon, decay;
  float correction1, correction2;          // 1 - beta1^t, 1 - beta2^t
  float gradient_scale;                    // the clipping factor
};

// Everything below in f32 and f64: FFTs along time, where a vector's lanes are channels (fft.inl).

// How a transform of length n is done; made once per length by fft_plan() (core/fft_plan.h). n = 2^a 3^b 5^c is a product of radices, one for
// each level: position p of the result holds the frequency f with position[f] = p. Any other n goes through a convolution of length inner->n
// (Bluestein 1970) and keeps the natural order.
template <class T>
struct FftPlan {
  static constexpr int most_levels = 48;
  int64_t n;
  int levels;                              // at least 1
  int radix[most_levels];                  // 1, 2, 3, 4, 5 or 8
  int64_t size[most_levels + 1];           // of one transform at each level: n, n / radix[0], ..., 1
  const T* twiddles[most_levels];          // of each level (size / radix, radix - 1, 2): cos and sin of -2 pi j f / size
  const int32_t* position;                 // (n): where frequency f stands
  const int32_t* mate;                     // (n): where the frequency n - f of position p stands
  const FftPlan* inner = nullptr;          // Bluestein
  const T* chirp = nullptr;                // (n, 2): exp(-i pi j^2 / n)
  const T* chirp_spectrum = nullptr;       // (inner->n, 2), in the order of inner, divided by inner->n
};

// Real signals and their spectra, of frequencies 0 .. n/2: rows of real parts and rows of imaginary parts in turn.
template <class T>
struct RealTransform {
  const FftPlan<T>* plan;
  int64_t batch, time, channels;           // time <= n: zeros follow, or are left out
  T edge, middle;                          // factors of the frequencies 0 and n/2 (edge), and of the others
  const T* from;                           // rfft: (batch, time, channels); irfft: (batch, n/2 + 1, 2, channels)
  T* to;                                   // the other of the two
  bool add;
};

// y_t = sum over j <= t of k_j u_{t-j} + skip u_t
template <class T>
struct LongConvolution {
  const FftPlan<T>* plan;                  // n = fft_size(time + taps - 1): nothing wraps around into the result
  int64_t batch, time, channels, taps;     // 1 <= taps <= time
  const T* u;                              // (batch, time, channels)
  const T* k;                              // (taps, channels)
  const T* skip;                           // (channels) or null
  T* y;                                    // (batch, time, channels)
  T* spectrum;                             // of k and skip, made on the way to y: (bands of W channels, n, 2, W), 64-byte aligned; W is 1 in f64
};
// Reads u, and for du the spectrum; k, skip and y may be gone.
template <class T>
struct LongConvolutionGradient {
  const T* dy;
  T* du;                                   // null: not wanted; likewise below
  bool add_du;
  T* dk;
  bool add_dk;
  T* dskip;
  bool add_dskip;
};

// k = inverse DFT of (b_1 + b_2 z + .. + b_N z^(N-1)) / (1 + a_1 z + .. + a_N z^N) at the n-th roots of unity z = exp(-2 pi i f / n).
template <class T>
struct RationalKernel {
  const FftPlan<T>* plan;
  int64_t channels, order;
  const T *a, *b;                          // (channels, order)
  T* k;                                    // (n, channels)
};
template <class T>
struct RationalKernelGradient {
  const T* dk;
  T *da, *db;                              // null: not wanted
  bool add_da, add_db;
};

template <class T>
struct SpectralKernels {
  void (*rfft)(const RealTransform<T>&);
  void (*irfft)(const RealTransform<T>&);  // to_t = edge X_0 + sum of Re(middle X_f exp(2 pi i f t / n)) ..., not divided by n
  void (*long_convolution)(const LongConvolution<T>&);
  void (*long_convolution_gradient)(const LongConvolution<T>&, const LongConvolutionGradient<T>&);
  void (*rational_kernel)(const RationalKernel<T>&);
  void (*rational_kernel_gradient)(const RationalKernel<T>&, const RationalKernelGradient<T>&);
};

}  // namespace kernel

// The products of the AVX-512 table in bf16.
struct Products {
  float (*multiply_adds)(int64_t steps);   // as in Kernels, but each adds two products
  void (*gemm)(const Gemm&);
  void (*convolution)(const kernel::Convolution&, const float* x, const float* weight, float* y, const Epilogue&);
  void (*convolution_input_gradient)(const kernel::Convolution&, const float* x, const float* dy, const float* weight, float* dx, const Epilogue&);
  void (*convolution_weight_gradient)(const kernel::Convolution&, const float* x, const float* dy, float* dweight, bool add);
};

struct Kernels {
  const char* name;                        // "baseline", "avx2", "avx512"
  int lanes;                               // f32 lanes of a vector

  float (*multiply_adds)(int64_t steps);   // 12 * steps fused multiply-adds of a whole vector, in registers: bench finds the peak with it

  // elementwise
  void (*unary)(Unary f, int64_t n, const float* x, float* y);
  void (*unary_gradient)(Unary f, int64_t n, const float* saved, const float* dy, float* dx, bool add);   // saved: x or y, see saves_output
  void (*binary)(Binary f, int64_t rows, int64_t cols, Strided a, Strided b, float* y, bool add);
  void (*combine)(int64_t n, float alpha, const float* a, float beta, const float* b, float* y);          // y = alpha a + beta b; b may be null; y may be a or b
  void (*scale_add)(int64_t n, float alpha, const float* x, float* y);                                    // y += alpha x
  void (*fill)(int64_t n, float value, float* y);
  void (*dropout)(int64_t n, float p, uint64_t seed, uint64_t stream, const float* x, float* y, bool add);  // y = x * keep / (1 - p)
  bool (*all_finite)(int64_t n, const float* x);

  // reductions
  double (*sum)(int64_t n, const float* x);
  double (*sum_squares)(int64_t n, const float* x);
  void (*sum_rows)(int64_t rows, int64_t cols, const float* x, float* y, bool add);                       // y[c] = sum over r
  void (*sum_cols)(int64_t rows, int64_t cols, const float* x, float* y, bool add);                       // y[r] = sum over c
  void (*max_cols)(int64_t rows, int64_t cols, const float* x, float* y, int32_t* where);                 // largest of each row, first index of it

  // rows
  void (*softmax)(int64_t rows, int64_t cols, const float* x, float* y);
  void (*softmax_gradient)(int64_t rows, int64_t cols, const float* y, const float* dy, float* dx, bool add);
  void (*norm)(const kernel::Norm&);
  void (*norm_gradient)(const kernel::NormGradient&);
  // sums (2, cols), over rows: of dy and of dy (x - centre); dy null: of x - centre and its square. centre (cols)
  void (*channel_sums)(int64_t rows, int64_t cols, const float* x, const float* centre, const float* dy, float* sums);
  // y = a (x - centre) + b z + c, column by column: centre, a, b, c (cols); z and b may be null
  void (*channel_affine)(int64_t rows, int64_t cols, const float* x, const float* centre, const float* a, const float* z, const float* b, const float* c, float* y, bool add);
  void (*gather)(int64_t rows, int64_t cols, const int32_t* ids, const float* table, float* y);
  void (*scatter_add)(int64_t rows, int64_t cols, const int32_t* ids, const float* dy, float* table);     // table[ids[r]] += dy[r], in order of r
  // losses[r] = -log softmax(x[r])[target[r]] (0 where ignored); x becomes scale * (softmax - one-hot) when `gradient` (0 where ignored)
  void (*cross_entropy)(int64_t rows, int64_t cols, float* x, const int32_t* target, int32_t ignored, float scale, bool gradient, float* losses);

  // products
  void (*gemm)(const Gemm&);
  void (*attention)(const kernel::Attention&);
  void (*attention_gradient)(const kernel::Attention&, const kernel::AttentionGradient&);
  void (*attention_probabilities)(const kernel::Attention&, float* p);                                            // p (batch, heads, queries, keys); y unused
  // The gradient of the input is also the forward pass of the transposed convolution: hence its epilogue (C is dx).
  // With `rectify` it needs x, and gets what relu lets through.
  void (*convolution)(const kernel::Convolution&, const float* x, const float* weight, float* y, const Epilogue&);
  void (*convolution_input_gradient)(const kernel::Convolution&, const float* x, const float* dy, const float* weight, float* dx, const Epilogue&);
  void (*convolution_weight_gradient)(const kernel::Convolution&, const float* x, const float* dy, float* dweight, bool add);

  // convolutions as long as the signal, in f32 and f64
  kernel::SpectralKernels<float> spectral;
  kernel::SpectralKernels<double> spectral_f64;

  // optimisers
  void (*adamw)(int64_t n, const kernel::AdamW&, float* w, const float* g, float* m, float* v);
  void (*adam_direction)(int64_t n, const kernel::AdamW&, const float* w, const float* g, float* m, float* v, float* r);   // LAMB: r = m^/(sqrt(v^) + eps) + decay w
  void (*momentum)(int64_t n, float rate, float momentum, float decay, float gradient_scale, float* w, const float* g, float* m);   // m = mu m + g + decay w; w -= rate m
};

const Kernels& kernels();                       // the table in use: the best this processor has, or the one QD_ISA names (baseline, avx2, avx512)
int supported_kernels(const Kernels* out[4]);   // every table this processor can run, slowest first; returns their number
bool multiplies_bf16();                         // whether products are computed in bf16 now: asked for, and to be had
const Products* bf16_products();                // null unless the table in use multiplies in bf16 (AVX-512 on a processor with AVX512-BF16)
void use_kernels(const Kernels&);               // for tests and benchmarks

}  // namespace qd
