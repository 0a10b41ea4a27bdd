// How the learning rate changes over a run.
#pragma once

#include <cstdint>
#include <string>

namespace qd {

enum class Decay { cosine, linear, constant, inverse_sqrt };
Decay decay_named(const std::string& name);   // "cosine", "linear", "constant", "inverse-sqrt"; anything else throws Error

struct Schedule {
  Decay decay = Decay::cosine;
  double rate = 1e-3;         // at the end of the warm-up
  double minimum = 0;         // at the end of the run
  int64_t warmup = 0;         // steps
};

// How long a run may last: whichever limit is reached first; 0 is no limit.
struct Limits {
  int64_t steps = 0;
  double seconds = 0;
};
double progress(const Limits& limits, int64_t step, double seconds);   // 0 at the start to 1 at the end

// The rate of the step numbered `step` from 0, `seconds` into the run. Warm-up: rate (step + 1) / (warmup + 1).
//   cosine, linear: from `rate` down to `minimum` on what progress() leaves after the warm-up (Loshchilov and Hutter 2017)
//   inverse-sqrt:   rate sqrt((warmup + 1) / (step + 1)), at least `minimum` (Vaswani et al. 2017)
double learning_rate(const Schedule& schedule, const Limits& limits, int64_t step, double seconds);

}  // namespace qd
