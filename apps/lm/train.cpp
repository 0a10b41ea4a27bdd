// bin/lm train: text in, a run directory out.
#include <cmath>

#include "apps/language.h"
#include "apps/lm/commands.h"
#include "apps/run.h"
#include "core/error.h"
#include "core/file.h"
#include "data/generated.h"
#include "data/loader.h"

namespace qd {
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
  trainer.report = [&] { write_language_report(run, model, *tokenizer, seed); };

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

}  // namespace

void add_train(App& app) {
  static TrainOptions o;
  static Command* command = nullptr;
  command = &app.command("train", "Train a language model on text", [] { return train(o, *command); });
  command->option("--data", o.data, "FILE|DIR...", "text to learn from; - is standard input; without it a generated text")
      .option("--tokenizer", o.tokenizer, "byte|char|DIR", "bytes, characters, or the tokenizer of another run");
  o.model.describe(*command);
  o.train.describe(*command);
  command->option("--sample", o.sample, "N", "tokens written at each evaluation; 0: none", from_to(0, 1 << 20));
}

}  // namespace qd
