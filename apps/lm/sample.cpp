// bin/lm sample: a model continues a text, once or several times.
#include <signal.h>

#include <chrono>

#include "apps/language.h"
#include "apps/lm/commands.h"
#include "apps/run.h"
#include "core/error.h"
#include "core/file.h"
#include "core/signals.h"
#include "models/generate.h"

namespace qd {
namespace {

struct SampleOptions {
  std::string model, tokenizer, prompt = "\n";
  GenerateOptions generate = {.temperature = 0.8};
  int64_t samples = 1, seed = 1;
  bool echo = false, ignore_end = false, json = false;
};

int sample(SampleOptions& o) {
  signal(SIGPIPE, SIG_DFL);   // a reader who has enough ends this without a word, as it ends other filters
  const LanguageModel lm = load_language_model(o.model, 0, o.tokenizer);
  const std::string prompt = o.prompt == "-" ? read_file("-") : o.prompt;
  QD_CHECK(!prompt.empty(), "--prompt", "expected a text to continue, got an empty one", "without --prompt a line begins");
  const std::vector<int32_t> ids = lm.tokenizer->encode(prompt);
  if (const int64_t context = lm.model->c.context; std::ssize(ids) > context)
    log(str("the prompt has ", ids.size(), " tokens, of which the model sees the last ", context));
  o.generate.seed = static_cast<uint64_t>(o.seed);
  o.generate.end_of_text = o.ignore_end ? -1 : lm.tokenizer->end_of_text();

  const NoteSignals signals;
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const auto start = Clock::now();
  double first_token = 0;
  int64_t tokens = 0;
  TextOutput out;
  Progress line("sampling");
  if (o.echo && o.samples == 1) out.add(prompt);
  const auto texts = generate_several(*lm.model, ids, o.samples, o.generate, [&](int64_t, int32_t id) {
    if (tokens++ == 0) first_token = seconds_since(start);
    if (o.samples == 1) {
      out.add(lm.tokenizer->bytes(id));   // as it is made
    } else {
      line.update(static_cast<double>(tokens) / static_cast<double>(o.samples * o.generate.tokens), str(tokens, " tokens"));
    }
    return !interrupted();
  });
  const double seconds = seconds_since(start);
  line.finish();
  out.finish();
  for (size_t i = 0; o.samples > 1 && i < texts.size(); ++i) {
    print(str("--- ", i + 1, " ---\n"));
    TextOutput text;
    text.add((o.echo ? prompt : "") + lm.tokenizer->decode(texts[i]));
    text.finish();
  }
  if (o.json)
    print_json({{"tokens_per_second", static_cast<double>(tokens) / seconds}, {"tokens", tokens}, {"prefill_seconds", tokens > 0 ? first_token : seconds}});
  return interrupted() ? interrupted_status : 0;
}

}  // namespace

void add_sample(App& app) {
  static SampleOptions o;
  app.command("sample", "Let a model continue a text", [] { return sample(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--tokenizer", o.tokenizer, "byte|DIR", tokenizer_help)
      .option("--prompt", o.prompt, "TEXT|-", "the text to continue; - reads it from standard input. Without it a line begins")
      .option("--tokens", o.generate.tokens, "N", "how many to make, at most", at_least(0))
      .option("--samples", o.samples, "N", "how many texts to make, together", from_to(1, 1 << 16))
      .option("--temperature", o.generate.temperature, "X", "below 1 more probable text, 0 the most probable tokens", at_least(0))
      .option("--top-k", o.generate.top_k, "K", "choose among the K most probable tokens; 0: all", at_least(0))
      .option("--top-p", o.generate.top_p, "P", "choose among the most probable tokens that together reach P", share())
      .option("--repetition-penalty", o.generate.repetition_penalty, "X", "above 1: what was there becomes less probable", above(0))
      .option("--seed", o.seed, "N", "of the random numbers", at_least(0))
      .flag("--echo", o.echo, "print the prompt before what continues it")
      .flag("--ignore-end", o.ignore_end, "go on where the model ends its text")
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
