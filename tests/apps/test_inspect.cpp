// bin/inspect: the table of a file, the difference of two, the picture of a step.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "core/safetensors.h"
#include "data/generated.h"
#include "tests/apps/run_app.h"
#include "tests/errors.h"
#include "tests/golden.h"

using namespace qd;
using test::has;
using nlohmann::json;
using test::golden_path;
using test::Outcome;
using test::Workplace;
namespace fs = std::filesystem;

namespace {

json named(const json& list, const std::string& name) {
  for (const json& item : list)
    if (item["name"] == name) return item;
  FAIL("no tensor " << name);
  return {};
}

// A file whose types State does not have.
void write_raw(const std::string& path, const json& header, const std::string& data) {
  const std::string text = header.dump();
  const uint64_t length = text.size();
  write_file(path, std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data);
}

}  // namespace

TEST_CASE("inspect: types, shapes, norms and metadata of a file") {
  if (!test::is_built("inspect")) return;
  const Workplace at;
  State state;
  state.tensors["h.10.w"] = tensor(std::vector<float>{3, -4, 0, 5}).reshape({2, 2});
  state.tensors["h.2.w"] = tensor(std::vector<float>{1, NAN, INFINITY, 3, -INFINITY});
  state.tensors["ids"] = tensor(std::vector<int32_t>{7, -1}, {2});
  state.tensors["none"] = zeros({0, 3});
  state.tensors["all bad"] = full({2}, NAN);
  state.texts["format"] = "pt";
  state.texts["note"] = "line\n\x1b[2J";
  write_safetensors(at / "a.safetensors", state);
  const json result = at.json({"inspect", "a.safetensors"});
  const json& list = result["tensors"];
  const json w = named(list, "h.10.w");
  CHECK(w["type"] == "F32");
  CHECK(w["shape"] == json::array({2, 2}));
  CHECK(w["count"] == 4);
  CHECK(w["bytes"] == 16);
  CHECK(w["norm"].get<double>() == doctest::Approx(std::sqrt(50.0)));
  CHECK(w["mean"] == 1);
  CHECK(w["std"].get<double>() == doctest::Approx(std::sqrt(50.0 / 4 - 1)));
  CHECK(w["min"] == -4);
  CHECK(w["max"] == 5);
  CHECK(w["not_finite"] == 0);
  const json bad = named(list, "h.2.w");
  CHECK(bad["not_finite"] == 3);
  CHECK(bad["mean"] == 2);   // of the finite ones
  CHECK(named(list, "ids")["min"] == -1);
  CHECK(named(list, "none")["norm"].is_null());
  CHECK(named(list, "all bad")["mean"].is_null());
  CHECK(result["parameters"] == 4 + 5 + 2 + 2);
  CHECK(result["not_finite"] == 5);
  CHECK(result["metadata"]["format"] == "pt");
  CHECK_FALSE(result.contains("config"));

  const Outcome o = at.run({"inspect", "a.safetensors"});
  CHECK(o.status == 0);
  CHECK(o.out.find("h.2.w") < o.out.find("h.10.w"));   // as people count
  CHECK(has(o.out, "!! 3 not finite"));
  CHECK(has(o.out, "metadata: format = pt"));
  CHECK_FALSE(has(o.out, "\x1b"));
}

TEST_CASE("inspect: any type, and nothing is too large for a statistic") {
  if (!test::is_built("inspect")) return;
  const Workplace at;
  const double large[] = {1e300, -1e300};
  const int64_t whole[] = {int64_t{1} << 62, -5};
  std::string data(reinterpret_cast<const char*>(large), 16);
  data += std::string(reinterpret_cast<const char*>(whole), 16) + std::string("\xff\x02\x7e\x38", 4) + "xyz";
  write_raw(at / "a.safetensors",
            {{"f64", {{"dtype", "F64"}, {"shape", {2}}, {"data_offsets", {0, 16}}}},
             {"i64", {{"dtype", "I64"}, {"shape", {2}}, {"data_offsets", {16, 32}}}},
             {"i8", {{"dtype", "I8"}, {"shape", {2}}, {"data_offsets", {32, 34}}}},
             {"f8", {{"dtype", "F8_E4M3"}, {"shape", {2}}, {"data_offsets", {34, 36}}}},
             {"new", {{"dtype", "F4"}, {"shape", {6}}, {"data_offsets", {36, 39}}}}},
            data);
  const json list = at.json({"inspect", "a.safetensors"})["tensors"];
  CHECK(named(list, "f64")["norm"].get<double>() == doctest::Approx(std::sqrt(2.0) * 1e300));
  CHECK(named(list, "i64")["max"] == std::ldexp(1, 62));
  CHECK(named(list, "i8")["min"] == -1);
  CHECK(named(list, "f8")["max"] == 448);
  CHECK(named(list, "f8")["min"] == 1);
  CHECK(named(list, "new")["norm"].is_null());
  CHECK(named(list, "new")["count"] == 6);
  CHECK(named(list, "new")["bytes"] == 3);
  const Outcome o = at.run({"inspect", "a.safetensors", "--against", "a.safetensors"});
  CHECK(has(o.out, "5 of 5 common tensors are equal in bits"));
}

