#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "core/error.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/segment.h"
#include "data/sorted_runs.h"
#include "data/word_counter.h"

using namespace qd;

namespace {

using Table = std::vector<std::pair<std::string, int64_t>>;

// The plain definition: split at white space, U+FFFD for each broken byte.
Table plain(std::string_view text, bool characters) {
  std::map<std::string, int64_t> counts;
  std::string word;
  const auto take = [&] {
    if (!word.empty()) ++counts[word];
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    if (c.valid && separates_words(c.code)) {
      take();
    } else {
      append_utf8(word, c.code);
      if (characters) take();
    }
    at += static_cast<size_t>(c.length);
  }
  take();
  Table table(counts.begin(), counts.end());
  std::stable_sort(table.begin(), table.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return table;
}

CountOptions by_space(CountStrategy strategy, int64_t batch = 1000, int64_t memory = 0) {
  return {.strategy = strategy, .batch = batch, .memory = memory, .split = split_at_space, .boundary = space_boundary};
}

template <class Counter>
Table counted(Counter& counter, std::string_view text, size_t block, int64_t top = 0) {
  for (const auto part : cut_text(text, block, space_boundary)) counter.add(part);
  Table table;
  counter.finish(top, [&](const CountedWord& w) { table.emplace_back(w.word, w.count); });
  return table;
}

const CountStrategy strategies[] = {CountStrategy::direct, CountStrategy::batched, CountStrategy::sharded};

// Keys of every length, some longer than a slot, NULs, blanks of all kinds, broken bytes, characters beyond the BMP, empty lines.
std::string nasty_text(std::mt19937& random, int words) {
  const std::string blanks[] = {" ",    "\n",       "\r\n",     "\t",           "\n\n\n",
                                "\x1c", "\xC2\x85", "\xC2\xA0", "\xE2\x80\xA8", "\xE3\x80\x80"};
  const std::string letters[] = {"a",    "b",        "中",       "国",          "\U00020000", std::string(1, '\0'),
                                 "\xFF", "\xE4\xB8", "\xC2\xA1", "\xE2\x80\x8B"};
  std::string text;
  for (int i = 0; i < words; ++i) {
    for (size_t n = 1 + random() % (i % 10 ? 3 : 12); n > 0; --n) text += letters[random() % std::size(letters)];
    text += blanks[random() % std::size(blanks)];
  }
  return text;
}

struct Threads {   // that a test uses, until it ends
  const int before = threads();
  ~Threads() { set_threads(before); }
};

}  // namespace

TEST_CASE("word counter: every strategy, batch, number of threads and memory gives the plain table") {
  const Threads keep;
  std::mt19937 random(1);
  for (int round = 0; round < 3; ++round) {
    const std::string text = nasty_text(random, 6000) + (round == 0 ? "last" : "");   // without a line end
    const Table expected = plain(text, false);
    for (const int n : {1, 2, 3}) {
      set_threads(n);
      for (const CountStrategy strategy : strategies) {
        for (const int64_t batch : {1, 2, 999, 1000, 1001}) {
          WordCounter counter(by_space(strategy, batch));
          CHECK(counted(counter, text, 1 << 14) == expected);
          if (strategy != CountStrategy::batched) break;
        }
        WordCounter spilling(by_space(strategy, 10, 1));   // every part goes to the file
        CHECK(counted(spilling, text, 1 << 14) == expected);
        const Table top(expected.begin(), expected.begin() + 7);
        CHECK(counted(spilling, text, 1 << 14, 7) == top);
      }
      CharacterCounter characters;
      CHECK(counted(characters, text, 1 << 14) == plain(text, true));
    }
  }
}

TEST_CASE("word counter: edges of batches, empty texts, one long line") {
  for (const CountStrategy strategy : strategies) {
    for (const int lines : {0, 1, 999, 1000, 1001, 2000}) {
      std::string text;
      for (int i = 0; i < lines; ++i) text += str(i % 7, " x\n");
      WordCounter counter(by_space(strategy));
      CHECK(counted(counter, text, 1 << 20) == plain(text, false));
    }
    std::string line;
    for (int i = 0; i < 200'000; ++i) line += str(i % 1000, ' ');
    WordCounter counter(by_space(strategy));
    const Table table = counted(counter, line, 1 << 22);
    CHECK(table.size() == 1000);
    CHECK(std::all_of(table.begin(), table.end(), [](const auto& w) { return w.second == 200; }));
  }
}

TEST_CASE("word counter: a summary of what was counted") {
  WordCounter counter(by_space(CountStrategy::sharded));
  counter.add("a b a\xFF \xFE\n");
  const auto summary = counter.finish(1, [](const CountedWord&) {});
  CHECK((summary.total == 4 && summary.distinct == 4 && summary.broken_bytes == 2 && summary.runs == 0));
  const auto again = counter.finish(0, [](const CountedWord&) { FAIL("it is empty"); });
  CHECK((again.total == 0 && again.distinct == 0 && again.broken_bytes == 0));
}

TEST_CASE("word table: counts as a map does, also where hashes collide") {
  std::mt19937 random(2);
  WordTable table, collisions;
  std::map<std::string, int64_t> expected;
  for (int i = 0; i < 20'000; ++i) {
    std::string word;
    for (size_t n = 1 + random() % 20; n > 0; --n) word += static_cast<char>(random() % 3 ? 'a' + random() % 2 : random());
    const auto count = static_cast<int64_t>(1 + random() % 5);
    expected[word] += count;
    table.add(word, count);
    if (i < 2000) collisions.add(word, count, random() % 2);   // the hostile case: two hashes for all
  }
  const auto content = [](const WordTable& t) {
    std::map<std::string, int64_t> content;
    t.for_each([&](std::string_view word, int64_t count, uint64_t) { content[std::string(word)] += count; });
    return content;
  };
  CHECK(content(table) == expected);
  CHECK(table.size() == expected.size());
  int64_t sum = 0;
  for (const auto& [word, count] : content(collisions)) {
    CHECK(expected.at(word) >= count);
    sum += count;
  }
  CHECK(sum > 0);
  table.clear();
  CHECK(content(table).empty());
  table.add("a");
  CHECK(content(table) == std::map<std::string, int64_t>{{"a", 1}});
}

TEST_CASE("sorted runs: what goes in comes back in order, words longer than a buffer as well") {
  std::mt19937 random(3);
  for (const WordOrder order : {by_word, by_count}) {
    SortedRuns runs(order);
    std::vector<std::string> words;
    for (int i = 0; i < 300; ++i)
      words.push_back(
          std::string(random() % 50 ? random() % 20 : 100'000 + random() % 1000, static_cast<char>('a' + random() % 26)));
    std::vector<CountedWord> all;
    for (int run = 0; run < 7; ++run) {
      std::vector<CountedWord> some;
      for (int i = 0; i < (run == 3 ? 0 : 100); ++i)
        some.push_back({words[random() % words.size()], static_cast<int64_t>(random() % 10)});
      all.insert(all.end(), some.begin(), some.end());
      runs.add(some);
    }
    Table merged, expected;
    runs.merge([&](const CountedWord& w) {
      if (!merged.empty()) CHECK_FALSE(order({w.word, w.count}, {merged.back().first, merged.back().second}));
      merged.emplace_back(w.word, w.count);
    });
    for (const CountedWord& w : all) expected.emplace_back(w.word, w.count);
    std::sort(merged.begin(), merged.end());   // the same word from several runs comes in any order
    std::sort(expected.begin(), expected.end());
    CHECK(merged == expected);
  }
}
