// Learning merges with incremental counts: a merge touches only the places where its pair stands.
#include <algorithm>
#include <climits>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <unordered_set>

#include "core/error.h"
#include "core/log.h"
#include "core/parallel.h"
#include "data/bpe.h"
#include "data/bpe_letters.h"
#include "data/pretokenize.h"
#include "data/text.h"

namespace qd {
namespace {

struct CountedPiece {
  std::string_view text;
  int64_t count = 0;
};

// How often each distinct piece occurs.
class PieceCounts {
 public:
  void add(std::string_view piece, int64_t count) {
    if (2 * used_ >= slots_.size()) grow();
    CountedPiece& slot = find(piece);
    if (slot.count == 0) slot.text = piece, ++used_;
    slot.count += count;
  }
  const std::vector<CountedPiece>& slots() const { return slots_; }   // count 0: empty
  size_t size() const { return used_; }

 private:
  CountedPiece& find(std::string_view piece) {
    for (size_t at = std::hash<std::string_view>()(piece);; ++at) {
      CountedPiece& slot = slots_[at & (slots_.size() - 1)];
      if (slot.count == 0 || slot.text == piece) return slot;
    }
  }
  void grow() {
    std::vector<CountedPiece> old(std::max<size_t>(1024, 2 * slots_.size()));
    old.swap(slots_);
    for (const CountedPiece& piece : old)
      if (piece.count > 0) find(piece.text) = piece;
  }
  std::vector<CountedPiece> slots_;
  size_t used_ = 0;
};

// All distinct pieces of two bytes or more, most frequent first. Each thread counts a range of the text.
std::vector<CountedPiece> count_pieces(std::span<const std::string_view> training) {
  std::vector<std::string_view> texts;
  for (const std::string_view part : training) {
    const auto cuts = cut_text(part, 1 << 20, piece_boundary);
    texts.insert(texts.end(), cuts.begin(), cuts.end());
  }
  const auto ranges = static_cast<int64_t>(std::min<size_t>(static_cast<size_t>(threads()), texts.size()));
  const auto n = static_cast<int64_t>(texts.size());
  std::vector<PieceCounts> counts(static_cast<size_t>(ranges));
  parallel_tasks(ranges, [&](int64_t r) {
    PieceCounts& mine = counts[static_cast<size_t>(r)];
    for (int64_t i = n * r / ranges; i < n * (r + 1) / ranges; ++i) {
      for_each_piece(texts[static_cast<size_t>(i)], [&](std::string_view piece) {
        if (piece.size() > 1) mine.add(piece, 1);
      });
    }
  });
  for (size_t r = 1; r < counts.size(); ++r) {
    for (const CountedPiece& piece : counts[r].slots())
      if (piece.count > 0) counts[0].add(piece.text, piece.count);
    counts[r] = {};
  }
  std::vector<CountedPiece> all;
  if (counts.empty()) return all;
  all.reserve(counts[0].size());
  for (const CountedPiece& piece : counts[0].slots())
    if (piece.count > 0) all.push_back(piece);
  std::sort(all.begin(), all.end(), [](const CountedPiece& a, const CountedPiece& b) { return a.count > b.count; });
  return all;
}

// Parts of the training text without the literals <|endoftext|>.
std::vector<std::string_view> without_literals(std::span<const std::string_view> training) {
  std::vector<std::string_view> parts;
  for (std::string_view text : training) {
    for (size_t found = 0; found != std::string_view::npos;) {
      found = text.find(end_of_text_literal);
      if (const auto part = text.substr(0, found); !part.empty()) parts.push_back(part);
      if (found != std::string_view::npos) text.remove_prefix(found + end_of_text_literal.size());
    }
  }
  return parts;
}

// The distinct pieces one after another as tokens, with a wall on both sides of each. A token of n bytes takes n slots: its id in the
// first, -n in the last where n > 1, so that both neighbours of a token are found without links.
class Trainer {
 public:
  Trainer(const std::vector<CountedPiece>& pieces, BpeVocabulary& vocabulary, size_t merges);
  void learn(size_t merges);