TEST_CASE("inspect: directories, with what config.json says, and runs") {
  if (!test::is_built("inspect") || !test::is_built("lm")) return;
  const Workplace at;
  const json sharded = at.json({"inspect", golden_path("gpt2/sharded")});
  CHECK(sharded["tensors"].size() == 28);
  CHECK(sharded["parameters"] == 4000);
  CHECK(sharded["config"]["n_layer"] == 2);
  CHECK_FALSE(sharded.contains("problem"));
  CHECK(named(at.json({"inspect", golden_path("gpt2/bf16")})["tensors"], "wte.weight")["type"] == "BF16");
  fs::copy(golden_path("gpt2/today"), at / "odd");
  write_file(at / "odd/config.json", R"({"model_type": "bert", "hidden_size": 8})");
  const Outcome odd = at.run({"inspect", "odd"});
  CHECK(odd.status == 0);
  CHECK(has(odd.out, "model_type bert"));
  CHECK(has(odd.out, "bin/lm cannot use it: "));
  write_file(at / "odd/config.json", "{");
  CHECK(at.run({"inspect", "odd"}).status == 0);

  write_file(at / "text.txt", generated_text(2000));
  REQUIRE(at.run({"lm", "train", "--data", "text.txt", "--layers", "1", "--heads", "2", "--width", "8", "--context", "8", "--steps", "2", "--sample", "0", "--out", "run"}).status == 0);
  const json last = at.json({"inspect", "run/last.safetensors"});
  CHECK(last["metadata"]["trainer.step"] == "2");
  CHECK(named(last["tensors"], "model.wte.weight")["shape"][1] == 8);
  // the weights of a checkpoint have another prefix
  const json against = at.json({"inspect", "run", "--against", "run/last.safetensors"});
  CHECK(against["only_first"].empty());
  CHECK_FALSE(against["only_second"].empty());
  CHECK(against["equal"] == against["tensors"].size());
}

