#include "apps/options.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "apps/run.h"
#include "core/kernels/table.h"
#include "core/parallel.h"
#include "tests/apps/capture.h"
#include "tests/errors.h"

using namespace qd;
using test::has;
using nlohmann::json;
using test::Outcome;

namespace {

// An app with an option of each kind.
struct Sample {
  int64_t count = 3;
  double rate = 0.5, part = 0.25;
  std::string name = "none", kind = "red";
  std::vector<std::string> files;
  Every every = {.steps = 7};
  bool flag = false, ran = false;
  std::string config, resume, kept;
  int status = 0;
  App app{"sample", "An app for tests."};
  Command* command = nullptr;

  Sample() {
    command = &app.command("go", "Go.", [this] {
      ran = true;
      kept = command->run_file();
      return status;
    });
    command->option("--count", count, "N", "how many", from_to(1, 10))
        .option("--rate", rate, "X", "how fast", above(0))
        .option("--part", part, "X", "how much", fraction())
        .option("--name", name, "TEXT", "what it is called")
        .group("Rare", true)
        .choice("--kind", kind, {"red", "green", "blue"}, "which")
        .option("--files", files, "FILE...", "some files")
        .option("--every", every, "how often")
        .flag("--flag", flag, "whether")
        .option("--config", config, "FILE", "options")
        .reads_options()
        .option("--resume", resume, "DIR", "go on")
        .reads_options(true, {"--count"});
    app.command("stay", "Stay.", [] { return 0; });
  }

  Outcome run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "bin/sample");
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    return test::captured([&] { return app.run(static_cast<int>(argv.size()), argv.data()); });
  }
};

Outcome run(const std::vector<std::string>& arguments) { return Sample().run(arguments); }

}  // namespace

TEST_CASE("options: values of every kind") {
  Sample s;
  const Outcome o = s.run({"go", "--count", "10", "--rate=2.5e-3", "--name", "--odd name", "--kind", "blue", "--files", "a", "b",
                           "--flag", "--files", "-", "--every", "1.5s", "--part", "0"});
  CAPTURE(o.err);
  CHECK(o.status == 0);
  CHECK(s.ran);
  CHECK(s.count == 10);
  CHECK(s.rate == 2.5e-3);
  CHECK(s.part == 0);
  CHECK(s.name == "--odd name");
  CHECK(s.kind == "blue");
  CHECK(s.files == std::vector<std::string>{"a", "b", "-"});
  CHECK(s.flag);
  CHECK(s.every.steps == 0);
  CHECK(s.every.seconds == 1.5);
  CHECK(s.command->given("--files"));
  CHECK_FALSE(s.command->given("--config"));
  CHECK(s.command->name() == "sample go");

  Sample defaults;
  CHECK(defaults.run({"go"}).status == 0);
  CHECK(defaults.count == 3);
  CHECK(defaults.every.steps == 7);
  CHECK_FALSE(defaults.command->given("--count"));

  Sample empty;
  CHECK(empty.run({"go", "--name", "", "--every", "0"}).status == 0);
  CHECK(empty.name.empty());
  CHECK((empty.every.steps == 0 && empty.every.seconds == 0));

  Sample other;
  other.status = 5;
  CHECK(other.run({"go"}).status == 5);
}

