#include "nn/trainer.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "core/autograd.h"
#include "core/error.h"
#include "core/file.h"
#include "core/kernels/table.h"
#include "core/log.h"
#include "core/profile.h"
#include "core/safetensors.h"
#include "core/signals.h"

namespace qd {
namespace {

// What evaluate(), sample() and picture() run in. Training goes on with the random numbers that would have come without them.
class Evaluation {
 public:
  explicit Evaluation(Module& module) : module_(module), random_(random_state()) { module_.evaluate(); }
  ~Evaluation() {
    module_.train();
    random_state() = random_;
  }
  Evaluation(const Evaluation&) = delete;

 private:
  Module& module_;
  RandomState random_;
  NoGrad off_;
};

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double peak_rss_mib() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

// Where in the model a gradient went wrong: backward runs from the last parameters to the first.
std::string last_with_bad_gradient(Module& module) {
  const auto parameters = module.parameters();
  const auto bad = std::find_if(parameters.rbegin(), parameters.rend(), [](const Parameter* p) {
    const Tensor gradient = p->value.gradient();
    return !kernels().all_finite(gradient.size(), gradient.data());
  });
  return bad == parameters.rend() ? "no parameter" : (*bad)->path();
}

}  // namespace

Trainer::Trainer(Module& module, Optimizer& optimizer, TrainerOptions options, RunFiles files)
    : module_(module), optimizer_(optimizer), options_(std::move(options)), files_(std::move(files)), random_{options_.seed, 0} {
  const auto& [steps, seconds] = options_.limits;
  QD_CHECK(steps >= 0 && seconds >= 0 && (steps > 0 || seconds > 0), "train",
           str("expected a number of steps or seconds above 0, got ", steps, " and ", seconds));
  QD_CHECK(options_.accumulate >= 1, "train", str("expected to accumulate at least 1 batch, got ", options_.accumulate));
  QD_CHECK(options_.log_every >= 1, "train", str("expected to log every 1 step or more, got ", options_.log_every));
  QD_CHECK(options_.clip >= 0, "train", str("expected a gradient norm of at least 0 to clip at, got ", options_.clip));
  QD_CHECK(options_.schedule.warmup >= 0, "train", str("expected a warm-up of at least 0 steps, got ", options_.schedule.warmup));
}

Parts Trainer::all_parts() {
  Parts parts = files_.parts;
  parts.emplace_back("optimizer", &optimizer_);
  parts.emplace_back("trainer", this);
  return parts;
}

void Trainer::save(State& to, const std::string& prefix) const {
  to.put(prefix + "step", now_.step);
  to.put(prefix + "seconds", now_.seconds);
  to.put(prefix + "recorded.step", recorded_.step);
  to.put(prefix + "recorded.seconds", recorded_.seconds);
  to.put(prefix + "evaluated.step", evaluated_.step);
  to.put(prefix + "evaluated.seconds", evaluated_.seconds);
  to.put(prefix + "loss_sum", loss_sum_);
  to.put(prefix + "train_loss", train_loss_);
  to.put(prefix + "rate", rate_);
  to.put(prefix + "gradient_norm", norm_);
  to.put(prefix + "random.seed", static_cast<int64_t>(random_state().seed));
  to.put(prefix + "random.next", static_cast<int64_t>(random_state().next));
  to.put(prefix + "metrics_length", metrics_.length());
  to.put(prefix + "events_length", events_.length());
  put(to, prefix + "evaluation.", evaluation_);
}

void Trainer::load(const State& from, const std::string& prefix) {
  const auto moment = [&](const std::string& name) { return Moment{from.integer(prefix + name + "step"), from.real(prefix + name + "seconds")}; };
  now_ = saved_ = moment("");
  recorded_ = moment("recorded.");
  evaluated_ = moment("evaluated.");
  loss_sum_ = from.real(prefix + "loss_sum");
  train_loss_ = from.real(prefix + "train_loss");
  rate_ = from.real(prefix + "rate");
  norm_ = from.real(prefix + "gradient_norm");
  random_ = {static_cast<uint64_t>(from.integer(prefix + "random.seed")), static_cast<uint64_t>(from.integer(prefix + "random.next"))};
  metrics_length_ = from.integer(prefix + "metrics_length");
  events_length_ = from.texts.contains(prefix + "events_length") ? from.integer(prefix + "events_length") : 0;   // older runs have none
  evaluation_ = values_in(from, prefix + "evaluation.");
}

void Trainer::resume() {
  load_checkpoint(path("last.safetensors"), module_, all_parts());
  // A kill between the two files may have left a newer model: the best value is that of the file itself.
  if (const std::string model = path("model.safetensors"); std::filesystem::exists(model)) best_ = values_in(read_safetensors_texts(model), "evaluation.");
  remove_leftovers(files_.out);
  resumed_ = true;
}

bool Trainer::due(const Every& every, const Moment& last) const {
  return (every.steps > 0 && now_.step % every.steps == 0 && now_.step != last.step) ||
         (every.seconds > 0 && now_.seconds - last.seconds >= every.seconds);
}

TrainResult Trainer::operator()() {
  QD_CHECK(loss, "train", "expected a loss function, got none");
  if (!files_.out.empty()) {
    if (!resumed_) claim_run_directory(files_.out);
    metrics_ = MetricsFile(path("metrics.jsonl"), metrics_length_);
    attempt([&] { events_ = EventsFile(files_.out, events_length_); });
  }
  random_state() = random_;
  module_.train();
  module_.clear_gradients();
  if (resumed_ && finished() && evaluated_.step == now_.step) log(complete_hint());
  const NoteSignals signals;
  Progress line("training");
  while (!interrupted() && !finished()) {
    if (due(options_.evaluate_every, evaluated_)) evaluate_now();
    if (due(options_.save_every, saved_)) save_now();
    if (interrupted()) break;
    const double step_loss = take_step();
    line.update(progress(options_.limits, now_.step, now_.seconds), str("step ", now_.step, "  loss ", step_loss));
    if (now_.step % options_.log_every == 0) record();
  }
  line.finish();
  if (!interrupted()) {
    record();
    if (evaluated_.step != now_.step) evaluate_now();
  }
  const bool complete = finished() && evaluated_.step == now_.step, saved = save_now();
  if (reported_ != now_.step) report_now();
  if (!complete) log(str("interrupted at step ", now_.step, saved ? ", saved; continue with --resume " + files_.out : ", not saved"));
  return {.steps = now_.step,
          .seconds = now_.seconds,
          .peak_rss_mib = peak_rss_mib(),
          .train_loss = now_.step > recorded_.step ? loss_sum_ / static_cast<double>(now_.step - recorded_.step) : train_loss_,
          .units_per_second = step_seconds_.empty() ? 0 : static_cast<double>(options_.units * options_.accumulate) / median(step_seconds_),
          .best = best_,
          .last = evaluation_,
          .interrupted = !complete,
          .save_failed = save_failed_};
}

// What to say of a run that has nothing left to do.
std::string Trainer::complete_hint() const {
  const auto& [steps, seconds] = options_.limits;
  return str("the run is complete: ", now_.step, " steps; ", steps > 0 && now_.step >= steps ? str("--steps N above ", now_.step) : str("--max-seconds S above ", seconds),
             " goes on with it");
}

double Trainer::take_step() {
  const Stopwatch watch;
  const RandomState random = random_state();
  State before;   // of what loss() draws from: to run this step again
  for (const auto& [name, part] : files_.parts) part->save(before, name + ".");
  const auto share = 1 / static_cast<float>(options_.accumulate);
  double total = 0;
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    const Tensor batch_loss = loss();
    const double value = batch_loss.item();
    if (!std::isfinite(value)) explain(str("loss, got ", value), before, random);
    total += value * share;
    backward(batch_loss, full(batch_loss.shape(), share));
  }
  // With several machines their gradients are reduced here.
  norm_ = optimizer_.gradient_norm();
  if (!std::isfinite(norm_)) explain(str("gradient norm, got ", norm_), before, random);
  rate_ = learning_rate(options_.schedule, options_.limits, now_.step, now_.seconds);
  optimizer_.step(rate_, clip_factor(norm_, options_.clip));
  loss_sum_ += total;
  ++now_.step;
  step_seconds_.push_back(watch.seconds());
  now_.seconds += step_seconds_.back();
  return total;
}