TEST_CASE("inspect: the difference of two") {
  if (!test::is_built("inspect")) return;
  const Workplace at;
  State a, b;
  a.tensors["same"] = b.tensors["same"] = full({3}, 1);
  a.tensors["zero"] = full({1}, 0), b.tensors["zero"] = full({1}, -0.0f);
  a.tensors["moved"] = tensor(std::vector<float>{3, 4}), b.tensors["moved"] = tensor(std::vector<float>{3, 3});
  a.tensors["broken"] = full({2}, 1), b.tensors["broken"] = full({2}, NAN);
  a.tensors["nan"] = b.tensors["nan"] = full({2}, NAN);
  a.tensors["turned"] = zeros({2, 3}), b.tensors["turned"] = zeros({3, 2});
  a.tensors["only a"] = zeros({1}), b.tensors["only b"] = zeros({1});
  a.tensors["long"] = full({100'000}, 1), b.tensors["long"] = full({100'000}, 1);   // more than one piece
  b.tensors["long"].mutable_data()[99'999] = 1.5f;
  write_safetensors(at / "a.safetensors", a);
  write_safetensors(at / "b.safetensors", b);
  const json result = at.json({"inspect", "a.safetensors", "--against", "b.safetensors"});
  CHECK(result["only_first"] == json::array({"only a"}));
  CHECK(result["only_second"] == json::array({"only b"}));
  CHECK(result["shapes"] == json::array({{{"name", "turned"}, {"first", "(2, 3)"}, {"second", "(3, 2)"}}}));
  const auto row = [&](const char* name) { return named(result["tensors"], name); };
  CHECK(row("same")["equal"] == true);
  CHECK(row("same")["relative"] == 0);
  CHECK(row("zero")["equal"] == false);   // in bits
  CHECK(row("zero")["relative"] == 0);
  CHECK(row("moved")["relative"].get<double>() == doctest::Approx(0.2));
  CHECK(row("moved")["largest"] == 1);
  CHECK(row("broken")["relative"].is_null());
  CHECK(row("broken")["not_finite"] == 2);
  CHECK(row("nan")["equal"] == true);
  CHECK(row("nan")["relative"] == 0);
  CHECK(row("long")["largest"] == 0.5);
  CHECK(row("long")["relative"].get<double>() == doctest::Approx(0.5 / std::sqrt(1e5)));
  CHECK(result["equal"] == 2);
  const Outcome o = at.run({"inspect", "a.safetensors", "--against", "b.safetensors"});
  CHECK(o.status == 0);   // a difference is no error
  CHECK(has(o.out, "only in a.safetensors: only a"));
  CHECK(has(o.out, "shapes differ: turned (2, 3) and (3, 2)"));
  CHECK(has(o.out, "2 of 6 common tensors are equal in bits"));
  // the same model under other names and in other files
  const json names = at.json({"inspect", golden_path("gpt2/today"), "--against", golden_path("gpt2/sharded/model-00001-of-00003.safetensors")});
  CHECK(names["only_second"].empty());
  const json types = at.json({"inspect", golden_path("gpt2/f16"), "--against", golden_path("gpt2/bf16")});
  CHECK(types["tensors"].size() + types["shapes"].size() == 28);
}

TEST_CASE("inspect: the graph of a training step") {
  if (!test::is_built("inspect")) return;
  const Workplace at;
  const std::string model = golden_path("gpt2/today");
  const Outcome o = at.run({"inspect", model, "--graph"});
  CHECK(o.status == 0);
  CHECK(o.out.starts_with("digraph {"));
  for (const char* part : {"wte.weight\\n(256, 8)", "h.1.attn.c_attn.weight", "attention", "layer_norm", "dropout", "linear_cross_entropy"}) CHECK(has(o.out, part));
  CHECK(at.run({"inspect", "--graph", model}).out == o.out);
  CHECK(at.run({"inspect", model, "--graph", "-"}).out == o.out);
  const Outcome file = at.run({"inspect", model, "--graph", "step.dot"});
  CHECK(file.out.empty());
  CHECK(read_file(at / "step.dot") == o.out);
}

TEST_CASE("inspect: wrong input is an error with a hint") {
  if (!test::is_built("inspect")) return;
  const Workplace at;
  fs::create_directory(at / "empty");
  write_file(at / "text", "To be, or not to be, that is the question");
  fs::create_directory(at / "pickled");
  write_file(at / "pickled/pytorch_model.bin", "PK");
  fs::create_symlink("loop", at / "loop");
  const std::string model = golden_path("gpt2/today");
  const std::pair<test::Arguments, test::Arguments> cases[] = {
      {{"inspect", "missing"}, {"missing", "No such file"}},
      {{"inspect", "empty"}, {"empty", "model.safetensors"}},
      {{"inspect", "text"}, {"text"}},
      {{"inspect", "loop"}, {"loop", "symbolic links"}},
      {{"inspect", "pickled"}, {"only pytorch_model.bin", "save_pretrained"}},
      {{"inspect", model, "--against", "missing"}, {"missing"}},
      {{"inspect", model, "other"}, {"other"}},
      {{"inspect", "--json"}, {"got none"}},
      {{"inspect", "--agianst", "x"}, {"did you mean --against?"}},
      {{"inspect", model + "/model.safetensors", "--graph"}, {"--graph", "directory of a model"}},
      {{"inspect", model, "--graph", "missing/step.dot"}, {"missing/step.dot"}},
      {{"inspect", model, "--graph", "--json"}, {"--graph", "--json"}},
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
  CHECK(at.run({"inspect"}).status == 0);   // the help
  CHECK(has(at.run({"inspect"}).out, "--against"));
}
