// A run of characters that words may consist of, while it is cut. Parts of data/segment.h.
#pragma once

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

  size_t size() const { return codes.size(); }
  void clear() { letters.clear(), codes.clear(), kind.clear(), offset.clear(); }
  void push(uint32_t code, uint16_t letter, uint8_t about, size_t at) {
    letters.push_back(letter), codes.push_back(code), kind.push_back(about), offset.push_back(at);
  }
  void finish(size_t end) { letters.push_back(0), offset.push_back(end); }
};

}   // namespace qd
