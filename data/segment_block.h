// A run of characters that words may consist of, while it is cut. Parts of data/segment.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "data/dictionary.h"
#include "data/hmm.h"

namespace qd {

struct SegmentBlock {
  std::vector<uint16_t> letters;   // of the dictionary, 0 at the end
  std::vector<uint32_t> codes;
  std::vector<uint8_t> kind;    // 1: a letter or digit of ASCII; for unigram one of Unigram::Kind
  std::vector<size_t> offset;   // bytes in the text, and the end of the block
  std::vector<double> route;
  std::vector<uint32_t> run;      // of numbers and Latin that begins here, in characters; 0: none does
  std::vector<uint32_t> length;   // result: of the word that begins here, in characters

  size_t size() const { return size_; }
  // The arrays only grow, so that a character costs four plain stores; what lies behind size() is of earlier blocks.
  void begin() { size_ = 0; }
  void push(uint32_t code, uint16_t letter, uint8_t about, size_t at) {
    if (size_ + 1 >= codes.size()) [[unlikely]]
      grow();
    letters[size_] = letter, codes[size_] = code, kind[size_] = about, offset[size_] = at;
    ++size_;
  }
  void finish(size_t end) {
    if (codes.empty()) grow();
    letters[size_] = 0, offset[size_] = end;
  }

 private:
  void grow() {
    const size_t places = std::max<size_t>(256, 2 * codes.size());
    letters.resize(places), codes.resize(places), kind.resize(places), offset.resize(places);
    route.resize(places), run.resize(places), length.resize(places);
  }
  size_t size_ = 0;
};

}  // namespace qd
