// bin/lm as its users meet it: a process with files, signals and an exit status. Tiny corpora and models.
#include <doctest/doctest.h>

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/safetensors.h"
#include "core/utf8.h"
#include "data/generated.h"
#include "tests/apps/run_app.h"
#include "tests/errors.h"
#include "tests/run_files.h"

using namespace qd;
using nlohmann::json;
using test::Arguments;
using test::check_same_run;
using test::has;
using test::Outcome;
using test::Process;
namespace fs = std::filesystem;

namespace {

bool is_built() { return test::is_built("lm"); }

Arguments joined(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A folder with a text, in which bin/lm runs.
struct Place : test::Workplace {
  Place() { write_file(folder / "text.txt", generated_text(6000)); }

  Arguments command(const Arguments& arguments) const { return joined({test::program("lm")}, arguments); }
  Outcome run(const Arguments& arguments, const std::string& input = "") const {
    return Process(command(arguments), folder / "", input).wait();
  }
  // Training of a tiny model into the folder `out`; `more` overrides.
  Arguments training(const std::string& out, const Arguments& more = {}) const {
    Arguments all = {"train", "--out", out};
    const std::pair<const char*, const char*> tiny[] = {{"--data", "text.txt"}, {"--layers", "1"},      {"--heads", "2"},
                                                        {"--width", "16"},      {"--context", "8"},     {"--batch", "4"},
                                                        {"--steps", "20"},      {"--sample", "9"},      {"--warmup", "2"},
                                                        {"--dropout", "0.1"},   {"--eval-every", "10"}, {"--threads", "1"}};
    for (const auto& [name, value] : tiny)
      if (std::find(more.begin(), more.end(), name) == more.end()) all = joined(all, {name, value});
    return joined(all, more);
  }
};

json result_of(const Outcome& o) {
  CAPTURE(o.err);
  REQUIRE(o.status == 0);
  return json::parse(o.last_line());
}

std::map<std::string, std::string> files_in(const std::string& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) all[entry.path().string()] = read_file(entry.path().string());
  return all;
}

}  // namespace

TEST_CASE("lm: a run, its figures and its directory") {
  if (!is_built()) return;
  const Place at;
  const Outcome o = at.run(at.training("run", {"--json"}));
  const json result = result_of(o);
  CHECK(o.out == o.last_line() + "\n");
  for (const char* key : {"steps", "seconds", "peak_rss_mib", "train_loss", "tokens_per_second", "val_loss", "bits_per_byte"})
    CHECK(result.at(key).get<double>() > 0);
  CHECK(result["steps"] == 20);
  CHECK(result["run"] == "run");
  for (const char* file : {"config.json", "run.json", "log.txt", "qiudao_tokenizer.json", "model.safetensors", "last.safetensors",
                           "metrics.jsonl", "report.html", "samples/step-000010.txt", "samples/step-000020.txt"})
    CHECK(fs::exists(at / ("run/" + std::string(file))));
  const std::string log = read_file(at / "run/log.txt");
  CHECK(has(log, "before training"));
  CHECK(has(log, "val_loss"));
  CHECK(has(log, "done: 20 steps"));
  const json options = json::parse(read_file(at / "run/run.json"))["options"];
  CHECK(options["layers"] == 1);
  CHECK(options["data"][0] == fs::canonical(at / "text.txt").string());

  // eval of the held-out part alone says the same as the training did
  const std::string text = read_file(at / "text.txt");
  write_file(at / "held-out.txt", text.substr(static_cast<size_t>(static_cast<double>(text.size()) * 0.9)));
  const json held_out = result_of(at.run({"eval", "--model", "run", "--data", "held-out.txt", "--json"}));
  CHECK(held_out["loss"].get<double>() == doctest::Approx(result["val_loss"].get<double>()).epsilon(1e-6));
  CHECK(held_out["bits_per_byte"].get<double>() == doctest::Approx(result["bits_per_byte"].get<double>()).epsilon(1e-6));
  CHECK(held_out["perplexity"].get<double>() == doctest::Approx(std::exp(held_out["loss"].get<double>())));
  const auto bytes = static_cast<int64_t>(fs::file_size(at / "held-out.txt"));
  CHECK(held_out["tokens"] == bytes - 1);   // ASCII: a token is a byte, and the first is no target
  CHECK(held_out["bits_per_byte"].get<double>() == doctest::Approx(held_out["loss"].get<double>() / std::log(2.0)));
  CHECK(at.run({"eval", "--model", "run", "--data", "-"}, text).status == 0);
  CHECK(result_of(at.run({"eval", "--model", "run", "--data", "text.txt", "--context", "3", "--json"}))["loss"].get<double>() >
        0);

  // samples
  const Arguments sample = {"sample", "--model", "run", "--tokens", "30"};
  const Outcome one = at.run(sample), again = at.run(sample), other = at.run(joined(sample, {"--seed", "2"}));
  CHECK(one.status == 0);
  CHECK(one.out == again.out);
  CHECK(one.out != other.out);
  CHECK(one.out.back() == '\n');
  CHECK(count_invalid_utf8(one.out) == 0);
  CHECK(at.run(joined(sample, {"--prompt", "the"})).out == at.run(joined(sample, {"--prompt", "-"}), "the").out);
  CHECK(at.run(joined(sample, {"--temperature", "0"})).out == at.run(joined(sample, {"--top-k", "1"})).out);
  const json rate = result_of(at.run(joined(sample, {"--json"})));
  CHECK(rate["tokens_per_second"].get<double>() > 0);
}