// The step once more, on the same batches with the same random numbers, looking at what each op gives.
void Trainer::explain(const std::string& what, const State& before, const RandomState& random) {
  const bool checked = check_every_op;
  std::string origin = "the gradient of '" + last_with_bad_gradient(module_) + "', every op before the loss is finite";
  try {
    for (const auto& [name, part] : files_.parts) part->load(before, name + ".");
    random_state() = random;
    check_every_op = true;
    const NoGrad off;
    for (int64_t i = 0; i < options_.accumulate; ++i) loss();
  } catch (const Error& error) {
    origin = error.what();
  }
  check_every_op = checked;
  module_.clear_gradients();
  fail("train", str("expected a finite ", what, " at step ", now_.step + 1, "; it begins in ", origin),
       kept_hint());
}

void Trainer::record() {
  const int64_t steps = now_.step - recorded_.step;
  if (steps == 0) return;
  const double seconds = now_.seconds - recorded_.seconds;
  train_loss_ = loss_sum_ / static_cast<double>(steps);
  Values line = {{"loss", train_loss_}, {"lr", rate_}, {"grad_norm", norm_}};
  if (options_.units > 0)
    line.emplace_back(options_.unit + "_per_second", static_cast<double>(steps * options_.accumulate * options_.units) / seconds);
  note("train", line);
  recorded_ = now_;
  loss_sum_ = 0;
}

