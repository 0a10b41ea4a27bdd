#include "data/word_counter.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>

#include "core/error.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/lines.h"
#include "data/segment.h"

namespace qd {
namespace {

constexpr size_t shards = 64;   // of a table, by hash
constexpr size_t part_size = 1 << 15;
constexpr uint32_t codes = 0x110000;

std::string repaired(std::string_view text) {
  std::string whole;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    append_utf8(whole, c.code);
    at += static_cast<size_t>(c.length);
  }
  return whole;
}

// White space of more than one byte begins with one of these.
bool may_be_space(unsigned char byte) { return byte <= ' ' || byte == 0xC2 || (byte >= 0xE1 && byte <= 0xE3); }

// Most words of a text are rare ones with equal counts: their first bytes stand beside the count, so that few comparisons look at the words
// themselves.
struct Key {
  int64_t count;
  uint64_t begin;   // eight bytes, the first one highest
  std::string_view word;
};
bool before(const Key& a, const Key& b) {
  if (a.count != b.count) return a.count > b.count;
  return a.begin != b.begin ? a.begin < b.begin : a.word < b.word;
}
Key key_of(std::string_view word, int64_t count) {
  uint64_t begin = 0;
  for (size_t i = 0; i < 8; ++i) begin = begin << 8 | (i < word.size() ? static_cast<unsigned char>(word[i]) : 0U);
  return {count, begin, word};
}

// The first `top` in order, 0: all.
void sort(std::vector<Key>& keys, int64_t top) {
  const size_t wanted = top > 0 ? std::min(keys.size(), static_cast<size_t>(top)) : keys.size();
  const auto middle = keys.begin() + static_cast<std::ptrdiff_t>(wanted);
  if (middle != keys.end()) std::nth_element(keys.begin(), middle, keys.end(), before);
  keys.erase(middle, keys.end());
  std::sort(keys.begin(), keys.end(), before);
}

}  // namespace

uint64_t WordTable::random_seed() {
  std::random_device random;
  return static_cast<uint64_t>(random()) << 32 | random();
}

uint64_t WordTable::next_multiplier() {
  static std::atomic<uint64_t> number = random_seed();
  return mixed(number.fetch_add(1), 0x9E3779B97F4A7C15) | 1;
}

void split_at_space(std::string_view text, std::vector<std::string_view>& words) {
  size_t begin = 0, at = 0;
  while (at < text.size()) {
    if (!may_be_space(static_cast<unsigned char>(text[at]))) {
      ++at;
      continue;
    }
    const Utf8Char c = decode_utf8(text.substr(at));
    const auto length = static_cast<size_t>(c.length);
    if (c.valid && separates_words(c.code)) {
      if (at > begin) words.push_back(text.substr(begin, at - begin));
      begin = at + length;
    }
    at += length;
  }
  if (at > begin) words.push_back(text.substr(begin));
}

size_t space_boundary(std::string_view text, size_t position) {
  if (position >= text.size()) return text.size();
  for (position = utf8_boundary(text, position); position > 0;) {
    const size_t before = utf8_boundary(text, position - 1);
    const Utf8Char c = decode_utf8(text.substr(before));
    if (c.valid && separates_words(c.code)) return position;
    position = before;
  }
  return 0;
}

void split_with(const Segmenter& segmenter, CountOptions& options) {
  options.split = [&](std::string_view text, std::vector<std::string_view>& words) { segmenter.words(text, words); };
  options.splits_broken = true;
  options.boundary = [&](std::string_view text, size_t at) { return segmenter.boundary(text, at); };
}

struct WordCounter::Worker {
  explicit Worker(size_t tables) : tables(tables) {}
  std::vector<WordTable> tables;   // one, or one for each shard
  WordTable batch;
  struct {
    std::vector<std::string_view> words;
    std::vector<uint64_t> hashes;
  } pending;   // split, not yet counted
  int64_t total = 0, broken_bytes = 0;

  WordTable& table(uint64_t hash) { return tables[tables.size() > 1 ? hash % shards : 0]; }
  size_t memory() const {
    size_t bytes = 0;
    for (const WordTable& table : tables) bytes += table.memory();
    return bytes;
  }
  void take_batch() {
    if (batch.size() == 0) return;
    batch.for_each([&](std::string_view word, int64_t count, uint64_t hash) { table(hash).add(word, count, hash); });
    batch.clear();
  }
};

