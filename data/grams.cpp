#include "data/grams.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "core/error.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/text.h"

namespace qd {
namespace {

constexpr uint16_t private_use = 0xE000;   // up to U+F8FF: no text uses these, characters beyond the BMP get their places
constexpr size_t beyond_most = 0xF900 - 0xE000;

bool is_alphanumeric(uint32_t code) {
  return (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
}

// Characters beyond the BMP are few: numbered as they come.
class Beyond {
 public:
  uint16_t place(uint32_t code) {   // 0: there are too many
    const std::lock_guard lock(mutex_);
    const auto found = places_.find(code);
    if (found != places_.end()) return found->second;
    if (places_.size() == beyond_most) return 0;
    const auto place = static_cast<uint16_t>(private_use + places_.size());
    codes_.push_back(code);
    return places_[code] = place;
  }
  uint32_t code(uint16_t place) const {
    return place >= private_use && place - private_use < std::ssize(codes_) ? codes_[place - private_use] : place;
  }

 private:
  std::mutex mutex_;
  std::map<uint32_t, uint16_t> places_;
  std::vector<uint32_t> codes_;
};

// UTF-8 to code points, with one 0 for each interruption. No text at all is one.
LargeVector<uint16_t> decode(std::string_view text, const std::vector<uint8_t>& wanted, Beyond& beyond) {
  LargeVector<uint16_t> out(text.size() + 1);
  size_t count = text.empty();
  out[0] = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    at += static_cast<size_t>(c.length);
    uint16_t code = 0;
    if (c.code < 0x10000) {
      code = c.valid && wanted[c.code] ? static_cast<uint16_t>(c.code) : uint16_t{0};
    } else if (is_chinese(c.code)) {
      code = beyond.place(c.code);
    }
    out[count] = code;
    count += code != 0 || count == 0 || out[count - 1] != 0;
  }
  out.resize(count);
  return out;
}

// Positions in the order of a number that each has below `groups`, stable, in parallel: a counting sort.
// number(i) is -1 where a position is left out; value(i) is what is kept of it.
template <class Number, class Value>
LargeVector<uint64_t> grouped(size_t positions, size_t groups, const Number& number, const Value& value,
                              std::vector<size_t>& begin) {
  const int64_t chunks = positions < 100'000 ? 1 : threads();
  std::vector<std::vector<uint32_t>> histograms(static_cast<size_t>(chunks));
  const auto edge = [&](int64_t chunk) { return positions * static_cast<size_t>(chunk) / static_cast<size_t>(chunks); };
  parallel_tasks(chunks, [&](int64_t chunk) {
    auto& histogram = histograms[static_cast<size_t>(chunk)];
    histogram.assign(groups, 0);
    for (size_t i = edge(chunk); i < edge(chunk + 1); ++i)
      if (const int32_t g = number(i); g >= 0) ++histogram[static_cast<size_t>(g)];
  });
  begin.assign(groups + 1, 0);
  size_t sum = 0;
  for (size_t g = 0; g < groups; ++g) {
    begin[g] = sum;
    for (auto& histogram : histograms) sum += histogram[g];
  }
  begin[groups] = sum;
  LargeVector<uint64_t> slots(sum);
  parallel_tasks(chunks, [&](int64_t chunk) {
    std::vector<size_t> next(begin.begin(), begin.end() - 1);
    for (int64_t earlier = 0; earlier < chunk; ++earlier)
      for (size_t g = 0; g < groups; ++g) next[g] += histograms[static_cast<size_t>(earlier)][g];
    for (size_t i = edge(chunk); i < edge(chunk + 1); ++i)
      if (const int32_t g = number(i); g >= 0) slots[next[static_cast<size_t>(g)]++] = value(i);
  });
  return slots;
}

// Of each of so many grams the first position where gram_at(i) gives it; asked once for every position, from several threads.
template <class GramAt>
std::vector<uint32_t> first_positions(size_t positions, size_t grams, const GramAt& gram_at) {
  const auto tasks = static_cast<size_t>(std::min(threads(), 8));
  std::vector<std::vector<uint32_t>> found(tasks, std::vector<uint32_t>(grams, UINT32_MAX));
  parallel_tasks(static_cast<int64_t>(tasks), [&](int64_t task) {
    auto& own = found[static_cast<size_t>(task)];
    for (size_t i = positions * static_cast<size_t>(task + 1) / tasks; i-- > positions * static_cast<size_t>(task) / tasks;)
      if (const int32_t gram = gram_at(i); gram >= 0) own[static_cast<size_t>(gram)] = static_cast<uint32_t>(i);
  });
  for (size_t task = 1; task < tasks; ++task)
    for (size_t g = 0; g < grams; ++g) found[0][g] = std::min(found[0][g], found[task][g]);
  return std::move(found[0]);
}

// Ranges of groups with about as many positions in each, the same for any number of threads.
std::vector<size_t> even_tasks(const std::vector<size_t>& begin) {
  const size_t groups = begin.size() - 1, per_task = begin.back() / 64 + 1;
  std::vector<size_t> edges = {0};
  for (size_t g = 0; g < groups; ++g)
    if (begin[g + 1] - begin[edges.back()] >= per_task) edges.push_back(g + 1);
  if (edges.back() != groups) edges.push_back(groups);
  return edges;
}

// Grams that were met so far, numbered as they come, with their counts: open addressing. A gram is what it begins with (a shorter gram)
// and its last character, mixed to 64 bits in a way that can be undone: the hash is the gram.
class GramNumbers {
 public:
  static uint64_t hash(int32_t shorter, uint16_t last) {
    uint64_t h = (static_cast<uint64_t>(static_cast<uint32_t>(shorter)) << 16 | last) * 0x9E3779B97F4A7C15;
    return h ^ h >> 32;
  }
  size_t size() const { return size_; }
  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash >> shift_]); }
  uint32_t count(uint64_t hash) {   // once more; gives its number
    Slot* slot = &find(hash);
    if (slot->count == 0) {
      if (2 * size_ >= slots_.size()) grow(), slot = &find(hash);
      *slot = {hash, 0, static_cast<uint32_t>(size_++)};
    }
    ++slot->count;
    return slot->number;
  }
  template <class F>
  void each(const F& f) const {   // f(hash, number, count)
    for (const Slot& slot : slots_)
      if (slot.count > 0) f(slot.hash, slot.number, slot.count);
  }
  void clear() { *this = {}; }

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t count = 0, number = 0;   // count 0: empty
  };
  Slot& find(uint64_t hash) {
    size_t at = hash >> shift_;
    while (slots_[at].count > 0 && slots_[at].hash != hash) at = (at + 1) & (slots_.size() - 1);
    return slots_[at];
  }
  void grow() {
    LargeVector<Slot> old(2 * slots_.size());
    old.swap(slots_), --shift_;
    for (const Slot& slot : old)
      if (slot.count > 0) find(slot.hash) = slot;
  }
  LargeVector<Slot> slots_ = LargeVector<Slot>(1 << 16);
  int shift_ = 64 - 16;
  size_t size_ = 0;
};

}  // namespace

