// Kernels that pass over memory once. Counted are the bytes of the arrays that are read and written, at sizes beyond the caches (48 MiB
// an array); what a store reads before it writes is not counted, so that a kernel may stay below 100 % of y += a x, which reads all it
// writes anyway.
#include <algorithm>

#include "apps/bench/bench.h"
#include "core/kernels/table.h"

namespace qd::bench {
namespace {

constexpr int64_t rows_of = 8192, cols = 1536, n = rows_of * cols;
constexpr int64_t vocabulary = 8192, positions = n / vocabulary;

constexpr double bytes(double arrays) { return 4.0 * arrays * static_cast<double>(n); }

// x, y: (8192, 1536) read; z: written
using Kernel = void (*)(const float* x, const float* y, float* z);

Row sweep(const char* name, double arrays, Kernel kernel) {
  return traffic(name, bytes(arrays), [kernel] { return [kernel, x = noise({n}), y = noise({n}), z = noise({n})]() mutable { kernel(x.data(), y.data(), z.mutable_data()); }; });
}

Strided full(const float* x) { return {x, cols, 1}; }
Strided row(const float* x) { return {x, 0, 1}; }

struct Statistics {
  Tensor weight = noise({cols}), bias = noise({cols}), mean = noise({rows_of}), rstd = noise({rows_of}), dweight = noise({cols}), dbias = noise({cols});
};

std::function<void()> normalise(bool rms, bool residual) {
  return [=, s = Statistics(), x = noise({n}), r = noise({n}), sum = noise({n}), y = noise({n})]() mutable {
    kernels().norm({.rows = rows_of, .cols = cols, .rms = rms, .epsilon = 1e-5f, .x = x.data(), .weight = s.weight.data(), .bias = rms ? nullptr : s.bias.data(),
                    .residual = residual ? r.data() : nullptr, .alpha = 2, .sum = residual ? sum.mutable_data() : nullptr, .y = y.mutable_data(),
                    .mean = s.mean.mutable_data(), .rstd = s.rstd.mutable_data()});
  };
}

std::function<void()> norm_gradient() {
  return [s = Statistics(), x = noise({n}), dy = noise({n}), dx = noise({n})]() mutable {
    kernels().norm_gradient({.rows = rows_of, .cols = cols, .rms = false, .s = x.data(), .weight = s.weight.data(), .mean = s.mean.data(), .rstd = s.rstd.data(),
                             .dy = dy.data(), .dx = dx.mutable_data(), .add_dx = false, .dweight = s.dweight.mutable_data(), .add_dweight = false,
                             .dbias = s.dbias.mutable_data(), .add_dbias = false});
  };
}

}  // namespace

void sweeps(Rows& rows) {
  const Row all[] = {
      sweep("add", 3, [](const float* x, const float* y, float* z) { kernels().binary(Binary::add, 1, n, {x, n, 1}, {y, n, 1}, z, false); }),
      sweep("multiply by a row", 2, [](const float* x, const float* y, float* z) { kernels().binary(Binary::mul, rows_of, cols, full(x), row(y), z, false); }),
      sweep("exp", 2, [](const float* x, const float*, float* z) { kernels().unary(Unary::exp, n, x, z); }),
      sweep("tanh", 2, [](const float* x, const float*, float* z) { kernels().unary(Unary::tanh, n, x, z); }),
      sweep("gelu", 2, [](const float* x, const float*, float* z) { kernels().unary(Unary::gelu, n, x, z); }),
      sweep("gelu gradient", 3, [](const float* x, const float* y, float* z) { kernels().unary_gradient(Unary::gelu, n, x, y, z, false); }),
      sweep("gelu_erf", 2, [](const float* x, const float*, float* z) { kernels().unary(Unary::gelu_erf, n, x, z); }),
      sweep("silu", 2, [](const float* x, const float*, float* z) { kernels().unary(Unary::silu, n, x, z); }),
      sweep("dropout", 2, [](const float* x, const float*, float* z) { kernels().dropout(n, 0.1f, 1, 1, x, z, false); }),
      sweep("fill", 1, [](const float*, const float*, float* z) { kernels().fill(n, 1, z); }),
      sweep("sum", 1, [](const float* x, const float*, float* z) { *z = static_cast<float>(kernels().sum(n, x)); }),
      sweep("sum of squares", 1, [](const float* x, const float*, float* z) { *z = static_cast<float>(kernels().sum_squares(n, x)); }),
      sweep("sum rows", 1, [](const float* x, const float*, float* z) { kernels().sum_rows(rows_of, cols, x, z, false); }),
      sweep("sum columns", 1, [](const float* x, const float*, float* z) { kernels().sum_cols(rows_of, cols, x, z, false); }),
      sweep("softmax", 2, [](const float* x, const float*, float* z) { kernels().softmax(rows_of, cols, x, z); }),
      sweep("softmax gradient", 3, [](const float* x, const float* y, float* z) { kernels().softmax_gradient(rows_of, cols, x, y, z, false); }),
      traffic("layer norm", bytes(2), [] { return normalise(false, false); }),
      traffic("layer norm of a residual", bytes(4), [] { return normalise(false, true); }),
      traffic("rms norm", bytes(2), [] { return normalise(true, false); }),
      traffic("layer norm gradient", bytes(3), [] { return norm_gradient(); }),
      sweep("channel sums", 2, [](const float* x, const float* y, float* z) { kernels().channel_sums(rows_of, cols, x, x, y, z); }),   // centre, scales: any row
      sweep("channel affine", 3, [](const float* x, const float* y, float* z) { kernels().channel_affine(rows_of, cols, x, x, y, y, x, y, z, false); }),
      traffic("cross-entropy with gradient", bytes(2), [] {
        return [x = noise({n}), ids = random_ids({positions}, vocabulary), losses = noise({positions})]() mutable {
          kernels().cross_entropy(positions, vocabulary, x.mutable_data(), ids.data<int32_t>(), -100, 1, true, losses.mutable_data());
        };
      }),
      traffic("embedding gather", bytes(2), [] {
        return [table = noise({vocabulary, cols}), ids = random_ids({rows_of}, vocabulary), y = noise({n})]() mutable {
          kernels().gather(rows_of, cols, ids.data<int32_t>(), table.data(), y.mutable_data());
        };
      }),
      traffic("embedding scatter", bytes(3), [] {
        return [table = noise({vocabulary, cols}), ids = random_ids({rows_of}, vocabulary), dy = noise({n})]() mutable {
          kernels().scatter_add(rows_of, cols, ids.data<int32_t>(), dy.data(), table.mutable_data());
        };
      }),
  };
  rows.insert(rows.end(), std::begin(all), std::end(all));
}

}  // namespace qd::bench