TEST_CASE("lm: without arguments it trains on a generated text, in the next free directory") {
  if (!is_built()) return;
  const Place at;
  for (const char* run : {"runs/lm-001", "runs/lm-002"}) {
    const json result =
        result_of(at.run({"train", "--steps", "2", "--sample", "0", "--layers", "1", "--width", "32", "--batch", "2", "--json"}));
    CHECK(result["run"] == run);
    CHECK(result["val_loss"].get<double>() < 8);
    CHECK(fs::exists(at / (std::string(run) + "/model.safetensors")));
  }
  // the default sizes, and less to evaluate on
  CHECK(result_of(at.run({"train", "--steps", "2", "--sample", "4", "--val-fraction", "0.005", "--json"}))["steps"] == 2);
  const Outcome help = at.run({});
  CHECK(help.status == 0);
  CHECK(has(help.out, "train"));
}

TEST_CASE("lm: 20 steps = 12 + 8 in bits, and two threads are one") {
  if (!is_built()) return;
  const Place at;
  CHECK(at.run(at.training("whole")).status == 0);
  CHECK(at.run(at.training("two", {"--save-every", "5"})).status == 0);
  check_same_run(at / "whole", at / "two");

  // The checkpoint of step 12 comes from a run that is killed afterwards; nothing may be lost.
  Process killed(at.command(at.training("parts", {"--save-every", "12", "--max-seconds", "500"})), at / "");
  test::until_written(killed, at / "parts/last.safetensors");
  killed.send(SIGKILL);
  killed.wait();
  const Outcome rest = at.run({"train", "--resume", "parts", "--threads", "2"});
  CAPTURE(rest.err);
  CHECK(rest.status == 0);
  check_same_run(at / "whole", at / "parts");
  CHECK(at.run({"train", "--resume", at / "parts"}).status == 0);   // nothing left to do
  check_same_run(at / "whole", at / "parts");

  // From elsewhere, and further than planned
  Process elsewhere(at.command({"train", "--resume", at / "parts", "--steps", "23", "--json"}), "/");
  CHECK(json::parse(elsewhere.wait().last_line())["steps"] == 23);
  const json file = json::parse(read_file(at / "parts/run.json"));
  CHECK(file["options"]["steps"] == 23);
  CHECK(has(file["command"], "--save-every 12"));
  CHECK(file["resumed"].size() == 3);

  const Outcome copied = at.run({"train", "--config", "whole/run.json", "--out", "copy"});
  CAPTURE(copied.err);
  CHECK(copied.status == 0);
  check_same_run(at / "whole", at / "copy");
}

