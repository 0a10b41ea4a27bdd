// Our own cut: the most probable words as in data/viterbi.h, over a graph that has more than the dictionary.
//   words that no dictionary has   a model of how words are spelled, made from those of the dictionary, takes part with the probability
//                                  that Witten and Bell 1991 give to what was never seen: kinds of words / (words + kinds)
//   numbers and Latin              a run is one word with its points, hyphens and per cent, and with the unit of time behind it
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "data/dictionary.h"
#include "data/segment_block.h"

namespace qd {

class Unigram {
 public:
  // The dictionary must live as long as this. unknown_words: false leaves them out, to see what they bring.
  explicit Unigram(const Dictionary& dictionary, bool unknown_words = true);
  void cut(SegmentBlock& block) const;   // sets block.length

  // The kind of a character for SegmentBlock::kind. Joiners stand inside runs of digits and letters: 3.14, COVID-19.
  enum Kind : uint8_t { other, chinese, digit, latin, joiner, per };
  static Kind kind(uint32_t code);
  static bool repeats(uint32_t code);   // of a mark that is one word when it stands several times: dashes and dots

 private:
  static constexpr size_t longest = 4;   // characters of an unknown word
  size_t run_end(const SegmentBlock& block, size_t begin) const;
  size_t unit_end(const SegmentBlock& block, size_t begin) const;

  const Dictionary& dictionary_;
  const bool unknown_words_;
  std::array<double, longest + 1> length_{};   // ln P(unknown) P(length)
  struct Spelling {
    double begin, middle, end, single;   // ln P(character | place in the word)
  };
  std::vector<Spelling> spelling_;   // by letter; 0: a character that no word has
  double run_ = 0;                   // ln P(a run)
};

}  // namespace qd
