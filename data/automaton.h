// All words of a dictionary in a text, found in one pass. Aho and Corasick 1975, "Efficient String Matching" (kexue.fm/archives/3908):
// the link of a node leads to the longest of its proper suffixes that is a node.
#pragma once

#include <vector>

#include "data/dictionary.h"

namespace qd {

class Automaton {
 public:
  explicit Automaton(const Dictionary& dictionary);   // which must live as long as this

  // The node of the longest suffix of what was read, after one more letter.
  int32_t step(int32_t node, uint16_t letter) const {
    for (;; node = links_[static_cast<size_t>(node)].suffix) {
      const int32_t child = dictionary_.child(node, letter);
      if (child != Dictionary::none) return child;
      if (node == Dictionary::root) return node;
    }
  }
  // The nodes of all words that end here, the longest first: for (n = word_at(node); n != root; n = shorter(n)).
  int32_t word_at(int32_t node) const { return dictionary_.is_word(node) ? node : shorter(node); }
  int32_t shorter(int32_t node) const { return links_[static_cast<size_t>(node)].word; }
  int32_t length(int32_t node) const { return links_[static_cast<size_t>(node)].depth; }   // in characters

 private:
  struct Link {
    int32_t suffix = Dictionary::root, word = Dictionary::root, depth = 0;
  };
  const Dictionary& dictionary_;
  std::vector<Link> links_;
};

}  // namespace qd
