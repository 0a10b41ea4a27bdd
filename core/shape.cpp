#include "core/shape.h"

#include <algorithm>

#include "core/error.h"

namespace qd {

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  QD_CHECK(dims.size() <= max_rank, "shape", qd::str("expected at most ", max_rank, " dimensions, got ", dims.size()));
  constexpr int64_t most = int64_t{1} << 60;   // so that bytes can be counted in int64
  std::copy(dims.begin(), dims.end(), dims_);
  for (int64_t dim : dims) {
    QD_CHECK(dim >= 0, "shape", qd::str("expected sizes of at least 0, got ", str()));
    QD_CHECK(!__builtin_mul_overflow(size_, dim, &size_) && size_ <= most, "shape", qd::str("expected at most 2^60 elements, got ", str()));
  }
}

int64_t Shape::leading() const {
  int64_t product = 1;
  for (int i = 0; i + 1 < rank_; ++i) product *= dims_[i];
  return product;
}

Shape Shape::with_last(int64_t cols) const {
  Shape out = *this;
  QD_CHECK(rank_ > 0, "shape", "expected at least one dimension, got a scalar");
  out.dims_[rank_ - 1] = cols;
  return Shape(std::span<const int64_t>(out.dims_, rank_));
}

Shape Shape::without_last() const { return Shape(std::span<const int64_t>(dims_, rank_ ? rank_ - 1 : 0)); }

std::string Shape::str() const {
  std::string out = "(";
  for (int i = 0; i < rank_; ++i) out += qd::str(i ? ", " : "", dims_[i]);
  return out + ")";
}

bool Shape::operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

}  // namespace qd