 private:
  static constexpr int32_t wall = INT_MAX;
  struct Pair {
    int32_t left, right;
    int64_t count;                          // weighted; never rises, as a pair is born complete
    std::unique_ptr<int32_t[]> places;      // slots of the left token, ascending, some of them out of date
    int32_t place_count;
  };
  struct Candidate {                        // of the heap; out of date where the pair's count has fallen
    int64_t count;
    int32_t left, right, pair;
    bool operator<(const Candidate& o) const {
      return count != o.count ? count < o.count : left != o.left ? left > o.left : right > o.right;
    }
  };
  struct Weight {
    int32_t begin;                          // first slot of the pieces that occur `count` times
    int64_t count;
  };
  // What a merge does to the pairs with its neighbours on one side, by the neighbour's id.
  struct Side {
    struct Event {
      int32_t neighbour, place;
    };
    explicit Side(size_t ids) : gained(ids), lost(ids), places(ids), pair(ids, -1) {}
    void touch(int32_t id) {
      if (gained[id] == 0 && lost[id] == 0 && places[id] == 0) touched.push_back(id);
    }
    std::vector<int64_t> gained, lost;
    std::vector<int32_t> places, pair, touched;
    std::vector<Event> events;
  };

  void count_bytes();
  int32_t add_pair(int32_t left, int32_t right, int64_t count, int32_t places);
  void merge(Pair pair, int32_t merged);
  void settle(Side& side, int32_t merged, int32_t old, bool is_left);

