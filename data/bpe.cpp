#include "data/bpe.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <functional>
#include <queue>

#include "core/error.h"
#include "data/pretokenize.h"

namespace qd {

// The ids of pieces that have come before: most words of a text are few words. A piece of up to 23 bytes and 9 ids has one slot,
// and the later one takes it.
class PieceCache {
 public:
  static constexpr size_t longest = 23, most = 9;
  struct Slot {
    uint64_t key[3];   // the bytes, zeros, and the length in the last byte; no key is zero
    int32_t count, ids[most];
  };

  Slot& slot(const uint64_t (&key)[3]) {
    uint64_t hash = (key[0] ^ key[1] * 0xC2B2AE3D27D4EB4F ^ key[2] * 0x165667B19E3779F9) * 0x9E3779B97F4A7C15;
    return slots_[hash >> (64 - bits)];
  }

 private:
  static constexpr int bits = 16;   // 4 MiB
  std::vector<Slot> slots_ = std::vector<Slot>(size_t{1} << bits, Slot{});
};

namespace {

constexpr int32_t none = PairTable::none;
constexpr size_t short_piece = 64;   // bytes up to which looking through all pairs beats a heap

}  // namespace

BpeTokenizer::BpeTokenizer(BpeVocabulary vocabulary) : vocabulary_(std::move(vocabulary)), ranks_(vocabulary_.merges.size()) {
  int32_t rank = 0;
  for (const auto& m : vocabulary_.merges) ranks_.insert(m.left, m.right, rank++);
}

BpeTokenizer::~BpeTokenizer() = default;

size_t BpeTokenizer::boundary(std::string_view text, size_t position) const {
  const size_t cut = piece_boundary(text, position);
  if (vocabulary_.end_of_text < 0 || cut == text.size()) return cut;
  constexpr size_t reach = end_of_text_literal.size() - 1;   // a literal around the cut begins at most so far before it
  const size_t from = cut - std::min(cut, reach);
  const size_t found = text.substr(from, cut - from + reach).find(end_of_text_literal);
  return found == std::string_view::npos ? cut : from + found;
}

std::unique_ptr<PieceCache> BpeTokenizer::take_cache() const {
  const std::lock_guard<std::mutex> guard(lock_);
  if (caches_.empty()) return std::make_unique<PieceCache>();
  auto cache = std::move(caches_.back());
  caches_.pop_back();
  return cache;
}

std::vector<int32_t> BpeTokenizer::encode_piece(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3);
  auto cache = take_cache();
  const auto encode_one = [&](std::string_view piece) {
    if (piece.size() > PieceCache::longest) return merge(piece, ids);
    uint64_t key[3] = {};
    std::memcpy(key, piece.data(), piece.size());
    key[2] |= static_cast<uint64_t>(piece.size()) << 56;
    PieceCache::Slot& slot = cache->slot(key);
    if (!std::equal(key, key + 3, slot.key)) {
      const size_t before = ids.size();
      merge(piece, ids);
      const size_t count = ids.size() - before;
      if (count > PieceCache::most) return;
      std::copy(key, key + 3, slot.key);
      std::copy(ids.end() - static_cast<std::ptrdiff_t>(count), ids.end(), slot.ids);
      slot.count = static_cast<int32_t>(count);
    } else {
      ids.insert(ids.end(), slot.ids, slot.ids + slot.count);
    }
  };
  while (!text.empty()) {
    const size_t found = vocabulary_.end_of_text < 0 ? std::string_view::npos : text.find(end_of_text_literal);
    for_each_piece(text.substr(0, found), encode_one);
    if (found == std::string_view::npos) break;
    ids.push_back(vocabulary_.end_of_text);
    text.remove_prefix(found + end_of_text_literal.size());
  }
  const std::lock_guard<std::mutex> guard(lock_);
  caches_.push_back(std::move(cache));
  return ids;
}

void BpeTokenizer::merge(std::string_view piece, std::vector<int32_t>& ids) const {
  if (piece.size() <= short_piece) {
    merge_short(piece, ids);
  } else {
    merge_long(piece, ids);
  }
}

