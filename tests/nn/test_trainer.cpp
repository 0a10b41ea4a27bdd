#include <doctest/doctest.h>

#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/error.h"
#include "core/file.h"
#include "core/ops.h"
#include "core/safetensors.h"
#include "core/signals.h"
#include "nn/trainer.h"
#include "tests/errors.h"
#include "tests/run_files.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::content;
using test::events;
using test::metrics;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr int64_t batch = 4, in = 3, out = 2;

// y = dropout(x) W + b, to be fitted to sums of x.
struct Tiny : Module {
  Parameter w{*this, "w", {out, in}, normal(0.5)};
  Parameter b{*this, "b", {out}, constant(0)};
  Tiny() { initialize(3); }
  Tensor loss(const Tensor& x, const Tensor& y) const { return mse(linear(training() ? dropout(x, 0.25f) : x, w, b), y); }
};

// Batch number i, whoever draws it and whenever.
struct Batches final : Stateful {
  int64_t next = 0;
  std::pair<Tensor, Tensor> draw() {
    Random random(11, static_cast<uint64_t>(next++));
    Tensor x = empty({batch, in}), y = empty({batch, out});
    float *px = x.mutable_data(), *py = y.mutable_data();
    for (int64_t i = 0; i < batch * in; ++i) px[i] = static_cast<float>(random.normal());
    for (int64_t i = 0; i < batch * out; ++i) py[i] = px[i] - 2 * px[i + 1];
    return {x, y};
  }
  void save(State& to, const std::string& prefix) const override { to.put(prefix + "next", next); }
  void load(const State& from, const std::string& prefix) override { next = from.integer(prefix + "next"); }
};

// A model with everything that training it needs.
struct Setup {
  Tiny model;
  AdamW optimizer{model};
  Batches batches;
  Trainer run;

  Setup(TrainerOptions options, const std::string& folder)
      : run(model, optimizer, std::move(options), {.out = folder, .parts = {{"loader", &batches}}}) {
    run.loss = [this] {
      const auto [x, y] = batches.draw();
      return model.loss(x, y);
    };
    run.evaluate = [this] {
      dropout(full({8}, 1), 0.5f);   // draws random numbers: training must not notice
      const auto [x, y] = Batches{}.draw();
      return Values{{"val_loss", model.loss(x, y).item()}};
    };
    run.sample = [] { return std::string("a sample"); };
    run.picture = [] { return std::string("a\0picture", 9); };
  }
  // Before batch number n is used, counted from 0.
  void before_batch(int64_t n, std::function<void()> f) {
    run.loss = [this, n, f = std::move(f), usual = run.loss] {
      if (batches.next == n) f();
      return usual();
    };
  }
};

TrainerOptions twenty_steps() {
  return {.limits = {.steps = 20},
          .schedule = {.rate = 0.05, .minimum = 0.01, .warmup = 4},
          .evaluate_every = {.steps = 5},
          .save_every = {.steps = 4},
          .log_every = 3,
          .units = batch};
}

std::string message_of(Trainer& run) {
  return test::message_of([&] { run(); });
}

struct Reference {
  test::TempDir folder;
  std::string path = folder / "run";
  TrainResult result = Setup(twenty_steps(), path).run();
};

void check_same_run(const Reference& reference, const std::string& path) {
  CHECK(content(path + "/last.safetensors") == content(reference.path + "/last.safetensors"));
  CHECK(content(path + "/model.safetensors") == content(reference.path + "/model.safetensors"));
  CHECK(metrics(path + "/metrics.jsonl") == metrics(reference.path + "/metrics.jsonl"));
  CHECK(events(path) == events(reference.path));
}

}  // namespace

