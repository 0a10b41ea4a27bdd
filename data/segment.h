// Cutting text into words with a dictionary. White space separates words and belongs to none.
//   dag       maximum probability over the graph of all words, to the word jieba 0.42.1's cut(HMM=False), with a model cut(HMM=True)
//   forward   the longest word from the left on, again and again; backward: from the right (kexue.fm/archives/3908)
//   shortest  fewest words; of equally few the most probable
//   unigram   our own: as dag, with words that the dictionary does not have (data/unigram.h), and numbers and Latin as a whole
// Characters that are neither in words nor letters nor numbers are words by themselves.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/automaton.h"
#include "data/dictionary.h"
#include "data/hmm.h"
#include "data/unigram.h"

namespace qd {

enum class SegmentMethod { unigram, dag, forward, backward, shortest };

class Segmenter {
 public:
  // A model for words that are not in the dictionary goes with dag alone; throws Error otherwise. unknown_words: those of unigram.
  Segmenter(Dictionary dictionary, SegmentMethod method, std::optional<Hmm> hmm = std::nullopt, bool unknown_words = true);
  ~Segmenter();
  Segmenter(const Segmenter&) = delete;
  Segmenter& operator=(const Segmenter&) = delete;

  const Dictionary& dictionary() const { return dictionary_; }

  // Appends the words of a text, which are parts of it. A byte that is not UTF-8 is a word.
  void words(std::string_view text, std::vector<std::string_view>& words) const;

  // Appends the text with one blank between words; line ends stay, other white space goes. A byte that is not UTF-8 becomes U+FFFD.
  struct Totals {
    int64_t words = 0, broken_bytes = 0;
  };
  Totals segment(std::string_view text, std::string& out) const;

  // The last place <= position at which the text may be cut without changing words; 0 where there is none, text.size() from there on.
  size_t boundary(std::string_view text, size_t position) const;

 private:
  uint32_t about(uint32_t code) const;   // letter and what kind of character
  uint32_t kind_of(uint32_t code) const;
  void cut(SegmentBlock& block) const;

  Dictionary dictionary_;
  SegmentMethod method_;
  std::optional<Hmm> hmm_;
  std::optional<Automaton> automaton_;
  std::optional<Unigram> unigram_;
  std::vector<uint32_t> about_;   // by code point below 0x10000
};

// Whether Python's str.isspace says so: white space and the separators U+001C to U+001F.
bool separates_words(uint32_t code);

}  // namespace qd
