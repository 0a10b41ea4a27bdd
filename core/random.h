// Random numbers from counters: a stream is two integers, and any number of it is computed without those before it.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/philox.h"

namespace qd {

// One stream, read from its start.
class Random {
 public:
  Random(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  uint32_t next() {
    if (position_ % 4 == 0) words_ = philox(seed_, stream_, position_ / 4);
    return words_.word[position_++ % 4];
  }
  double uniform();   // in [0, 1), 53 random bits
  double normal();    // N(0, 1), Box and Muller 1958

 private:
  uint64_t seed_, stream_, position_ = 0;
  Philox words_{};
};

uint64_t stream_of(std::string_view name);   // a stream for everything that has a name: FNV-1a, below 2^62

// Where dropout draws its masks: each op takes the next stream of this seed. One state for each thread.
struct RandomState {
  uint64_t seed = 0, next = 0;
};
RandomState& random_state();
inline uint64_t next_stream() { return random_state().next++; }

}  // namespace qd