  std::vector<int32_t> slots_;
  std::vector<Weight> weights_;
  BpeVocabulary& vocabulary_;
  std::vector<int32_t> lengths_;            // bytes of each token
  PairTable index_;
  std::vector<Pair> pairs_;
  std::priority_queue<Candidate> heap_;
  Side left_, right_;
};

constexpr int64_t fewest = 2;   // pairs that occur less often are not merged

Trainer::Trainer(const std::vector<CountedPiece>& pieces, BpeVocabulary& vocabulary, size_t merges)
    : vocabulary_(vocabulary), left_(256 + merges), right_(256 + merges) {
  size_t total = 1;
  for (const CountedPiece& piece : pieces) total += piece.text.size() + 1;
  QD_CHECK(total < INT_MAX, "tokenizer", str("expected less than 2 GiB of distinct words to learn merges from, got ", total, " bytes"),
           "learn the vocabulary from a part of the text");
  slots_.reserve(total);
  slots_.push_back(wall);
  for (const CountedPiece& piece : pieces) {
    if (weights_.empty() || weights_.back().count != piece.count)
      weights_.push_back({static_cast<int32_t>(slots_.size()), piece.count});
    for (const char byte : piece.text) slots_.push_back(vocabulary_.byte_ids[static_cast<unsigned char>(byte)]);
    slots_.push_back(wall);
  }
  lengths_.assign(256, 1);
  count_bytes();
}

void Trainer::count_bytes() {
  struct Count {
    int64_t weighted = 0;
    int32_t places = 0, pair = -1;
  };
  std::vector<Count> counts(256 * 256);
  const auto for_all = [&](auto&& f) {
    for (size_t w = 0; w < weights_.size(); ++w) {
      const int32_t end = w + 1 < weights_.size() ? weights_[w + 1].begin : static_cast<int32_t>(slots_.size());
      for (int32_t at = weights_[w].begin; at + 1 < end; ++at)
        if (slots_[at] != wall && slots_[at + 1] != wall) f(counts[slots_[at] * 256 + slots_[at + 1]], at, weights_[w].count);
    }
  };
  for_all([](Count& c, int32_t, int64_t weight) { c.weighted += weight, ++c.places; });
  for (int32_t i = 0; i < 256 * 256; ++i)
    if (counts[i].weighted >= fewest) counts[i].pair = add_pair(i / 256, i % 256, counts[i].weighted, counts[i].places);
  for_all([&](Count& c, int32_t at, int64_t) {
    if (c.pair < 0) return;
    Pair& pair = pairs_[c.pair];
    pair.places[pair.place_count++] = at;
  });
}

int32_t Trainer::add_pair(int32_t left, int32_t right, int64_t count, int32_t places) {
  const auto number = static_cast<int32_t>(pairs_.size());
  pairs_.push_back({left, right, count, std::unique_ptr<int32_t[]>(new int32_t[places]), 0});
  index_.insert(left, right, number);
  heap_.push({count, left, right, number});
  return number;
}

void Trainer::learn(size_t merges) {
  std::unordered_set<std::string> known(vocabulary_.tokens.begin(), vocabulary_.tokens.end());
  Progress line("learning merges");
  while (vocabulary_.merges.size() < merges && !heap_.empty()) {
    const Candidate best = heap_.top();
    heap_.pop();
    Pair& pair = pairs_[best.pair];
    if (pair.count != best.count) {
      if (pair.count >= fewest) heap_.push({pair.count, best.left, best.right, best.pair});
      continue;
    }
    Pair chosen = std::move(pair);
    pair.count = 0;
    std::string token = vocabulary_.tokens[chosen.left] + vocabulary_.tokens[chosen.right];
    if (!known.insert(token).second) continue;
    const auto merged = static_cast<int32_t>(vocabulary_.tokens.size());
    vocabulary_.merges.push_back({chosen.left, chosen.right, merged});
    lengths_.push_back(static_cast<int32_t>(token.size()));
    vocabulary_.tokens.push_back(std::move(token));
    merge(std::move(chosen), merged);
    const size_t done = vocabulary_.merges.size();
    line.update(static_cast<double>(done) / static_cast<double>(merges), str(done, " merges"));
  }
}

// left right -> merged at all places. The neighbours' pairs with left and right are lost, those with merged are gained.
void Trainer::merge(Pair pair, int32_t merged) {
  const auto [a, b] = std::pair(pair.left, pair.right);
  const int32_t length = lengths_[merged];
  constexpr int32_t ahead = 16;   // places are far apart: memory is asked for them some time before
  auto weight = weights_.begin();
  for (int32_t i = 0; i < pair.place_count; ++i) {
    if (i + ahead < pair.place_count) __builtin_prefetch(&slots_[pair.places[i + ahead]]);
    const int32_t at = pair.places[i], second = at + lengths_[a];
    if (slots_[at] != a || slots_[second] != b) continue;
    const int32_t next = at + length, before = slots_[at - 1], previous = before < 0 ? at + before : at - 1;
    slots_[second] = -1;   // no token begins here any more
    slots_[next - 1] = -length;
    slots_[at] = merged;
    if (weight + 1 != weights_.end() && (weight + 1)->begin <= at)
      weight = std::upper_bound(weight, weights_.end(), at, [](int32_t p, const Weight& w) { return p < w.begin; }) - 1;
    const int64_t count = weight->count;
    if (const int32_t c = slots_[previous]; c != wall) {
      left_.touch(c);
      if (c == merged) {   // it was counted as (merged, a) just now
        right_.gained[a] -= count;
      } else {
        left_.lost[c] += count;
      }
      left_.gained[c] += count, ++left_.places[c];
      left_.events.push_back({c, previous});
    }
    if (const int32_t d = slots_[next]; d != wall) {
      right_.touch(d);
      right_.lost[d] += count, right_.gained[d] += count, ++right_.places[d];
      right_.events.push_back({d, at});
    }
  }
  settle(left_, merged, a, true);
  settle(right_, merged, b, false);
}

void Trainer::settle(Side& side, int32_t merged, int32_t old, bool is_left) {
  for (const int32_t id : side.touched) {
    const int32_t lost = is_left ? index_.find(id, old) : index_.find(old, id);
    if (lost != PairTable::none) pairs_[lost].count -= side.lost[id];
    if (side.gained[id] >= fewest)
      side.pair[id] = add_pair(is_left ? id : merged, is_left ? merged : id, side.gained[id], side.places[id]);
  }
  for (const auto& event : side.events) {
    if (side.pair[event.neighbour] < 0) continue;
    Pair& pair = pairs_[side.pair[event.neighbour]];
    pair.places[pair.place_count++] = event.place;
  }
  for (const int32_t id : side.touched) side.gained[id] = side.lost[id] = 0, side.places[id] = 0, side.pair[id] = -1;
  side.touched.clear();
  side.events.clear();
}

}  // namespace

BpeVocabulary train_bpe(std::span<const std::string_view> training, int64_t size) {
  QD_CHECK(size >= 257 && size < (1 << 24), str("--tokenizer bpe:", size), str("expected a size of 257 to ", 1 << 24, ", got ", size),
           "256 ids are the bytes and one ends a text, e.g. bpe:4096");
  BpeVocabulary vocabulary;
  for (int32_t id = 0; id < 256; ++id) {
    const unsigned char byte = byte_in_gpt2_order(id);
    vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
    vocabulary.byte_ids[byte] = id;
  }
  const auto merges = static_cast<size_t>(size - 257);
  if (merges > 0) {
    const auto parts = without_literals(training);
    Trainer(count_pieces(parts), vocabulary, merges).learn(merges);
  }
  vocabulary.end_of_text = static_cast<int32_t>(vocabulary.tokens.size());
  vocabulary.tokens.emplace_back(end_of_text_literal);
  vocabulary.specials.push_back({std::string(end_of_text_literal), vocabulary.end_of_text});
  return vocabulary;
}

}  // namespace qd
