// All frequent n-grams of a text with their exact counts, and where each stands. What word discovery is made of.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/allocator.h"

namespace qd {

// A text as numbers of characters: 1 and up, the commonest first, and 0 wherever it is interrupted by anything else.
struct Characters {
  LargeVector<uint16_t> ids;     // begins and ends with 0
  std::vector<uint32_t> codes;   // code point of each id
  std::vector<int64_t> count;    // of each id; that of 0 is the number of interruptions
  int64_t total = 0;             // characters

  void append(std::string& out, size_t begin, size_t length) const;   // as UTF-8
};

// Which characters words may consist of: Chinese ones; digits and Latin letters of ASCII as well, where wanted.
enum class Alphabet { chinese, alphanumeric };
bool is_chinese(uint32_t code);   // of the blocks of unified ideographs, and the number zero U+3007

// In parallel. Bytes that are not UTF-8 interrupt. Of more than 65,535 distinct characters the rarest interrupt.
// Throws Error: more than 2^32 - 3 characters.
Characters read_characters(std::span<const std::string_view> texts, Alphabet alphabet);

// The n-grams that occur at least min_count times.
struct Grams {
  int n = 0;
  LargeVector<int32_t> at;              // by position: which one begins here; -1: none
  std::vector<uint32_t> count, first;   // of each: how often, and a position where it stands
  size_t size() const { return count.size(); }
};
Grams single_characters(const Characters& text, int64_t min_count);
// From those that are one shorter: an n-gram is frequent only where both of its parts are. The numbering does not depend on threads.
Grams longer_grams(const Characters& text, const Grams& shorter, int64_t min_count);

// Entropies in nats of the characters that stand before and behind each gram; an interruption counts as one more character. Of grams that
// are not `wanted`, where that is given, they are 0.
struct Neighbours {
  std::vector<float> left, right;
};
Neighbours neighbours(const Characters& text, const Grams& grams, std::span<const uint8_t> wanted = {});

}  // namespace qd