bool is_chinese(uint32_t code) {
  return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) || code == 0x3007 ||
         (code >= 0x20000 && code <= 0x3134F);
}

void Characters::append(std::string& out, size_t begin, size_t length) const {
  for (size_t i = begin; i < begin + length; ++i) append_utf8(out, codes[ids[i]]);
}

Characters read_characters(std::span<const std::string_view> texts, Alphabet alphabet) {
  std::vector<uint8_t> wanted(0x10000);
  for (uint32_t code = 0; code < wanted.size(); ++code)
    wanted[code] = is_chinese(code) || (alphabet == Alphabet::alphanumeric && is_alphanumeric(code));

  std::vector<std::string_view> pieces(1);   // begins with an interruption
  for (const std::string_view text : texts) {
    for (const auto piece : cut_text(text, 1 << 19)) pieces.push_back(piece);
    pieces.emplace_back();   // and so it does behind each text
  }
  Beyond beyond;
  std::vector<LargeVector<uint16_t>> parts(pieces.size());
  parallel_tasks(std::ssize(pieces),
                 [&](int64_t i) { parts[static_cast<size_t>(i)] = decode(pieces[static_cast<size_t>(i)], wanted, beyond); });

  std::vector<size_t> begin = {0};
  for (const auto& part : parts) begin.push_back(begin.back() + part.size());
  QD_CHECK(begin.back() < UINT32_MAX - 2, "words discover", str("expected at most 2^32 - 3 characters, got ", begin.back()));

  std::vector<int64_t> count(0x10000);
  for (const auto& part : parts)
    for (const uint16_t code : part) ++count[code];
  std::vector<uint16_t> order;
  for (uint32_t code = 1; code < count.size(); ++code)
    if (count[code] > 0) order.push_back(static_cast<uint16_t>(code));
  std::stable_sort(order.begin(), order.end(), [&](uint16_t a, uint16_t b) {
    return count[a] != count[b] ? count[a] > count[b] : beyond.code(a) < beyond.code(b);
  });

  Characters text;
  text.codes = {0}, text.count = {0};
  std::vector<uint16_t> id(0x10000);
  for (const uint16_t code : order) {
    id[code] = static_cast<uint16_t>(text.codes.size());
    text.codes.push_back(beyond.code(code)), text.count.push_back(count[code]);
    text.total += count[code];
  }
  text.ids.resize(begin.back());
  parallel_tasks(std::ssize(parts), [&](int64_t task) {
    auto& part = parts[static_cast<size_t>(task)];
    std::transform(part.begin(), part.end(), text.ids.begin() + static_cast<std::ptrdiff_t>(begin[static_cast<size_t>(task)]),
                   [&](uint16_t code) { return id[code]; });
    LargeVector<uint16_t>().swap(part);
  });
  text.count[0] = std::ssize(text.ids) - text.total;
  return text;
}