TEST_CASE("lm: signals save and leave, and the run goes on") {
  if (!is_built()) return;
  const Place at;
  for (const int signal : {SIGTERM, SIGINT}) {
    const std::string run = signal == SIGTERM ? "term" : "int";
    Process process(at.command(at.training(run, {"--steps", "100000000", "--eval-every", "0", "--json", "--trace", run + ".json"})), at / "");
    test::until_written(process, at / (run + "/metrics.jsonl"));
    process.send(signal);
    const Outcome o = process.wait();
    CAPTURE(o.err);
    CHECK(o.status == 130);
    CHECK(o.says("--resume " + run));
    CHECK_FALSE(json::parse(read_file(at / (run + ".json")))["traceEvents"].empty());
    const int64_t steps = json::parse(o.last_line())["steps"];
    CHECK(steps >= 1);
    CHECK(read_safetensors(at / (run + "/last.safetensors")).integer("trainer.step") == steps);
    const Outcome rest = at.run({"train", "--resume", run, "--steps", std::to_string(steps + 3), "--json"});
    CHECK(result_of(rest)["steps"] == steps + 3);
  }
}

TEST_CASE("lm: text that is not UTF-8 is taken as bytes, which is said once") {
  if (!is_built()) return;
  const Place at;
  write_file(at / "text.txt", generated_text(3000) + "\xff\xfe caf\xe9 " + generated_text(3000));
  const Outcome o = at.run(at.training("run"));
  CHECK(o.status == 0);
  const size_t said = o.err.find("3 bytes of the text are not UTF-8");
  CHECK(said != std::string::npos);
  CHECK(o.err.find("not UTF-8", said + 40) == std::string::npos);
  CHECK(at.run(at.training("bytes", {"--tokenizer", "byte"})).status == 0);
  CHECK(at.run(at.training("same", {"--tokenizer", "run"})).status == 0);   // the tokenizer of another run
  CHECK(read_file(at / "same/qiudao_tokenizer.json") == read_file(at / "run/qiudao_tokenizer.json"));
}

TEST_CASE("lm: what is held out") {
  if (!is_built()) return;
  const Place at;
  const json none = result_of(at.run(at.training("none", {"--val-fraction", "0", "--json"})));
  CHECK(none["val_loss"].is_null());
  write_file(at / "val.txt", generated_text(900));
  const json other = result_of(at.run(at.training("other", {"--val", "val.txt", "--json"})));
  const json same = result_of(at.run({"eval", "--model", "other", "--data", "val.txt", "--json"}));
  CHECK(same["loss"].get<double>() == doctest::Approx(other["val_loss"].get<double>()).epsilon(1e-6));
}

TEST_CASE("lm: every kind of model trains, is saved and read") {
  if (!is_built()) return;
  const Place at;
  const Arguments kinds[] = {
      {"--positions", "rope", "--rotary", "0.5", "--norm-kind", "rms", "--activation", "swiglu", "--kv-heads", "1"},
      {"--positions", "alibi", "--norm", "post", "--activation", "relu", "--optimizer", "lamb"},
      {"--positions", "t5", "--norm", "deepnorm", "--activation", "gelu-erf", "--recompute", "1"},
      {"--positions", "none", "--hidden", "24", "--optimizer", "sgd", "--lr", "0.1", "--schedule", "constant"},
      {"--positions", "sinusoidal", "--accumulate", "2", "--schedule", "inverse-sqrt", "--clip", "0"}};
  int number = 0;
  for (const Arguments& kind : kinds) {
    const std::string run = "run" + std::to_string(number++);
    const json trained = result_of(at.run(at.training(run, joined(kind, {"--json", "--dropout", "0", "--steps", "8"}))));
    CAPTURE(kind[1]);
    const json read = result_of(at.run({"eval", "--model", run, "--data", "text.txt", "--json"}));
    CHECK(std::abs(read["loss"].get<double>() - trained["val_loss"].get<double>()) < 0.3);
    CHECK(at.run({"sample", "--model", run, "--tokens", "12"}).status == 0);
  }
  CHECK(at.run({"eval", "--model", "run1", "--data", "text.txt", "--context", "50"}).status ==
        0);   // alibi goes beyond its training
}

