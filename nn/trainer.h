// The training loop: accumulate, reduce, clip, schedule, step, evaluate, sample, save, resume, log.
//
//   Trainer run(model, optimizer, {.limits = {.steps = 2000}}, {.out = "runs/lm-001", .parts = {{"loader", &batches}}});
//   run.loss     = [&] { const Batch b = batches.next(); return model.loss(b.inputs, b.targets); };
//   run.evaluate = [&] { return Values{{"val_loss", mean_loss(model, held_out)}}; };
//   const TrainResult result = run();
//
// SIGINT and SIGTERM finish the step, save and leave; a second one leaves at once. After resume() a run continues to the same bits.
#pragma once

#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/random.h"
#include "nn/checkpoint.h"
#include "nn/events.h"
#include "nn/metrics.h"
#include "nn/module.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"

namespace qd {

// Every so many steps, or seconds of training; both 0: only at the end.
struct Every {
  int64_t steps = 0;
  double seconds = 0;
};

struct TrainerOptions {
  Limits limits = {.steps = 1000};   // one of the two at least
  Schedule schedule = {};
  int64_t accumulate = 1;            // calls of loss() in a step; their gradients are averaged
  double clip = 1;                   // the gradient's largest norm; 0: no clipping
  Every evaluate_every = {};         // evaluate(), sample() and picture()
  Every save_every = {.seconds = 60};
  int64_t log_every = 10;            // steps per line of metrics.jsonl
  uint64_t seed = 1;                 // of dropout
  std::string unit = "tokens";       // what is counted per second,
  int64_t units = 0;                 // and how many of them one loss() sees; 0: unknown
};

// Where a run lives, and what must survive with it beside weights and optimiser. A non-finite loss is traced by running the step again
// from the parts' state before it, so that what loss() draws from (the loader) belongs here.
struct RunFiles {
  std::string out = {};              // claimed by operator() unless resumed; empty: nothing is written
  Parts parts = {};
};

struct TrainResult {
  int64_t steps = 0;
  double seconds = 0;                // loading and steps, over all resumptions; no evaluation, sampling or saving
  double peak_rss_mib = 0;
  double train_loss = 0;             // mean over the last log interval
  double units_per_second = 0;       // median over the steps of this process
  Values best;                       // what evaluate() said of the weights in model.safetensors; empty where nothing is held out
  Values last;                       // ... of the last weights
  bool interrupted = false;
  bool save_failed = false;          // a file could not be written: the exit status must be 1
};

class Trainer final : public Stateful {
 public:
  Trainer(Module& module, Optimizer& optimizer, TrainerOptions options, RunFiles files = {});   // throws Error: impossible options

  // evaluate(), sample() and picture() may return early once a signal has asked the trainer to leave (interrupted()): what they give then is dropped.
  std::function<Tensor()> loss;              // draws the next batch; a scalar with gradient
  std::function<Values()> evaluate;          // without gradients, in evaluation mode; "val_loss" decides which weights are the best
  std::function<std::string()> sample;       // likewise; goes to samples/ and the log
  std::function<std::string()> picture;      // likewise, the bytes of a PNG; goes to samples/
  std::function<void()> report;              // likewise; after evaluations and saves, when all files of the run are written (run_report.h)

  void resume();                             // continue the run in `out` from its last.safetensors; throws Error where that does not fit
  TrainResult operator()();                  // throws Error: `out` holds another run, or a loss or gradient is not finite

 private:
  struct Moment {
    int64_t step = 0;
    double seconds = 0;
  };

  void save(State& to, const std::string& prefix) const override;
  void load(const State& from, const std::string& prefix) override;
  Parts all_parts();
  bool due(const Every& every, const Moment& last) const;
  bool finished() const { return progress(options_.limits, now_.step, now_.seconds) >= 1; }
  double take_step();
  void record();
  void note(const std::string& group, Values values);
  void evaluate_now();
  void keep_best();
  void keep_sample(const char* extension, const std::string& bytes);
  void expect_finite_weights();
  std::string kept_hint() const;
  std::string complete_hint() const;
  bool save_now();
  void report_now();
  bool attempt(const std::function<void()>& write);
  std::string path(const std::string& file) const { return files_.out + "/" + file; }
  [[noreturn]] void explain(const std::string& what, const State& before, const RandomState& random);

  Module& module_;
  Optimizer& optimizer_;
  TrainerOptions options_;
  RunFiles files_;

  // What a checkpoint holds
  Moment now_, recorded_, evaluated_;
  double loss_sum_ = 0;                      // over the steps since recorded_
  double train_loss_ = 0, rate_ = 0, norm_ = 0;
  Values evaluation_;                        // at evaluated_
  RandomState random_;

  // What it does not
  Moment saved_;
  MetricsFile metrics_;
  EventsFile events_;
  int64_t metrics_length_ = 0, events_length_ = 0;
  int64_t reported_ = -1;                    // the step of the last report,
  std::chrono::steady_clock::time_point reported_at_;
  std::set<std::string> warnings_;           // those given: a full disk is told once
  Values best_;                              // model.safetensors has them itself
  std::vector<double> step_seconds_;
  bool resumed_ = false, save_failed_ = false;
};

}  // namespace qd
