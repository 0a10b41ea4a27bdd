// Our own way to words: those with which the text and its dictionary are shortest.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/error.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/dictionary.h"
#include "data/discover.h"
#include "data/viterbi.h"
#include <cstdio>

namespace qd {
namespace {
double env(const char* n, double d) { const char* v = std::getenv(n); return v ? atof(v) : d; }

// Counts the words of the most probable cut of the whole text.
struct Counter {
  const Characters& text;
  std::vector<size_t> edges;

  explicit Counter(const Characters& text) : text(text), edges{0} {
    for (size_t i = 0; i < text.ids.size(); ++i)
      if (text.ids[i] == 0 && i - edges.back() > (1 << 16)) edges.push_back(i);
    edges.push_back(text.ids.size());
  }

  // Adds to counts[node]; returns the logarithm of the probability of the text.
  double count(const Dictionary& d, std::vector<int64_t>& counts) const {
    std::vector<uint16_t> letter(text.codes.size());
    for (size_t id = 1; id < letter.size(); ++id) letter[id] = d.letter(text.codes[id]);
    const int64_t workers = threads(), tasks = std::ssize(edges) - 1;
    std::vector<std::vector<uint32_t>> own(static_cast<size_t>(workers));
    std::vector<double> likelihood(static_cast<size_t>(tasks));
    parallel_tasks(workers, [&](int64_t worker) {
      auto& mine = own[static_cast<size_t>(worker)];
      mine.resize(static_cast<size_t>(d.places()));
      std::vector<uint16_t> letters;
      std::vector<double> route;
      std::vector<std::pair<int32_t, uint32_t>> best;
      for (int64_t task = worker; task < tasks; task += workers) {
        const size_t begin = edges[static_cast<size_t>(task)], end = edges[static_cast<size_t>(task) + 1], n = end - begin;
        letters.resize(n + 1), route.resize(n + 1), best.resize(n);
        for (size_t i = 0; i < n; ++i) letters[i] = letter[text.ids[begin + i]];
        letters[n] = 0;
        most_probable_words(d, letters.data(), n, route.data(), [&](size_t i, int32_t node, size_t stop) { best[i] = {node, static_cast<uint32_t>(stop - i)}; });
        for (size_t i = 0; i < n; i += best[i].second)
          if (best[i].first >= 0) ++mine[static_cast<size_t>(best[i].first)];
        likelihood[static_cast<size_t>(task)] = route[0];
      }
    });
    counts.assign(static_cast<size_t>(d.places()), 0);
    for (const auto& mine : own)
      for (size_t i = 0; i < mine.size(); ++i) counts[i] += mine[i];
    double sum = 0;
    for (double l : likelihood) sum += l;
    return sum;
  }
};

}  // namespace

std::vector<FoundWord> discover_best(const Characters& text, const DiscoverOptions& o, const DiscoverProgress& tell) {
  GramLevels grams;
  grams.level.push_back(single_characters(text, 1));
  const auto first_min = static_cast<int64_t>(env("MC", static_cast<double>(o.min_count)));
  for (int n = 2; n <= o.max_length; ++n) {
    tell(0.1 * n, str("n-grams of ", n, " characters"));
    grams.level.push_back(longer_grams(text, grams.level.back(), first_min));
  }
  const auto total = static_cast<double>(text.total);
  std::vector<double> letter_cost(text.codes.size());
  for (size_t id = 1; id < text.codes.size(); ++id) letter_cost[id] = -std::log(static_cast<double>(text.count[id]) / total);

  std::vector<WordCount> words;
  std::vector<double> cost;
  const double t2 = env("T2", 2), tn = env("TN", 2), dl = env("DL", 1), ent = env("ENT", 0), lc = env("LC", 1);
  for (int n = 1; n <= o.max_length; ++n) {
    const Grams& g = grams.of(n);
    std::vector<float> cohesion;
    Neighbours beside;
    if (n > 1) cohesion = cohesions(grams, n, total);
    if (n > 1 && ent > 0) beside = neighbours(text, g);
    for (size_t i = 0; i < g.size(); ++i) {
      double spelled = lc;
      for (size_t k = 0; k < static_cast<size_t>(n); ++k) spelled += letter_cost[text.ids[g.first[i] + k]];
      if (n > 1) {
        if (cohesion[i] < t2 + tn * (n - 2)) continue;
        if (g.count[i] * cohesion[i] < dl * spelled) continue;
        if (ent > 0 && std::min(beside.left[i], beside.right[i]) < ent) continue;
      }
      WordCount w{.word = {}, .count = g.count[i]};
      text.append(w.word, g.first[i], static_cast<size_t>(n));
      words.push_back(std::move(w)), cost.push_back(spelled);
    }
  }
  std::fprintf(stderr, "candidates %zu\n", words.size());
  const Counter counter(text);
  const int iterations = static_cast<int>(env("IT", 6));
  for (int it = 0; it < iterations; ++it) {
    tell(0.6 + 0.06 * it, "re-estimating");
    const Dictionary d(words);
    std::vector<int64_t> counts;
    const double likelihood = counter.count(d, counts);
    double dictionary_cost = 0;
    std::vector<WordCount> kept;
    std::vector<double> kept_cost;
    for (size_t i = 0; i < words.size(); ++i) {
      const auto chars = words[i].word;
      int32_t node = Dictionary::root;
      std::vector<uint16_t> letters;
      for (size_t at = 0; at < chars.size();) {
        const Utf8Char c = decode_utf8(std::string_view(chars).substr(at));
        letters.push_back(d.letter(c.code));
        node = d.child(node, letters.back()), at += static_cast<size_t>(c.length);
      }
      const int64_t count = counts[static_cast<size_t>(node)];
      const size_t n = letters.size();
      if (n == 1) {
        kept.push_back({words[i].word, std::max<int64_t>(count, 1)}), kept_cost.push_back(cost[i]);
        continue;
      }
      if (count < env("KM", 2)) continue;
      // The best way without it.
      double best[16];
      best[n] = 0;
      for (size_t a = n; a-- > 0;) {
        best[a] = -1e300;
        int32_t at = Dictionary::root;
        for (size_t b = a; b < n && (at = d.child(at, letters[b])) != Dictionary::none;)
          if (++b; d.is_word(at) && !(a == 0 && b == n)) best[a] = std::max(best[a], d.nodes()[at].weight + best[b]);
        if (best[a] < -1e299) best[a] = best[a + 1] - d.log_total();
      }
      const double advantage = d.nodes()[node].weight - best[0];
      const double gain = static_cast<double>(count) * advantage;
      if (gain < dl * cost[i]) continue;
      const double ramp = std::min(1.0, (it + 1) / env("RAMP", 4));
      if (advantage < ramp * (env("TH", 2) + (n - 2.0) * env("THN", 0))) continue;
      dictionary_cost += cost[i];
      kept.push_back({words[i].word, count}), kept_cost.push_back(cost[i]);
    }
    std::fprintf(stderr, "iteration %d: %zu words, text %.3f dictionary %.3f M nats\n", it, words.size(), -likelihood / 1e6, dictionary_cost / 1e6);
    words.swap(kept), cost.swap(kept_cost);
  }
  std::vector<FoundWord> found;
  for (const WordCount& w : words)
    if (w.count >= o.min_count) found.push_back({.word = w.word, .count = w.count});
  return found;
}

}  // namespace qd
