#include "core/random.h"

#include <cmath>
#include <numbers>

namespace qd {

double Random::uniform() {
  const uint64_t high = next() >> 5, low = next() >> 6;   // 27 and 26 bits
  return static_cast<double>(high << 26 | low) * 0x1p-53;
}

double Random::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));   // 1 - u is never 0
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

uint64_t stream_of(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash >> 2;
}

RandomState& random_state() {
  thread_local RandomState state;
  return state;
}

}  // namespace qd
