// How a rate is measured. Nothing but the standard library, so that tests/peers measures in the same way.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

namespace qd::bench {

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds of each call of f over about `budget` seconds and at least three calls, after one that is not counted; sorted. `between` is called
// after each with its seconds; it is no part of them, but of the budget.
inline std::vector<double> seconds_of(const std::function<void()>& f, double budget, const std::function<void(double)>& between = nullptr) {
  f();
  std::vector<double> times;
  for (const double start = now(); times.size() < 3 || (now() - start < budget && times.size() < 5000);) {
    const double t = now();
    f();
    times.push_back(now() - t);
    if (between) between(times.back());
  }
  std::sort(times.begin(), times.end());
  return times;
}
inline double median(const std::vector<double>& sorted) { return sorted[sorted.size() / 2]; }

}  // namespace qd::bench
