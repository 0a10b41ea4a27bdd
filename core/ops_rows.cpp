// Reductions, softmax and norms: operations over rows, with their gradients.
#include <algorithm>
#include <cmath>
#include <utility>

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

// Blocks of `rows` rows, each with one mean m and one variance v for every group of neighbouring channels. d = x - m, r = 1 / sqrt(v + epsilon):
//   y = w r d + b,   dw = sum(r dy d),  db = sum(dy),   dx = r w dy - r^2 mean(r w dy d) d - r mean(w dy)
// The statistics are kept, d is computed again.
static Tensor channel_norm(const char* name, const Tensor& x, int64_t blocks, int64_t groups, const Tensor& weight, const Tensor& bias, float epsilon,
                           BatchStatistics* found) {
  const int64_t cols = x.cols(), rows = x.rows() / blocks;
  QD_CHECK(weight.defined() && bias.defined(), name, "expected a weight and a bias");
  expect_row(name, "weight", weight, cols);
  expect_row(name, "bias", bias, cols);
  // Sums over rows, channel by channel -> at each channel the mean over its group.
  const auto level = [rows, cols, width = groups > 0 ? cols / groups : 1](const float* sums, float* means) {
    for (int64_t c = 0; c < cols; c += width) {
      double sum = 0;
      for (int64_t i = 0; i < width; ++i) sum += sums[c + i];
      std::fill_n(means + c, width, static_cast<float>(sum / static_cast<double>(width * rows)));
    }
  };
  Tensor y = empty_like(x), mean = empty({blocks, cols}), inverse = empty({blocks, cols}), scale = empty({cols}), sums = empty({2, cols});
  Tensor variance = empty({cols});
  for (int64_t block = 0; block < blocks; ++block) {
    const float *in = x.data() + block * rows * cols, *w = weight.data();
    float *m = mean.mutable_data() + block * cols, *r = inverse.mutable_data() + block * cols, *v = variance.mutable_data();
    kernels().sum_rows(rows, cols, in, m, false);
    level(m, m);
    kernels().channel_sums(rows, cols, in, m, nullptr, sums.mutable_data());
    level(sums.data() + cols, v);
    for (int64_t c = 0; c < cols; ++c) r[c] = 1 / std::sqrt(v[c] + epsilon), scale.mutable_data()[c] = w[c] * r[c];
    kernels().channel_affine(rows, cols, in, m, scale.data(), nullptr, nullptr, bias.data(), y.mutable_data() + block * rows * cols, false);
  }
  if (found) *found = {mean.clone().reshape({cols}), variance};
  return record(name, y, {x, weight, bias}, [x = Saved(x), mean = Saved(mean), inverse = Saved(inverse), weight = Saved(weight), blocks, rows, cols, level](const Tensor& dy, Sink& to) {
    Tensor dw = zeros({cols}), db = zeros({cols}), both = empty({2, cols}), factors = empty({3, cols});
    const auto [dx, add] = to.wants(0) ? to.into(0) : Destination{};
    const float* w = weight->data();
    float *sum_dy = both.mutable_data(), *sum_dyd = sum_dy + cols, *of_d = factors.mutable_data(), *of_dy = of_d + cols, *rest = of_dy + cols;
    for (int64_t block = 0; block < blocks; ++block) {
      const float *in = x->data() + block * rows * cols, *g = dy.data() + block * rows * cols, *m = mean->data() + block * cols, *r = inverse->data() + block * cols;
      kernels().channel_sums(rows, cols, in, m, g, sum_dy);
      for (int64_t c = 0; c < cols; ++c) {
        db.mutable_data()[c] += sum_dy[c], dw.mutable_data()[c] += r[c] * sum_dyd[c];
        rest[c] = w[c] * sum_dy[c], of_d[c] = w[c] * r[c] * sum_dyd[c];
      }
      if (!dx) continue;
      level(rest, rest), level(of_d, of_d);
      for (int64_t c = 0; c < cols; ++c) of_d[c] *= -r[c] * r[c], of_dy[c] = r[c] * w[c], rest[c] *= -r[c];
      kernels().channel_affine(rows, cols, in, m, of_d, g, of_dy, rest, dx + block * rows * cols, add);
    }
    if (to.wants(1)) to.give(1, dw);
    if (to.wants(2)) to.give(2, db);
  });
}

Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon, BatchStatistics& found) {
  QD_CHECK(x.rank() >= 2 && x.rows() > 0, "batch_norm", str("expected (..., C) with at least one row, got ", x.shape().str()));
  return channel_norm("batch_norm", x, 1, x.cols(), weight, bias, epsilon, &found);
}

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, float epsilon) {
  QD_CHECK(x.rank() >= 2 && x.size() > 0, "group_norm", str("expected (B, ..., C) with at least one element, got ", x.shape().str()));
  QD_CHECK(groups >= 1 && x.cols() % groups == 0, "group_norm", str("expected a number of groups that divides ", x.cols(), " channels, got ", groups));
  return channel_norm("group_norm", x, x.dim(0), groups, weight, bias, epsilon, nullptr);
}

}  // namespace qd
