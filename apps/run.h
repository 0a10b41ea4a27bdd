// What all trainers share: their options, the directory of a run, and how it ends.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/options.h"
#include "core/log.h"
#include "nn/optimizer.h"
#include "nn/trainer.h"

namespace qd {

// The shared options with CLI.md's names. An app sets other defaults where it needs them, then calls describe().
struct TrainFlags {
  int64_t steps = 2000;
  double max_seconds = 0;   // 0: no limit
  int64_t batch = 12, accumulate = 1;
  double lr = 1e-3, min_lr = -1;   // below 0: a tenth of lr
  int64_t warmup = 100;
  std::string schedule = "cosine", optimizer = "adamw";
  double weight_decay = 0.1, beta1 = 0.9, beta2 = 0.99, clip = 1;
  Every eval_every = {.steps = 1000}, save_every = {.seconds = 60};
  std::string precision = "f32";
  int64_t seed = 1, threads = 0, recompute = 0;   // threads 0: all processors
  std::vector<std::string> val;
  double val_fraction = 0.1;
  std::string out, resume, config;
  bool json = false;

  void describe(Command& command);       // adds the options to a command
  void settle(const Command& command);   // when training begins: limits, threads, contradictions; throws Error
  // --resume names a run with a checkpoint. One that was killed before its first has nothing to go on from: it begins again, with the options
  // that it has, in the same directory.
  bool resumes() const;
  // The run's directory: --resume, --out, or the next free runs/NAME-001. Its log.txt receives what is logged as long as this
  // lives, the reason why a run fails included. Throws Error: --out holds another run.
  std::string open_run(const std::string& name);
  TrainerOptions trainer() const;
  std::unique_ptr<Optimizer> make_optimizer(Module& module) const;

 private:
  std::unique_ptr<LogFile> log_;
};

// What --precision says, f32 or bf16; warns where bf16 cannot be had.
void choose_precision(const std::string& name);

// Throws Error naming `option` when training a model of so many weights asks for more memory than the machine has.
void check_memory(const char* option, double weights);

// The end of a run: the figures, as JSON where wanted, and the exit status: 0 done, 1 a file could not be saved, 130 interrupted by
// a signal (saved, not finished).
constexpr int interrupted_status = 130;
int finish(const TrainFlags& flags, const TrainResult& result, const std::string& unit, const std::string& directory,
           Result more);

}  // namespace qd
