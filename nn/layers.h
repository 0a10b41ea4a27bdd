// The layers that every model is made of. Each names its parameters as the files of Hugging Face do.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "core/ops.h"
#include "nn/module.h"

namespace qd {

// y = f(x W + bias): x (..., in) -> (..., out). The weight is stored (out, in), or (in, out) as in GPT-2.
struct Linear : Module {
  struct Options {
    bool bias = true;
    Layout layout = Layout::out_in;
    Init init = normal(0.02);
  };
  Linear(Module& up, std::string name, int64_t in, int64_t out, const Options& o)
      : Module(up, std::move(name)),
        layout(o.layout),
        weight(*this, "weight", o.layout == Layout::out_in ? Shape{out, in} : Shape{in, out}, o.init) {
    if (o.bias) bias.emplace(*this, "bias", Shape{out}, constant(0));
  }
  Linear(Module& up, std::string name, int64_t in, int64_t out) : Linear(up, std::move(name), in, out, Options{}) {}

  const Layout layout;
  Parameter weight;
  std::optional<Parameter> bias;

  Tensor operator()(const Tensor& x, Activation f = Activation::none) const {
    return linear(x, weight, bias ? bias->value : Tensor(), layout, f);
  }
};

// Convolutions over pictures (B, H, W, C): conv2d and conv_transpose2d of ops.h. They start as PyTorch's do: weight and bias from
// U(+-1 / sqrt(fan)), where fan is the number of values that one output of a convolution with this weight sees.
struct Conv2d : Module {
  struct Options {
    ConvOptions shape = {};
    bool bias = true;
  };
  Conv2d(Module& up, std::string name, int64_t in, int64_t out, PerAxis kernel, const Options& o)
      : Module(up, std::move(name)),
        shape(o.shape),
        weight(*this, "weight", {out, kernel.y, kernel.x, in}, uniform(1 / std::sqrt(static_cast<double>(kernel.y * kernel.x * in)))) {
    if (o.bias) bias.emplace(*this, "bias", Shape{out}, weight.init);
  }
  Conv2d(Module& up, std::string name, int64_t in, int64_t out, PerAxis kernel) : Conv2d(up, std::move(name), in, out, kernel, Options{}) {}

  const ConvOptions shape;
  Parameter weight;   // (out, kh, kw, in)
  std::optional<Parameter> bias;

  Tensor operator()(const Tensor& x, const ConvFused& fused = {}) const { return conv2d(x, weight, bias ? bias->value : Tensor(), shape, fused); }
};

struct ConvTranspose2d : Module {
  using Options = Conv2d::Options;
  ConvTranspose2d(Module& up, std::string name, int64_t in, int64_t out, PerAxis kernel, const Options& o)
      : Module(up, std::move(name)),
        shape(o.shape),
        weight(*this, "weight", {in, kernel.y, kernel.x, out}, uniform(1 / std::sqrt(static_cast<double>(kernel.y * kernel.x * out)))) {
    if (o.bias) bias.emplace(*this, "bias", Shape{out}, weight.init);
  }
  ConvTranspose2d(Module& up, std::string name, int64_t in, int64_t out, PerAxis kernel)
      : ConvTranspose2d(up, std::move(name), in, out, kernel, Options{}) {}

  const ConvOptions shape;
  Parameter weight;   // (in, kh, kw, out)
  std::optional<Parameter> bias;

  Tensor operator()(const Tensor& x, const ConvFused& fused = {}) const {
    return conv_transpose2d(x, weight, bias ? bias->value : Tensor(), shape, fused);
  }
};

// ids (...) -> (..., C)
struct Embedding : Module {
  Embedding(Module& up, std::string name, int64_t vocabulary, int64_t width, Init init = normal(0.02))
      : Module(up, std::move(name)), weight(*this, "weight", {vocabulary, width}, std::move(init)) {}
  Parameter weight;   // (V, C)

