// bin/lm eval: how well a model predicts a text.
#include <cmath>

#include "apps/language.h"
#include "apps/lm/commands.h"
#include "core/error.h"

namespace qd {
namespace {

struct EvalOptions {
  std::string model, tokenizer;
  std::vector<std::string> data;
  int64_t context = 0;
  bool json = false;
};

int evaluate(const EvalOptions& o) {
  QD_CHECK(!o.data.empty(), "--data", "expected a text to evaluate on, got none", "--data book.txt");
  const LanguageModel lm = load_language_model(o.model, o.context, o.tokenizer);
  const Corpus corpus = read_corpus(o.data, 0);
  note_problems(corpus);
  const TokenStream text(*lm.tokenizer, corpus.training);
  Progress line("evaluating");
  const Score s = score(*lm.model, *lm.tokenizer, text, o.context > 0 ? o.context : lm.model->c.context, &line);
  line.finish();
  const Values values = {{"loss", s.loss()}, {"perplexity", std::exp(s.loss())}, {"bits_per_byte", s.bits_per_byte()}};
  if (!o.json) print(describe(values) + str(" over ", s.tokens, " tokens\n"));
  Result result(values.begin(), values.end());
  result.emplace_back("tokens", s.tokens);
  if (o.json) print_json(result);
  return 0;
}

}  // namespace

void add_eval(App& app) {
  static EvalOptions o;
  app.command("eval", "Measure how well a model predicts a text", [] { return evaluate(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--data", o.data, "FILE|DIR...", "the text; - is standard input")
      .option("--tokenizer", o.tokenizer, "byte|DIR", tokenizer_help)
      .option("--context", o.context, "T", "tokens in a window; 0: as many as the model was trained with", at_least(0))
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
