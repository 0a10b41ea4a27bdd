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
  // grids (N, h, w) i32; `names`: whose they are, a number by which a run that goes on knows them (names_of in data/pictures.h)
  GridLoader(Tensor grids, int64_t batch, uint64_t seed, int64_t names = 0) : grids_(std::move(grids)), batch_(batch), seed_(seed), names_(names) {}
  Tensor next();   // (batch, h, w)

  void save(State& to, const std::string& prefix) const override;
  void load(const State& from, const std::string& prefix) override;   // throws Error: saved with those of other pictures

 private:
  const Tensor grids_;
  const int64_t batch_;
  const uint64_t seed_;
  const int64_t names_;
  int64_t position_ = 0;
};

}  // namespace qd
