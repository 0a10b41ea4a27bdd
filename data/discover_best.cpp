// Our own way to words: n-grams are re-estimated as words, again and again, by cutting the text into the most probable ones, and those
// stay that explain each of their occurrences much better than their parts do. Unlike the n-grams' cohesion, which compares with
// characters anywhere, this compares with words: 现 and 实 are common characters and rare words, so that 现实 stays, while 这 and 一
// are common words, so that 这一 goes. Expectation maximisation over a unigram model with hard assignments, as de Marcken 1996 and
// Kudo 2018 have it with description length and likelihood in place of the gain.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/dictionary.h"
#include "data/discover.h"
#include "data/segment.h"
#include "data/text.h"
#include "data/viterbi.h"
#include "data/word_counter.h"

namespace qd {
namespace {

// Nats that each occurrence of a word must gain for every character beyond its first: a factor e^3, twenty times as probable.
constexpr double least_gain = 3;
constexpr int gentle_rounds = 3;   // the first rounds ask for less: then counts are those of n-grams still, not of words

struct Candidate {
  std::string word;
  std::vector<uint16_t> ids;   // characters
  int64_t count;
};

// Occurrences of all words in the most probable cut of the text, by node of the dictionary.
class Cutter {
 public:
  explicit Cutter(const Characters& text) : text_(text) {
    constexpr size_t size = 1 << 16;   // parts begin where the text is interrupted
    for (size_t i = 0; i < text.ids.size(); ++i)
      if (text.ids[i] == 0 && i - edges_.back() > size) edges_.push_back(i);
    edges_.push_back(text.ids.size());
  }

  std::vector<int64_t> count(const Dictionary& d) const {
    std::vector<uint16_t> letter(text_.codes.size());
    for (size_t id = 1; id < letter.size(); ++id) letter[id] = d.letter(text_.codes[id]);
    const int64_t workers = threads(), parts = std::ssize(edges_) - 1;
    std::vector<std::vector<int64_t>> counts(static_cast<size_t>(workers));
    parallel_tasks(workers, [&](int64_t worker) {
      auto& own = counts[static_cast<size_t>(worker)];
      own.resize(static_cast<size_t>(d.places()));
      std::vector<uint16_t> letters;
      std::vector<double> route;
      struct Step {
        int32_t node;
        uint32_t length;
      };
      std::vector<Step> steps;
      for (int64_t part = worker; part < parts; part += workers) {
        const size_t begin = edges_[static_cast<size_t>(part)], n = edges_[static_cast<size_t>(part) + 1] - begin;
        letters.resize(n + 1), route.resize(n + 1), steps.resize(n);
        for (size_t i = 0; i < n; ++i) letters[i] = letter[text_.ids[begin + i]];
        letters[n] = 0;
        most_probable_words(d, letters.data(), n, route.data(), [&](size_t i, int32_t node, size_t end) {
          steps[i] = {node, static_cast<uint32_t>(end - i)};
        });
        for (size_t i = 0; i < n; i += steps[i].length)
          if (steps[i].node != Dictionary::none) ++own[static_cast<size_t>(steps[i].node)];
      }
    });
    for (size_t worker = 1; worker < counts.size(); ++worker)
      for (size_t i = 0; i < counts[0].size(); ++i) counts[0][i] += counts[worker][i];
    return std::move(counts[0]);
  }

 private:
  const Characters& text_;
  std::vector<size_t> edges_ = {0};
};

// ln P of the best cut of a word into at least two of the dictionary.
double without_itself(const Dictionary& d, const std::vector<uint16_t>& letters) {
  const size_t n = letters.size();
  std::vector<double> best(n + 1, -std::numeric_limits<double>::infinity());
  best[n] = 0;
  for (size_t i = n; i-- > 0;) {
    int32_t node = Dictionary::root;
    for (size_t end = i; end < n && (node = d.child(node, letters[end])) != Dictionary::none;)
      if (++end; end - i < n) best[i] = std::max(best[i], d.nodes()[node].weight + best[end]);
  }
  return best[0];
}

// All characters, and the n-grams that are at least as frequent as chance has it.
std::vector<Candidate> candidates(const Characters& text, const DiscoverOptions& o, const DiscoverProgress& tell) {
  GramLevels grams;
  std::vector<Candidate> found;
  for (int n = 1; n <= o.max_length; ++n) {
    tell(0.1 + 0.4 * n / o.max_length, str("n-grams of ", n, " characters"));
    grams.level.push_back(n == 1 ? single_characters(text, 1) : longer_grams(text, grams.level.back(), o.min_count));
    const Grams& g = grams.of(n);
    const auto cohesion = n > 1 ? cohesions(grams, n, static_cast<double>(text.total)) : std::vector<float>(g.size());
    for (size_t i = 0; i < g.size(); ++i) {
      if (cohesion[i] < 0) continue;
      const auto begin = text.ids.begin() + g.first[i];
      found.push_back({{}, {begin, begin + n}, g.count[i]});
      text.append(found.back().word, g.first[i], static_cast<size_t>(n));
    }
  }
  return found;
}

}  // namespace

std::vector<FoundWord> discover_best(const Characters& text, const DiscoverOptions& o, const DiscoverProgress& tell) {
  std::vector<Candidate> words = candidates(text, o, tell);
  const Cutter cutter(text);
  for (int round = 0; round < o.rounds; ++round) {
    tell(0.5 + 0.35 * round / o.rounds, str("round ", round + 1, ", ", words.size(), " words"));
    std::vector<WordCount> entries;
    for (const Candidate& w : words) entries.push_back({w.word, w.count});
    if (entries.empty()) break;
    const Dictionary d(entries);
    const std::vector<int64_t> counts = cutter.count(d);
    const double asked = least_gain * std::min(1.0, (round + 1.0) / gentle_rounds);
    std::vector<uint16_t> letters;
    std::erase_if(words, [&](Candidate& w) {
      letters.clear();
      int32_t node = Dictionary::root;
      for (const uint16_t id : w.ids) letters.push_back(d.letter(text.codes[id])), node = d.child(node, letters.back());
      w.count = std::max<int64_t>(counts[static_cast<size_t>(node)], w.ids.size() == 1);   // characters stay: any text can be cut
      return w.ids.size() > 1 &&
             (w.count < 2 || d.nodes()[node].weight - without_itself(d, letters) < asked * static_cast<double>(w.ids.size() - 1));
    });
  }
  std::vector<FoundWord> found;
  for (const Candidate& w : words)
    if (w.count >= o.min_count) found.push_back({.word = w.word, .count = w.count});
  return found;
}

std::vector<FoundWord> recounted(std::span<const std::string_view> texts, const std::vector<FoundWord>& words,
                                 int64_t min_count) {
  std::vector<WordCount> entries;
  for (const FoundWord& w : words) entries.push_back({w.word, w.count});
  if (entries.empty()) return {};
  const Segmenter segmenter(Dictionary(entries), SegmentMethod::unigram);
  CountOptions options;
  split_with(segmenter, options);
  WordCounter counter(options);
  for (const std::string_view text : texts)
    for (const auto block : cut_text(text, 8 << 20, options.boundary))
      counter.add(block);
  std::vector<FoundWord> found;
  counter.finish(0, [&](const CountedWord& w) {
    if (w.count >= min_count && is_chinese(decode_utf8(w.word).code))
      found.push_back({.word = std::string(w.word), .count = w.count});
  });
  return found;
}

}  // namespace qd
