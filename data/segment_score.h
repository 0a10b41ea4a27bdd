// How well a text is cut, as the SIGHAN bakeoffs score: words of the result that begin and end where words of the gold text do.
#pragma once

#include <cstdint>
#include <string_view>

namespace qd {

struct SegmentScore {
  int64_t gold = 0, found = 0, right = 0;   // words
  int64_t lines = 0,
          differing_lines = 0;   // compared; those whose characters are not the same count with all their words as wrong
  double precision() const { return found > 0 ? static_cast<double>(right) / static_cast<double>(found) : 0; }
  double recall() const { return gold > 0 ? static_cast<double>(right) / static_cast<double>(gold) : 0; }
  double f1() const { return right > 0 ? 2 * precision() * recall() / (precision() + recall()) : 0; }
};

// Line by line; words are separated by white space.
SegmentScore score_segments(std::string_view gold, std::string_view result);

}  // namespace qd