Grams single_characters(const Characters& text, int64_t min_count) {
  Grams grams{.n = 1, .at = LargeVector<int32_t>(text.ids.size()), .count = {}, .first = {}};
  // The commonest have the first numbers, so that those who stay keep theirs, less one.
  while (grams.size() + 1 < text.codes.size() && text.count[grams.size() + 1] >= min_count)
    grams.count.push_back(static_cast<uint32_t>(text.count[grams.size() + 1]));
  const auto kept = static_cast<int32_t>(grams.size());
  grams.first = first_positions(text.ids.size(), grams.size(), [&](size_t i) { return grams.at[i] = text.ids[i] <= kept ? text.ids[i] - 1 : -1; });
  return grams;
}

Grams longer_grams(const Characters& text, const Grams& shorter, int64_t min_count) {
  // Every task looks at all positions and counts the grams of its own share, so that tables grow with what is different in a text and
  // not with its length, and none is shared.
  constexpr size_t block = 1 << 14, ahead = 12;
  const auto n = static_cast<size_t>(shorter.n) + 1;
  Grams grams{.n = static_cast<int>(n), .at = LargeVector<int32_t>(text.ids.size()), .count = {}, .first = {}};
  const auto& before = shorter.at;
  const size_t positions = before.size() < n ? 0 : before.size() - (n - 1), blocks = (positions + block - 1) / block;
  const size_t shares = positions < 100'000 ? 1 : static_cast<size_t>(std::min(threads(), 8));
  std::vector<GramNumbers> numbers(shares);
  parallel_for(std::ssize(grams.at), 1 << 16, [&](int64_t from, int64_t to) { std::fill(&grams.at[static_cast<size_t>(from)], grams.at.data() + to, -1); });
  parallel_tasks(static_cast<int64_t>(shares), [&](int64_t task) {
    const auto share = static_cast<size_t>(task);
    GramNumbers& own = numbers[share];
    std::vector<uint32_t> place(block);
    std::vector<uint64_t> hash(block);
    for (size_t k = 0; k < blocks; ++k) {
      const size_t from = (share * blocks / shares + k) % blocks * block;   // tasks write to memory far from each other
      size_t found = 0;
      for (size_t i = from; i < std::min(from + block, positions); ++i) {
        place[found] = static_cast<uint32_t>(i);
        hash[found] = GramNumbers::hash(before[i], text.ids[i + n - 1]);
        const bool is_gram = (before[i] | before[i + 1]) >= 0, is_mine = (hash[found] & 0xFFFF) * shares >> 16 == share;
        found += static_cast<size_t>(is_gram) & static_cast<size_t>(is_mine);   // without a branch
      }
      for (size_t j = 0; j < found; ++j) {
        if (j + ahead < found) own.prefetch(hash[j + ahead]);
        grams.at[place[j]] = static_cast<int32_t>(own.count(hash[j]) * shares + share);
      }
    }
  });

  // The frequent ones get numbers in the order of their hashes, which does not depend on the tasks.
  struct Frequent {
    uint64_t hash;
    uint32_t count, old;
  };
  std::vector<Frequent> frequent;
  size_t most = 0;
  for (size_t share = 0; share < shares; ++share) {
    most = std::max(most, numbers[share].size());
    numbers[share].each([&](uint64_t hash, uint32_t number, uint32_t count) {
      if (count >= min_count) frequent.push_back({hash, count, static_cast<uint32_t>(number * shares + share)});
    });
    numbers[share].clear();
  }
  std::sort(frequent.begin(), frequent.end(), [](const Frequent& a, const Frequent& b) { return a.hash < b.hash; });
  LargeVector<int32_t> renumbered(most * shares, -1);
  for (const Frequent& gram : frequent) {
    renumbered[gram.old] = static_cast<int32_t>(grams.count.size());
    grams.count.push_back(gram.count);
  }
  grams.first = first_positions(grams.at.size(), grams.count.size(), [&](size_t i) {
    return grams.at[i] >= 0 ? grams.at[i] = renumbered[static_cast<size_t>(grams.at[i])] : -1;
  });
  return grams;
}