TEST_CASE("trainer: a whole run and its files") {
  const Reference reference;
  const TrainResult& result = reference.result;
  CHECK(result.steps == 20);
  CHECK(result.seconds > 0);
  CHECK(result.peak_rss_mib > 1);
  CHECK(result.units_per_second > 0);
  CHECK_FALSE(result.interrupted);
  CHECK_FALSE(result.save_failed);
  REQUIRE(find(result.best, "val_loss"));
  CHECK(*find(result.best, "val_loss") <= *find(result.last, "val_loss"));
  CHECK(read_file(reference.path + "/samples/step-000005.txt") == "a sample\n");
  CHECK(read_file(reference.path + "/samples/step-000005.png") == std::string("a\0picture", 9));
  const auto lines = metrics(reference.path + "/metrics.jsonl");
  std::vector<int64_t> logged, evaluated;
  for (const json& line : lines) (line.contains("val_loss") ? evaluated : logged).push_back(line["step"]);
  CHECK(logged == std::vector<int64_t>{3, 6, 9, 12, 15, 18, 20});
  CHECK(evaluated == std::vector<int64_t>{5, 10, 15, 20});
  CHECK(lines.front()["lr"].get<double>() == doctest::Approx(0.05 * 3 / 5));
  CHECK(lines.back()["val_loss"] < lines[1]["val_loss"]);
  CHECK(result.train_loss == lines[lines.size() - 2]["loss"]);
  // every figure and sample is among the events
  const auto seen = events(reference.path);
  CHECK(seen.size() == 7 * 3 + 4 + 4);
  CHECK(seen[0] == str("3 train/loss ", static_cast<float>(lines[0]["loss"].get<double>()), " "));
  CHECK(std::count(seen.begin(), seen.end(), "20 sample 0     a sample") == 1);
  // a copy of the model alone can be loaded
  Tiny model;
  State weights = read_safetensors(reference.path + "/model.safetensors");
  model.load(weights);
  CHECK(weights.text("format") == "pt");
}

TEST_CASE("trainer: 20 steps = 10 + SIGTERM + resume + 10, in bits") {
  const Reference reference;
  for (const int64_t n : {9, 10, 0, 19}) {   // steps 10 and 20 are evaluated after the interruption
    CAPTURE(n);
    const test::TempDir folder;
    const std::string path = folder / "run";
    {
      Setup first(twenty_steps(), path);
      first.before_batch(n, [] {
        raise(SIGTERM);
        CHECK(interrupted());
        struct sigaction now;
        sigaction(SIGTERM, nullptr, &now);
        const bool usual = now.sa_handler == SIG_DFL;
        CHECK(usual);   // a second one ends the process
      });
      const TrainResult result = first.run();
      CHECK(result.interrupted);
      CHECK(result.steps == n + 1);
      CHECK_FALSE(result.save_failed);
    }
    Setup second(twenty_steps(), path);
    second.model.initialize(99);
    second.run.resume();
    const TrainResult result = second.run();
    CHECK_FALSE(result.interrupted);
    CHECK(result.steps == 20);
    CHECK(result.best == reference.result.best);
    CHECK(result.last == reference.result.last);
    check_same_run(reference, path);
    // resumed once more, there is nothing left to do
    Setup third(twenty_steps(), path);
    third.run.resume();
    CHECK(third.run().last == reference.result.last);
    check_same_run(reference, path);
  }
}

TEST_CASE("trainer: a crash between checkpoints costs the steps since the last one") {
  const Reference reference;
  const test::TempDir folder;
  const std::string path = folder / "run";
  Setup first(twenty_steps(), path);
  first.before_batch(11, [] { throw std::runtime_error("crash"); });
  CHECK_THROWS_AS(first.run(), std::runtime_error);
  CHECK(metrics(path + "/metrics.jsonl").back()["step"] == 10);
  write_file(path + "/last.safetensors.tmp-123-0", "half");   // what a kill leaves
  Setup second(twenty_steps(), path);
  second.run.resume();
  CHECK_FALSE(fs::exists(path + "/last.safetensors.tmp-123-0"));
  CHECK(second.run().steps == 20);
  check_same_run(reference, path);
}

TEST_CASE("trainer: a run that begins where another was killed before its run.json leaves nothing of it, and touches nothing else") {
  const test::TempDir folder;
  const std::string path = folder / "run";
  std::filesystem::create_directory(path);
  for (const char* name : {"run.json.tmp-123-0", "notes.tmp-old", "mine.tmp-"}) write_file(path + "/" + name, "half");
  Setup(twenty_steps(), path).run();
  CHECK_FALSE(fs::exists(path + "/run.json.tmp-123-0"));
  CHECK(fs::exists(path + "/notes.tmp-old"));
  CHECK(fs::exists(path + "/mine.tmp-"));
}

