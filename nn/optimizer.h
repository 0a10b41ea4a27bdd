// Optimisers: one sweep over the flat arena of a module's parameters. Weight decay reaches the decayed part of the arena only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/state.h"
#include "nn/module.h"

namespace qd {

struct OptimizerOptions {
  double beta1 = 0.9;       // of the first moment; the momentum of SGD
  double beta2 = 0.999;     // of the second moment
  double epsilon = 1e-8;
  double decay = 0.1;       // weight decay, for parameters of two or more dimensions
};

class Optimizer : public Stateful {
 public:
  double gradient_norm();                                    // of all gradients together; zeros for those that nothing has reached
  void step(double rate, double gradient_scale = 1);         // one update with gradient_scale * gradient; then the gradients are cleared
  int64_t steps() const { return steps_; }                   // taken so far

  // Moments are saved as "<prefix>m.<path of the parameter>", whatever the order of the arena.
  void save(State& to, const std::string& prefix) const override;
  void load(const State& from, const std::string& prefix) override;   // throws Error: the state of another kind, a moment is missing or has another shape

 protected:
  Optimizer(std::string kind, Module& module, OptimizerOptions options, std::vector<std::string> moments);
  virtual void update(float rate, float gradient_scale) = 0;
  float* moment(size_t i) { return moments_[i].mutable_data(); }
  int64_t offset(const Parameter& parameter) const;          // where it lies in the arena

  Module& module_;
  OptimizerOptions options_;
  Tensor values_, gradients_;                                // handles on the arena
  int64_t decayed_;
  int64_t steps_ = 0;

 private:
  std::string kind_;                                         // "adamw": a state is no use to another kind
  std::vector<std::string> names_;
  std::vector<Tensor> moments_;                              // flat, laid out as the arena
};

// m = beta1 m + g + decay w;  w -= rate m     (Sutskever et al. 2013)
class SGD final : public Optimizer {
 public:
  explicit SGD(Module& module, OptimizerOptions options = {.decay = 0});

 protected:
  void update(float rate, float gradient_scale) override;
};

// Decoupled weight decay: w -= rate (m^ / (sqrt(v^) + epsilon) + decay w)     (Loshchilov and Hutter 2019)
class AdamW final : public Optimizer {
 public:
  explicit AdamW(Module& module, OptimizerOptions options = {});

 protected:
  void update(float rate, float gradient_scale) override;
};

// r = m^ / (sqrt(v^) + epsilon) + decay w;  w -= rate ||w|| / ||r|| r for each parameter; the ratio is 1 where a norm is 0  (You et al. 2020)
class LAMB final : public Optimizer {
 public:
  explicit LAMB(Module& module, OptimizerOptions options = {});

 protected:
  void update(float rate, float gradient_scale) override;

 private:
  Tensor direction_;
};

// By its name on the command line: "adamw", "sgd" or "lamb"; anything else throws Error.
std::unique_ptr<Optimizer> make_optimizer(const std::string& name, Module& module, OptimizerOptions options = {});

// The factor that brings a gradient of this norm down to `limit` (Pascanu et al. 2013); 1 for limit 0 and for smaller norms.
double clip_factor(double norm, double limit);

}  // namespace qd
