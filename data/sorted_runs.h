// Counts of words that are more than memory holds: runs in the order of the words go to a temporary file, and come back merged.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "core/temporary_file.h"

namespace qd {

struct CountedWord {
  std::string_view word;
  int64_t count;
};
using WordOrder = bool (*)(const CountedWord& a, const CountedWord& b);
inline bool by_word(const CountedWord& a, const CountedWord& b) { return a.word < b.word; }
inline bool by_count(const CountedWord& a, const CountedWord& b) {
  return a.count != b.count ? a.count > b.count : a.word < b.word;
}

class SortedRuns {
 public:
  explicit SortedRuns(WordOrder order);
  // One run, sorted here. Not thread-safe. Throws Error: no temporary file, full disk.
  void add(std::vector<CountedWord> run);
  size_t runs() const { return begins_.size(); }
  // f(word) for all words of all runs in order; the same word from several runs comes several times, one after another.
  void merge(const std::function<void(const CountedWord&)>& f) const;

 private:
  WordOrder order_;
  TemporaryFile file_;
  std::vector<uint64_t> begins_;   // of each run, in bytes
};

}  // namespace qd
