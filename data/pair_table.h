// Pairs of ids to numbers: a hash table with open addressing, for merges and for what is counted while they are learned.
#pragma once

#include <cstdint>
#include <vector>

namespace qd {

class PairTable {
 public:
  static constexpr int32_t none = -1;

  explicit PairTable(size_t expected = 0) {
    size_t slots = 16;
    while (slots < 2 * expected) slots *= 2;
    slots_.resize(slots);
  }

  int32_t find(int32_t left, int32_t right) const { return slot(left, right).value; }   // `none` where the pair is not there

  // The pair must not be there yet; value >= 0.
  void insert(int32_t left, int32_t right, int32_t value) {
    if (2 * ++count_ > slots_.size()) grow();
    const_cast<Slot&>(slot(left, right)) = {left, right, value};
  }

 private:
  struct Slot {
    int32_t left = 0, right = 0, value = none;
  };

  const Slot& slot(int32_t left, int32_t right) const {
    const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    const size_t mask = slots_.size() - 1;
    size_t at = (key * 0x9E3779B97F4A7C15) >> 32;   // Fibonacci hashing, Knuth 6.4
    for (;; ++at) {
      const Slot& s = slots_[at & mask];
      if (s.value == none || (s.left == left && s.right == right)) return s;
    }
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& s : old)
      if (s.value != none) const_cast<Slot&>(slot(s.left, s.right)) = s;
  }

  std::vector<Slot> slots_;   // a power of two of them, at most half in use
  size_t count_ = 0;
};

}  // namespace qd
