// bin/lm train: text in, a run directory out.
#include <cmath>
#include <filesystem>

#include "apps/language.h"
#include "apps/lm/commands.h"
#include "apps/run.h"
#include "core/error.h"
#include "core/file.h"
#include "data/generated.h"
#include "data/loader.h"
#include "models/gpt_files.h"

namespace qd {
namespace {

struct TrainOptions {
  std::vector<std::string> data;
  std::string tokenizer = "char", init;
  ModelFlags model;
  TrainFlags train;
  int64_t sample = 200;   // tokens
  std::string sample_prompt = "\n";
};

// A run that goes on has a tokenizer, a model to start from may have one; it fits the vocabulary then.
std::unique_ptr<Tokenizer> choose_tokenizer(TrainOptions& o, const Command& command, const Corpus& corpus, int64_t vocabulary) {
  if (!o.train.resume.empty()) return load_tokenizer(o.train.resume);
  if (o.init.empty()) return make_tokenizer(o.tokenizer, corpus.training);
  const bool named = command.known("--tokenizer") && o.tokenizer != o.init;
  QD_CHECK(!named || !has_tokenizer(o.init), "--tokenizer", str("expected none beside --init, whose directory holds one, got '", o.tokenizer, "'"));
  if (!named) o.tokenizer = o.init;   // for run.json
  return tokenizer_of(o.init, named ? o.tokenizer : "", vocabulary);
}

int train(TrainOptions& o, const Command& command) {
  o.train.settle(command);
  QD_CHECK(!o.sample_prompt.empty(), "--sample-prompt", "expected a text to continue, got an empty one", "without it a line begins");
  const bool own_val = !o.train.val.empty(), resumed = o.train.resumes(), tuned = !o.init.empty();
  if (tuned) o.init = std::filesystem::absolute(o.init).lexically_normal().string();
  GPTConfig config = tuned ? o.model.adopt(read_config(resumed ? o.train.resume : o.init), command)
                           : o.model.config(1);   // wrong sizes show before any text is read
  const double held_out_part = own_val ? 0 : o.train.val_fraction;
  const Corpus corpus = o.data.empty() ? generated_corpus(held_out_part) : read_corpus(o.data, held_out_part);
  const Corpus val = own_val ? read_corpus(o.train.val, 0) : Corpus{};
  const auto tokenizer = choose_tokenizer(o, command, corpus, config.vocab);
  if (!tuned) config = o.model.config(tokenizer->size());
  config.recompute = o.train.recompute;

  const auto seed = static_cast<uint64_t>(o.train.seed);
  WindowLoader batches(TokenStream(*tokenizer, corpus.training),
                       {.batch = o.train.batch, .context = o.model.sizes.context, .seed = seed});
  const TokenStream held_out(*tokenizer, own_val ? val.training : corpus.held_out);
  const bool evaluates = own_val || held_out_part > 0;
  QD_CHECK(!evaluates || held_out.size() >= 2, own_val ? "--val" : "--val-fraction",
           str("expected at least 2 tokens to evaluate on, got ", held_out.size()), "use more text, or --val-fraction 0");

  const bool loads = tuned && !resumed;
  const auto owner = loads ? load_gpt(o.init, config) : std::make_unique<GPT>(config);
  GPT& model = *owner;
  if (!loads) model.initialize(seed);
  const auto optimizer = o.train.make_optimizer(model);

  const std::string run = o.train.open_run("lm");
  TrainerOptions options = o.train.trainer();
  options.units = o.train.batch * o.model.sizes.context;
  Trainer trainer(model, *optimizer, options, {.out = run, .parts = {{"loader", &batches}}});
  trainer.loss = [&] {
    const Batch b = batches.next();
    return model.loss(b.inputs, b.targets);
  };
  if (evaluates) {
    trainer.evaluate = [&] {
      const Score s = score(model, *tokenizer, held_out, o.model.sizes.context);
      return Values{{"val_loss", s.loss()}, {"bits_per_byte", s.bits_per_byte()}};
    };
  }
  const auto sample = [&] { return write_text(model, *tokenizer, o.sample_prompt, {.tokens = o.sample, .temperature = 0.8, .seed = seed}); };
  if (o.sample > 0) trainer.sample = sample;
  trainer.report = [&] { write_language_report(run, model, *tokenizer, seed); };

  log(str(model.parameter_count(), " parameters, ", tokenizer->size(), " ids, ", batches.tokens().size(),
          " tokens to learn from, ", held_out.size(), " held out; the run is in ", run));
  if (loads) log("the model comes from " + o.init);
  if (o.data.empty()) log("without --data the text is generated: short sentences and sums");
  note_problems(corpus);
  note_problems(val);
  if (resumed) {
    trainer.resume();
  } else {
    write_config(run, config, tokenizer->end_of_text());
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
      .option("--tokenizer", o.tokenizer, "byte|char|bpe:SIZE|word:DICT|DIR",
              "bytes, characters, pairs of bytes merged until there are SIZE ids, words of a dictionary, or the tokenizer of a folder")
      .option("--init", o.init, "DIR", "start from the model in DIR, a run or a GPT-2 of Hugging Face, with its tokenizer");
  o.model.describe(*command);
  o.train.describe(*command);
  command->option("--sample", o.sample, "N", "tokens written at each evaluation; 0: none", from_to(0, 1 << 20))
      .option("--sample-prompt", o.sample_prompt, "TEXT", "what they continue; without it a line begins");
}

}  // namespace qd