TEST_CASE("lm: wrong input is an error with a hint and status 1, and loses nothing") {
  if (!is_built()) return;
  const Place at;
  REQUIRE(at.run(at.training("run")).status == 0);
  write_file(at / "empty.txt", "");
  write_file(at / "short.txt", "abc");
  fs::create_directory(at / "folder");
  const auto spoilt = [&](const std::string& name, const std::string& file, const std::string& content) {
    fs::copy(at / "run", at / name, fs::copy_options::recursive);
    write_file(at / (name + "/" + file), content);
  };
  const std::string weights = read_file(at / "run/model.safetensors"), last = read_file(at / "run/last.safetensors");
  spoilt("cut", "model.safetensors", weights.substr(0, weights.size() / 2));
  spoilt("no-weights", "model.safetensors", "");
  spoilt("huge", "model.safetensors", std::string(8, '\x7f') + weights.substr(8));
  spoilt("other-size", "config.json", [&] {
    json c = json::parse(read_file(at / "run/config.json"));
    c["n_inner"] = 65;
    return c.dump();
  }());
  spoilt("absurd", "config.json", [&] {
    json c = json::parse(read_file(at / "run/config.json"));
    c["n_embd"] = 1 << 24;
    return c.dump();
  }());
  spoilt("not-json", "config.json", "{");
  spoilt("other-tokens", "qiudao_tokenizer.json", R"({"format":"qiudao tokenizer","version":1,"kind":"char","characters":"é"})");
  spoilt("cut-last", "last.safetensors", last.substr(0, last.size() - 5));
  spoilt("bad-options", "run.json", R"({"options": {"heads": 3}})");
  fs::copy(at / "run", at / "no-last", fs::copy_options::recursive);
  fs::remove(at / "no-last/last.safetensors");
  const auto before = files_in(at / "");

  const std::pair<Arguments, Arguments> cases[] = {
      {{"train", "--data", "missing.txt"}, {"missing.txt"}},
      {{"train", "--data", "empty.txt"}, {"empty.txt", "empty"}},
      {{"train", "--data", "folder"}, {"folder"}},
      {{"train", "--data", "short.txt", "--context", "8"}, {"context"}},
      {{"train", "--data", "short.txt", "--context", "1"}, {"--val-fraction"}},
      {{"train", "--data", "text.txt", "--val", "short.txt", "--val-fraction", "0.5"}, {"--val"}},
      {{"train", "--stpes", "5"}, {"--stpes", "did you mean --steps?"}},
      {{"train", "--heads", "3"}, {"--heads", "--width 128"}},
      {{"train", "--heads", "3", "--data", "missing.txt"}, {"--heads"}},
      {{"train", "--width", "16000000"}, {"--width", "GiB"}},
      {{"train", "--positions", "rope", "--width", "4"}, {"--rotary"}},
      {{"train", "--tokenizer", "bpe:100"}, {"bpe:100", "257"}},
      {{"train", "--tokenizer", "wordpiece"}, {"wordpiece", "bpe"}},
      {{"train", "--tokenizer", "folder"}, {"folder"}},
      {{"train", "--lr", "nan"}, {"--lr", "nan"}},
      {{"train", "--batch", "0"}, {"--batch"}},
      {at.training("run"), {"run", "last.safetensors"}},
      {at.training("text.txt"), {"text.txt"}},
      {{"train", "--resume", "missing"}, {"missing"}},
      {{"train", "--resume", "folder"}, {"folder"}},
      {{"train", "--resume", "no-last"}, {"last.safetensors"}},
      {{"train", "--resume", "cut-last", "--steps", "30"}, {"last.safetensors"}},
      {{"train", "--resume", "bad-options"}, {"--heads"}},
      {{"train", "--resume", "run", "--width", "32"}, {"--width", "--resume"}},
      {{"train", "--resume", "run", "--out", "elsewhere"}, {"--out"}},
      {{"eval", "--data", "text.txt"}, {"--model"}},
      {{"eval", "--model", "run"}, {"--data"}},
      {{"eval", "--model", "run", "--data", "missing.txt"}, {"missing.txt"}},
      {{"eval", "--model", "run", "--data", "empty.txt"}, {"empty.txt"}},
      {{"eval", "--model", "run", "--data", "text.txt", "--context", "9"}, {"--context", "8"}},
      {{"eval", "--model", "folder", "--data", "text.txt"}, {"folder", "config.json"}},
      {{"eval", "--model", "cut", "--data", "text.txt"}, {"model.safetensors"}},
      {{"eval", "--model", "no-weights", "--data", "text.txt"}, {"model.safetensors"}},
      {{"eval", "--model", "huge", "--data", "text.txt"}, {"model.safetensors"}},
      {{"eval", "--model", "other-size", "--data", "text.txt"}, {"h.0.mlp.c_fc.weight"}},
      {{"eval", "--model", "absurd", "--data", "text.txt"}, {"model.safetensors", "too small"}},
      {{"eval", "--model", "not-json", "--data", "text.txt"}, {"config.json"}},
      {{"sample", "--model", "other-tokens"}, {"tokenizer", "257"}},
      {{"sample", "--model", "missing"}, {"missing"}},
      {{"sample", "--model", "run", "--prompt", ""}, {"--prompt"}},
      {{"sample", "--model", "run", "--top-p", "0"}, {"--top-p"}},
      {{"sample", "--model", "run", "--temperature", "-1"}, {"--temperature"}},
      {{"sample", "--model", "run", "--tokens", "many"}, {"--tokens", "many"}},
      {{"smaple"}, {"smaple", "did you mean sample?"}},
  };
  for (const auto& wrong : cases) {
    const auto& arguments = wrong.first;
    const Outcome o = at.run(arguments);
    CAPTURE(arguments);
    CAPTURE(o.err);
    CHECK(o.status == 1);
    CHECK(o.says("["));
    CHECK(o.says("HINT: "));
    for (const std::string& text : wrong.second) CHECK(o.says(text));
  }
  auto after = files_in(at / "");
  for (const auto& file : before) {
    if (!file.first.ends_with("log.txt")) CHECK_MESSAGE(after[file.first] == file.second, file.first);
    after.erase(file.first);
  }
  for (const auto& file : after) CHECK_MESSAGE(has(file.first, "log.txt"), file.first);   // nothing else came into being
}

