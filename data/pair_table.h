// Pairs of ids to numbers: a hash table with open addressing, for merges and for what is counted while they are learned.
#pragma once

#include <cstdint>
#include <vector>

namespace qd {

// Most questions are about pairs that are not there: a bit for each hash answers nearly all of those from a small table.
class PairTable {
 public:
  static constexpr int32_t none = -1;

  explicit PairTable(size_t expected = 0) {
    size_t slots = 64;
    while (slots < 2 * expected) slots *= 2;
    reset(slots);
  }

  int32_t find(int32_t left, int32_t right) const {   // `none` where the pair is not there
    const uint64_t hash = hash_of(left, right);
    if (!(seen_[hash >> seen_shift_] >> (hash >> (seen_shift_ - 6) & 63) & 1)) return none;
    return slots_[place(left, right, hash)].value;
  }

  // The pair must not be there yet; value >= 0.
  void insert(int32_t left, int32_t right, int32_t value) {
    if (2 * ++count_ > slots_.size()) {
      std::vector<Slot> old;
      old.swap(slots_);
      reset(2 * old.size());
      for (const Slot& s : old)
        if (s.value != none) put(s);
    }
    put({left, right, value});
  }

 private:
  struct alignas(16) Slot {
    int32_t left = 0, right = 0, value = none;
  };

  static uint64_t hash_of(int32_t left, int32_t right) {   // Fibonacci hashing, Knuth 6.4: the upper bits are good
    const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    return (key ^ key >> 29) * 0x9E3779B97F4A7C15;
  }
  void reset(size_t slots) {   // a power of two
    slots_.assign(slots, {});
    for (shift_ = 64; slots > 1; slots /= 2) --shift_;
    seen_shift_ = shift_ + 3;   // 8 bits for each slot, 64 in a word
    seen_.assign(slots_.size() / 8, 0);
  }
  size_t place(int32_t left, int32_t right, uint64_t hash) const {   // of the pair, or where it belongs
    size_t at = hash >> shift_;
    while (slots_[at].value != none && (slots_[at].left != left || slots_[at].right != right)) at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void put(const Slot& s) {
    const uint64_t hash = hash_of(s.left, s.right);
    seen_[hash >> seen_shift_] |= uint64_t{1} << (hash >> (seen_shift_ - 6) & 63);
    slots_[place(s.left, s.right, hash)] = s;
  }

  std::vector<Slot> slots_;       // at most half of them in use
  std::vector<uint64_t> seen_;
  int shift_ = 0, seen_shift_ = 0;
  size_t count_ = 0;
};

}  // namespace qd
