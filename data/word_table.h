// A hash table from words to counts: open addressing, the bytes of words one after another in an arena. Words of up to sixteen
// bytes, five Chinese characters, stand in the table itself and are compared as two numbers.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/allocator.h"

namespace qd {

class WordTable {
 public:
  // Different in each process: nobody can make up keys that collide.
  static uint64_t hash_of(std::string_view word) {
    static const uint64_t seed = random_seed();
    uint64_t hash = seed ^ word.size() * 0x9E3779B97F4A7C15;
    const char* at = word.data();
    size_t left = word.size();
    for (; left > 8; at += 8, left -= 8) hash = mixed(hash ^ load(at, 8), seed);
    return mixed(hash ^ load(at, left), seed + 0xD1B54A32D192ED03);
  }

  void add(std::string_view word, int64_t count = 1) { add(word, count, hash_of(word)); }
  void add(std::string_view word, int64_t count, uint64_t hash) {
    if (2 * size_ >= slots_.size()) [[unlikely]] grow();
    if (word.size() > 16) [[unlikely]] return add_long(word, count, hash);
    const auto [first, second] = bytes_of(word);
    for (size_t at = place_of(hash);; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (slot.hash == hash && slot.first == first && slot.second == second && slot.inside == word.size()) [[likely]] {
        slot.count += static_cast<uint64_t>(count);
        return;
      }
      if (slot.count > 0) continue;
      slot = {hash, first, second, static_cast<uint64_t>(count), word.size()};
      ++size_;
      return;
    }
  }

  // Asks for the place of a word to be there soon.
  void prefetch(uint64_t hash) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[place_of(hash)]);
  }

  size_t size() const { return size_; }                                                    // distinct words
  size_t memory() const { return slots_.capacity() * sizeof(Slot) + arena_.capacity(); }   // bytes

  // f(word, count, hash), in no particular order.
  template <class F>
  void for_each(const F& f) const {
    for (const Slot& slot : slots_)
      if (slot.count > 0) f(word_of(slot), static_cast<int64_t>(slot.count), slot.hash);
  }
  void clear() {   // the memory stays
    std::fill(slots_.begin(), slots_.end(), Slot{});
    arena_.clear(), size_ = 0;
  }

 private:
  static constexpr uint64_t long_word = 0xFF;
  struct Slot {
    uint64_t hash = 0;
    uint64_t first = 0, second = 0;           // the bytes themselves; of a long word where it begins in the arena, and its length
    uint64_t count : 56 = 0, inside : 8 = 0;  // count 0: empty; inside: how many bytes, or long_word
  };
  struct Bytes {
    uint64_t first, second;
  };
  static Bytes bytes_of(std::string_view word) {
    const size_t length = word.size();
    return length <= 8 ? Bytes{load(word.data(), length), 0} : Bytes{load(word.data(), 8), load(word.data() + 8, length - 8)};
  }
  std::string_view word_of(const Slot& slot) const {
    return slot.inside == long_word ? std::string_view(arena_.data() + slot.first, slot.second) 
                                    : std::string_view(reinterpret_cast<const char*>(&slot.first), slot.inside);
  }

  // Every table has an order of its own: filled in the order of another one, it would be crowded at one end while it grows.
  size_t place_of(uint64_t hash) const { return hash * multiplier_ >> shift_; }
  static uint64_t next_multiplier();
  static uint64_t random_seed();
  // At most 8 bytes as a number, without a loop.
  static uint64_t load(const char* bytes, size_t count) {
    static_assert(std::endian::native == std::endian::little);
    if (count >= 4) {
      uint32_t first, last;
      std::memcpy(&first, bytes, 4);
      std::memcpy(&last, bytes + count - 4, 4);
      return first | static_cast<uint64_t>(last) << 8 * (count - 4);
    }
    if (count == 0) return 0;
    const auto byte = [&](size_t i) { return static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << 8 * i; };
    return byte(0) | byte(count / 2) | byte(count - 1);
  }
  static uint64_t mixed(uint64_t a, uint64_t b) {   // both halves of the product, as in Wang Yi's wyhash
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a ^ 0xA0761D6478BD642F) * (b ^ 0xE7037ED1A0B428DB);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  void add_long(std::string_view word, int64_t count, uint64_t hash) {
    for (size_t at = place_of(hash);; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (slot.count == 0) {
        slot = {hash, arena_.size(), word.size(), static_cast<uint64_t>(count), long_word};
        arena_.insert(arena_.end(), word.begin(), word.end());
        ++size_;
        return;
      }
      if (slot.hash == hash && slot.inside == long_word && word_of(slot) == word) {
        slot.count += static_cast<uint64_t>(count);
        return;
      }
    }
  }
  void grow() {
    LargeVector<Slot> old(slots_.empty() ? 1024 : 2 * slots_.size());
    old.swap(slots_);
    shift_ = std::countl_zero(slots_.size() - 1);
    for (const Slot& slot : old) {
      if (slot.count == 0) continue;
      size_t at = place_of(slot.hash);
      while (slots_[at].count != 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = slot;
    }
  }

  LargeVector<Slot> slots_;   // at most half of them in use
  std::vector<char> arena_;
  size_t size_ = 0;
  int shift_ = 64;
  uint64_t multiplier_ = next_multiplier();
};

}  // namespace qd