TEST_CASE("lm: a loss that becomes NaN stops the run and keeps its checkpoint") {
  if (!is_built()) return;
  const Place at;
  const Outcome o = at.run(at.training(
      "run", {"--lr", "1e30", "--clip", "0", "--save-every", "1", "--schedule", "constant", "--steps", "50", "--warmup", "0"}));
  CAPTURE(o.err);
  CHECK(o.status == 1);
  CHECK(o.says("finite"));
  CHECK(o.says("HINT: "));
  CHECK(read_safetensors(at / "run/last.safetensors").integer("trainer.step") >= 1);
  CHECK(has(read_file(at / "run/log.txt"), "finite"));
}

TEST_CASE("lm: a full disk while saving is a warning, and status 1 at the end") {
  if (!is_built()) return;
  const Place at;
  const auto with_limit = [&](const std::string& bytes, const Arguments& arguments) {   // files may not grow beyond it
    std::string line = "trap '' XFSZ; ulimit -f " + bytes + "; exec";
    for (const std::string& a : at.command(arguments)) line += " '" + a + "'";
    return Process({"/bin/sh", "-c", line}, at / "").wait();
  };
  const Outcome o =
      with_limit("60", at.training("run", {"--width", "32", "--save-every", "5"}));   // 30 KB: room for the text, not for a model
  CAPTURE(o.err);
  CHECK(o.status == 1);
  CHECK(o.says("warning: "));
  CHECK(o.says("last.safetensors"));
  CHECK(fs::exists(at / "run/config.json"));
  CHECK_FALSE(fs::exists(at / "run/last.safetensors"));
  for (const auto& file : files_in(at / "run")) {   // nothing half written is left
    const std::string name = fs::path(file.first).filename().string();
    CHECK_MESSAGE((name.ends_with(".json") || name.ends_with(".jsonl") || name.ends_with(".txt") || name.ends_with(".html") || name.starts_with("events.")), name);
  }
  const Outcome full = Process({"/bin/sh", "-c", str("'", test::program("lm"), "' --help > /dev/full")}, at / "").wait();
  CHECK(full.status == 1);
  CHECK(full.says("standard output"));
}