  Tensor operator()(const Tensor& ids) const { return embedding(weight, ids); }
};

enum class NormKind { layer, rms };

// Layer norm (Ba et al. 2016) or RMS norm (Zhang and Sennrich 2019, no bias) over the last dimension.
struct Norm : Module {
  Norm(Module& up, std::string name, int64_t width, NormKind kind = NormKind::layer, double epsilon = 1e-5)
      : Module(up, std::move(name)),
        options{.epsilon = static_cast<float>(epsilon), .rms = kind == NormKind::rms},
        weight(*this, "weight", {width}, constant(1)) {
    if (kind == NormKind::layer) bias.emplace(*this, "bias", Shape{width}, constant(0));
  }
  const NormOptions options;
  Parameter weight;
  std::optional<Parameter> bias;

  Tensor operator()(const Tensor& x) const { return norm(x, weight, bias ? bias->value : Tensor(), options); }
  // norm(alpha x + f), fused: a residual connection under a norm
  Tensor operator()(const Tensor& x, float alpha, const Tensor& f) const {
    return residual_norm(x, alpha, f, weight, bias ? bias->value : Tensor(), options);
  }
};

struct LayerNorm : Norm {
  LayerNorm(Module& up, std::string name, int64_t width, double epsilon = 1e-5)
      : Norm(up, std::move(name), width, NormKind::layer, epsilon) {}
};

struct RMSNorm : Norm {
  RMSNorm(Module& up, std::string name, int64_t width, double epsilon = 1e-5)
      : Norm(up, std::move(name), width, NormKind::rms, epsilon) {}
};

// Ioffe and Szegedy 2015, over all but the last dimension. In training mode with the statistics of the batch, which running averages keep
// for evaluation: PyTorch's momentum 0.1, its unbiased variance.
struct BatchNorm : Module {
  BatchNorm(Module& up, std::string name, int64_t width, double epsilon = 1e-5)
      : Module(up, std::move(name)),
        epsilon(static_cast<float>(epsilon)),
        weight(*this, "weight", {width}, constant(1)),
        bias(*this, "bias", {width}, constant(0)),
        mean(*this, "mean", {width}, constant(0)),
        variance(*this, "variance", {width}, constant(1)) {}
  const float epsilon;
  Parameter weight, bias;
  Buffer mean, variance;

  Tensor operator()(const Tensor& x) {
    if (!training()) return (x - mean.value) * (weight.value / sqrt(variance.value + epsilon)) + bias.value;
    BatchStatistics batch;
    const Tensor y = batch_norm(x, weight, bias, epsilon, batch);
    if (recomputing()) return y;
    const auto n = static_cast<float>(x.rows());
    const auto keep = [&](Buffer& average, const Tensor& now, float factor) {
      kernels().combine(now.size(), 0.9f, average.value.data(), 0.1f * factor, now.data(), average.value.mutable_data());
    };
    keep(mean, batch.mean, 1);
    keep(variance, batch.variance, n > 1 ? n / (n - 1) : 1);
    return y;
  }
};

// Wu and He 2018: every picture by itself, groups of neighbouring channels together.
struct GroupNorm : Module {
  GroupNorm(Module& up, std::string name, int64_t groups, int64_t width, double epsilon = 1e-5)
      : Module(up, std::move(name)),
        groups(groups),
        epsilon(static_cast<float>(epsilon)),
        weight(*this, "weight", {width}, constant(1)),
        bias(*this, "bias", {width}, constant(0)) {}
  const int64_t groups;
  const float epsilon;
  Parameter weight, bias;

  Tensor operator()(const Tensor& x) const { return group_norm(x, groups, weight, bias, epsilon); }
};

// Srivastava et al. 2014; in training mode only.
struct Dropout : Module {
  Dropout(Module& up, std::string name, double p) : Module(up, std::move(name)), p(static_cast<float>(p)) {}
  const float p;

  Tensor operator()(const Tensor& x) const { return training() ? dropout(x, p) : x; }
};

}  // namespace qd
