// Times of several ways to do the same work, fair to each: they take turns, and the best of some rounds counts.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <vector>

namespace qd {

inline double seconds_of(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline std::vector<double> best_times(int rounds, const std::vector<std::function<void()>>& ways) {
  std::vector<double> best(ways.size(), std::numeric_limits<double>::infinity());
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < ways.size(); ++i) best[i] = std::min(best[i], seconds_of(ways[i]));
  return best;
}

}  // namespace qd
