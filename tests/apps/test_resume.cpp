// A run of bin/lm with pairs of bytes, dropout and accumulation that is killed again and again ends as the one that nobody touched.
#include <doctest/doctest.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "data/generated.h"
#include "tests/apps/run_app.h"
#include "tests/errors.h"
#include "tests/run_files.h"

using namespace qd;
using test::Arguments;
using test::has;
using test::Outcome;
using test::Process;
namespace fs = std::filesystem;

namespace {

struct Place : test::Workplace {
  Place() { write_file(folder / "text.txt", generated_text(6000)); }

  static Arguments begin(const std::string& out) {
    return {test::program("lm"), "train",     "--out",      out,  "--data",    "text.txt", "--tokenizer",  "bpe:300", "--layers",     "2",  "--heads",   "2",
            "--width",           "16",        "--context",  "16", "--batch",   "2",        "--accumulate", "3",       "--dropout",    "0.2", "--steps",   "60",
            "--eval-every",      "15",        "--save-every", "4", "--sample", "9",        "--warmup",     "2",       "--threads",    "1"};
  }
  static Arguments go_on(const std::string& run) { return {test::program("lm"), "train", "--resume", run}; }
};

using Seconds = std::chrono::duration<double>;

}  // namespace

TEST_CASE("lm: killed at twenty random moments, a run ends as if nothing had happened" * doctest::test_suite("slow")) {
  if (!test::is_built("lm")) return;
  const Place at;
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(Process(Place::begin("whole"), at / "").wait().status == 0);
  const Seconds whole = std::chrono::steady_clock::now() - start;

  const auto seed = std::random_device()();
  INFO("seed " << seed);   // of the moments; which steps they meet depends on the machine
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> moment(0, whole.count());
  int kills = 0, runs = 0;
  while (kills < 20) {
    const std::string run = str("run", ++runs);
    bool begun = false;
    for (int tries = 0;; ++tries) {
      REQUIRE(tries < 200);
      Process process(begun ? Place::go_on(run) : Place::begin(run), at / "");
      std::this_thread::sleep_for(Seconds(moment(random)));
      const bool killed = process.running();
      if (killed) process.send(SIGKILL);
      const Outcome o = process.wait();
      begun = fs::exists(at / (run + "/run.json"));
      if (o.status == 0) break;
      CAPTURE(o.err);
      REQUIRE(o.status == -SIGKILL);
      ++kills;
    }
    test::check_same_run(at / "whole", at / run);
    const std::string page = read_file(at / (run + "/report.html"));
    CHECK(has(page, "step 60"));
    for (const auto& entry : fs::recursive_directory_iterator(at / run)) CHECK_FALSE(has(entry.path().filename().string(), ".tmp-"));
  }
}

TEST_CASE("lm: a run that was killed before its first checkpoint begins again, one without run.json says how") {
  if (!test::is_built("lm")) return;
  const Place at;
  REQUIRE(Process(Place::begin("whole"), at / "").wait().status == 0);
  fs::copy(at / "whole", at / "killed", fs::copy_options::recursive);
  fs::remove(at / "killed/last.safetensors");
  const Outcome with_model = Process(Place::go_on("killed"), at / "").wait();
  CHECK(with_model.status == 1);
  CHECK(with_model.says("last.safetensors"));
  CHECK(with_model.says("HINT: "));
  fs::remove(at / "killed/model.safetensors");
  const Outcome again = Process(Place::go_on("killed"), at / "").wait();   // with the metrics and events of its first life
  CAPTURE(again.err);
  CHECK(again.status == 0);
  CHECK(again.says("begins again"));
  test::check_same_run(at / "whole", at / "killed");
  const Outcome nothing = Process(Place::go_on("killed"), at / "").wait();
  CHECK(nothing.status == 0);
  CHECK(nothing.says("the run is complete: 60 steps"));
  test::check_same_run(at / "whole", at / "killed");

  fs::create_directory(at / "early");
  fs::copy(at / "whole/config.json", at / "early/config.json");
  const Outcome early = Process(Place::go_on("early"), at / "").wait();
  CHECK(early.status == 1);
  CHECK(early.says("--out"));
  CHECK(Process(Place::begin("early"), at / "").wait().status == 0);
  test::check_same_run(at / "whole", at / "early");
}

TEST_CASE("lm: SIGTERM with pairs of bytes, dropout and accumulation") {
  if (!test::is_built("lm")) return;
  const Place at;
  REQUIRE(Process(Place::begin("whole"), at / "").wait().status == 0);
  Process process(Place::begin("run"), at / "");
  std::error_code missing;
  while (process.running() && !fs::exists(at / "run/last.safetensors", missing)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  process.send(SIGTERM);
  const Outcome o = process.wait();
  CAPTURE(o.err);
  if (o.status == 0) MESSAGE("the run was over before the signal came");   // on a machine that is busy
  CHECK((o.status == 0 || (o.status == 130 && o.says("--resume run"))));
  CHECK(Process(Place::go_on("run"), at / "").wait().status == 0);
  test::check_same_run(at / "whole", at / "run");
}
