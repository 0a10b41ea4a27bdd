// bin/words discover: text in, a dictionary out.
#include <chrono>
#include <cmath>
#include <map>

#include "apps/words/commands.h"
#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/parallel.h"
#include "data/discover.h"
#include "data/text.h"

namespace qd {
namespace {

struct FindOptions {
  std::vector<std::string> files;
  std::string method = "best", out, scores;
  int64_t min_count = 0, max_length = 0, threads = 0;
  double min_pmi = 1, min_cohesion = 30, min_entropy = 3;
  bool json = false;
};

std::string dictionary_text(const std::vector<FoundWord>& words) {
  std::string text;
  for (const FoundWord& w : words) text += w.word, text += ' ', text += std::to_string(w.count), text += '\n';
  return text;
}

std::string score_text(const std::vector<FoundWord>& words) {
  const auto shown = [](double value) { return std::isnan(value) ? std::string("-") : str(std::round(value * 1000) / 1000); };
  std::string text = "word\tcount\tcohesion\tleft_entropy\tright_entropy\n";
  for (const FoundWord& w : words)
    text += str(w.word, '\t', w.count, '\t', shown(w.cohesion), '\t', shown(w.left_entropy), '\t', shown(w.right_entropy), '\n');
  return text;
}

int discover(const FindOptions& o) {
  static const std::map<std::string, DiscoverMethod> methods = {{"cut", DiscoverMethod::cut},
                                                                {"entropy", DiscoverMethod::entropy},
                                                                {"ngram", DiscoverMethod::ngram},
                                                                {"best", DiscoverMethod::best}};
  QD_CHECK(!o.files.empty(), "words discover", "expected files or folders of text, got none",
           "bin/words discover news.txt --out dict.txt");
  if (o.threads > 0) set_threads(static_cast<int>(o.threads));
  const auto start = std::chrono::steady_clock::now();
  const Corpus corpus = read_corpus(o.files, 0);
  for (const std::string& note : corpus.notes) warn(note);
  Progress progress("discovering words");
  const auto words = discover_words(corpus.training,
                                    {.method = methods.at(o.method),
                                     .min_count = o.min_count,
                                     .max_length = static_cast<int>(o.max_length),
                                     .min_pmi = o.min_pmi,
                                     .min_cohesion = o.min_cohesion,
                                     .min_entropy = o.min_entropy,
                                     .scores = !o.scores.empty()},
                                    [&](double done, const std::string& what) { progress.update(done, what); });
  progress.finish();
  const int64_t bytes = text_bytes(corpus.training);
  if (const int64_t broken = broken_bytes(corpus.training); broken > 0)
    warn(str(broken, " bytes are not UTF-8: words end there"));
  if (words.empty()) warn("no words were found: a longer text, or a smaller --min-count");
  if (o.out.empty()) {
    print(dictionary_text(words));
  } else {
    write_file(o.out, dictionary_text(words));
  }
  if (!o.scores.empty()) write_file(o.scores, score_text(words));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  log(str(words.size(), " words in ", bytes, " bytes: ", std::round(seconds * 1000) / 1000, " s"));
  if (o.json)
    print_json({{"method", o.method},
                {"words", static_cast<int64_t>(words.size())},
                {"bytes", bytes},
                {"seconds", seconds},
                {"mb_per_second", static_cast<double>(bytes) / 1e6 / seconds}});
  return 0;
}

}  // namespace

void add_discover(App& app) {
  static FindOptions o;
  app.command("discover", "Find the words of a text, without any dictionary", [] { return discover(o); })
      .option("files", o.files, "FILE|DIR...", "text; - is standard input")
      .choice("--method", o.method, {"cut", "entropy", "ngram", "best"},
              "cut: pairs that do not attract each other (post 3913); entropy: cohesion and neighbours (3491); ngram: cohesive "
              "n-grams and "
              "backtracking (4256, 6920); best: our own")
      .option("--min-count", o.min_count, "N", "occurrences that a word needs; 0: what the post has", at_least(0))
      .option("--max-length", o.max_length, "N", "characters of n-grams, 2 to 8; 0: 4, for best 8", from_to(0, 8))
      .option("--out", o.out, "FILE", "the dictionary, lines `word count`; without it standard output")
      .option("--scores", o.scores, "FILE", "a table of the words with their cohesion and the entropies of their neighbours")
      .option("--threads", o.threads, "N", "0: all processors", from_to(0, 1024))
      .flag("--json", o.json, "the last line on standard output is a JSON object")
      .group("Thresholds", true)
      .option("--min-pmi", o.min_pmi, "X", "cut: ln P(ab) / (P(a) P(b)) of a pair that stays together")
      .option("--min-cohesion", o.min_cohesion, "X", "entropy: P(w) / (P(left) P(right)) at every split", above(0))
      .option("--min-entropy", o.min_entropy, "X", "entropy: of the neighbours, in nats", at_least(0));
}

}  // namespace qd
