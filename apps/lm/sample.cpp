// bin/lm sample: a model continues a text.
#include <chrono>

#include "apps/language.h"
#include "apps/lm/commands.h"
#include "core/error.h"
#include "core/file.h"
#include "models/generate.h"

namespace qd {
namespace {

struct SampleOptions {
  std::string model, tokenizer, prompt = "\n";
  GenerateOptions generate = {.temperature = 0.8};
  int64_t seed = 1;
  bool json = false;
};

int sample(SampleOptions& o) {
  const LanguageModel lm = load_language_model(o.model, 0, o.tokenizer);
  const std::string prompt = o.prompt == "-" ? read_file("-") : o.prompt;
  QD_CHECK(!prompt.empty(), "--prompt", "expected a text to continue, got an empty one", "without --prompt a line begins");
  o.generate.seed = static_cast<uint64_t>(o.seed);
  TextOutput out;
  const auto start = std::chrono::steady_clock::now();
  const auto ids = generate(*lm.model, lm.tokenizer->encode(prompt), o.generate, [&](int32_t id) {
    out.add(lm.tokenizer->bytes(id));
    return true;
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  out.finish();
  if (o.json) print_json({{"tokens_per_second", static_cast<double>(ids.size()) / seconds}, {"tokens", std::ssize(ids)}});
  return 0;
}

}  // namespace

void add_sample(App& app) {
  static SampleOptions o;
  app.command("sample", "Let a model continue a text", [] { return sample(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--tokenizer", o.tokenizer, "byte|DIR", tokenizer_help)
      .option("--prompt", o.prompt, "TEXT|-", "the text to continue; - reads it from standard input. Without it a line begins")
      .option("--tokens", o.generate.tokens, "N", "how many to make", at_least(0))
      .option("--temperature", o.generate.temperature, "X", "below 1 more probable text, 0 the most probable tokens", at_least(0))
      .option("--top-k", o.generate.top_k, "K", "choose among the K most probable tokens; 0: all", at_least(0))
      .option("--top-p", o.generate.top_p, "P", "choose among the most probable tokens that together reach P", share())
      .option("--seed", o.seed, "N", "of the random numbers", at_least(0))
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