// Each round looks for the lowest rank among all pairs and merges its pairs from left to right. A merged pair cannot take part in
// another of the same rank: its token is longer than both parts.
void BpeTokenizer::merge_short(std::string_view piece, std::vector<int32_t>& ids) const {
  constexpr uint32_t never = UINT32_MAX;   // `none` as a rank above all others
  int32_t id[short_piece];
  uint32_t rank[short_piece];              // of the pair (i, i+1)
  size_t n = piece.size();
  for (size_t i = 0; i < n; ++i) id[i] = vocabulary_.byte_ids[static_cast<unsigned char>(piece[i])];
  const auto rank_at = [&](size_t i) { return i + 1 < n ? static_cast<uint32_t>(ranks_.find(id[i], id[i + 1])) : never; };
  for (size_t i = 0; i < n; ++i) rank[i] = rank_at(i);
  while (n > 1) {
    const uint32_t best = *std::min_element(rank, rank + n - 1);
    if (best == never) break;
    for (size_t i = 0; i + 1 < n; ++i) {
      if (rank[i] != best) continue;
      id[i] = vocabulary_.merges[best].merged;
      --n;
      std::memmove(id + i + 1, id + i + 2, (n - i - 1) * sizeof *id);
      std::memmove(rank + i + 1, rank + i + 2, (n - i - 1) * sizeof *rank);
      rank[i] = rank_at(i);
      if (i > 0) rank[i - 1] = rank_at(i - 1);
    }
  }
  ids.insert(ids.end(), id, id + n);
}

// The same with a heap of (rank, position) over a linked list: n log n for pieces that have no end. An entry is out of date where
// the pair at its position has another rank by now.
void BpeTokenizer::merge_long(std::string_view piece, std::vector<int32_t>& ids) const {
  struct Node {
    int32_t id, rank, previous, next;   // rank of the pair with the next node
  };
  QD_CHECK(piece.size() < INT_MAX, "encode", str("expected words below 2 GiB, got one of ", piece.size(), " bytes"));
  const auto n = static_cast<int32_t>(piece.size());
  std::vector<Node> nodes(piece.size());
  const auto rank_at = [&](const Node& node) { return node.next < n ? ranks_.find(node.id, nodes[node.next].id) : none; };
  const auto entry = [](int32_t rank, int32_t at) { return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(at); };
  std::vector<uint64_t> entries;
  for (int32_t i = 0; i < n; ++i) nodes[i] = {vocabulary_.byte_ids[static_cast<unsigned char>(piece[i])], none, i - 1, i + 1};
  for (int32_t i = 0; i < n; ++i) {
    nodes[i].rank = rank_at(nodes[i]);
    if (nodes[i].rank != none) entries.push_back(entry(nodes[i].rank, i));
  }
  std::priority_queue heap(std::greater<>(), std::move(entries));
  const auto renew = [&](int32_t at) {
    nodes[at].rank = rank_at(nodes[at]);
    if (nodes[at].rank != none) heap.push(entry(nodes[at].rank, at));
  };
  std::vector<int32_t> places;
  while (!heap.empty()) {
    const auto best = static_cast<int32_t>(heap.top() >> 32);
    places.clear();
    for (; !heap.empty() && static_cast<int32_t>(heap.top() >> 32) == best; heap.pop())
      places.push_back(static_cast<int32_t>(heap.top() & UINT32_MAX));
    for (const int32_t at : places) {
      Node& node = nodes[at];
      if (node.rank != best) continue;
      Node& gone = nodes[node.next];
      node.id = vocabulary_.merges[best].merged;
      node.next = gone.next;
      gone.rank = none;
      if (node.next < n) nodes[node.next].previous = at;
      renew(at);
      if (node.previous >= 0) renew(node.previous);
    }
  }
  for (int32_t i = 0; i < n; i = nodes[i].next) ids.push_back(nodes[i].id);
}

}  // namespace qd
