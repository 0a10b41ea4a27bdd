// bin/lm with directories of Hugging Face: eval, sample, train --init, export.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "core/safetensors.h"
#include "data/generated.h"
#include "tests/apps/run_app.h"
#include "tests/golden.h"

using namespace qd;
using nlohmann::json;
using test::Arguments;
using test::golden_path;
using test::Outcome;
using test::Workplace;
namespace fs = std::filesystem;

namespace {

Arguments joined(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// With a text and "base", a directory of Hugging Face with a tokenizer beside it.
struct Place : Workplace {
  Place() {
    write_file(*this / "text.txt", generated_text(3000));
    fs::copy(golden_path("gpt2/today"), *this / "base");
    write_file(*this / "base/qiudao_tokenizer.json", R"({"format": "qiudao tokenizer", "version": 1, "kind": "byte"})");
  }
  Arguments tuning(const std::string& out, const Arguments& more, const std::string& steps = "4") const {
    return joined({"lm", "train", "--data", "text.txt", "--batch", "2", "--steps", steps, "--sample", "5", "--warmup", "1", "--threads", "1", "--out", out},
                  more);
  }
};

std::map<std::string, std::string> tensors_in(const std::string& file) {
  std::map<std::string, std::string> all;
  for (const auto& [name, x] : read_safetensors(file).tensors)
    all[name] = x.shape().str() + std::string(reinterpret_cast<const char*>(x.data()), static_cast<size_t>(x.size()) * 4);
  return all;
}

json file_of(const std::string& path) { return json::parse(read_file(path)); }

}  // namespace

TEST_CASE("lm directories: eval gives PyTorch's loss, sample writes") {
  if (!test::is_built("lm")) return;
  const Workplace at;
  const json losses = file_of(golden_path("gpt2/loss.json"));
  for (const char* name : {"today", "sharded", "f16"}) {   // all of them in test_gpt_files.cpp
    CAPTURE(name);
    const json result = at.json({"lm", "eval", "--model", golden_path(std::string("gpt2/") + name), "--tokenizer", "byte", "--data", golden_path("gpt2/text.txt")});
    CHECK(std::abs(result["loss"].get<double>() - losses[name].get<double>()) < 1e-5);
  }
  const Outcome sample = at.run({"lm", "sample", "--model", golden_path("gpt2/bf16"), "--tokenizer", "byte", "--tokens", "5"});
  CHECK(sample.status == 0);
  CHECK_FALSE(sample.out.empty());
}

TEST_CASE("lm directories: training that starts from a model") {
  if (!test::is_built("lm")) return;
  const Place at;
  const json whole = at.json(at.tuning("whole", {"--init", "base", "--lr", "1e-3"}, "8"));
  CHECK(whole["steps"] == 8);
  const json options = file_of(at / "whole/run.json")["options"];
  CHECK(options["init"] == fs::canonical(at / "base").string());
  CHECK(options["layers"] == 2);
  CHECK(options["width"] == 8);
  CHECK(options["context"] == 24);
  CHECK(options["dropout"] == 0.1);   // resid_pdrop
  const json config = file_of(at / "whole/config.json");
  CHECK(config["n_layer"] == 2);
  CHECK(config["n_positions"] == 24);

  // no step: the weights are those of the directory
  const json none = at.json(at.tuning("none", {"--init", "base", "--lr", "1e-30", "--min-lr", "0", "--weight-decay", "0"}, "1"));
  auto base = tensors_in(at / "base/model.safetensors"), kept = tensors_in(at / "none/model.safetensors");
  REQUIRE(base.size() == kept.size());
  for (const auto& [name, bytes] : kept) CHECK_MESSAGE(base["transformer." + name] == bytes, name);
  const json before = at.json({"lm", "eval", "--model", "base", "--data", "text.txt"});
  CHECK(at.json({"lm", "eval", "--model", "none", "--data", "text.txt"})["loss"] == before["loss"]);
  CHECK(at.json({"lm", "eval", "--model", "whole", "--data", "text.txt"})["loss"].get<double>() < before["loss"].get<double>());

  // the options of a run give the same run
  const Outcome copied = at.run({"lm", "train", "--config", "whole", "--out", "copy"});
  CAPTURE(copied.err);
  REQUIRE(copied.status == 0);
  CHECK(tensors_in(at / "copy/last.safetensors") == tensors_in(at / "whole/last.safetensors"));
}

TEST_CASE("lm directories: 8 steps from a model = 5 + 3 in bits, the model being gone, with a shorter window") {
  if (!test::is_built("lm")) return;
  const Place at;
  const Arguments options = {"--init", "base", "--context", "10", "--dropout", "0.2", "--accumulate", "2", "--schedule", "constant"};
  REQUIRE(at.run(at.tuning("whole", options, "8")).status == 0);
  REQUIRE(at.run(at.tuning("parts", options, "5")).status == 0);
  fs::remove_all(at / "base");
  REQUIRE(at.run({"lm", "train", "--resume", "parts", "--steps", "8"}).status == 0);
  CHECK(tensors_in(at / "parts/last.safetensors") == tensors_in(at / "whole/last.safetensors"));
  const json config = file_of(at / "parts/config.json");
  CHECK(config["n_positions"] == 24);   // all that were learned stay
  CHECK(config["resid_pdrop"] == 0.2);
  CHECK(file_of(at / "parts/run.json")["options"]["context"] == 10);
}

TEST_CASE("lm directories: export is read back in bits, by whoever reads Hugging Face's files") {
  if (!test::is_built("lm")) return;
  const Place at;
  const Outcome o = at.run({"lm", "export", "--model", "base", "--out", "new/there"});
  CAPTURE(o.err);
  REQUIRE(o.status == 0);
  CHECK(o.says("qiudao_tokenizer.json"));
  CHECK(tensors_in(at / "base/model.safetensors") == tensors_in(at / "new/there/model.safetensors"));
  const json config = file_of(at / "new/there/config.json");
  CHECK(config["model_type"] == "gpt2");
  CHECK(config["eos_token_id"].is_null());
  const Arguments eval = {"lm", "eval", "--data", "text.txt", "--model"};
  CHECK(at.json(joined(eval, {"new/there"})) == at.json(joined(eval, {"base"})));

  // from 16 bits in three parts with another program's README beside it
  fs::create_directory(at / "repository");
  write_file(at / "repository/README.md", "a model card");
  const Outcome wide = at.run({"lm", "export", "--model", golden_path("gpt2/bf16"), "--out", "repository"});
  CHECK(wide.status == 0);
  CHECK(wide.says("no tokenizer"));
  const State state = read_safetensors(at / "repository/model.safetensors"), source = read_safetensors(golden_path("gpt2/bf16/model.safetensors"));
  for (const auto& [name, x] : source.tensors) CHECK(test::same_bits(x, state.tensors.at("transformer." + name)));
  CHECK(read_file(at / "repository/README.md") == "a model card");
}

TEST_CASE("lm directories: wrong input is an error with a hint, and leaves nothing") {
  if (!test::is_built("lm")) return;
  const Place at;
  REQUIRE(at.run({"lm", "train", "--data", "text.txt", "--layers", "1", "--heads", "2", "--width", "8", "--context", "8", "--steps", "1", "--sample", "0", "--positions", "rope",
                  "--norm", "post", "--kv-heads", "1", "--activation", "swiglu", "--tokenizer", "byte", "--out", "other"}).status == 0);
  const auto spoilt = [&](const std::string& name, const std::function<void(const std::string&)>& change) {
    fs::copy(at / "base", at / name, fs::copy_options::recursive);
    change(at / name);
  };
  const auto set = [](const char* key, const json& value) {
    return [=](const std::string& folder) {
      json config = file_of(folder + "/config.json");
      config[key] = value;
      write_file(folder + "/config.json", config.dump());
    };
  };
  spoilt("untied", set("tie_word_embeddings", false));
  spoilt("unknown", set("attention_window", 128));
  spoilt("smaller", set("vocab_size", 255));
  spoilt("mute", [](const std::string& folder) { fs::remove(folder + "/qiudao_tokenizer.json"); });
  spoilt("polyglot", [](const std::string& folder) {
    write_file(folder + "/qiudao_tokenizer.json", R"({"format": "qiudao tokenizer", "version": 1, "kind": "char", "characters": "é"})");
  });
  fs::create_directory(at / "has-model");
  write_file(at / "has-model/model.safetensors.index.json", "{}");
  fs::create_directory_symlink("loop", at / "loop");
  const auto listing = [&] {
    std::map<std::string, std::string> all;
    std::error_code loop;
    for (const auto& entry : fs::recursive_directory_iterator(at / ""))
      all[entry.path().string()] = entry.is_regular_file(loop) ? read_file(entry.path().string()) : "";
    return all;
  };
  const auto before = listing();

  const auto eval = [](const char* model, Arguments more = {}) { return joined({"lm", "eval", "--data", "text.txt", "--model", model}, more); };
  const auto tune = [&](Arguments more) { return at.tuning("run", more); };
  const auto write = [](const char* model, const char* out) { return Arguments{"lm", "export", "--model", model, "--out", out}; };
  const std::pair<Arguments, Arguments> cases[] = {
      {eval("untied"), {"tie_word_embeddings"}},
      {eval("unknown"), {"'attention_window': 128"}},
      {eval("smaller"), {"255", "256"}},
      {eval("polyglot"), {"256", "257"}},
      {eval("mute"), {"--tokenizer byte"}},
      {eval("mute", {"--tokenizer", "char"}), {"--tokenizer", "'char'"}},
      {eval("mute", {"--tokenizer", "polyglot"}), {"257"}},
      {eval("mute", {"--tokenizer", "missing"}), {"--tokenizer", "'missing'"}},
      {eval("base", {"--context", "25"}), {"--context", "24"}},
      {eval("loop"), {"loop"}},
      {{"lm", "sample", "--model", "mute"}, {"--tokenizer byte"}},
      {tune({"--init", "missing"}), {"missing", "config.json"}},
      {tune({"--init", "base", "--layers", "3"}), {"--layers", "expected 2", "got 3"}},
      {tune({"--init", "base", "--heads", "4"}), {"--heads"}},
      {tune({"--init", "base", "--width", "16"}), {"--width"}},
      {tune({"--init", "base", "--hidden", "31"}), {"--hidden"}},
      {tune({"--init", "base", "--kv-heads", "1"}), {"--kv-heads"}},
      {tune({"--init", "base", "--positions", "rope"}), {"--positions", "learned"}},
      {tune({"--init", "base", "--norm", "post"}), {"--norm"}},
      {tune({"--init", "base", "--norm-kind", "rms"}), {"--norm-kind"}},
      {tune({"--init", "base", "--activation", "relu"}), {"--activation"}},
      {tune({"--init", "base", "--context", "25"}), {"--context", "24"}},
      {tune({"--init", "base", "--dropout", "1"}), {"--dropout"}},
      {tune({"--init", "base", "--tokenizer", "byte"}), {"--tokenizer"}},
      {tune({"--init", "mute"}), {"--tokenizer"}},
      {tune({"--init", "mute", "--tokenizer", "char"}), {"--tokenizer"}},
      {write("other", "new"), {"--positions rope", "--norm post", "--kv-heads 1", "--activation swiglu"}},
      {write("base", "base"), {"--out", "config.json"}},
      {write("base", "has-model"), {"--out", "model.safetensors.index.json"}},
      {write("base", "text.txt"), {"text.txt"}},
      {write("base", "/proc/nothing"), {"/proc/nothing"}},
      {write("base", "loop"), {"loop"}},
      {write("unknown", "new"), {"attention_window"}},
      {write("polyglot", "new"), {"257"}},
      {{"lm", "export", "--out", "new"}, {"--model"}},
      {{"lm", "export", "--model", "base"}, {"--out"}},
  };
  for (const auto& [command, parts] : cases) {
    const Outcome o = at.run(command);
    CAPTURE(command);
    CAPTURE(o.err);
    CHECK(o.status == 1);
    CHECK(o.says("["));
    CHECK(o.says("HINT: "));
    for (const std::string& part : parts) CHECK(o.says(part));
  }
  CHECK(listing() == before);
  // contradictions are about values: what the model has may be said; a tokenizer where there is none
  CHECK(at.run(at.tuning("same", {"--init", "base", "--layers", "2", "--hidden", "0", "--positions", "learned", "--kv-heads", "2"})).status == 0);
  CHECK(at.run(at.tuning("spoken", {"--init", "mute", "--tokenizer", "byte"})).status == 0);
}

TEST_CASE("lm directories: a disk that is full leaves no half of an export") {
  if (!test::is_built("lm")) return;
  const Place at;
  const auto exported = [&](const std::string& limit, const std::string& out) {   // files may not grow beyond so many KiB
    return test::Process({"/bin/sh", "-c", "trap '' XFSZ; ulimit -f " + limit + "; exec \"$@\"", "sh", test::program("lm"), "export", "--model", "base", "--out", out},
                         at / "").wait();
  };
  fs::create_directory(at / "old");
  write_file(at / "old/notes", "mine");
  for (const char* out : {"new", "old"}) {
    const Outcome o = exported("16", out);   // dash and bash count 512 or 1024 bytes: 18 KB are too many
    CHECK(o.status == 1);
    CHECK(o.says("model.safetensors"));
  }
  CHECK_FALSE(fs::exists(at / "new"));
  CHECK(std::distance(fs::directory_iterator(at / "old"), fs::directory_iterator()) == 1);
  CHECK(exported("unlimited", "new").status == 0);
}