WordCounter::WordCounter(CountOptions options) : options_(std::move(options)) {
  QD_CHECK(options_.batch > 0, "--batch", str("expected at least 1, got ", options_.batch));
  const size_t tables = options_.strategy == CountStrategy::sharded ? shards : 1;
  for (int i = 0; i < threads(); ++i) workers_.push_back(std::make_unique<Worker>(tables));
}

WordCounter::~WordCounter() = default;

void WordCounter::count(Worker& worker, std::string_view text) {
  const bool batched = options_.strategy == CountStrategy::batched;
  const auto table = [&](uint64_t hash) -> WordTable& { return batched ? worker.batch : worker.table(hash); };
  const auto add_words = [&] {
    // Places of words lie anywhere in a large table: they are asked for some words ahead.
    constexpr size_t ahead = 12;
    auto& [words, hashes] = worker.pending;
    hashes.resize(words.size());
    for (size_t i = 0; i < words.size() + ahead; ++i) {
      if (i < words.size()) {
        if (words[i].size() == 1 && static_cast<unsigned char>(words[i][0]) >= 0x80) [[unlikely]] words[i] = "\uFFFD", ++worker.broken_bytes;
        hashes[i] = WordTable::hash_of(words[i]), table(hashes[i]).prefetch(hashes[i]);
      }
      if (i >= ahead) table(hashes[i - ahead]).add(words[i - ahead], 1, hashes[i - ahead]);
    }
    worker.total += std::ssize(words);
    words.clear();
  };
  std::string whole;
  if (const size_t broken = options_.splits_broken ? 0 : count_invalid_utf8(text); broken > 0) {
    worker.broken_bytes += static_cast<int64_t>(broken);
    whole = repaired(text);
    text = whole;
  }
  constexpr size_t enough = 1024;   // words that are added together
  int64_t lines = 0;
  for_each_line(text, [&](std::string_view line, bool) {
    options_.split(line, worker.pending.words);
    const bool batch_ends = ++lines == options_.batch;
    if (batch_ends || worker.pending.words.size() >= enough) add_words();
    if (batch_ends) worker.take_batch(), lines = 0;
  });
  add_words();
  worker.take_batch();
}

void WordCounter::add(std::string_view text) {
  // A batch never spans two parts, so a part has room for it.
  const size_t size = std::max(part_size, options_.strategy == CountStrategy::batched
                                              ? 64 * static_cast<size_t>(std::min<int64_t>(options_.batch, 1 << 14))
                                              : 0);
  const auto parts = cut_text(text, size, [&](std::string_view t, size_t at) {
    const size_t line = after_line(t, at);
    return line > 0 ? line : options_.boundary(t, at);
  });
  const int64_t workers = std::ssize(workers_);
  std::atomic<size_t> next = 0;   // who counts a part does not matter
  parallel_tasks(workers, [&](int64_t w) {
    Worker& worker = *workers_[static_cast<size_t>(w)];
    for (size_t i; (i = next++) < parts.size();) {
      count(worker, parts[i]);
      if (options_.memory > 0 && worker.memory() > static_cast<size_t>(options_.memory / workers)) spill(worker);
    }
  });
}

void WordCounter::spill(Worker& worker) {
  std::vector<CountedWord> run;
  for (const WordTable& table : worker.tables)
    table.for_each([&](std::string_view word, int64_t count, uint64_t) { run.push_back({word, count}); });
  static std::mutex mutex;   // one at a time: the disk is one
  {
    const std::lock_guard lock(mutex);
    if (!runs_) runs_ = std::make_unique<SortedRuns>(by_word);
    runs_->add(std::move(run));
  }
  worker.tables = std::vector<WordTable>(worker.tables.size());   // the memory goes back
}

