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

// Ranges of groups with about as many positions in each, the same for any number of threads.
std::vector<size_t> even_tasks(const std::vector<size_t>& begin) {
  const size_t groups = begin.size() - 1, per_task = begin.back() / 64 + 1;
  std::vector<size_t> edges = {0};
  for (size_t g = 0; g < groups; ++g)
    if (begin[g + 1] - begin[edges.back()] >= per_task) edges.push_back(g + 1);
  if (edges.back() != groups) edges.push_back(groups);
  return edges;
}

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
  Grams grams{.n = 1, .at = LargeVector<int32_t>(text.ids.size(), -1), .count = {}, .first = {}};
  // The commonest have the first numbers, so that those who stay keep theirs, less one.
  while (grams.size() + 1 < text.codes.size() && text.count[grams.size() + 1] >= min_count)
    grams.count.push_back(static_cast<uint32_t>(text.count[grams.size() + 1]));
  grams.first.resize(grams.size());
  const auto kept = static_cast<int32_t>(grams.size());
  parallel_for(std::ssize(text.ids), 1 << 16, [&](int64_t from, int64_t to) {
    for (auto i = static_cast<size_t>(from); i < static_cast<size_t>(to); ++i)
      grams.at[i] = text.ids[i] <= kept ? text.ids[i] - 1 : -1;
  });
  for (size_t i = text.ids.size(); i-- > 0;)
    if (grams.at[i] >= 0) grams.first[static_cast<size_t>(grams.at[i])] = static_cast<uint32_t>(i);
  return grams;
}

Grams longer_grams(const Characters& text, const Grams& shorter, int64_t min_count) {
  const int n = shorter.n + 1;
  Grams grams{.n = n, .at = LargeVector<int32_t>(text.ids.size(), -1), .count = {}, .first = {}};
  const auto& before = shorter.at;
  std::vector<size_t> begin;
  // What is kept of a position: itself, and the character that makes the gram longer.
  const auto slots = grouped(
      before.size() - 1, shorter.size(), [&](size_t i) { return before[i + 1] >= 0 ? before[i] : -1; },
      [&](size_t i) { return static_cast<uint64_t>(i) << 16 | text.ids[i + static_cast<size_t>(n) - 1]; }, begin);
  const auto edges = even_tasks(begin);
  struct Found {
    std::vector<uint32_t> count, first;
  };
  std::vector<Found> found(edges.size() - 1);
  parallel_tasks(std::ssize(found), [&](int64_t task) {
    Found& own = found[static_cast<size_t>(task)];
    std::vector<uint32_t> seen(text.codes.size());
    std::vector<int32_t> number(text.codes.size(), -1);
    std::vector<uint16_t> touched;
    for (size_t g = edges[static_cast<size_t>(task)]; g < edges[static_cast<size_t>(task) + 1]; ++g) {
      if (static_cast<int64_t>(begin[g + 1] - begin[g]) < min_count) continue;
      for (size_t s = begin[g]; s < begin[g + 1]; ++s) {
        const auto c = static_cast<uint16_t>(slots[s]);
        if (seen[c]++ == 0) touched.push_back(c);
      }
      bool any = false;
      for (const uint16_t c : touched) {
        if (seen[c] < min_count) continue;
        any = true;
        number[c] = static_cast<int32_t>(own.count.size());
        own.count.push_back(seen[c]), own.first.push_back(0);
      }
      for (size_t s = begin[g + 1]; any && s-- > begin[g];) {   // backwards, so that the first position stays
        const int32_t id = number[static_cast<uint16_t>(slots[s])];
        if (id < 0) continue;
        const auto position = static_cast<size_t>(slots[s] >> 16);
        grams.at[position] = id;
        own.first[static_cast<size_t>(id)] = static_cast<uint32_t>(position);
      }
      for (const uint16_t c : touched) seen[c] = 0, number[c] = -1;
      touched.clear();
    }
  });

  std::vector<int32_t> offset = {0};
  for (const Found& own : found) offset.push_back(offset.back() + static_cast<int32_t>(own.count.size()));
  for (const Found& own : found) {
    grams.count.insert(grams.count.end(), own.count.begin(), own.count.end());
    grams.first.insert(grams.first.end(), own.first.begin(), own.first.end());
  }
  parallel_tasks(std::ssize(found), [&](int64_t task) {
    const auto t = static_cast<size_t>(task);
    for (size_t s = begin[edges[t]]; s < begin[edges[t + 1]]; ++s)
      if (int32_t& id = grams.at[static_cast<size_t>(slots[s] >> 16)]; id >= 0) id += offset[t];
  });
  return grams;
}

Neighbours neighbours(const Characters& text, const Grams& grams) {
  Neighbours result{.left = std::vector<float>(grams.size()), .right = std::vector<float>(grams.size())};
  std::vector<size_t> begin;
  const auto n = static_cast<size_t>(grams.n);
  const auto slots = grouped(   // the last positions begin no gram, so i + n is inside
      grams.at.size(), grams.size(), [&](size_t i) { return grams.at[i]; },
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
      const auto all = static_cast<double>(begin[g + 1] - begin[g]);
      return static_cast<float>(std::max(std::log(all) - sum / all, 0.0));
    };
    for (size_t g = edges[static_cast<size_t>(task)]; g < edges[static_cast<size_t>(task) + 1]; ++g)
      result.left[g] = entropy(g, 16), result.right[g] = entropy(g, 0);
  });
  return result;
}

}  // namespace qd
