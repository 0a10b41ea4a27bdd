#include "data/bpe.h"

#include <algorithm>
#include <climits>
#include <cstring>

#include "core/error.h"
#include "core/utf8.h"
#include "data/pretokenize.h"

namespace qd {
namespace {

constexpr int32_t never = INT_MAX;   // the rank of a pair that is not merged

bool is_continuation(char byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

// What a thread needs to encode. Most words of a text are few words: the ids of one of up to 23 bytes and 9 ids are kept in a slot of its
// own, until another needs the slot.
struct BpeTokenizer::Workspace {
  static constexpr size_t longest = 23, most = 9;
  struct Slot {
    uint64_t key[3];   // the bytes, zeros, and the length in the last byte; no key is zero
    int32_t count, ids[most];
  };
  static constexpr int bits = 14;   // 1 MiB
  std::vector<Slot> slots = std::vector<Slot>(size_t{1} << bits, Slot{});

  Slot& slot(const uint64_t (&key)[3]) {
    const uint64_t hash = (key[0] ^ key[1] * 0xC2B2AE3D27D4EB4F ^ key[2] * 0x165667B19E3779F9) * 0x9E3779B97F4A7C15;
    return slots[hash >> (64 - bits)];
  }

  std::vector<int32_t> span, tree;   // of merge_pairs
  std::vector<size_t> put_off;
};

bool in_order(const BpeVocabulary& vocabulary) {
  std::vector<int32_t> made(vocabulary.tokens.size(), -1);   // the last rank that makes a token
  int32_t rank = 0;
  for (const auto& m : vocabulary.merges) made[static_cast<size_t>(m.merged)] = rank++;
  rank = 0;
  return std::all_of(vocabulary.merges.begin(), vocabulary.merges.end(), [&](const auto& m) {
    return std::max(made[static_cast<size_t>(m.left)], made[static_cast<size_t>(m.right)]) < rank++;
  });
}

BpeTokenizer::BpeTokenizer(BpeVocabulary vocabulary) : vocabulary_(std::move(vocabulary)), ranks_(vocabulary_.merges.size()) {
  int32_t rank = 0;
  for (const auto& m : vocabulary_.merges) ranks_.insert(m.left, m.right, rank++);
  find_joined_parts();
}

BpeTokenizer::~BpeTokenizer() = default;

// Characters may be merged first, each for itself, where no token reaches from outside into the middle of them: only tokens with a part of
// a character at one of their ends can. That holds when all merges that make a token come before those that use it, as they do where
// merges were learned; other files get bytes only.
void BpeTokenizer::find_joined_parts() {
  joins_parts_.assign(256 * 256, !in_order(vocabulary_));
  for (const auto& m : vocabulary_.merges) {
    const std::string& token = vocabulary_.tokens[m.merged];
    const auto mark = [&](size_t at) {
      joins_parts_[static_cast<unsigned char>(token[at - 1]) * size_t{256} + static_cast<unsigned char>(token[at])] = true;
    };
    for (size_t at = 1; at < token.size() && is_continuation(token[at - 1]); ++at) mark(at);
    const size_t last = complete_utf8_prefix(token);
    if (last > 0 && last < token.size()) mark(last);
  }
}

// A place inside of a special text moves to its beginning, until there is none around it.
size_t BpeTokenizer::boundary(std::string_view text, size_t position) const {
  size_t cut = piece_boundary(text, position);
  for (size_t before = text.size(); cut > 0 && cut < before;) {
    before = cut;
    for (const auto& [literal, id] : vocabulary_.specials) {
      const size_t reach = literal.size() - 1, from = before - std::min(before, reach);
      const size_t found = text.substr(from, before - from + reach).find(literal);
      if (found != std::string_view::npos) cut = std::min(cut, from + found);
    }
  }
  return cut;
}

std::vector<int32_t> BpeTokenizer::encode_piece(std::string_view text) const {
  std::unique_ptr<Workspace> work;
  {
    const std::lock_guard<std::mutex> guard(lock_);
    if (!idle_.empty()) work = std::move(idle_.back()), idle_.pop_back();
  }
  if (!work) work = std::make_unique<Workspace>();
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 2);
  const auto& specials = vocabulary_.specials;
  std::vector<size_t> places(specials.size());   // where each stands next
  for (size_t s = 0; s < specials.size(); ++s) places[s] = text.find(specials[s].literal);
  for (size_t begin = 0;;) {
    size_t found = std::string_view::npos, which = 0;
    for (size_t s = 0; s < specials.size(); ++s) {
      if (places[s] < begin) places[s] = text.find(specials[s].literal, begin);
      if (places[s] < found) found = places[s], which = s;
    }
    const std::string_view plain = text.substr(begin, std::min(found, text.size()) - begin);
    for_each_piece(plain, [&](std::string_view word) { encode_word(word, *work, ids); });
    if (found == std::string_view::npos) break;
    ids.push_back(specials[which].id);
    begin = found + specials[which].literal.size();
  }
  const std::lock_guard<std::mutex> guard(lock_);
  idle_.push_back(std::move(work));
  return ids;
}

void BpeTokenizer::encode_word(std::string_view word, Workspace& work, std::vector<int32_t>& ids) const {
  if (word.size() > Workspace::longest) return merge_word(word, work, ids);
  uint64_t key[3] = {};
  std::memcpy(key, word.data(), word.size());
  key[2] |= static_cast<uint64_t>(word.size()) << 56;
  Workspace::Slot& slot = work.slot(key);
  if (std::equal(key, key + 3, slot.key)) {
    ids.insert(ids.end(), slot.ids, slot.ids + slot.count);
    return;
  }
  const size_t begin = ids.size();
  merge_word(word, work, ids);
  if (ids.size() - begin > Workspace::most) return;
  std::copy(key, key + 3, slot.key);
  std::copy(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end(), slot.ids);
  slot.count = static_cast<int32_t>(ids.size() - begin);
}

// Characters first, where that changes nothing: three of four merges of a Chinese text happen inside of them.
void BpeTokenizer::merge_word(std::string_view word, Workspace& work, std::vector<int32_t>& ids) const {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(word[at]); };
  const size_t begin = ids.size();
  for (size_t at = 0, end = 0; at < word.size(); at = end) {
    end = at + (byte(at) < 0x80 ? size_t{1} : static_cast<size_t>(decode_utf8(word.substr(at)).length));
    const bool alone = end - at > 1 && end - at < word.size() && (at == 0 || !joins_parts(byte(at - 1), byte(at))) &&
                       (end == word.size() || !joins_parts(byte(end - 1), byte(end)));
    if (alone) {
      encode_word(word.substr(at, end - at), work, ids);
    } else {
      for (size_t i = at; i < end; ++i) ids.push_back(vocabulary_.byte_ids[byte(i)]);
    }
  }
  merge_pairs(ids, begin, work);
}

// Merges the tokens from `begin` on: all places of the pair with the lowest rank, left to right, then those of the next. A tree of minima
// over the ranks of all pairs finds them: n log n for words that have no end. A token takes as many slots as it had tokens at first, n:
// span is n in its first slot and -n in its last where n > 1, so that both neighbours are found without links.
void BpeTokenizer::merge_pairs(std::vector<int32_t>& ids, size_t begin, Workspace& work) const {
  const size_t n = ids.size() - begin;
  if (n < 2) return;
  QD_CHECK(n < INT_MAX / 4, "encode", str("expected words below 512 MiB, got one of ", n, " bytes"));
  size_t leaves = 2;
  while (leaves < n) leaves *= 2;
  work.span.assign(n, 1);
  if (work.tree.size() < 2 * leaves) work.tree.resize(2 * leaves);
  int32_t* const token = ids.data() + begin;
  int32_t* const span = work.span.data();
  int32_t* const tree = work.tree.data();   // node i has the children 2i and 2i+1, the leaf of slot i is leaves + i

  const auto rank = [&](size_t at) {        // of the token at a slot and its neighbour on the right
    const size_t next = at + static_cast<size_t>(span[at]);
    const int32_t found = next < n ? ranks_.find(token[at], token[next]) : PairTable::none;
    return found == PairTable::none ? never : found;
  };
  const auto set = [&](size_t slot, int32_t value) {
    size_t node = leaves + slot;
    for (tree[node] = value; node > 1;) {
      node /= 2;
      const int32_t least = std::min(tree[2 * node], tree[2 * node + 1]);
      if (tree[node] == least) break;
      tree[node] = least;
    }
  };
  for (size_t i = 0; i < leaves; ++i) tree[leaves + i] = i + 1 < n ? rank(i) : never;
  for (size_t i = leaves - 1; i > 0; --i) tree[i] = std::min(tree[2 * i], tree[2 * i + 1]);

  while (tree[1] != never) {
    const int32_t best = tree[1];
    const auto renew = [&](size_t slot) {   // a new pair of lower rank, possible where merges are out of order, waits for its turn
      const int32_t now = rank(slot);
      if (now < best) work.put_off.push_back(slot);
      set(slot, now < best ? never : now);
    };
    size_t node = 1;
    while (node < leaves) node = 2 * node + (tree[2 * node] != best);
    const size_t at = node - leaves, second = at + static_cast<size_t>(span[at]), next = second + static_cast<size_t>(span[second]);
    token[at] = vocabulary_.merges[static_cast<size_t>(best)].merged;
    span[second] = 0;
    span[at] = static_cast<int32_t>(next - at);
    span[next - 1] = -span[at];
    set(second, never);
    renew(at);
    if (at > 0) renew(span[at - 1] < 0 ? at - static_cast<size_t>(-span[at - 1]) : at - 1);
    if (tree[1] == best || work.put_off.empty()) continue;
    for (const size_t slot : work.put_off) set(slot, span[slot] > 0 ? rank(slot) : never);
    work.put_off.clear();
  }
  size_t kept = 0;
  for (size_t at = 0; at < n; at += static_cast<size_t>(span[at])) token[kept++] = token[at];
  ids.resize(begin + kept);
}

}  // namespace qd
