// The kernel table while profiling: each entry looks at the clock and calls the real one. A kernel without a line here is not timed.
#include <cmath>

#include "core/kernels/table.h"
#include "core/profile.h"

namespace qd {
namespace {

const Kernels* real = nullptr;

template <auto entry>
struct Timed;
template <class R, class... A, R (*Kernels::*entry)(A...)>
struct Timed<entry> {
  static inline const char* name = nullptr;
  static inline Work (*work)(A...) = nullptr;
  static R call(A... a) {
    const Profile scope(name, work(a...));
    return (real->*entry)(a...);
  }
};

template <auto entry, class F>
void time(Kernels& table, const char* name, F work) {
  Timed<entry>::name = name;
  Timed<entry>::work = work;
  table.*entry = Timed<entry>::call;
}

// The same for the tables within the table: transforms in f32 and in f64.
template <auto part, auto entry>
struct TimedPart;
template <class S, S Kernels::*part, class... A, void (*S::*entry)(A...)>
struct TimedPart<part, entry> {
  static inline const char* name = nullptr;
  static inline Work (*work)(A...) = nullptr;
  static void call(A... a) {
    const Profile scope(name, work(a...));
    (real->*part.*entry)(a...);
  }
};

template <auto part, auto entry, class F>
void time(Kernels& table, const char* name, F work) {
  TimedPart<part, entry>::name = name;
  TimedPart<part, entry>::work = work;
  table.*part.*entry = TimedPart<part, entry>::call;
}

Work floats(double arrays, int64_t n) { return {0, 4 * arrays * static_cast<double>(n), {n}}; }
Work floats(double arrays, int64_t rows, int64_t cols) { return {0, 4 * arrays * static_cast<double>(rows * cols), {rows, cols}}; }

Work product(const Gemm& g) {
  const auto a = static_cast<double>(g.m * g.k), b = static_cast<double>(g.k * g.n), c = static_cast<double>(g.m * g.n);
  const auto batch = static_cast<double>(g.batch);
  const double results = 1 + (g.out.add ? 1 : 0) + (g.out.pre ? 1 : 0) + (g.out.residual ? 1 : 0);
  return {2 * batch * c * static_cast<double>(g.k), 4 * ((g.step_a ? batch : 1) * a + (g.step_b ? batch : 1) * b + batch * results * c),
          {g.batch, g.m, g.n, g.k}};
}

// `products` of (queries, head_dim, visible keys) in each head. The mask's part is counted: half for causal attention of T by T.
Work attending(const kernel::Attention& a, double products, double arrays) {
  const auto tq = static_cast<double>(a.queries), tk = static_cast<double>(a.keys), offset = static_cast<double>(a.query_offset);
  const double causal = tq * (offset + (tq + 1) / 2);
  const double seen = a.mask == Mask::causal ? (causal < tq * tk ? causal : tq * tk) : a.mask == Mask::mixed ? tq * tk / 2 : tq * tk;
  const auto d = static_cast<double>(a.head_dim), batch = static_cast<double>(a.batch), heads = static_cast<double>(a.heads);
  return {2 * products * batch * heads * seen * d, 4 * arrays * batch * d * (heads * tq + static_cast<double>(a.kv_heads) * tk),
          {a.batch, a.heads, a.queries, a.keys, a.head_dim}};
}

Work convolving(const kernel::Convolution& c) {
  const auto pixels = static_cast<double>(c.batch * c.out_height * c.out_width), inputs = static_cast<double>(c.batch * c.height * c.width * c.in);
  const auto taps = static_cast<double>(c.kernel_height * c.kernel_width * c.in), out = static_cast<double>(c.out);
  return {2 * pixels * out * taps, 4 * (inputs + pixels * out + out * taps), {c.batch, c.out_height, c.out_width, c.out, c.in, c.kernel_height * c.kernel_width}};
}

// `transforms` of real signals, 2.5 n log2 n operations each, as is customary; `numbers` that are read or written.
template <class T>
Work transforming(const kernel::FftPlan<T>& plan, int64_t transforms, int64_t numbers, const Shape& sizes) {
  const auto n = static_cast<double>(plan.n);
  return {2.5 * static_cast<double>(transforms) * n * std::log2(n), static_cast<double>(sizeof(T)) * static_cast<double>(numbers), sizes};
}
template <class T>
Work transforming(const kernel::RealTransform<T>& r) {
  return transforming(*r.plan, r.batch * r.channels, r.batch * r.channels * (r.time + 2 * (r.plan->n / 2 + 1)), {r.batch, r.time, r.channels});
}

template <auto part, class T>
void time_transforms(Kernels& table) {
  using S = kernel::SpectralKernels<T>;
  time<part, &S::rfft>(table, "rfft", [](const kernel::RealTransform<T>& r) { return transforming(r); });
  time<part, &S::irfft>(table, "irfft", [](const kernel::RealTransform<T>& r) { return transforming(r); });
  time<part, &S::long_convolution>(table, "long_convolution", [](const kernel::LongConvolution<T>& c) {
    return transforming(*c.plan, (2 * c.batch + 1) * c.channels, (2 * c.batch * c.time + c.taps + 2 * c.plan->n) * c.channels,
                        {c.batch, c.time, c.channels, c.taps});
  });
  time<part, &S::long_convolution_gradient>(
      table, "long_convolution_gradient", [](const kernel::LongConvolution<T>& c, const kernel::LongConvolutionGradient<T>& g) {
        const bool k = g.dk || g.dskip;
        const int64_t signals = 1 + (g.du ? 1 : 0) + (k ? 1 : 0), kernels = k ? 1 : 0;
        return transforming(*c.plan, (signals * c.batch + kernels) * c.channels,
                            (signals * c.batch * c.time + kernels * c.taps + (g.du ? 2 * c.plan->n : 0)) * c.channels, {c.batch, c.time, c.channels, c.taps});
      });
  time<part, &S::rational_kernel>(table, "rational_kernel", [](const kernel::RationalKernel<T>& r) {
    return transforming(*r.plan, 3 * r.channels, (2 * r.order + r.plan->n) * r.channels, {r.plan->n, r.channels, r.order});
  });
  time<part, &S::rational_kernel_gradient>(
      table, "rational_kernel_gradient", [](const kernel::RationalKernel<T>& r, const kernel::RationalKernelGradient<T>&) {
        return transforming(*r.plan, 5 * r.channels, (4 * r.order + r.plan->n) * r.channels, {r.plan->n, r.channels, r.order});
      });
}

}  // namespace

const Kernels& profiled(const Kernels& kernels) {
  static Kernels table;
  real = &kernels;
  table = kernels;
  using K = Kernels;
  time<&K::unary>(table, "unary", [](Unary, int64_t n, auto...) { return floats(2, n); });
  time<&K::unary_gradient>(table, "unary_gradient", [](Unary, int64_t n, auto, auto, auto, bool add) { return floats(add ? 4 : 3, n); });
  time<&K::binary>(table, "binary", [](Binary, int64_t rows, int64_t cols, Strided a, Strided b, auto, bool add) {
    return floats((a.row ? 1 : 0) + (b.row ? 1 : 0) + (add ? 2 : 1), rows, cols);
  });
  time<&K::combine>(table, "combine", [](int64_t n, auto, auto, auto, const float* b, auto) { return floats(b ? 3 : 2, n); });
  time<&K::scale_add>(table, "scale_add", [](int64_t n, auto...) { return floats(3, n); });
  time<&K::fill>(table, "fill", [](int64_t n, auto...) { return floats(1, n); });
  time<&K::dropout>(table, "dropout", [](int64_t n, auto, auto, auto, auto, auto, bool add) { return floats(add ? 3 : 2, n); });
  time<&K::all_finite>(table, "all_finite", [](int64_t n, auto) { return floats(1, n); });
  time<&K::sum>(table, "sum", [](int64_t n, auto) { return floats(1, n); });
  time<&K::sum_squares>(table, "sum_squares", [](int64_t n, auto) { return floats(1, n); });
  time<&K::sum_rows>(table, "sum_rows", [](int64_t rows, int64_t cols, auto...) { return floats(1, rows, cols); });
  time<&K::sum_cols>(table, "sum_cols", [](int64_t rows, int64_t cols, auto...) { return floats(1, rows, cols); });
  time<&K::max_cols>(table, "max_cols", [](int64_t rows, int64_t cols, auto...) { return floats(1, rows, cols); });
  time<&K::softmax>(table, "softmax", [](int64_t rows, int64_t cols, auto...) { return floats(2, rows, cols); });
  time<&K::softmax_gradient>(table, "softmax_gradient", [](int64_t rows, int64_t cols, auto, auto, auto, bool add) {
    return floats(add ? 4 : 3, rows, cols);
  });
  time<&K::norm>(table, "norm", [](const kernel::Norm& n) { return floats(n.residual ? 4 : 2, n.rows, n.cols); });
  time<&K::norm_gradient>(table, "norm_gradient", [](const kernel::NormGradient& n) {
    return floats(2 + (n.dx ? 1 : 0) + (n.add_dx ? 1 : 0), n.rows, n.cols);
  });
  time<&K::channel_sums>(table, "channel_sums", [](int64_t rows, int64_t cols, auto, auto, const float* dy, auto) { return floats(dy ? 2 : 1, rows, cols); });
  time<&K::channel_affine>(table, "channel_affine", [](int64_t rows, int64_t cols, auto, auto, auto, const float* z, auto, auto, auto, bool add) {
    return floats((z ? 3 : 2) + (add ? 1 : 0), rows, cols);
  });
  time<&K::gather>(table, "gather", [](int64_t rows, int64_t cols, auto...) { return floats(2, rows, cols); });
  time<&K::scatter_add>(table, "scatter_add", [](int64_t rows, int64_t cols, auto...) { return floats(3, rows, cols); });
  time<&K::cross_entropy>(table, "cross_entropy", [](int64_t rows, int64_t cols, auto, auto, auto, auto, bool gradient, auto) {
    return floats(gradient ? 2 : 1, rows, cols);
  });
  time<&K::gemm>(table, "gemm", product);
  time<&K::attention>(table, "attention", [](const kernel::Attention& a) { return attending(a, 2, 2); });
  time<&K::attention_gradient>(table, "attention_gradient", [](const kernel::Attention& a, const kernel::AttentionGradient&) {
    return attending(a, 5, 4);
  });
  time<&K::attention_probabilities>(table, "attention_probabilities", [](const kernel::Attention& a, auto) { return attending(a, 1, 1); });
  time<&K::convolution>(table, "convolution", [](const kernel::Convolution& c, auto...) { return convolving(c); });
  time<&K::convolution_input_gradient>(table, "convolution_input_gradient", [](const kernel::Convolution& c, auto...) { return convolving(c); });
  time<&K::convolution_weight_gradient>(table, "convolution_weight_gradient", [](const kernel::Convolution& c, auto...) { return convolving(c); });
  time_transforms<&K::spectral, float>(table);
  time_transforms<&K::spectral_f64, double>(table);
  time<&K::adamw>(table, "adamw", [](int64_t n, auto...) { return floats(7, n); });
  time<&K::adam_direction>(table, "adam_direction", [](int64_t n, auto...) { return floats(7, n); });
  time<&K::momentum>(table, "momentum", [](int64_t n, auto...) { return floats(5, n); });
  return table;
}

}  // namespace qd