TEST_CASE("trainer: how often a run is evaluated and saved changes nothing") {
  const Reference reference;
  const test::TempDir folder;
  TrainerOptions options = twenty_steps();
  options.evaluate_every = {};
  options.save_every = {.steps = 1};
  Setup other(options, folder / "run");
  const TrainResult result = other.run();
  CHECK(result.last == reference.result.last);
}

TEST_CASE("trainer: two half batches are one batch") {
  Tiny whole, halves;
  SGD one(whole), two(halves);
  Batches batches;
  const TrainerOptions options{.limits = {.steps = 6}, .schedule = {.decay = Decay::constant, .rate = 0.1}, .clip = 0.5};
  TrainerOptions twice = options;
  twice.accumulate = 2;
  Trainer first(whole, one, options), second(halves, two, twice);
  first.loss = [&] {
    const auto [x, y] = batches.draw();
    return mse(linear(x, whole.w, whole.b), y);
  };
  int64_t calls = 0;
  second.loss = [&] {
    batches.next = calls / 2;
    const auto [x, y] = batches.draw();
    const int64_t begin = calls++ % 2 * batch / 2;
    return mse(linear(x.row_range(begin, begin + batch / 2), halves.w, halves.b), y.row_range(begin, begin + batch / 2));
  };
  const double loss = first().train_loss, same_loss = second().train_loss;
  CHECK(calls == 12);
  CHECK(same_loss == doctest::Approx(loss).epsilon(1e-5));
  for (int64_t i = 0; i < in * out; ++i) CHECK(halves.w.value.data()[i] == doctest::Approx(whole.w.value.data()[i]).epsilon(1e-5));
}

TEST_CASE("trainer: model.safetensors has the weights of the lowest validation loss") {
  const test::TempDir folder;
  TrainerOptions options = twenty_steps();
  options.limits.steps = 15;
  Setup setup(options, folder / "run");
  std::vector<float> weights;
  int call = 0;
  setup.run.evaluate = [&] {
    CHECK_FALSE(setup.model.training());
    CHECK_FALSE(gradients_enabled());
    if (++call == 2) weights.assign(setup.model.w.value.values().begin(), setup.model.w.value.values().end());
    return Values{{"val_loss", call == 1 ? NAN : call == 2 ? 2.0 : 2.5}, {"other", call}};
  };
  const TrainResult result = setup.run();
  CHECK(result.best == Values{{"val_loss", 2.0}, {"other", 2}});
  CHECK(result.last == Values{{"val_loss", 2.5}, {"other", 3}});
  const State saved = read_safetensors(folder / "run/model.safetensors");
  CHECK(std::memcmp(saved.tensors.at("w").data(), weights.data(), weights.size() * sizeof(float)) == 0);
  CHECK(saved.integer("step") == 10);
  CHECK(saved.real("evaluation.val_loss") == 2.0);
  CHECK(setup.model.training());
}

TEST_CASE("trainer: the last weights are the model where nothing is held out") {
  const test::TempDir folder;
  Setup setup(twenty_steps(), folder / "run");
  setup.run.evaluate = nullptr;
  const TrainResult result = setup.run();
  CHECK(result.best.empty());
  const State saved = read_safetensors(folder / "run/model.safetensors");
  CHECK(std::memcmp(saved.tensors.at("w").data(), setup.model.w.value.data(), in * out * sizeof(float)) == 0);
}

TEST_CASE("trainer: a loss that is not finite names the op, and the checkpoint is kept") {
  const test::TempDir folder;
  const std::string path = folder / "run";
  Setup setup(twenty_steps(), path);
  setup.run.loss = [&setup] {
    const int64_t number = setup.batches.next;
    const auto [x, y] = setup.batches.draw();
    const Tensor all = setup.model.loss(x, y);
    return number == 9 ? all * sum(log(all * -1.0f)) : all;   // the log of something negative
  };
  const std::string message = message_of(setup.run);
  CAPTURE(message);
  CHECK(message.find("at step 10") != std::string::npos);
  CHECK(message.find("[log]") != std::string::npos);
  CHECK_FALSE(check_every_op);
  CHECK(setup.optimizer.steps() == 9);
  CHECK(read_safetensors(path + "/last.safetensors").integer("trainer.step") == 8);
}

