// How often each word occurs in texts of any size (kexue.fm/archives/7031). Counts are exact and the same for every strategy, number of
// threads, size of batches and memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/sorted_runs.h"
#include "data/text.h"
#include "data/word_table.h"

namespace qd {

class Segmenter;

// direct    each thread has one growing table; one thread adds them up
// batched   each thread counts a batch of texts in a small table, which stays in the cache, and adds it to its growing one
// sharded   as direct, each thread's table in parts by hash, so that all threads add them up at once
enum class CountStrategy { direct, batched, sharded };

struct CountOptions {
  CountStrategy strategy = CountStrategy::sharded;
  int64_t batch = 1000;   // batched: lines
  int64_t memory = 0;     // bytes that tables may take before they go to a temporary file; 0: no limit
  // The words of a text without line ends, appended; each a part of the text, none empty.
  std::function<void(std::string_view text, std::vector<std::string_view>& words)> split;
  bool splits_broken = false;   // it makes every byte that is not UTF-8 a word; otherwise texts are repaired before it sees them
  Boundary boundary;   // where a text can be cut without changing words
};

// Splits at white space as Python's str.split does.
void split_at_space(std::string_view text, std::vector<std::string_view>& words);
size_t space_boundary(std::string_view text, size_t position);

// Words as a segmenter cuts them; keeps a reference to it.
void split_with(const Segmenter& segmenter, CountOptions& options);

class WordCounter {
 public:
  explicit WordCounter(CountOptions options);
  ~WordCounter();

  // Counts the words of whole lines. Bytes that are not UTF-8 become U+FFFD. Throws Error: the temporary file cannot be written.
  void add(std::string_view text);

  struct Summary {
    int64_t total = 0, distinct = 0, broken_bytes = 0, runs = 0;   // runs: in the temporary file
  };
  // f(word) for each distinct word, the most frequent first, then in the order of their bytes; at most `top` of them, 0: all.
  // The counter is empty after this.
  Summary finish(int64_t top, const std::function<void(const CountedWord&)>& f);

 private:
  struct Worker;
  void spill(Worker& worker);
  void count(Worker& worker, std::string_view text);

  const CountOptions options_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<SortedRuns> runs_;
};

// The same for characters, which need no table: one count for each code point. White space is not counted.
class CharacterCounter {
 public:
  void add(std::string_view text);
  WordCounter::Summary finish(int64_t top, const std::function<void(const CountedWord&)>& f);

 private:
  std::vector<std::vector<int64_t>> counts_;   // by worker and code point
  int64_t broken_bytes_ = 0;
};

}  // namespace qd
