#include "data/discover.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "core/error.h"
#include "core/parallel.h"

namespace qd {
namespace {

constexpr double e2 = 2, e4 = 4,
                 e6 = 6;   // post 6920: ln of the least cohesion of 2, 3 and 4 characters; a factor e^2 for each more

GramLevels levels_of(const Characters& text, int64_t min_count, int longest, const std::function<void(int)>& tell) {
  GramLevels grams;
  grams.level.push_back(single_characters(text, min_count));
  for (int n = 2; n <= longest; ++n) tell(n), grams.level.push_back(longer_grams(text, grams.level.back(), min_count));
  return grams;
}

// Post 3913.
std::vector<FoundWord> by_cutting(const Characters& text, const GramLevels& grams, const DiscoverOptions& o) {
  const Grams& pairs = grams.of(2);
  int64_t total = 0;   // of all pairs, the rare ones as well
  for (size_t i = 1; i < text.ids.size(); ++i) total += text.ids[i - 1] != 0 && text.ids[i] != 0;
  const auto attraction = cohesions(grams, 2, static_cast<double>(total));
  LargeVector<uint8_t> closed(text.ids.size());
  parallel_for(std::ssize(closed), 1 << 16, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      closed[i] = pairs.at[i] >= 0 && attraction[static_cast<size_t>(pairs.at[i])] >= o.min_pmi;
  });
  return count_pieces(text, grams, closed, o.min_count, [](size_t, size_t) { return true; });
}

// Post 3491.
std::vector<FoundWord> by_entropy(const Characters& text, const GramLevels& grams, const DiscoverOptions& o) {
  std::vector<FoundWord> words;
  for (int n = 2; n <= grams.longest(); ++n) {
    const auto cohesion = cohesions(grams, n, static_cast<double>(text.total));
    std::vector<uint8_t> is_cohesive(cohesion.size());
    std::transform(cohesion.begin(), cohesion.end(), is_cohesive.begin(), [least = std::log(o.min_cohesion)](float c) { return c > least; });
    const auto beside = neighbours(text, grams.of(n), is_cohesive);
    for (size_t g = 0; g < grams.of(n).size(); ++g) {
      if (!is_cohesive[g] || std::min(beside.left[g], beside.right[g]) <= o.min_entropy) continue;
      FoundWord& word = words.emplace_back(FoundWord{.word = {}, .count = grams.of(n).count[g]});
      text.append(word.word, grams.of(n).first[g], static_cast<size_t>(n));
    }
  }
  return words;
}

// Posts 4256 and 6920.
std::vector<FoundWord> by_grams(const Characters& text, const GramLevels& grams, const DiscoverOptions& o) {
  LargeVector<uint8_t> closed(text.ids.size(), 0);
  std::vector<std::vector<uint8_t>> cohesive(static_cast<size_t>(grams.longest()) + 1);   // by length, by gram
  for (int n = 2; n <= grams.longest(); ++n) {
    const double least = n == 2 ? e2 : n == 3 ? e4 : e6 + 2 * (n - 4);
    const auto cohesion = cohesions(grams, n, static_cast<double>(text.total));
    auto& is_cohesive = cohesive[static_cast<size_t>(n)];
    is_cohesive.resize(cohesion.size());
    std::transform(cohesion.begin(), cohesion.end(), is_cohesive.begin(), [&](float c) { return c >= least; });
    const auto& at = grams.of(n).at;
    for (size_t i = 0; i < at.size(); ++i)
      if (at[i] >= 0 && is_cohesive[static_cast<size_t>(at[i])])
        std::fill_n(closed.begin() + static_cast<std::ptrdiff_t>(i), n - 1, uint8_t{1});
  }
  const auto all_cohesive = [&](size_t begin, size_t length) {
    for (int n = 3; n <= grams.longest() && static_cast<size_t>(n) <= length; ++n)
      for (size_t i = begin; i + static_cast<size_t>(n) <= begin + length; ++i)
        if (const int32_t g = grams.of(n).at[i]; g < 0 || !cohesive[static_cast<size_t>(n)][static_cast<size_t>(g)]) return false;
    return true;
  };
  return count_pieces(text, grams, closed, o.min_count,
                      [&](size_t begin, size_t length) { return !o.backtrack || all_cohesive(begin, length); });
}

void fill_scores(std::vector<FoundWord>& words, const Characters& text, const GramLevels& grams) {
  std::unordered_map<std::string, FoundWord*> by_text;
  for (FoundWord& word : words) by_text[word.word] = &word;
  for (int n = 1; n <= grams.longest(); ++n) {
    const auto cohesion = n > 1 ? cohesions(grams, n, static_cast<double>(text.total)) : std::vector<float>();
    const auto beside = neighbours(text, grams.of(n));
    std::string spelled;
    for (size_t g = 0; g < grams.of(n).size(); ++g) {
      spelled.clear();
      text.append(spelled, grams.of(n).first[g], static_cast<size_t>(n));
      const auto found = by_text.find(spelled);
      if (found == by_text.end()) continue;
      if (n > 1) found->second->cohesion = cohesion[g];
      found->second->left_entropy = beside.left[g], found->second->right_entropy = beside.right[g];
    }
  }
}

}  // namespace

