#include "nn/optimizer.h"

#include <cmath>

#include "core/error.h"
#include "core/kernels/table.h"
#include "core/profile.h"

namespace qd {

Optimizer::Optimizer(std::string kind, Module& module, OptimizerOptions options, std::vector<std::string> moments)
    : module_(module), options_(options), kind_(std::move(kind)), names_(std::move(moments)) {
  const bool fractions = options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1;
  QD_CHECK(fractions, "optimizer", str("expected beta1 and beta2 in [0, 1), got ", options.beta1, " and ", options.beta2));
  QD_CHECK(options.epsilon >= 0 && options.decay >= 0, "optimizer",
           str("expected epsilon and weight decay >= 0, got ", options.epsilon, " and ", options.decay));
  const Arena& arena = module.arena();
  values_ = arena.values;
  gradients_ = arena.gradients;
  decayed_ = arena.decayed;
  for (size_t i = 0; i < names_.size(); ++i) moments_.push_back(zeros(values_.shape()));
}

double Optimizer::gradient_norm() {
  const ProfiledOp scope("gradient norm");
  module_.settle_gradients();
  return std::sqrt(kernels().sum_squares(gradients_.size(), gradients_.data()));
}

void Optimizer::step(double rate, double gradient_scale) {
  const ProfiledOp scope("optimiser step");
  module_.settle_gradients();
  ++steps_;
  update(static_cast<float>(rate), static_cast<float>(gradient_scale));
  module_.clear_gradients();
}

int64_t Optimizer::offset(const Parameter& parameter) const { return parameter.value.data() - values_.data(); }

void Optimizer::save(State& to, const std::string& prefix) const {
  to.texts[prefix + "kind"] = kind_;
  to.put(prefix + "steps", steps_);
  for (size_t i = 0; i < names_.size(); ++i)
    for (const Parameter* p : module_.arena().order)
      to.tensors[prefix + names_[i] + "." + p->path()] = Tensor(moments_[i].storage(), p->value.shape(), DType::f32, offset(*p));
}

void Optimizer::load(const State& from, const std::string& prefix) {
  QD_CHECK(from.text(prefix + "kind") == kind_, "optimizer", str("expected the state of ", kind_, ", got that of ", from.text(prefix + "kind")));
  steps_ = from.integer(prefix + "steps");
  for (size_t i = 0; i < names_.size(); ++i) {
    for (const Parameter* p : module_.arena().order) {
      Tensor part(moments_[i].storage(), p->value.shape(), DType::f32, offset(*p));
      part.copy_from(from.tensor(prefix + names_[i] + "." + p->path(), p->value.shape()));
    }
  }
}

SGD::SGD(Module& module, OptimizerOptions options) : Optimizer("sgd", module, options, {"m"}) {}

void SGD::update(float rate, float gradient_scale) {
  const int64_t n = values_.size();
  const auto beta = static_cast<float>(options_.beta1), decay = static_cast<float>(options_.decay);
  float *w = values_.mutable_data(), *m = moment(0);
  const float* g = gradients_.data();
  kernels().momentum(decayed_, rate, beta, decay, gradient_scale, w, g, m);
  kernels().momentum(n - decayed_, rate, beta, 0, gradient_scale, w + decayed_, g + decayed_, m + decayed_);
}

namespace {

kernel::AdamW adam_step(const OptimizerOptions& o, float rate, int64_t steps, float gradient_scale) {
  const auto t = static_cast<double>(steps);
  return {.rate = rate,
          .beta1 = static_cast<float>(o.beta1),
          .beta2 = static_cast<float>(o.beta2),
          .rest1 = static_cast<float>(1 - o.beta1),
          .rest2 = static_cast<float>(1 - o.beta2),
          .epsilon = static_cast<float>(o.epsilon),
          .decay = static_cast<float>(o.decay),
          .correction1 = static_cast<float>(1 - std::pow(o.beta1, t)),
          .correction2 = static_cast<float>(1 - std::pow(o.beta2, t)),
          .gradient_scale = gradient_scale};
}

}  // namespace

AdamW::AdamW(Module& module, OptimizerOptions options) : Optimizer("adamw", module, options, {"m", "v"}) {}

void AdamW::update(float rate, float gradient_scale) {
  auto step = adam_step(options_, rate, steps_, gradient_scale);
  const int64_t n = values_.size();
  float *w = values_.mutable_data(), *m = moment(0), *v = moment(1);
  const float* g = gradients_.data();
  kernels().adamw(decayed_, step, w, g, m, v);
  step.decay = 0;
  kernels().adamw(n - decayed_, step, w + decayed_, g + decayed_, m + decayed_, v + decayed_);
}

LAMB::LAMB(Module& module, OptimizerOptions options) : Optimizer("lamb", module, options, {"m", "v"}), direction_(empty(values_.shape())) {}

void LAMB::update(float rate, float gradient_scale) {
  auto step = adam_step(options_, rate, steps_, gradient_scale);
  const int64_t n = values_.size();
  float *w = values_.mutable_data(), *m = moment(0), *v = moment(1), *r = direction_.mutable_data();
  const float* g = gradients_.data();
  kernels().adam_direction(decayed_, step, w, g, m, v, r);
  step.decay = 0;
  kernels().adam_direction(n - decayed_, step, w + decayed_, g + decayed_, m + decayed_, v + decayed_, r + decayed_);
  for (const Parameter* p : module_.arena().order) {
    const int64_t at = offset(*p), size = p->value.size();
    const double w_norm = std::sqrt(kernels().sum_squares(size, w + at)), r_norm = std::sqrt(kernels().sum_squares(size, r + at));
    const double ratio = w_norm > 0 && r_norm > 0 ? w_norm / r_norm : 1;
    kernels().scale_add(size, static_cast<float>(-rate * ratio), r + at, w + at);
  }
}

std::unique_ptr<Optimizer> make_optimizer(const std::string& name, Module& module, OptimizerOptions options) {
  if (name == "adamw") return std::make_unique<AdamW>(module, options);
  if (name == "lamb") return std::make_unique<LAMB>(module, options);
  if (name == "sgd") return std::make_unique<SGD>(module, options);
  fail("optimizer", str("expected adamw, sgd or lamb, got '", name, "'"));
}

double clip_factor(double norm, double limit) { return limit > 0 && norm > limit ? limit / norm : 1; }

}  // namespace qd
