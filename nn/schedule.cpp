#include "nn/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace qd {

Decay decay_named(const std::string& name) {
  if (name == "cosine") return Decay::cosine;
  if (name == "linear") return Decay::linear;
  if (name == "constant") return Decay::constant;
  if (name == "inverse-sqrt") return Decay::inverse_sqrt;
  fail("schedule", str("expected cosine, linear, constant or inverse-sqrt, got '", name, "'"));
}

double progress(const Limits& limits, int64_t step, double seconds) {
  const double by_steps = limits.steps > 0 ? static_cast<double>(step) / static_cast<double>(limits.steps) : 0;
  const double by_time = limits.seconds > 0 ? seconds / limits.seconds : 0;
  return std::min(1.0, std::max(by_steps, by_time));
}

double learning_rate(const Schedule& s, const Limits& limits, int64_t step, double seconds) {
  const auto t = static_cast<double>(step), warmup = static_cast<double>(s.warmup);
  if (step < s.warmup) return s.rate * (t + 1) / (warmup + 1);
  const double begin = progress(limits, s.warmup, 0);   // the warm-up's share of the steps; none of the time
  const double p = begin < 1 ? std::clamp((progress(limits, step, seconds) - begin) / (1 - begin), 0.0, 1.0) : 1;
  switch (s.decay) {
    case Decay::cosine: return s.minimum + 0.5 * (1 + std::cos(std::numbers::pi * p)) * (s.rate - s.minimum);
    case Decay::linear: return s.minimum + (1 - p) * (s.rate - s.minimum);
    case Decay::inverse_sqrt: return std::max(s.minimum, s.rate * std::sqrt((warmup + 1) / (t + 1)));
    case Decay::constant: break;
  }
  return s.rate;
}

}  // namespace qd
