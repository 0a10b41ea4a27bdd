// The sizes of a tensor: at most 6 dimensions, row-major.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace qd {

class Shape {
 public:
  static constexpr int max_rank = 6;

  Shape() = default;                                      // a scalar
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);          // throws Error: more than 6 dimensions, a negative one, or a product beyond 2^60

  int rank() const { return rank_; }
  int64_t size() const { return size_; }                  // the product; 1 for a scalar
  int64_t operator[](int i) const { return dims_[i < 0 ? i + rank_ : i]; }   // negative indices count from the end; not checked
  const int64_t* begin() const { return dims_; }
  const int64_t* end() const { return dims_ + rank_; }

  int64_t cols() const { return rank_ ? dims_[rank_ - 1] : 1; }              // the last dimension
  int64_t rows() const { return cols() ? size_ / cols() : leading(); }       // the product of all others
  Shape with_last(int64_t cols) const;                    // the same shape with another last dimension
  Shape without_last() const;
  std::string str() const;                                // "(2, 3)"

  bool operator==(const Shape& other) const;

 private:
  int64_t leading() const;
  int64_t dims_[max_rank] = {};
  int64_t size_ = 1;
  int rank_ = 0;
};

}  // namespace qd