TEST_CASE("options: every wrong value names the option, what was expected and what was given, and exits with 1") {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"--count"}, "[--count] expected a value, got none"},
      {{"--count", "abc"}, "[--count] expected a whole number from 1 to 10, got 'abc'"},
      {{"--count", "0"}, "from 1 to 10, got '0'"},
      {{"--count", "11"}, "got '11'"},
      {{"--count", "-1"}, "got '-1'"},
      {{"--count", "2.5"}, "got '2.5'"},
      {{"--count", "3x"}, "got '3x'"},
      {{"--count", " 3"}, "got ' 3'"},
      {{"--count", "+3"}, "got '+3'"},
      {{"--count", "0x3"}, "got '0x3'"},
      {{"--count", ""}, "got ''"},
      {{"--count", "99999999999999999999"}, "got '99999999999999999999'"},
      {{"--count", "1", "--count", "2"}, "[--count] expected to be given once"},
      {{"--rate", "0"}, "[--rate] expected a number above 0, got '0'"},
      {{"--rate", "nan"}, "got 'nan'"},
      {{"--rate", "inf"}, "got 'inf'"},
      {{"--rate", "-inf"}, "got '-inf'"},
      {{"--rate", "1e999"}, "got '1e999'"},
      {{"--rate", "1,5"}, "got '1,5'"},
      {{"--rate", "--name"}, "got '--name'"},
      {{"--part", "1"}, "[--part] expected a number of at least 0 and below 1, got '1'"},
      {{"--part", "-0.1"}, "got '-0.1'"},
      {{"--kind", "grey"}, "[--kind] expected red, green or blue, got 'grey'"},
      {{"--kind", "Red"}, "HINT: did you mean red?"},
      {{"--every", "5m"}, "[--every] expected a number of steps"},
      {{"--every", "0s"}, "got '0s'"},
      {{"--every", "-5"}, "got '-5'"},
      {{"--every", "s"}, "got 's'"},
      {{"--every", "nans"}, "got 'nans'"},
      {{"--cuont", "3"}, "[--cuont] expected an option of sample go, got '--cuont'"},
      {{"--cuont=3"}, "HINT: did you mean --count?"},
      {{"--something-else"}, "HINT: bin/sample go --help"},
      {{"-c", "3"}, "'-c'"},
      {{"3"}, "got '3'"},
      {{"--count", "3", "4"}, "got '4'"},
  };
  for (const auto& c : cases) {
    const std::string expected = c.second;
    Sample s;
    std::vector<std::string> all = c.first;
    all.insert(all.begin(), "go");
    const Outcome o = s.run(all);
    CAPTURE(o.err);
    CAPTURE(expected);
    CHECK(o.status == 1);
    CHECK_FALSE(s.ran);
    CHECK(o.says(expected));
    CHECK(o.says("\nHINT: "));
    CHECK(o.out.empty());
  }
}

TEST_CASE("options: commands and help") {
  const Outcome alone = run({});
  CHECK(alone.status == 0);
  CHECK(has(alone.out, "go"));
  CHECK(has(alone.out, "stay"));
  CHECK(run({"--help"}).out == alone.out);
  for (const char* flag : {"--help", "-h"}) {
    const Outcome help = run({"go", flag});
    CHECK(help.status == 0);
    CHECK(has(help.out, "bin/sample go"));
    CHECK(has(help.out, "--count N"));
    CHECK(has(help.out, "[3]"));
    CHECK(has(help.out, "[0.5]"));
    CHECK(has(help.out, "--help-all"));
    CHECK_FALSE(has(help.out, "--kind"));
  }
  const Outcome all = run({"go", "--help-all"});
  CHECK(all.status == 0);
  for (const char* text : {"--count N", "--kind red|green|blue", "which [red]", "--flag", "--every", "[7]"})
    CHECK(has(all.out, text));
  const Outcome unknown = run({"og"});
  CHECK(unknown.status == 1);
  CHECK(unknown.says("[sample] expected go or stay, got 'og'"));
  CHECK(run({"sty"}).says("HINT: did you mean stay?"));
  CHECK(run({"--count", "3"}).status == 1);
  CHECK(run({"--count", "3", "go"}).status == 1);
}

TEST_CASE("options: an app without subcommands, with arguments by position") {
  int64_t n = 1;
  std::vector<std::string> files;
  App app("plain", "An app for tests.");
  app.command("", "", [] { return 0; }).option("FILE", files, "FILE...", "files").option("--n", n, "N", "a number");
  std::string arguments[] = {"bin/plain", "a.txt", "--n", "4", "b.txt"};
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  CHECK(test::captured([&] { return app.run(5, argv.data()); }).status == 0);
  CHECK(n == 4);
  CHECK(files == std::vector<std::string>{"a.txt", "b.txt"});
}

