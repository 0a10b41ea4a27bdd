// Nearest codes, and gradients that pass through them (van den Oord et al. 2017; kexue.fm/archives/6760).
#include <algorithm>

#include "core/error.h"
#include "core/ops.h"

namespace qd {

Tensor stop_gradient(const Tensor& x) { return x.detach(); }

Tensor straight_through(const Tensor& x, const Tensor& q) {
  QD_CHECK(x.shape() == q.shape(), "straight_through", str("expected one shape, got ", x.shape().str(), " and ", q.shape().str()));
  return record("straight_through", q.detach(), {x}, [](const Tensor& dy, Sink& to) { to.give(0, dy); });
}

// argmin |x - e|^2 = argmax 2 x.e - |e|^2. Both are moved by the mean of the codebook, which changes no distance but keeps the products
// small: what is large in both would cancel with all its rounding errors.
Tensor nearest(const Tensor& x, const Tensor& codebook) {
  QD_CHECK(x.rank() >= 1 && codebook.rank() == 2 && x.cols() == codebook.cols() && codebook.dim(0) > 0, "nearest",
           str("expected x (..., D) and a codebook (K, D), got ", x.shape().str(), " and ", codebook.shape().str()));
  const int64_t rows = x.rows(), width = x.cols(), codes = codebook.dim(0);
  Tensor mean = empty({width}), moved = empty_like(codebook), bias = empty({codes});
  kernels().sum_rows(codes, width, codebook.data(), mean.mutable_data(), false);
  kernels().combine(width, 1.0f / static_cast<float>(codes), mean.data(), 0, nullptr, mean.mutable_data());
  const Strided middle{mean.data(), 0, 1};
  kernels().binary(Binary::sub, codes, width, {codebook.data(), width, 1}, middle, moved.mutable_data(), false);
  for (int64_t k = 0; k < codes; ++k) {
    const float* e = moved.data() + k * width;
    double square = 0;
    for (int64_t i = 0; i < width; ++i) square += static_cast<double>(e[i]) * e[i];
    bias.mutable_data()[k] = static_cast<float>(-square);
  }

  const int64_t chunk = std::max<int64_t>(1, std::min(rows, std::max<int64_t>(64, (1 << 19) / codes)));   // scores that stay in the cache
  Tensor near = empty({chunk, width}), scores = empty({chunk, codes}), best = empty({chunk});
  Tensor ids = empty(x.shape().without_last(), DType::i32);
  int32_t* id = ids.mutable_data<int32_t>();
  for (int64_t row = 0; row < rows; row += chunk) {
    const int64_t m = std::min(chunk, rows - row);
    kernels().binary(Binary::sub, m, width, {x.data() + row * width, width, 1}, middle, near.mutable_data(), false);
    kernels().gemm({.m = m, .n = codes, .k = width, .a = {near.data(), width, false}, .b = {moved.data(), width, true}, .c = scores.mutable_data(),
                    .ldc = codes, .out = {.scale = 2, .bias = bias.data()}, .precision = Precision::f32});
    kernels().max_cols(m, codes, scores.data(), best.mutable_data(), id + row);
  }
  return no_gradient("nearest", ids, {x, codebook});
}

}  // namespace qd
