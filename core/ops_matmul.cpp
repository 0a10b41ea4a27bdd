// Matrix products and their gradients, which are matrix products again.
#include <algorithm>

#include "core/error.h"
#include "core/ops_shared.h"

namespace qd {
namespace {

Shape batched(const Shape& leading, int64_t m, int64_t n) {
  std::vector<int64_t> dims(leading.begin(), leading.end() - 2);
  dims.insert(dims.end(), {m, n});
  return Shape(dims);
}

}  // namespace

// C = A B:   dA = dC B^T,  dB = A^T dC, and the same read transposed where an operand was.
Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  QD_CHECK(a.rank() >= 2 && b.rank() >= 2, "matmul", str("expected matrices, got ", a.shape().str(), " and ", b.shape().str()));
  const int64_t m = a.dim(transpose_a ? -1 : -2), k = a.dim(transpose_a ? -2 : -1);
  const int64_t n = b.dim(transpose_b ? -2 : -1), kb = b.dim(transpose_b ? -1 : -2);
  const bool shared = b.rank() == 2 && a.rank() > 2;
  QD_CHECK(k == kb && (shared || (a.rank() == b.rank() && std::equal(a.shape().begin(), a.shape().end() - 2, b.shape().begin()))), "matmul",
           str("expected (..., m, k) and (..., k, n) with equal leading sizes, got ", a.shape().str(), transpose_a ? " transposed" : "", " and ",
               b.shape().str(), transpose_b ? " transposed" : ""));
  const int64_t batch = batched(a.shape(), 1, 1).size();
  const int64_t step_b = shared ? 0 : k * n;
  Tensor c = empty(batched(a.shape(), m, n));
  const int64_t lda = a.cols(), ldb = b.cols();
  kernels().gemm({.m = m, .n = n, .k = k, .a = {a.data(), lda, transpose_a}, .b = {b.data(), ldb, transpose_b}, .c = c.mutable_data(), .ldc = n,
                  .batch = batch, .step_a = m * k, .step_b = step_b, .step_c = m * n});
  auto gradient = [=, a = Saved(a), b = Saved(b)](const Tensor& dc, Sink& to) {
    if (to.wants(0)) {
      const auto [da, add] = to.into(0);
      Gemm g{.m = m, .n = k, .k = n, .a = {dc.data(), n, false}, .b = {b->data(), ldb, !transpose_b}, .c = da, .ldc = lda, .out = {.add = add},
             .batch = batch, .step_a = m * n, .step_b = step_b, .step_c = m * k};
      if (transpose_a) {   // dA^T = B dC^T
        g.m = k, g.n = m;
        g.a = {b->data(), ldb, transpose_b}, g.b = {dc.data(), n, true};
        std::swap(g.step_a, g.step_b);
      }
      kernels().gemm(g);
    }
    if (!to.wants(1)) return;
    const auto [db, add] = to.into(1);
    Gemm g{.m = k, .n = n, .k = m, .a = {a->data(), lda, !transpose_a}, .b = {dc.data(), n, false}, .c = db, .ldc = ldb, .out = {.add = add},
           .batch = batch, .step_a = m * k, .step_b = m * n, .step_c = k * n};
    if (transpose_b) {   // dB^T = dC^T A
      g.m = n, g.n = k;
      g.a = {dc.data(), n, true}, g.b = {a->data(), lda, transpose_a};
      std::swap(g.step_a, g.step_b);
    }
    if (!shared) return kernels().gemm(g);
    g.batch = 1;         // one matrix for all: its gradient is the sum, added in order
    if (batch == 0 && !add) kernels().fill(k * n, 0, db);
    for (int64_t i = 0; i < batch; ++i) {
      kernels().gemm(g);
      g.out.add = true;
      g.a.data += g.step_a;
      g.b.data += g.step_b;
    }
  };
  return record("matmul", c, {a, b}, std::move(gradient));
}

// p = x W + bias, y = f(p).   dp = dy f'(p),  dx = dp W^T,  dW = x^T dp,  dbias = column sums of dp.
// Keeps x, and p where there is an activation.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Layout layout, Activation f) {
  const bool stored_out_in = layout == Layout::out_in;
  QD_CHECK(x.rank() >= 1 && weight.rank() == 2 && x.cols() == weight.dim(stored_out_in ? 1 : 0), "linear",
           str("expected (..., in) and a weight ", stored_out_in ? "(out, in)" : "(in, out)", ", got ", x.shape().str(), " and ", weight.shape().str()));
  const int64_t rows = x.rows(), in = x.cols(), out = weight.dim(stored_out_in ? 0 : 1), ldw = weight.cols();
  QD_CHECK(!bias.defined() || bias.shape() == Shape({out}), "linear", str("expected a bias (", out, "), got ", bias.shape().str()));
  Tensor y = empty(x.shape().with_last(out)), pre;
  if (f != Activation::none && records({x, weight, bias})) pre = empty_like(y);
  kernels().gemm({.m = rows, .n = out, .k = in, .a = {x.data(), in, false}, .b = {weight.data(), ldw, stored_out_in}, .c = y.mutable_data(),
                  .ldc = out, .out = {.bias = data_of(bias), .activation = f,
                                      .pre = pre.defined() ? pre.mutable_data() : nullptr}});
  auto gradient = [=, x = Saved(x), weight = Saved(weight), pre = Saved(pre)](const Tensor& dy, Sink& to) {
    const Tensor dp = before_activation(f, *pre, dy);
    const float* g = dp.data();
    if (to.wants(0)) {
      const auto [dx, add] = to.into(0);
      kernels().gemm({.m = rows, .n = in, .k = out, .a = {g, out, false}, .b = {weight->data(), ldw, !stored_out_in}, .c = dx, .ldc = in,
                      .out = {.add = add}});
    }
    if (to.wants(1)) {
      const auto [dw, add] = to.into(1);
      const Matrix dpt{g, out, true}, xt{x->data(), in, true};
      if (stored_out_in) {
        kernels().gemm({.m = out, .n = in, .k = rows, .a = dpt, .b = {x->data(), in, false}, .c = dw, .ldc = in, .out = {.add = add}});
      } else {
        kernels().gemm({.m = in, .n = out, .k = rows, .a = xt, .b = {g, out, false}, .c = dw, .ldc = out, .out = {.add = add}});
      }
    }
    send_bias(to, 2, dp);
  };
  return record("linear", y, {x, weight, bias}, std::move(gradient));
}

}  // namespace qd
