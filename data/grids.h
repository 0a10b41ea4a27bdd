// Batches of grids of codes.
#pragma once

#include <cstdint>
#include <string>

#include "core/state.h"
#include "core/tensor.h"

namespace qd {

// Grids at random, endlessly. Sample number s is the grid that the random numbers of (seed, s) say; the saved position is that of the batches
// consumed.
class GridLoader final : public Stateful {
 public:
  GridLoader(Tensor grids, int64_t batch, uint64_t seed) : grids_(std::move(grids)), batch_(batch), seed_(seed) {}   // (N, h, w) i32
  Tensor next();   // (batch, h, w)

  void save(State& to, const std::string& prefix) const override;
  void load(const State& from, const std::string& prefix) override;   // throws Error: saved with other grids

 private:
  int64_t content() const;   // a number that other grids hardly have
  const Tensor grids_;
  const int64_t batch_;
  const uint64_t seed_;
  int64_t position_ = 0;
};

}  // namespace qd
