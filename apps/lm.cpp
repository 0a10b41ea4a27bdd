// Language models: train one on text, measure it, let it write.
//   bin/lm train --data book.txt --steps 2000
//   bin/lm sample --model runs/lm-001 --prompt "Once upon a time"
#include <chrono>
#include <cmath>

#include "apps/language.h"
#include "apps/run.h"
#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"
#include "data/generated.h"
#include "data/loader.h"
#include "models/generate.h"

using namespace qd;

namespace {

struct TrainOptions {
  std::vector<std::string> data;
  std::string tokenizer = "char";
  ModelFlags model;
  TrainFlags train;
  int64_t sample = 200;   // tokens
};

int train(TrainOptions& o, const Command& command) {
  o.train.settle(command);
  GPTConfig config = o.model.config(1);   // wrong sizes show before any text is read
  const bool own_val = !o.train.val.empty(), resumed = !o.train.resume.empty();
  const double held_out_part = own_val ? 0 : o.train.val_fraction;
  const Corpus corpus = o.data.empty() ? generated_corpus(held_out_part) : read_corpus(o.data, held_out_part);
  const Corpus val = own_val ? read_corpus(o.train.val, 0) : Corpus{};
  const auto tokenizer = resumed ? load_tokenizer(o.train.resume) : make_tokenizer(o.tokenizer, corpus.training);
  config = o.model.config(tokenizer->size());
  config.recompute = o.train.recompute;

  const auto seed = static_cast<uint64_t>(o.train.seed);
  WindowLoader batches(TokenStream(*tokenizer, corpus.training),
                       {.batch = o.train.batch, .context = config.context, .seed = seed});
  const TokenStream held_out(*tokenizer, own_val ? val.training : corpus.held_out);
  const bool evaluates = own_val || held_out_part > 0;
  QD_CHECK(!evaluates || held_out.size() >= 2, own_val ? "--val" : "--val-fraction",
           str("expected at least 2 tokens to evaluate on, got ", held_out.size()), "use more text, or --val-fraction 0");

  GPT model(config);
  model.initialize(seed);
  const auto optimizer = o.train.make_optimizer(model);

  const std::string run = o.train.open_run("lm");
  TrainerOptions options = o.train.trainer();
  options.units = o.train.batch * config.context;
  Trainer trainer(model, *optimizer, options, {.out = run, .parts = {{"loader", &batches}}});
  trainer.loss = [&] {
    const Batch b = batches.next();
    return model.loss(b.inputs, b.targets);
  };
  if (evaluates) {
    trainer.evaluate = [&] {
      const Score s = score(model, *tokenizer, held_out, config.context);
      return Values{{"val_loss", s.loss()}, {"bits_per_byte", s.bits_per_byte()}};
    };
  }
  const auto sample = [&] { return write_text(model, *tokenizer, "\n", {.tokens = o.sample, .temperature = 0.8, .seed = seed}); };
  if (o.sample > 0) trainer.sample = sample;

  log(str(model.parameter_count(), " parameters, ", tokenizer->size(), " ids, ", batches.tokens().size(),
          " tokens to learn from, ", held_out.size(), " held out; the run is in ", run));
  if (o.data.empty()) log("without --data the text is generated: short sentences and sums");
  note_problems(corpus);
  note_problems(val);
  if (resumed) {
    trainer.resume();
  } else {
    write_config(run, config);
    tokenizer->save(run);
  }
  write_file(run + "/run.json", command.run_file());
  if (!resumed && o.sample > 0) {
    model.evaluate();
    log("before training:\n" + sample());
  }
  const TrainResult result = trainer();
  const auto figure = [&](const char* name) { return find(result.best, name) ? *find(result.best, name) : NAN; };
  return finish(o.train, result, "tokens", run,
                {{"val_loss", figure("val_loss")}, {"bits_per_byte", figure("bits_per_byte")}});
}

struct UseOptions {
  std::string model, prompt = "\n";
  std::vector<std::string> data;
  int64_t context = 0, seed = 1;
  GenerateOptions generate = {.temperature = 0.8};
  bool json = false;
};

int evaluate(const UseOptions& o) {
  QD_CHECK(!o.data.empty(), "--data", "expected a text to evaluate on, got none", "--data book.txt");
  const LanguageModel lm = load_language_model(o.model, o.context);
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

int sample(UseOptions& o) {
  const LanguageModel lm = load_language_model(o.model);
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

int main(int argc, char** argv) {
  App app("lm", "Language models: train one on text, measure it, let it write.");
  TrainOptions t;
  UseOptions u;
  Command* command = nullptr;
  command = &app.command("train", "Train a language model on text", [&] { return train(t, *command); });
  command->option("--data", t.data, "FILE|DIR...", "text to learn from; - is standard input; without it a generated text")
      .option("--tokenizer", t.tokenizer, "byte|char|DIR", "bytes, characters, or the tokenizer of another run");
  t.model.describe(*command);
  t.train.describe(*command);
  command->option("--sample", t.sample, "N", "tokens written at each evaluation; 0: none", from_to(0, 1 << 20));

  const char* model = "directory with config.json, model.safetensors and a tokenizer";
  app.command("eval", "Measure how well a model predicts a text", [&] { return evaluate(u); })
      .option("--model", u.model, "DIR", model)
      .option("--data", u.data, "FILE|DIR...", "the text; - is standard input")
      .option("--context", u.context, "T", "tokens in a window; 0: as many as the model was trained with", at_least(0))
      .flag("--json", u.json, "the last line on standard output is a JSON object");
  app.command("sample", "Let a model continue a text", [&] { return sample(u); })
      .option("--model", u.model, "DIR", model)
      .option("--prompt", u.prompt, "TEXT|-", "the text to continue; - reads it from standard input. Without it a line begins")
      .option("--tokens", u.generate.tokens, "N", "how many to make", at_least(0))
      .option("--temperature", u.generate.temperature, "X", "below 1 more probable text, 0 the most probable tokens", at_least(0))
      .option("--top-k", u.generate.top_k, "K", "choose among the K most probable tokens; 0: all", at_least(0))
      .option("--top-p", u.generate.top_p, "P", "choose among the most probable tokens that together reach P", share())
      .option("--seed", u.seed, "N", "of the random numbers", at_least(0))
      .flag("--json", u.json, "the last line on standard output is a JSON object");
  return app.run(argc, argv);
}
