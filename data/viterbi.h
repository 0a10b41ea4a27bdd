// The most probable words of a text over the graph of all words of a dictionary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "data/dictionary.h"

namespace qd {

// From the right to the left: route[i], n + 1 of them, is the best logarithm of a probability from i on. word(i, node, end): the best
// way from i begins with the word of this node, which ends before `end`; none is a character that is no word. letters[n] must be 0.
// The order of additions in doubles is jieba's, ties go to the longer word.
template <class Word>
void most_probable_words(const Dictionary& dictionary, const uint16_t* letters, size_t n, double* route, const Word& word) {
  constexpr size_t ahead = 6;
  const Dictionary::Node* nodes = dictionary.nodes();
  const double unknown = 0.0 - dictionary.log_total();   // a character that is no word has the count 1
  route[n] = 0;
  for (size_t i = n; i-- > 0;) {
    // Nodes of two letters lie far apart: asked for some characters ahead, they are there in time.
    if (i >= ahead) __builtin_prefetch(nodes + nodes[letters[i - ahead]].children + letters[i - ahead + 1]);
    double best = std::numeric_limits<double>::lowest();
    int32_t node = Dictionary::root, best_node = Dictionary::none;
    size_t end = i + 1;
    for (size_t j = i;;) {
      const int32_t at = nodes[node].children + letters[j];
      if (nodes[at].parent != node) break;
      node = at;
      const double score = nodes[node].weight + route[++j];
      if (score >= best) best = score, best_node = node, end = j;
    }
    if (best_node == Dictionary::none) best = unknown + route[i + 1];
    route[i] = best;
    word(i, best_node, end);
  }
}

}  // namespace qd
