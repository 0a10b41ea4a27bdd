// Word discovery: posts 3913 (cutting), 3491 (entropy), 4256 and 6920 (n-grams and backtracking) of kexue.fm/archives. Claims V1 to V7.
#include <algorithm>
#include <cmath>
#include <random>
#include <unordered_map>
#include <unordered_set>

#include "apps/lab/lab.h"
#include "apps/lab/timing.h"
#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"
#include "data/discover.h"
#include "data/segment.h"
#include "data/segment_score.h"
#include "nn/html.h"

namespace qd {
namespace {

struct WordsOptions : LabOptions {
  std::string gold, dict, english;
};
WordsOptions options;   // of the one run of this laboratory

using Found = std::vector<FoundWord>;
Found discover(std::string_view text, const DiscoverOptions& o) { return discover_words({&text, 1}, o); }

Verdict skipped(const std::string& what) { return {.kind = Verdict::Kind::skipped, .note = str("Needs ", what, ".")}; }

// The text of --data, with --quick its first eighth.
const std::string& corpus() {
  static const std::string text = [] {
    std::string all;
    for (const std::string& path : options.data) all += read_file(path) + "\n";
    if (options.quick) all.resize(utf8_boundary(all, all.size() / 8));
    return all;
  }();
  return text;
}

size_t characters_in(std::string_view word) {
  return static_cast<size_t>(std::count_if(word.begin(), word.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}
bool is_chinese_word(std::string_view word) { return word.size() >= 6 && is_chinese(decode_utf8(word).code); }

std::unordered_set<std::string> known_words() {
  std::unordered_set<std::string> words;
  for (const WordCount& w : read_word_counts(options.dict)) words.insert(w.word);
  return words;
}

// Share of the k most frequent found words of at least two characters that a dictionary has.
double precision_at(const Found& words, const std::unordered_set<std::string>& known, size_t k) {
  size_t seen = 0, right = 0;
  for (const FoundWord& w : words)
    if (seen < k && is_chinese_word(w.word)) ++seen, right += known.contains(w.word);
  return seen > 0 ? static_cast<double>(right) / static_cast<double>(seen) : 0;
}

const char* name_of(DiscoverMethod method) {
  constexpr const char* names[] = {"cut", "entropy", "ngram", "best"};
  return names[static_cast<size_t>(method)];
}

Verdict three_methods(const LabOptions& o) {
  if (o.data.empty() || options.dict.empty()) return skipped("--data and --dict");
  const auto known = known_words();
  Table table{.columns = {"method", "seconds", "words", "P@1000", "P@5000", "P@10000", "P@all", "recall"}};
  double seconds[2] = {}, precision[2] = {};
  // Recall is of dictionary words that occur at least 16 times, which the n-grams count.
  const std::string_view text = corpus();
  const Characters read = read_characters({&text, 1}, Alphabet::alphanumeric);
  std::unordered_set<std::string> frequent;
  Grams grams = single_characters(read, 16);
  for (int n = 2; n <= 4; ++n) {
    grams = longer_grams(read, grams, 16);
    for (size_t g = 0; g < grams.size(); ++g) {
      std::string word;
      read.append(word, grams.first[g], static_cast<size_t>(n));
      if (known.contains(word)) frequent.insert(word);
    }
  }
  for (const auto method : {DiscoverMethod::cut, DiscoverMethod::entropy, DiscoverMethod::ngram, DiscoverMethod::best}) {
    Found words;
    const double time = best_times(o.quick ? 1 : 3, {[&] { words = discover(text, {.method = method, .min_count = 16}); }})[0];
    const auto recalled =
        std::count_if(words.begin(), words.end(), [&](const FoundWord& w) { return frequent.contains(w.word); });
    if (method == DiscoverMethod::cut || method == DiscoverMethod::entropy)
      seconds[method == DiscoverMethod::entropy] = time,
                        precision[method == DiscoverMethod::entropy] = precision_at(words, known, 5000);
    table.rows.push_back({name_of(method), shown(time), str(words.size()), shown(precision_at(words, known, 1000)),
                          shown(precision_at(words, known, 5000)), shown(precision_at(words, known, 10000)),
                          shown(precision_at(words, known, words.size())),
                          shown(static_cast<double>(recalled) / static_cast<double>(frequent.size()))});
  }
  return {.kind = passed_if(seconds[1] >= 5 * seconds[0] && std::abs(precision[0] - precision[1]) <= 0.03),
          .figures = {{"entropy / cut, seconds", shown(seconds[1] / seconds[0])},
                      {"P@5000 of cut", shown(precision[0])},
                      {"of entropy", shown(precision[1])}},
          .note = "Exact counts by hashing take the cost out of entropies that made them slow.",
          .tables = {table}};
}

Verdict any_length(const LabOptions& o) {
  if (o.data.empty() || options.dict.empty()) return skipped("--data and --dict");
  const auto known = known_words();
  int64_t found = 0;
  std::string some;
  for (const FoundWord& w : discover(corpus(), {.method = DiscoverMethod::cut}))
    if (characters_in(w.word) > 4 && is_chinese_word(w.word) && known.contains(w.word) && ++found <= 8) some += w.word + " ";
  return {.kind = passed_if(found > 0),
          .figures = {{"words of more than four characters that the dictionary has", str(found)}},
          .note = some};
}

// 甲乙丙 whose pair 乙丙 has a cohesion of 3.5, among enough other text.
std::string weak_pair_text(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text;
  for (int i = 0; i < 400; ++i) text += "甲乙丙，";
  for (int i = 0; i < 600; ++i) text += "乙，";
  for (int i = 0; i < 2000; ++i) text += "丙，";
  for (int i = 0; i < 144'000; ++i) {
    append_utf8(text, 0x5000 + random() % 40);
    if (i % 7 != 1) text += "，";   // 20,571 pairs
  }
  return text;
}
bool finds(const Found& words, const std::string& word) {
  return std::any_of(words.begin(), words.end(), [&](const FoundWord& w) { return w.word == word; });
}

Verdict weak_pair(const LabOptions& o) {
  int right = 0;
  for (int64_t seed = 1; seed <= o.seeds; ++seed) {
    const std::string text = weak_pair_text(static_cast<uint64_t>(seed));
    const auto by_cutting = [&](double alpha) {
      return finds(discover(text, {.method = DiscoverMethod::cut, .min_pmi = std::log(alpha)}), "甲乙丙");
    };
    right += !by_cutting(10) && by_cutting(2) && finds(discover(text, {.method = DiscoverMethod::ngram}), "甲乙丙");
  }
  return {.kind = passed_if(right == o.seeds), .figures = {{"texts where all three hold", str(right, " of ", o.seeds)}}};
}

Verdict backtracking(const LabOptions&) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "各项，项目，";
  for (int i = 0; i < 40; ++i) text += "各项目，";
  for (int i = 0; i < 800; ++i) text += "天，地，玄，黄，宇，宙，洪，荒，";
  const bool with = finds(discover(text, {.method = DiscoverMethod::ngram}), "各项目");
  const bool without = finds(discover(text, {.method = DiscoverMethod::ngram, .backtrack = false}), "各项目");
  return {.kind = passed_if(without && !with),
          .figures = {{"各项目 without backtracking", without ? "a word" : "no word"}, {"with", with ? "a word" : "no word"}}};
}

Verdict backtracking_gain(const LabOptions& o) {
  if (o.data.empty() || options.dict.empty()) return skipped("--data and --dict");
  const auto known = known_words();
  const double with = precision_at(discover(corpus(), {.method = DiscoverMethod::ngram, .min_count = 16}), known, 5000);
  const double without =
      precision_at(discover(corpus(), {.method = DiscoverMethod::ngram, .min_count = 16, .backtrack = false}), known, 5000);
  return {.kind = passed_if(with - without >= 0.03), .figures = {{"P@5000 without", shown(without)}, {"with", shown(with)}}};
}

Verdict linear(const LabOptions& o) {
  if (o.data.empty()) return skipped("--data");
  const std::string& text = corpus();
  std::string one_line = text;
  std::replace(one_line.begin(), one_line.end(), '\n', ' ');
  Table table{.columns = {"method", "a quarter, s", "half", "all", "exponent", "all in one line"}};
  double worst = 0, worst_line = 0;
  for (const auto method : {DiscoverMethod::cut, DiscoverMethod::ngram}) {
    std::vector<std::function<void()>> ways;
    for (const size_t part : {4, 2, 1})
      ways.push_back([&text, method, part] {
        discover(std::string_view(text).substr(0, utf8_boundary(text, text.size() / part)), {.method = method});
      });
    ways.push_back([&] { discover(one_line, {.method = method}); });
    const auto t = best_times(o.quick ? 2 : 3, ways);
    const double exponent = std::log(t[2] / t[0]) / std::log(4.0);
    worst = std::max(worst, exponent), worst_line = std::max(worst_line, t[3] / t[2]);
    table.rows.push_back({name_of(method), shown(t[0]), shown(t[1]), shown(t[2]), shown(exponent), shown(t[3])});
  }
  return {.kind = passed_if(worst <= 1.1 && worst_line < 1.5),
          .figures = {{"largest exponent", shown(worst)}, {"one line / many", shown(worst_line)}},
          .tables = {table}};
}

// F1 of the gold text's characters cut with these words.
double f1(const Found& words, SegmentMethod method, bool unknown_words, const std::string& gold) {
  std::vector<WordCount> entries;
  for (const FoundWord& w : words) entries.push_back({w.word, w.count});
  if (entries.empty()) return 0;
  const Segmenter segmenter(Dictionary(entries), method, std::nullopt, unknown_words);
  std::string plain, cut;
  for (const char c : gold)
    if (c != ' ') plain += c;
  segmenter.segment(plain, cut);
  return score_segments(gold, cut).f1();
}

Verdict end_to_end(const LabOptions& o) {
  if (o.data.empty() || options.gold.empty()) return skipped("--data and --gold");
  const std::string gold = read_file(options.gold);
  Table table{.title = "Each step", .columns = {"words", "cut", "F1", "gain"}};
  double last = 0, before = 0;
  const auto step = [&](const char* words_name, const char* cut_name, const Found& words, SegmentMethod method, bool unknown) {
    before = last, last = f1(words, method, unknown, gold);
    table.rows.push_back({words_name, cut_name, shown(last), table.rows.empty() ? std::string("-") : shown(last - before)});
  };
  using enum SegmentMethod;
  using enum DiscoverMethod;
  step("characters", "dag", {{.word = "一", .count = 1}}, dag, false);
  step("cut, post 3913", "dag", discover(corpus(), {.method = cut}), dag, false);
  const Found ngrams = discover(corpus(), {.method = ngram});
  step("ngram without backtracking", "dag", discover(corpus(), {.method = ngram, .backtrack = false}), dag, false);
  step("ngram, posts 4256 and 6920", "dag", ngrams, dag, false);
  const double reference = last;
  step("all n-grams above chance", "dag", discover(corpus(), {.rounds = 0, .unknown_rounds = 0}), dag, false);
  const Found words = discover(corpus(), {});
  step("re-estimated as words", "dag", discover(corpus(), {.unknown_rounds = 0}), dag, false);
  step("counted beside unknown words: best", "dag", words, dag, false);
  step("best", "numbers and Latin as a whole", words, unigram, false);
  step("best", "unknown words: unigram", words, unigram, true);
  const double ours = last;
  if (!options.dict.empty()) {
    Found known;
    for (const WordCount& w : read_word_counts(options.dict)) known.push_back({.word = w.word, .count = w.count});
    step("the dictionary given", "dag", known, dag, false);
    step("the dictionary given", "unigram", known, unigram, true);
  }
  return {.kind = passed_if(reference > 0.628 && ours >= 0.76),
          .figures = {{"ngram", shown(reference), "the reference pipeline with the same settings: 0.628"},
                      {"best with unigram", shown(ours)}},
          .tables = {table}};
}

// English without its blanks: every true blank is a boundary.
Verdict english(const LabOptions& o) {
  if (options.english.empty()) return skipped("--english, a text with blanks between words");
  const std::string text = read_file(options.english);
  std::string gold, plain;
  for (const char c : text.substr(0, o.quick ? 500'000 : text.size())) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter)
      gold += static_cast<char>(c | 0x20), plain += static_cast<char>(c | 0x20);
    else if (c == ' ' || c == '\'')
      gold += c == ' ' ? " " : "";
    else
      gold += '\n', plain += '\n';
  }
  Table table{.columns = {"method", "words", "boundary precision", "recall", "F1"}};
  double best = 0;
  for (const auto method : {DiscoverMethod::cut, DiscoverMethod::ngram}) {
    const Found words = discover(plain, {.method = method, .max_length = 8});
    std::vector<WordCount> entries;
    for (const FoundWord& w : words) entries.push_back({w.word, w.count});
    if (entries.empty()) continue;
    std::string cut;
    Segmenter(Dictionary(entries), SegmentMethod::forward).segment(plain, cut);
    // Boundaries inside of lines, by the letters before them.
    const auto boundaries = [](const std::string& some) {
      std::unordered_set<size_t> set;
      size_t letters = 0;
      for (size_t i = 0; i + 1 < some.size(); ++i) {
        letters += some[i] >= 'a';
        if (some[i] == ' ' && i > 0 && some[i - 1] >= 'a' && some[i + 1] >= 'a') set.insert(letters);
      }
      return set;
    };
    const auto right = boundaries(gold), ours = boundaries(cut);
    const auto both = std::count_if(ours.begin(), ours.end(), [&](size_t b) { return right.contains(b); });
    const double precision = static_cast<double>(both) / static_cast<double>(std::max<size_t>(ours.size(), 1)),
                 recall = static_cast<double>(both) / static_cast<double>(std::max<size_t>(right.size(), 1));
    const double f = both > 0 ? 2 * precision * recall / (precision + recall) : 0;
    best = std::max(best, f);
    table.rows.push_back({name_of(method), str(words.size()), shown(precision), shown(recall), shown(f)});
  }
  return {.kind = passed_if(best >= 0.5), .figures = {{"best boundary F1", shown(best)}}, .tables = {table}};
}

}  // namespace

void add_words(App& app) {
  static const Laboratory lab{
      "words",
      "Posts 3913, 3491, 4256 and 6920: words out of nothing but text",
      {{"V1", "Cutting is far cheaper than entropies and finds as good words",
        "5 times as fast as entropy, with P@5000 within 0.03", three_methods},
       {"V2", "Cutting finds words of any length", "some word of more than four characters is in the dictionary", any_length},
       {"V3", "A weak pair inside of a word: a high threshold cuts it, n-grams keep it",
        "cut at 10, kept at 2 and by n-grams, for every seed", weak_pair},
       {"V4", "Backtracking drops what only chains of words make", "各项目 is a word without it and none with it", backtracking},
       {"V4b", "Backtracking makes words better on real text", "P@5000 gains at least 0.03", backtracking_gain},
       {"V5", "Time is linear in the text, on lines of any length", "exponent at most 1.1, one line at most 1.5 times many",
        linear},
       {"V6", "Discovered words cut text nearly as a dictionary does",
        "ngram above the reference's 0.628, best with unigram at least 0.76", end_to_end},
       {"V7", "Nothing in it is Chinese", "English without blanks: boundary F1 at least 0.5", english}}};
  lab.add_to(app, options)
      .option("--data", options.data, "FILE...", "text to find words in")
      .option("--gold", options.gold, "FILE", "text cut by people, blanks between words")
      .option("--dict", options.dict, "FILE", "a dictionary that people made, lines `word count`")
      .option("--english", options.english, "FILE", "a text with blanks between words");
}

}  // namespace qd
