// New words out of nothing but text.
//   cut      posts 3913: cut between two characters that do not attract each other, keep the pieces that are frequent
//   entropy  post 3491 (after matrix67): n-grams whose parts attract each other and that stand among many different neighbours
//   ngram    posts 4256 and 6920: cut where no cohesive n-gram lies across, keep pieces all of whose n-grams are cohesive
//   best     our own, data/discover_best.cpp: n-grams re-estimated as words; those stay that explain the text much better than their parts
// Post N is kexue.fm/archives/N. Counts are exact; words do not depend on the number of threads.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/grams.h"

namespace qd {

enum class DiscoverMethod { cut, entropy, ngram, best };

struct DiscoverOptions {
  DiscoverMethod method = DiscoverMethod::best;
  int64_t min_count = 0;      // 0: what the post has (cut 16, entropy 10, ngram 32), and 4 for best
  int max_length = 0;         // of n-grams, in characters, 2 to 8; 0: 4, and 8 for best. Words of cut and ngram may be longer
  double min_pmi = 1;         // cut: ln P(ab) / (P(a) P(b))
  double min_cohesion = 30;   // entropy: P(w) / (P(left) P(right)) at every split
  double min_entropy = 3;     // entropy: in nats, left and right
  bool backtrack = true;      // ngram: drop pieces with an n-gram that is not cohesive
  int rounds = 6;             // best: of re-estimation by the words alone
  int unknown_rounds = 2;     // best: of re-estimation beside unknown words, after those
  bool scores = false;        // fill those of the words in
};

struct FoundWord {
  std::string word;
  int64_t count;
  // The least ln P(w) / (P(left) P(right)) over all splits, and the entropies of the neighbours in nats. NaN: not asked for, or longer
  // than max_length.
  double cohesion = std::numeric_limits<double>::quiet_NaN(), left_entropy = cohesion, right_entropy = cohesion;
};

// The most frequent first, then in the order of their bytes. progress(done, what) is told from 0 to 1.
using DiscoverProgress = std::function<void(double done, const std::string& what)>;
std::vector<FoundWord> discover_words(std::span<const std::string_view> texts, const DiscoverOptions& options,
                                      const DiscoverProgress& progress = {});

// What the methods are made of.

// n-grams of 1 to max_length characters.
struct GramLevels {
  std::vector<Grams> level;   // level[n - 1]
  const Grams& of(int n) const { return level[static_cast<size_t>(n) - 1]; }
  int longest() const { return static_cast<int>(level.size()); }
};
// total: what counts are divided by. The least ln P(w) / (P(left) P(right)) over all splits, for each gram of n characters.
std::vector<float> cohesions(const GramLevels& grams, int n, double total);

// Pieces of a text between the gaps that are open, with exact counts of at least min_count. `closed[i]`: characters i and i + 1 belong
// together. keep(begin, length) is asked once for each distinct piece of at least two characters.
std::vector<FoundWord> count_pieces(const Characters& text, const GramLevels& grams, std::span<const uint8_t> closed,
                                    int64_t min_count, const std::function<bool(size_t begin, size_t length)>& keep);

std::vector<FoundWord> discover_best(const Characters& text, const DiscoverOptions& options, const DiscoverProgress& progress);
// The words of the texts as data/unigram.h cuts them with these: their counts beside those of unknown words, and unknown words that are
// frequent after all.
std::vector<FoundWord> recounted(std::span<const std::string_view> texts, const std::vector<FoundWord>& words, int64_t min_count);

}  // namespace qd