// A line of metrics.jsonl, and an event whose tags begin with `group`.
void Trainer::note(const std::string& group, Values values) {
  values.emplace(values.begin(), "seconds", now_.seconds);
  attempt([&] { metrics_.append(now_.step, values); });
  attempt([&] { events_.scalars(now_.step, group, values); });
}

void Trainer::evaluate_now() {
  const ProfiledOp timed("evaluation");
  if (!files_.out.empty() && !std::filesystem::exists(path("last.safetensors"))) save_now();   // no model without a run that can be continued
  expect_finite_weights();
  const Evaluation scope(module_);
  Values values = evaluate ? evaluate() : Values{};
  const std::string text = sample && !interrupted() ? sample() : "", png = picture && !interrupted() ? picture() : "";
  if (interrupted()) return;   // a resumed run does it again, from the start
  evaluated_ = now_;
  evaluation_ = std::move(values);
  if (!evaluation_.empty()) {
    log(str("step ", now_.step, ": ", describe(evaluation_)));
    note("val", evaluation_);
    keep_best();
  }
  if (!text.empty()) {
    log(text);
    keep_sample("txt", text + "\n");
    if (!files_.out.empty()) attempt([&] { events_.text(now_.step, "sample", text); });
  }
  if (!png.empty()) keep_sample("png", png);
  report_now();
}

void Trainer::keep_best() {
  const double *value = find(evaluation_, "val_loss"), *best = find(best_, "val_loss");
  if (!value || !std::isfinite(*value) || (best && *best <= *value)) return;
  if (files_.out.empty() || attempt([&] { save_model(path("model.safetensors"), module_, now_.step, evaluation_); })) best_ = evaluation_;
}

void Trainer::keep_sample(const char* extension, const std::string& bytes) {
  if (files_.out.empty()) return;
  char name[48];
  std::snprintf(name, sizeof name, "samples/step-%06lld.%s", static_cast<long long>(now_.step), extension);
  attempt([&] {
    std::error_code ignored;   // write_file says what is wrong
    std::filesystem::create_directory(path("samples"), ignored);
    write_file(path(name), bytes);
  });
}

void Trainer::report_now() {
  if (!report || files_.out.empty()) return;
  const ProfiledOp timed("report");
  const Evaluation scope(module_);
  attempt(report);
  reported_ = now_.step;
  reported_at_ = std::chrono::steady_clock::now();
}

// A step may have ruined the weights although loss and gradient were finite: then nothing good is overwritten.
void Trainer::expect_finite_weights() {
  const ProfiledOp timed("finite weights");
  const Tensor& weights = module_.arena().values;
  QD_CHECK(kernels().all_finite(weights.size(), weights.data()), "train", str("expected finite weights after step ", now_.step, ", got NaN or infinity"),
           kept_hint());
}

std::string Trainer::kept_hint() const {
  return "lower the learning rate, warm up longer or clip harder" + (files_.out.empty() ? "" : "; the last checkpoint in " + files_.out + " is kept");
}

bool Trainer::save_now() {
  const ProfiledOp timed("saving");
  expect_finite_weights();
  saved_ = now_;
  if (files_.out.empty()) return false;
  const bool saved = attempt([&] { save_checkpoint(path("last.safetensors"), module_, all_parts()); });
  if (!find(best_, "val_loss")) attempt([&] { save_model(path("model.safetensors"), module_, now_.step, {}); });
  constexpr std::chrono::seconds pause{10};   // frequent saves need no report each
  if (reported_ != now_.step && std::chrono::steady_clock::now() - reported_at_ > pause) report_now();
  return saved;
}

// A full disk must not end a run that has hours behind it.
bool Trainer::attempt(const std::function<void()>& write) {
  try {
    write();
    return true;
  } catch (const Error& error) {
    if (warnings_.insert(error.what()).second) warn(str(error.what(), "; training goes on"));
    save_failed_ = true;
    return false;
  }
}

}  // namespace qd
