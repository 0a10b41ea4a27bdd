// bin/words score: a cut text beside the gold one.
#include "apps/words/commands.h"
#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "data/segment_score.h"
#include "nn/html.h"

namespace qd {
namespace {

struct ScoreOptions {
  std::string gold, result;
  bool json = false;
};

int score(const ScoreOptions& o) {
  QD_CHECK(!o.gold.empty() && !o.result.empty(), "words score", "expected two files, GOLD and RESULT",
           "bin/words score gold.txt result.txt");
  const std::string gold = read_file(o.gold), result = read_file(o.result);
  const SegmentScore s = score_segments(gold, result);
  QD_CHECK(s.gold > 0, o.gold, "expected words, got none");
  if (s.differing_lines > 0)
    warn(str(s.differing_lines, " of ", s.lines,
             " lines have other characters than the gold text: none of their words count as right"));
  print(str("precision ", shown(s.precision()), "  recall ", shown(s.recall()), "  F1 ", shown(s.f1()), "  (",
            with_commas(s.right), " of ", with_commas(s.gold), " words in ", with_commas(s.lines), " lines)\n"));
  if (o.json)
    print_json({{"precision", s.precision()},
                {"recall", s.recall()},
                {"f1", s.f1()},
                {"gold_words", s.gold},
                {"words", s.found},
                {"right", s.right},
                {"lines", s.lines},
                {"differing_lines", s.differing_lines}});
  return 0;
}

}  // namespace

void add_score(App& app) {
  static ScoreOptions o;
  app.command("score", "Precision, recall and F1 of a cut text, by spans, as SIGHAN scores", [] { return score(o); })
      .option("gold", o.gold, "GOLD", "text cut by people: blanks between words")
      .option("result", o.result, "RESULT", "the same text cut by a program; - is standard input")
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