Neighbours neighbours(const Characters& text, const Grams& grams, std::span<const uint8_t> wanted) {
  Neighbours result{.left = std::vector<float>(grams.size()), .right = std::vector<float>(grams.size())};
  std::vector<size_t> begin;
  const auto n = static_cast<size_t>(grams.n);
  const auto slots = grouped(   // the last positions begin no gram, so i + n is inside
      grams.at.size(), grams.size(),
      [&](size_t i) { return grams.at[i] >= 0 && (wanted.empty() || wanted[static_cast<size_t>(grams.at[i])]) ? grams.at[i] : -1; },
      [&](size_t i) { return static_cast<uint64_t>(text.ids[i - 1]) << 16 | text.ids[i + n]; }, begin);
  const auto edges = even_tasks(begin);
  parallel_tasks(std::ssize(edges) - 1, [&](int64_t task) {
    std::vector<uint32_t> seen(text.codes.size());
    const auto entropy = [&](size_t g, int shift) {
      // -sum p ln p = ln N - sum c ln c / N, with c added up in the order of occurrence
      double sum = 0;
      for (size_t s = begin[g]; s < begin[g + 1]; ++s) ++seen[static_cast<uint16_t>(slots[s] >> shift)];
      for (size_t s = begin[g]; s < begin[g + 1]; ++s) {
        uint32_t& count = seen[static_cast<uint16_t>(slots[s] >> shift)];
        if (count > 1) sum += count * std::log(static_cast<double>(count));
        count = 0;
      }
      const auto all = static_cast<double>(std::max<size_t>(begin[g + 1] - begin[g], 1));
      return static_cast<float>(std::max(std::log(all) - sum / all, 0.0));
    };
    for (size_t g = edges[static_cast<size_t>(task)]; g < edges[static_cast<size_t>(task) + 1]; ++g)
      result.left[g] = entropy(g, 16), result.right[g] = entropy(g, 0);
  });
  return result;
}

}  // namespace qd
