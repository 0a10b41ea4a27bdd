#include "apps/run.h"

#include <signal.h>

#include <cmath>

#include "core/error.h"
#include "core/kernels/table.h"
#include "core/machine.h"
#include "core/parallel.h"

namespace qd {
namespace {

std::string directory_for(const TrainFlags& flags, const std::string& name) {
  if (!flags.resume.empty()) {   // run.json was read from it
    if (!flags.resumes()) begin_again(flags.resume);
    return flags.resume;
  }
  if (flags.out.empty()) return next_run_directory("runs", name);
  claim_run_directory(flags.out);
  return flags.out;
}

}  // namespace

void TrainFlags::describe(Command& c) {
  c.group("Training")
      .option("--steps", steps, "N", "optimiser steps; 0: as many as --max-seconds allows", at_least(0))
      .option("--max-seconds", max_seconds, "S", "time for loading and steps; 0: no limit. Alone it lifts the limit on steps",
              at_least(0))
      .option("--batch", batch, "N", "samples in a step", from_to(1, 1 << 20))
      .option("--lr", lr, "X", "learning rate after the warm-up", above(0))
      .option("--eval-every", eval_every, "evaluate each N steps or S seconds; 0: at the end only")
      .option("--out", out, "DIR", "directory of the run; without it the next free one in runs/")
      .not_kept()
      .option("--resume", resume, "DIR", "continue the run in DIR")
      .reads_options(true, {"--steps", "--max-seconds", "--eval-every", "--save-every", "--threads", "--json"})
      .flag("--json", json, "the last line on standard output is a JSON object")
      .not_kept();
  c.group("More training", true)
      .option("--accumulate", accumulate, "N", "batches whose gradients are averaged in a step", from_to(1, 1 << 20))
      .option("--min-lr", min_lr, "X", "learning rate at the end [a tenth of --lr]", at_least(0))
      .option("--warmup", warmup, "N", "steps over which the learning rate rises", at_least(0))
      .choice("--schedule", schedule, {"cosine", "linear", "constant", "inverse-sqrt"}, "how it falls afterwards")
      .choice("--optimizer", optimizer, {"adamw", "sgd", "lamb"}, "what makes a step of a gradient")
      .option("--weight-decay", weight_decay, "X", "of parameters with two or more dimensions", at_least(0))
      .option("--beta1", beta1, "X", "decay of the first moment; the momentum of sgd", fraction())
      .option("--beta2", beta2, "X", "decay of the second moment", fraction())
      .option("--clip", clip, "X", "largest norm of the gradient; 0: any", at_least(0))
      .option("--save-every", save_every, "save each N steps or S seconds; 0: at the end only")
      .choice("--precision", precision, {"f32", "bf16"}, "of products")
      .option("--seed", seed, "N", "of all random numbers", at_least(0))
      .option("--threads", threads, "N", "0: all processors", from_to(0, 1024))
      .option("--recompute", recompute, "K", "keep activations only between segments of K blocks, or (auto-encoders) of encoder and decoder alone; 0: keep all", at_least(0))
      .option("--val", val, "DATA...", "evaluate on this instead of a part of the data")
      .option("--val-fraction", val_fraction, "X", "part of the data that is held out", fraction())
      .option("--config", config, "FILE", "options from a run.json; the command line wins")
      .reads_options();
}

void choose_precision(const std::string& name) {
  set_precision(name == "bf16" ? Precision::bf16 : Precision::f32);
  if (name == "bf16" && !multiplies_bf16())
    warn(str("products are computed in f32, not in bf16: the kernels in use, ", kernels().name, ", have no instruction for it"));
}

void TrainFlags::settle(const Command& command) {
  if (max_seconds > 0 && !command.known("--steps")) steps = 0;
  QD_CHECK(steps > 0 || max_seconds > 0, "--steps", "expected a number above 0, or --max-seconds, got 0 and no --max-seconds");
  if (min_lr < 0) min_lr = lr / 10;
  QD_CHECK(min_lr <= lr, "--min-lr", str("expected at most --lr ", lr, ", got ", min_lr));
  QD_CHECK(!command.given("--val") || !command.given("--val-fraction"), "--val", "expected no --val-fraction beside it",
           "--val is data of its own, --val-fraction holds a part of --data out");
  if (threads > 0) set_threads(static_cast<int>(threads));
  choose_precision(precision);
  signal(SIGPIPE, SIG_IGN);   // a run outlives the pipe that it reports to,
  signal(SIGXFSZ, SIG_IGN);   // and a limit on its files is a disk that is full
}

TrainerOptions TrainFlags::trainer() const {
  return {.limits = {.steps = steps, .seconds = max_seconds},
          .schedule = {.decay = decay_named(schedule), .rate = lr, .minimum = min_lr, .warmup = warmup},
          .accumulate = accumulate,
          .clip = clip,
          .evaluate_every = eval_every,
          .save_every = save_every,
          .seed = static_cast<uint64_t>(seed)};
}

std::unique_ptr<Optimizer> TrainFlags::make_optimizer(Module& module) const {
  return qd::make_optimizer(optimizer, module, {.beta1 = beta1, .beta2 = beta2, .decay = weight_decay});
}

bool TrainFlags::resumes() const { return !resume.empty() && has_checkpoint(resume); }

std::string TrainFlags::open_run(const std::string& name) {
  const std::string directory = directory_for(*this, name);
  log_ = std::make_unique<LogFile>(directory + "/log.txt");
  if (!resume.empty() && !resumes()) log(directory + " has no checkpoint yet: the run begins again");
  return directory;
}

void check_memory(const char* option, double weights) {
  constexpr double bytes = 4 * 4, gib = 1 << 30;   // a weight, its gradient and two moments
  const double memory = memory_bytes();
  QD_CHECK(memory == 0 || weights * bytes <= memory, option,
           str("expected a model that fits into ", std::llround(memory / gib), " GiB of memory, got one that needs ",
               std::llround(weights * bytes / gib)),
           "use a smaller model");
}

int finish(const TrainFlags& flags, const TrainResult& r, const std::string& unit, const std::string& directory, Result more) {
  Result all = {{"steps", r.steps},
                {"seconds", r.seconds},
                {"peak_rss_mib", r.peak_rss_mib},
                {"train_loss", r.train_loss},
                {unit + "_per_second", r.units_per_second}};
  all.insert(all.end(), more.begin(), more.end());
  all.emplace_back("run", directory);
  log(str(r.interrupted ? "interrupted after " : "done: ", r.steps, " steps in ", std::llround(r.seconds), " s, ",
          std::llround(r.units_per_second), " ", unit, " a second; the run is in ", directory, ", its report in ", directory, "/report.html"));
  if (flags.json) print_json(all);
  if (r.save_failed) warn("a file of the run could not be saved");
  return r.save_failed ? 1 : r.interrupted ? interrupted_status : 0;
}

}  // namespace qd