TEST_CASE("options: run.json gives them back") {
  const test::TempDir folder;
  write_file(folder / "a file", "");
  Sample first;
  CHECK(first.run({"go", "--count", "4", "--rate", "0.1", "--files", folder / "a file", "nothing", "--every", "60s", "--flag"})
            .status == 0);
  write_file(folder / "run.json", first.kept);
  const json file = json::parse(first.kept);
  CHECK(file["app"] == "sample go");
  CHECK(file["precision"] == "f32");
  CHECK(file["version"] == program_version);
  CHECK(has(file["command"], "bin/sample go --count 4"));
  CHECK(has(file["command"], str("'", folder / "a file", "'")));
  CHECK(file.contains("instruction_set"));
  CHECK(file["options"]["rate"] == 0.1);
  CHECK(file["options"]["every"] == "60s");
  CHECK_FALSE(file["options"].contains("config"));

  for (const std::string& given : {folder / "run.json", folder / ""}) {
    Sample second;   // the command line wins
    const Outcome o = second.run({"go", "--config", given, "--rate", "0.3"});
    CAPTURE(o.err);
    CHECK(o.status == 0);
    CHECK(second.count == 4);
    CHECK(second.rate == 0.3);
    CHECK(second.flag);
    CHECK(second.every.seconds == 60);
    CHECK(second.files == first.files);
    CHECK(second.command->known("--count"));
    CHECK_FALSE(second.command->given("--count"));
  }

  Sample third;
  CHECK(third.run({"go", "--resume", folder / "", "--count", "9"}).status == 0);
  CHECK(third.count == 9);
  CHECK(third.rate == 0.1);
  const json resumed = json::parse(third.kept);
  CHECK(resumed["command"] == file["command"]);
  CHECK(resumed["resumed"].size() == 1);

  const Outcome frozen = run({"go", "--resume", folder / "", "--rate", "0.1"});
  CHECK(frozen.status == 1);
  CHECK(frozen.says("[--rate]"));
  CHECK(frozen.says("--resume"));
  CHECK(run({"go", "--resume", folder / "", "--config", folder / ""}).says("--config"));
  CHECK(run({"go", "--resume", folder / "missing"}).says("missing"));
}

TEST_CASE("options: a wrong file of options is refused, naming file and key") {
  const test::TempDir folder;
  const std::string path = folder / "run.json";
  const std::pair<const char*, const char*> cases[] = {
      {"", "JSON"},
      {"[]", "options"},
      {R"({"options": 3})", "options"},
      {R"({"app": "other go", "options": {}})", "other go"},
      {R"({"app": 3, "options": {}})", "JSON"},
      {R"({"options": {"cuont": 3}})", "did you mean count?"},
      {R"({"options": {"config": "x"}})", "'config'"},
      {R"({"options": {"count": "x"}})", "--count"},
      {R"({"options": {"count": 11}})", "from 1 to 10"},
      {R"({"options": {"count": null}})", "count"},
      {R"({"options": {"count": [1, 2]}})", "one value"},
      {R"({"options": {"count": []}})", "one value"},
      {R"({"options": {"count": {"a": 1}}})", "count"},
      {R"({"options": {"kind": "grey"}})", "red, green or blue"},
  };
  for (const auto& c : cases) {
    const std::string text = c.first;
    write_file(path, text);
    const Outcome o = run({"go", "--config", path});
    CAPTURE(text);
    CAPTURE(o.err);
    CHECK(o.status == 1);
    CHECK(o.says(path));
    CHECK(o.says(c.second));
    CHECK(o.says("HINT: "));
  }
  CHECK(run({"go", "--config", folder / "none"}).says("none"));
}

TEST_CASE("options: whatever a command throws becomes a message, a hint and status 1") {
  const auto outcome = [](const std::function<int()>& f) {
    App app("sample", "An app for tests.");
    app.command("", "", f);
    std::string name = "bin/sample";
    char* argv[] = {name.data(), nullptr};
    return test::captured([&] { return app.run(1, argv); });
  };
  const Outcome error = outcome([]() -> int { fail("file", "expected this, got that", "try so"); });
  CHECK(error.status == 1);
  CHECK(error.err == "[file] expected this, got that\nHINT: try so\n");
  CHECK(outcome([]() -> int { fail("file", "expected this"); }).says("HINT: bin/sample --help"));
  CHECK(outcome([]() -> int { throw std::bad_alloc(); }).says("memory"));
  CHECK(outcome([]() -> int { throw std::runtime_error("odd"); }).says("[sample] odd"));
  const Outcome full = outcome([]() -> int {
    const int device = open("/dev/full", O_WRONLY);
    dup2(device, 1);
    close(device);
    print("lost");
    return 0;
  });
  CHECK(full.status == 1);
  CHECK(full.says("[standard output]"));
  std::clearerr(stdout);
}