TEST_CASE("trainer: a gradient that is not finite names the parameter") {
  Tiny model;
  SGD optimizer(model);
  Trainer run(model, optimizer, {.limits = {.steps = 3}});
  run.loss = [&] { return sum(sqrt(model.b.value * 0.0f)) + sum(square(model.w.value)); };   // sqrt has no slope at 0
  const std::string message = message_of(run);
  CAPTURE(message);
  CHECK(message.find("gradient norm") != std::string::npos);
  CHECK(message.find("'b'") != std::string::npos);
}

TEST_CASE("trainer: weights that are not finite are neither saved nor called a result") {
  for (const int64_t last : {3, 20}) {   // ruined by the last step, or before
    const test::TempDir folder;
    const std::string path = folder / "run";
    TrainerOptions options = twenty_steps();
    options.limits.steps = last;
    options.evaluate_every = {.steps = 3};
    options.save_every = {.steps = 2};
    Setup setup(options, path);
    setup.before_batch(2, [&] { setup.model.w.value.mutable_data()[1] = INFINITY; });
    setup.run.loss = [&setup, usual = setup.run.loss] {
      const Tensor unused = usual();
      return sum(square(setup.model.b.value));   // looks at b alone: finite
    };
    const std::string message = message_of(setup.run);
    CAPTURE(message);
    CHECK(message.find("finite weights after step 3") != std::string::npos);
    CHECK(read_safetensors(path + "/last.safetensors").integer("trainer.step") == 2);
  }
}

TEST_CASE("trainer: a full disk while saving warns and goes on") {
  const test::TempDir folder;
  const std::string path = folder / "run";
  Setup setup(twenty_steps(), path);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  setup.before_batch(10, [&] {
    const rlimit small{.rlim_cur = 256, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  });
  const TrainResult result = setup.run();
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  CHECK(result.steps == 20);
  CHECK(result.save_failed);
  CHECK(read_safetensors(path + "/last.safetensors").integer("trainer.step") == 8);   // the old one, whole
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path().filename());
  std::erase(names, fs::path(test::events_file(path)).filename().string());
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"last.safetensors", "metrics.jsonl", "model.safetensors", "samples"});   // no temporary file
  // and the run can go on from there
  Setup second(twenty_steps(), path);
  second.run.resume();
  CHECK_FALSE(second.run().save_failed);
  check_same_run(Reference{}, path);
}

TEST_CASE("trainer: limits in seconds count loading and steps, not evaluation") {
  Setup setup({.limits = {.seconds = 0.04}, .evaluate_every = {.steps = 2}}, "");
  const auto pause = [](int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); };
  setup.run.loss = [&, usual = setup.run.loss] {
    pause(4);
    return usual();
  };
  setup.run.evaluate = [&] {
    pause(20);
    return Values{};
  };
  const TrainResult result = setup.run();
  CHECK(result.seconds >= 0.04);
  CHECK(result.steps >= 3);
  CHECK(result.steps <= 10);
}

TEST_CASE("trainer: run directories") {
  const test::TempDir folder;
  const std::string parent = folder / "runs";
  CHECK(next_run_directory(parent, "lm") == parent + "/lm-001");
  CHECK(next_run_directory(parent, "lm") == parent + "/lm-002");
  CHECK(next_run_directory(parent, "vqvae") == parent + "/vqvae-001");
  claim_run_directory(parent + "/lm-001");   // empty: nobody's
  const Reference reference;
  Setup again(twenty_steps(), reference.path);
  CHECK(message_of(again.run).find("without a run") != std::string::npos);
  CHECK(again.batches.next == 0);
  write_file(folder / "file", "");
  CHECK_THROWS_AS(claim_run_directory(folder / "file"), Error);
  Setup nothing(twenty_steps(), parent + "/lm-002");
  CHECK_THROWS_AS(nothing.run.resume(), Error);
}

TEST_CASE("trainer: impossible options") {
  Tiny model;
  SGD optimizer(model);
  CHECK_THROWS_AS(Trainer(model, optimizer, {.limits = {}}), Error);
  CHECK_THROWS_AS(Trainer(model, optimizer, {.accumulate = 0}), Error);
  CHECK_THROWS_AS(Trainer(model, optimizer, {.clip = -1}), Error);
  CHECK_THROWS_AS(Trainer(model, optimizer, {})(), Error);   // no loss
}
