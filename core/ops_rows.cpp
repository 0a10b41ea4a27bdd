// Reductions, softmax and norms: operations over rows, with their gradients.
#include <cmath>

#include "core/error.h"
#include "core/ops.h"

namespace qd {
namespace {

// Sends factor * dy[r] to every element of row r of input 0.
void spread(Sink& to, int64_t rows, int64_t cols, const float* dy, float factor) {
  auto [dx, add] = to.into(0);
  const Strided each{dy, 1, 0}, scale{&factor, 0, 0};
  kernels().binary(Binary::mul, rows, cols, each, scale, dx, add);
}

Tensor total(const char* name, const Tensor& x, double factor) {
  Tensor y = full({}, static_cast<float>(kernels().sum(x.size(), x.data()) * factor));
  return record(name, y, {x}, [factor = static_cast<float>(factor), n = x.size()](const Tensor& dy, Sink& to) {
    spread(to, 1, n, dy.data(), factor);
  });
}

Tensor last(const char* name, const Tensor& x, float factor) {
  Tensor y = empty(x.shape().without_last());
  kernels().sum_cols(x.rows(), x.cols(), x.data(), y.mutable_data(), false);
  if (factor != 1) kernels().combine(y.size(), factor, y.data(), 0, nullptr, y.mutable_data());
  return record(name, y, {x}, [factor, rows = x.rows(), cols = x.cols()](const Tensor& dy, Sink& to) { spread(to, rows, cols, dy.data(), factor); });
}

std::pair<Tensor, Tensor> maxima(const Tensor& x) {
  QD_CHECK(x.cols() > 0, "max_last", "expected a last dimension of at least 1, got 0");
  Tensor value = empty(x.shape().without_last()), where = empty(x.shape().without_last(), DType::i32);
  kernels().max_cols(x.rows(), x.cols(), x.data(), value.mutable_data(), where.mutable_data<int32_t>());
  return {value, where};
}

void expect_row(const char* op, const char* what, const Tensor& w, int64_t cols) {
  QD_CHECK(!w.defined() || w.shape() == Shape({cols}), op, str("expected ", what, " of shape (", cols, "), got ", w.shape().str()));
}

}  // namespace

Tensor sum(const Tensor& x) { return total("sum", x, 1); }

Tensor mean(const Tensor& x) {
  QD_CHECK(x.size() > 0, "mean", "expected at least one element, got none");
  return total("mean", x, 1.0 / static_cast<double>(x.size()));
}

Tensor sum_last(const Tensor& x) { return last("sum_last", x, 1); }
Tensor mean_last(const Tensor& x) { return last("mean_last", x, 1.0f / static_cast<float>(x.cols())); }
Tensor max_last(const Tensor& x) { return no_gradient("max_last", maxima(x).first, {x}); }
Tensor argmax_last(const Tensor& x) { return no_gradient("argmax_last", maxima(x).second, {x}); }

// y = softmax(x):   dx = y (dy - sum(dy y))
Tensor softmax(const Tensor& x) {
  Tensor y = empty_like(x);
  kernels().softmax(x.rows(), x.cols(), x.data(), y.mutable_data());
  return record("softmax", y, {x}, [y = Saved(y)](const Tensor& dy, Sink& to) {
    auto [dx, add] = to.into(0);
    kernels().softmax_gradient(dy.rows(), dy.cols(), y->data(), dy.data(), dx, add);
  });
}

// s = x, or alpha r + x.   y = w (s - mean) rstd + b.   ds = rstd (g - mean(g) - n mean(g n)),  g = dy w,  n = (s - mean) rstd
// The statistics of each row are kept, n is computed again.
static Tensor norm_of(const char* name, const Tensor& x, const Tensor* before, float alpha, const Tensor& weight, const Tensor& bias,
                      NormOptions options) {
  QD_CHECK(x.rank() >= 1, name, "expected at least one dimension, got a scalar");
  expect_row(name, "weight", weight, x.cols());
  expect_row(name, "bias", bias, x.cols());
  const int64_t rows = x.rows(), cols = x.cols();
  const Tensor none;
  Tensor y = empty_like(x), mean = empty({rows}), rstd = empty({rows}), s = before ? empty_like(x) : x.detach();
  kernels().norm({.rows = rows, .cols = cols, .rms = options.rms, .epsilon = options.epsilon, .x = x.data(),
                  .weight = weight.defined() ? weight.data() : nullptr, .bias = bias.defined() ? bias.data() : nullptr,
                  .residual = before ? before->data() : nullptr, .alpha = alpha, .sum = before ? s.mutable_data() : nullptr,
                  .y = y.mutable_data(), .mean = mean.mutable_data(), .rstd = rstd.mutable_data()});
  auto gradient = [rows, cols, alpha, rms = options.rms, s = Saved(s), weight = Saved(weight), mean = Saved(mean), rstd = Saved(rstd)](
                      const Tensor& dy, Sink& to) {
    kernel::NormGradient g{.rows = rows, .cols = cols, .rms = rms, .s = s->data(), .weight = weight->defined() ? weight->data() : nullptr,
                   .mean = mean->data(), .rstd = rstd->data(), .dy = dy.data(), .dx = nullptr, .add_dx = false, .dweight = nullptr,
                   .add_dweight = false, .dbias = nullptr, .add_dbias = false};
    // With a residual both operands receive ds: x as it is, the residual times alpha.
    const bool to_residual = to.wants(3);
    Tensor ds;
    if (to_residual) {
      ds = empty(dy.shape());
      g.dx = ds.mutable_data();
    } else if (to.wants(0)) {
      const auto [data, add] = to.into(0);
      g.dx = data, g.add_dx = add;
    }
    if (to.wants(1)) {
      const auto [data, add] = to.into(1);
      g.dweight = data, g.add_dweight = add;
    }
    if (to.wants(2)) {
      const auto [data, add] = to.into(2);
      g.dbias = data, g.add_dbias = add;
    }
    kernels().norm_gradient(g);
    if (!to_residual) return;
    if (to.wants(0)) to.give(0, ds);
    auto [dr, add] = to.into(3);
    add ? kernels().scale_add(ds.size(), alpha, ds.data(), dr) : kernels().combine(ds.size(), alpha, ds.data(), 0, nullptr, dr);
  };
  return record(name, y, {x, weight, bias, before ? *before : none}, std::move(gradient));
}

Tensor norm(const Tensor& x, const Tensor& weight, const Tensor& bias, NormOptions options) {
  return norm_of(options.rms ? "rms_norm" : "layer_norm", x, nullptr, 1, weight, bias, options);
}

Tensor residual_norm(const Tensor& x, float alpha, const Tensor& f, const Tensor& weight, const Tensor& bias, NormOptions options) {
  QD_CHECK(x.shape() == f.shape(), "residual_norm", str("expected one shape, got ", x.shape().str(), " and ", f.shape().str()));
  return norm_of("residual_norm", f, &x, alpha, weight, bias, options);
}

// x^ = (x - m) r, r = 1 / sqrt(v + epsilon):   dx = w r (dy - mean(dy) - x^ mean(dy x^)),  dw = sum(dy x^),  db = sum(dy), over rows
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon, BatchStatistics& found) {
  const int64_t rows = x.rows(), cols = x.cols();
  QD_CHECK(x.rank() >= 2 && rows > 0, "batch_norm", str("expected (..., C) with at least one row, got ", x.shape().str()));
  QD_CHECK(weight.shape() == Shape({cols}), "batch_norm", str("expected a weight of shape (", cols, "), got ", weight.shape().str()));
  QD_CHECK(bias.shape() == Shape({cols}), "batch_norm", str("expected a bias of shape (", cols, "), got ", bias.shape().str()));
  const float share = 1 / static_cast<float>(rows);
  const auto each = [&](const Tensor& row) { return Strided{row.data(), 0, 1}; };   // row by row the same
  const auto whole = [&](const Tensor& t) { return Strided{t.data(), cols, 1}; };
  const auto mean_rows = [&](const Tensor& t) {
    Tensor mean = empty({cols});
    kernels().sum_rows(rows, cols, t.data(), mean.mutable_data(), false);
    kernels().combine(cols, share, mean.data(), 0, nullptr, mean.mutable_data());
    return mean;
  };
  found.mean = mean_rows(x);
  Tensor hat = empty_like(x), y = empty_like(x), inverse = empty({cols});
  kernels().binary(Binary::sub, rows, cols, whole(x), each(found.mean), hat.mutable_data(), false);
  kernels().binary(Binary::mul, rows, cols, whole(hat), whole(hat), y.mutable_data(), false);
  found.variance = mean_rows(y);
  for (int64_t c = 0; c < cols; ++c) inverse.mutable_data()[c] = 1 / std::sqrt(found.variance.data()[c] + epsilon);
  kernels().binary(Binary::mul, rows, cols, whole(hat), each(inverse), hat.mutable_data(), false);
  kernels().binary(Binary::mul, rows, cols, whole(hat), each(weight), y.mutable_data(), false);
  kernels().binary(Binary::add, rows, cols, whole(y), each(bias), y.mutable_data(), false);
  return record("batch_norm", y, {x, weight, bias}, [hat = Saved(hat), inverse, weight = Saved(weight), rows, cols, share](const Tensor& dy, Sink& to) {
    const Strided of_dy{dy.data(), cols, 1}, of_hat{hat->data(), cols, 1};
    Tensor product = empty_like(dy), dw = empty({cols}), db = empty({cols});
    kernels().binary(Binary::mul, rows, cols, of_dy, of_hat, product.mutable_data(), false);
    kernels().sum_rows(rows, cols, product.data(), dw.mutable_data(), false);
    kernels().sum_rows(rows, cols, dy.data(), db.mutable_data(), false);
    if (to.wants(0)) {
      auto [dx, add] = to.into(0);
      Tensor scale = empty({cols}), slope = empty({cols}), level = empty({cols});
      kernels().binary(Binary::mul, 1, cols, {weight->data(), cols, 1}, {inverse.data(), cols, 1}, scale.mutable_data(), false);
      kernels().combine(cols, share, dw.data(), 0, nullptr, slope.mutable_data());
      kernels().combine(cols, share, db.data(), 0, nullptr, level.mutable_data());
      kernels().binary(Binary::mul, rows, cols, of_hat, {slope.data(), 0, 1}, product.mutable_data(), false);
      kernels().combine(product.size(), 1, dy.data(), -1, product.data(), product.mutable_data());
      kernels().binary(Binary::sub, rows, cols, {product.data(), cols, 1}, {level.data(), 0, 1}, product.mutable_data(), false);
      kernels().binary(Binary::mul, rows, cols, {product.data(), cols, 1}, {scale.data(), 0, 1}, dx, add);
    }
    if (to.wants(1)) to.give(1, dw);
    if (to.wants(2)) to.give(2, db);
  });
}

}  // namespace qd