TEST_CASE("options: results as JSON") {
  const Outcome o = test::captured([] {
    print_json({{"steps", int64_t{7}}, {"loss", 0.5}, {"bad", std::nan("")}, {"run", std::string("a\xff\"b")}});
    return 0;
  });
  CHECK(o.out == "{\"steps\":7,\"loss\":0.5,\"bad\":null,\"run\":\"a\uFFFD\\\"b\"}\n");
}

TEST_CASE("options: the nearest word") {
  const std::vector<std::string> words = {"--steps", "--seed", "--save-every"};
  CHECK(nearest("--step", words) == "--steps");
  CHECK(nearest("--stpes", words) == "--steps");
  CHECK(nearest("--saveevery", words) == "--save-every");
  CHECK(nearest("--seeed", words) == "--seed");
  CHECK(nearest("--completely-different", words).empty());
  CHECK(nearest("", words).empty());
  CHECK(nearest("a", {}).empty());
}

TEST_CASE("options: what all trainers share") {
  const int before = threads();
  const auto settled = [](std::vector<std::string> arguments, TrainFlags& flags) {
    App app("sample", "An app for tests.");
    Command* command = nullptr;
    command = &app.command("", "", [&] {
      flags.settle(*command);
      return 0;
    });
    flags.describe(*command);
    arguments.insert(arguments.begin(), "bin/sample");
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    return test::captured([&] { return app.run(static_cast<int>(argv.size()), argv.data()); });
  };
  TrainFlags time;
  CHECK(settled({"--max-seconds", "5"}, time).status == 0);
  CHECK(time.steps == 0);   // alone, it lifts the limit
  CHECK(time.trainer().limits.seconds == 5);
  TrainFlags both;
  CHECK(settled({"--max-seconds", "5", "--steps", "9", "--lr", "0.5", "--schedule", "linear", "--threads", "1"}, both).status ==
        0);
  CHECK(both.trainer().limits.steps == 9);
  CHECK(both.trainer().schedule.decay == Decay::linear);
  CHECK(both.trainer().schedule.minimum == doctest::Approx(0.05));
  CHECK(threads() == 1);
  set_threads(before);
  TrainFlags endless, rising, val, half;
  CHECK(settled({"--steps", "0"}, endless).says("--max-seconds"));
  CHECK(settled({"--lr", "0.1", "--min-lr", "0.2"}, rising).says("--min-lr"));
  CHECK(settled({"--val", "a", "--val-fraction", "0.2"}, val).says("--val-fraction"));
  const Outcome bf16 = settled({"--precision", "bf16"}, half);
  CHECK(bf16.status == 0);
  CHECK(precision() == Precision::bf16);
  CHECK(bf16.says("f32") == (bf16_products() == nullptr));   // said where it cannot be had
  set_precision(Precision::f32);
}

TEST_CASE("options: --trace is written however the command ends; a bad path is an error before it begins") {
  const test::TempDir folder;
  const std::string path = folder / "trace.json";
  Sample good;
  Outcome o = good.run({"go", "--trace", path});
  CHECK(o.status == 0);
  CHECK(json::parse(read_file(path)).contains("traceEvents"));
  CHECK_FALSE(json::parse(good.kept)["options"].contains("trace"));

  App failing("failing", "An app that fails.");
  failing.command("", "", []() -> int { fail("work", "expected it to succeed"); });
  const std::string other = folder / "other.json";
  std::string arguments[] = {"bin/failing", "--trace", other};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data()};
  o = test::captured([&] { return failing.run(3, argv); });
  CHECK(o.status == 1);
  CHECK(o.says("[work] expected it to succeed"));
  CHECK(json::parse(read_file(other)).contains("traceEvents"));

  Sample bad;
  o = bad.run({"go", "--trace", folder / "none/trace.json"});
  CHECK(o.status == 1);
  CHECK_FALSE(bad.ran);
  CHECK(o.says("none/trace.json] expected to"));
}

TEST_CASE("options: QD_PROFILE=1 prints where the time went at the end, QD_PROFILE=0 nothing") {
  setenv("QD_PROFILE", "1", 1);
  Outcome o = run({"go"});
  CHECK(o.status == 0);
  CHECK(o.says("outside of ops"));
  CHECK(o.out.empty());
  setenv("QD_PROFILE", "0", 1);
  o = run({"go"});
  CHECK_FALSE(o.says("outside of ops"));
  unsetenv("QD_PROFILE");
}
