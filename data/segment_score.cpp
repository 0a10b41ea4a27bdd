#include "data/segment_score.h"

#include <string>
#include <vector>

#include "core/utf8.h"
#include "data/segment.h"

namespace qd {
namespace {

// A line without white space, and where its words end, in bytes of it.
struct Line {
  std::string text;
  std::vector<size_t> ends;

  explicit Line(std::string_view line) {
    bool in_word = false;
    for (size_t at = 0; at < line.size();) {
      const Utf8Char c = decode_utf8(line.substr(at));
      if (c.valid && separates_words(c.code)) {
        if (in_word) ends.push_back(text.size());
        in_word = false;
      } else {
        text += line.substr(at, static_cast<size_t>(c.length));
        in_word = true;
      }
      at += static_cast<size_t>(c.length);
    }
    if (in_word) ends.push_back(text.size());
  }
};

std::string_view next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

int64_t common_words(const Line& a, const Line& b) {
  int64_t common = 0;
  size_t i = 0, j = 0, begin_a = 0, begin_b = 0;
  while (i < a.ends.size() && j < b.ends.size()) {
    common += begin_a == begin_b && a.ends[i] == b.ends[j];
    if (const size_t end_a = a.ends[i], end_b = b.ends[j]; end_a <= end_b) {
      begin_a = end_a, ++i;
      if (end_a == end_b) begin_b = end_b, ++j;
    } else {
      begin_b = end_b, ++j;
    }
  }
  return common;
}

}  // namespace

SegmentScore score_segments(std::string_view gold, std::string_view result) {
  SegmentScore score;
  while (!gold.empty() || !result.empty()) {
    const Line a(next_line(gold)), b(next_line(result));
    ++score.lines;
    score.gold += static_cast<int64_t>(a.ends.size());
    score.found += static_cast<int64_t>(b.ends.size());
    if (a.text == b.text) {
      score.right += common_words(a, b);
    } else {
      ++score.differing_lines;
    }
  }
  return score;
}

}  // namespace qd