std::vector<float> cohesions(const GramLevels& grams, int n, double total) {
  const Grams& whole = grams.of(n);
  std::vector<float> result(whole.size());
  parallel_for(std::ssize(result), 1024, [&](int64_t begin, int64_t end) {
    for (auto g = static_cast<size_t>(begin); g < static_cast<size_t>(end); ++g) {
      const size_t at = whole.first[g];
      double most = 0;   // P(left) P(right), in counts
      for (int k = 1; k < n; ++k) {
        const Grams &left = grams.of(k), &right = grams.of(n - k);
        most = std::max(most, static_cast<double>(left.count[static_cast<size_t>(left.at[at])]) *
                                  static_cast<double>(right.count[static_cast<size_t>(right.at[at + static_cast<size_t>(k)])]));
      }
      result[g] = static_cast<float>(std::log(total * static_cast<double>(whole.count[g]) / most));
    }
  });
  return result;
}

std::vector<FoundWord> count_pieces(const Characters& text, const GramLevels& grams, std::span<const uint8_t> closed,
                                    int64_t min_count, const std::function<bool(size_t begin, size_t length)>& keep) {
  // Short pieces are grams, or rare. Of long ones the place and a hash are kept.
  constexpr size_t buckets = 64;
  struct Long {
    uint64_t hash;
    uint32_t begin, length;
  };
  const auto longest = static_cast<size_t>(grams.longest());
  const int64_t chunks = std::ssize(closed) < 100'000 ? 1 : threads();
  struct Counts {
    std::vector<std::vector<uint32_t>> of;           // by length and gram
    std::array<LargeVector<Long>, buckets> longer;     // by hash
  };
  std::vector<Counts> parts(static_cast<size_t>(chunks));
  const auto& ids = text.ids;
  parallel_tasks(chunks, [&](int64_t chunk) {
    Counts& part = parts[static_cast<size_t>(chunk)];
    part.of.resize(longest + 1);
    for (size_t n = 1; n <= longest; ++n) part.of[n].resize(grams.level[n - 1].size());
    size_t i = closed.size() * static_cast<size_t>(chunk) / static_cast<size_t>(chunks);
    const size_t end = closed.size() * static_cast<size_t>(chunk + 1) / static_cast<size_t>(chunks);
    while (i > 0 && i < end && closed[i - 1]) ++i;   // the piece begins in the chunk before, which counts it
    while (i < end) {
      if (ids[i] == 0) {
        ++i;
        continue;
      }
      size_t length = 1;
      while (closed[i + length - 1]) ++length;
      const int32_t g = grams.level[std::min(length, longest) - 1].at[i];
      if (g >= 0 && length <= longest) {
        ++part.of[length][static_cast<size_t>(g)];
      } else if (g >= 0) {
        uint64_t hash = length;
        for (size_t j = i; j < i + length; ++j) hash = (hash ^ ids[j]) * 0x9E3779B97F4A7C15, hash ^= hash >> 29;
        part.longer[hash % buckets].push_back({hash, static_cast<uint32_t>(i), static_cast<uint32_t>(length)});
      }
      i += length;
    }
  });

  const auto add = [&](std::vector<FoundWord>& words, size_t begin, size_t length, int64_t count) {
    if (count < min_count || (length > 1 && !keep(begin, length))) return;
    FoundWord& word = words.emplace_back(FoundWord{.word = {}, .count = count});
    text.append(word.word, begin, length);
  };
  std::vector<FoundWord> words;
  for (size_t n = 1; n <= longest; ++n) {
    for (size_t g = 0; g < grams.level[n - 1].size(); ++g) {
      int64_t count = 0;
      for (const Counts& part : parts) count += part.of[n][g];
      add(words, grams.level[n - 1].first[g], n, count);
    }
  }
  const auto text_of = [&](const Long& piece) { return std::span(ids).subspan(piece.begin, piece.length); };
  const auto order = [&](const Long& a, const Long& b) {
    const auto x = text_of(a), y = text_of(b);
    return std::lexicographical_compare_three_way(x.begin(), x.end(), y.begin(), y.end());
  };
  std::array<std::vector<FoundWord>, buckets> found;
  parallel_tasks(buckets, [&](int64_t task) {
    const auto bucket = static_cast<size_t>(task);
    LargeVector<Long> longer;
    size_t all = 0;
    for (const Counts& part : parts) all += part.longer[bucket].size();
    longer.reserve(all);
    for (const Counts& part : parts) longer.insert(longer.end(), part.longer[bucket].begin(), part.longer[bucket].end());
    std::sort(longer.begin(), longer.end(), [](const Long& a, const Long& b) { return a.hash < b.hash; });
    for (size_t from = 0, to; from < longer.size(); from = to) {
      for (to = from + 1; to < longer.size() && longer[to].hash == longer[from].hash;) ++to;
      if (static_cast<int64_t>(to - from) < min_count) continue;
      // One text, but where hashes collide.
      const auto begin = longer.begin() + static_cast<std::ptrdiff_t>(from),
                 end_of = longer.begin() + static_cast<std::ptrdiff_t>(to);
      if (std::any_of(begin, end_of, [&](const Long& piece) { return order(piece, *begin) != 0; }))
        std::sort(begin, end_of, [&](const Long& a, const Long& b) { return order(a, b) < 0; });
      for (size_t same = from, end; same < to; same = end) {
        for (end = same + 1; end < to && order(longer[end], longer[same]) == 0;) ++end;
        add(found[bucket], longer[same].begin, longer[same].length, static_cast<int64_t>(end - same));
      }
    }
  });
  for (auto& some : found) words.insert(words.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
  return words;
}

std::vector<FoundWord> discover_words(std::span<const std::string_view> texts, const DiscoverOptions& options,
                                      const DiscoverProgress& progress) {
  DiscoverOptions o = options;
  using enum DiscoverMethod;
  if (o.min_count == 0) o.min_count = o.method == cut ? 16 : o.method == entropy ? 10 : o.method == ngram ? 32 : 4;
  if (o.max_length == 0) o.max_length = o.method == best ? 8 : 4;
  QD_CHECK(o.min_count > 0, "words discover", str("expected a min_count above 0, got ", o.min_count));
  QD_CHECK(o.max_length >= 2 && o.max_length <= 8, "words discover",
           str("expected a max_length from 2 to 8, got ", o.max_length));
  const auto tell = [&](double done, const std::string& what) {
    if (progress) progress(done, what);
  };

  tell(0, "reading");
  const Characters text = read_characters(texts, o.method == best ? Alphabet::chinese : Alphabet::alphanumeric);
  std::vector<FoundWord> words;
  if (o.method == best) {
    words = discover_best(text, o, tell);
    for (int round = 0; round < o.unknown_rounds; ++round)
      tell(0.85, str("counting beside unknown words, ", words.size(), " words")), words = recounted(texts, words, o.min_count);
    if (o.scores) fill_scores(words, text, levels_of(text, o.min_count, o.max_length, [](int) {}));
  } else {
    const int longest = o.method == cut && !o.scores ? 2 : o.max_length;
    const GramLevels grams =
        levels_of(text, o.min_count, longest, [&](int n) { tell(0.2 + 0.15 * n, str("n-grams of ", n, " characters")); });
    tell(0.8, "choosing");
    words = o.method == cut       ? by_cutting(text, grams, o)
            : o.method == entropy ? by_entropy(text, grams, o)
                                  : by_grams(text, grams, o);
    if (o.scores) fill_scores(words, text, grams);
  }
  std::sort(words.begin(), words.end(),
            [](const FoundWord& a, const FoundWord& b) { return a.count != b.count ? a.count > b.count : a.word < b.word; });
  tell(1, str(words.size(), " words"));
  return words;
}

}  // namespace qd
