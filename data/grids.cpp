#include "data/grids.h"

#include <algorithm>

#include "core/error.h"
#include "core/random.h"

namespace qd {

Tensor GridLoader::next() {
  const int64_t cells = grids_.dim(1) * grids_.dim(2);
  Tensor ids = empty({batch_, grids_.dim(1), grids_.dim(2)}, DType::i32);
  for (int64_t row = 0; row < batch_; ++row) {
    Random random(seed_, (uint64_t{1} << 62) + static_cast<uint64_t>(position_ * batch_ + row));
    const auto grid = static_cast<int64_t>(random.uniform() * static_cast<double>(grids_.dim(0)));
    std::copy_n(grids_.data<int32_t>() + grid * cells, cells, ids.mutable_data<int32_t>() + row * cells);
  }
  ++position_;
  return ids;
}

void GridLoader::save(State& to, const std::string& prefix) const {
  to.put(prefix + "batch", position_);
  to.put(prefix + "names", names_);
}

void GridLoader::load(const State& from, const std::string& prefix) {
  QD_CHECK(from.integer(prefix + "names") == names_, "--data", str("expected the pictures that the run began with, got ", grids_.dim(0), " of which some are others"),
           "give the same --data");
  position_ = from.integer(prefix + "batch");
}

}  // namespace qd
