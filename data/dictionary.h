// Words with counts as a double-array trie: one array in which the child of a node is found with one addition and one comparison.
// Aoe 1989, "An Efficient Digital Search Algorithm by Using a Double-Array Structure". data/automaton.h adds the links of
// Aho and Corasick.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/allocator.h"

namespace qd {

struct WordCount {
  std::string word;
  int64_t count;
};

// The lines `word count` of a file, one blank between; what follows a second blank is ignored, no count is 1, empty lines are left out.
// Throws Error naming the line: no number, a negative one, counts that do not fit 64 bits, text that is not UTF-8, a file without words.
std::vector<WordCount> read_word_counts(const std::string& path);
std::vector<WordCount> parse_word_counts(std::string_view text, const std::string& where);

class Dictionary {
 public:
  // A word twice has the later count, and both are in the total: that is jieba's rule. A count of 0 makes no word.
  // Throws Error naming `where`: no words, an empty one, one that is not UTF-8, more than 65,534 distinct characters.
  explicit Dictionary(std::span<const WordCount> words, const std::string& where = "dictionary");

  struct Node {
    int32_t children = 0;                                       // where letter 0 of its children would stand
    int32_t parent = -1;                                        // -1: the place is empty
    double weight = -std::numeric_limits<double>::infinity();   // log(count) - log(total); -infinity: no word ends here
  };
  static constexpr int32_t none = -1, root = 0;

  // Characters are numbered, the commonest first; 0: in no word.
  uint16_t letter(uint32_t code) const { return code < letters_.size() ? letters_[code] : uint16_t{0}; }
  int32_t child(int32_t node, uint16_t letter) const {   // none where there is no such child
    const int32_t at = nodes_[static_cast<size_t>(node)].children + letter;
    return nodes_[static_cast<size_t>(at)].parent == node ? at : none;
  }
  const Node* nodes() const { return nodes_.data(); }   // nodes()[children + letter] is always inside
  int64_t places() const { return std::ssize(nodes_); }
  bool is_word(int32_t node) const { return nodes_[static_cast<size_t>(node)].weight > -std::numeric_limits<double>::infinity(); }
  double weight(std::string_view word) const;   // -infinity: no word

  int64_t size() const { return size_; }     // distinct words
  int64_t total() const { return total_; }   // sum of counts
  double log_total() const { return log_total_; }
  size_t characters() const { return characters_; }   // distinct ones: letters are 1 to this
  int32_t longest() const { return longest_; }        // characters of the longest word

 private:
  LargeVector<Node> nodes_;         // walks through it jump: huge pages save translations of addresses
  std::vector<uint16_t> letters_;   // by code point
  int64_t size_ = 0, total_ = 0;
  double log_total_ = 0;
  int32_t longest_ = 0;
  size_t characters_ = 0;
};

}  // namespace qd