WordCounter::Summary WordCounter::finish(int64_t top, const std::function<void(const CountedWord&)>& f) {
  Summary summary;
  for (const auto& worker : workers_) summary.total += worker->total, summary.broken_bytes += worker->broken_bytes;
  if (runs_) {
    // Merged in the order of words, their sums go into runs in the order of counts, which are merged again.
    for (const auto& worker : workers_) spill(*worker);
    SortedRuns sums(by_count);
    std::string arena;
    std::vector<std::pair<size_t, int64_t>> words;   // end in the arena, count
    const auto flush = [&] {
      std::vector<CountedWord> run;
      for (size_t i = 0; i < words.size(); ++i) {
        const size_t begin = i > 0 ? words[i - 1].first : 0;
        run.push_back({std::string_view(arena).substr(begin, words[i].first - begin), words[i].second});
      }
      sums.add(std::move(run));
      words.clear(), arena.clear();
    };
    runs_->merge([&](const CountedWord& w) {
      const size_t begin = words.size() > 1 ? words[words.size() - 2].first : 0;
      if (!words.empty() && std::string_view(arena).substr(begin) == w.word) {
        words.back().second += w.count;
        return;
      }
      if (arena.size() + words.size() * 48 > static_cast<size_t>(options_.memory) / 2) flush();
      arena += w.word;
      words.emplace_back(arena.size(), w.count);
      ++summary.distinct;
    });
    flush();
    int64_t told = 0;
    sums.merge([&](const CountedWord& w) {
      if (top == 0 || told++ < top) f(w);
    });
    summary.runs = static_cast<int64_t>(runs_->runs());
    runs_.reset();
  } else {
    // Into the tables of the first worker: shards all at once, which are sorted at once as well.
    std::vector<WordTable>& tables = workers_[0]->tables;
    std::vector<std::vector<Key>> keys(tables.size() > 1 ? static_cast<size_t>(threads()) : 1);
    parallel_tasks(std::ssize(tables), [&](int64_t shard) {
      const auto i = static_cast<size_t>(shard);
      for (size_t w = 1; w < workers_.size(); ++w)
        workers_[w]->tables[i].for_each(
            [&](std::string_view word, int64_t count, uint64_t hash) { tables[i].add(word, count, hash); });
    });
    parallel_tasks(std::ssize(keys), [&](int64_t task) {
      auto& own = keys[static_cast<size_t>(task)];
      for (size_t i = static_cast<size_t>(task); i < tables.size(); i += keys.size())
        tables[i].for_each([&](std::string_view word, int64_t count, uint64_t) { own.push_back(key_of(word, count)); });
      sort(own, top);
    });
    for (const WordTable& table : tables) summary.distinct += static_cast<int64_t>(table.size());
    std::vector<size_t> next(keys.size());
    for (int64_t told = 0; top == 0 || told < top; ++told) {
      size_t first = keys.size();
      for (size_t s = 0; s < keys.size(); ++s)
        if (next[s] < keys[s].size() && (first == keys.size() || before(keys[s][next[s]], keys[first][next[first]]))) first = s;
      if (first == keys.size()) break;
      const Key& key = keys[first][next[first]++];
      f({key.word, key.count});
    }
  }
  for (auto& worker : workers_) worker = std::make_unique<Worker>(worker->tables.size());
  return summary;
}

void CharacterCounter::add(std::string_view text) {
  const auto workers = static_cast<size_t>(threads());
  while (counts_.size() < workers) counts_.emplace_back(codes);
  const auto parts = cut_text(text, part_size);
  std::vector<int64_t> broken(workers);
  parallel_tasks(static_cast<int64_t>(workers), [&](int64_t worker) {
    const auto w = static_cast<size_t>(worker);
    int64_t* counts = counts_[w].data();
    for (size_t i = w; i < parts.size(); i += workers) {
      const std::string_view part = parts[i];
      for (size_t at = 0; at < part.size();) {
        const Utf8Char c = decode_utf8(part.substr(at));
        ++counts[c.code];
        broken[w] += !c.valid;
        at += static_cast<size_t>(c.length);
      }
    }
  });
  for (const int64_t b : broken) broken_bytes_ += b;
}

WordCounter::Summary CharacterCounter::finish(int64_t top, const std::function<void(const CountedWord&)>& f) {
  WordCounter::Summary summary{.broken_bytes = broken_bytes_};
  std::vector<std::string> characters;
  std::vector<int64_t> counts;
  for (uint32_t code = 0; code < codes; ++code) {
    int64_t count = 0;
    for (const auto& worker : counts_) count += worker[code];
    if (count == 0 || separates_words(code)) continue;
    append_utf8(characters.emplace_back(), code);
    counts.push_back(count);
    summary.total += count, ++summary.distinct;
  }
  std::vector<Key> keys;
  for (size_t i = 0; i < counts.size(); ++i) keys.push_back(key_of(characters[i], counts[i]));
  sort(keys, top);
  for (const Key& key : keys) f({key.word, key.count});
  counts_.clear();
  broken_bytes_ = 0;
  return summary;
}

}  // namespace qd
