// Directories of models: those of Hugging Face against PyTorch's loss, those that are wrong, and those that want to do harm.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "apps/language.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "models/gpt_files.h"
#include "tests/errors.h"
#include "tests/golden.h"
#include "tests/root.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
using test::message_of;
using nlohmann::json;
using test::TempDir;
namespace fs = std::filesystem;

namespace {

std::string golden_folder(const std::string& name) {
  return str(test::root(), "/tests/golden/gpt2/", name);
}

std::unique_ptr<GPT> load(const std::string& folder) { return load_gpt(folder, read_config(folder)); }

State weights_of(const GPT& model) {
  State state;
  model.save(state);
  return state;
}

bool same(const GPT& a, const GPT& b) {
  const State x = weights_of(a), y = weights_of(b);
  if (x.tensors.size() != y.tensors.size()) return false;
  for (const auto& [name, tensor] : x.tensors)
    if (!y.tensors.contains(name) || !test::same_bits(tensor, y.tensors.at(name))) return false;
  return true;
}

// The bytes of a safetensors file.
std::string packed(const State& state) {
  json header = json::object();
  std::string data;
  for (const auto& [name, x] : state.tensors) {
    const auto bytes = static_cast<size_t>(x.size() * bytes_of(x.dtype()));
    header[name] = {{"dtype", name_of(x.dtype())}, {"shape", std::vector<int64_t>(x.shape().begin(), x.shape().end())},
                    {"data_offsets", {data.size(), data.size() + bytes}}};
    data.append(static_cast<const char*>(x.storage()->data) + x.offset() * bytes_of(x.dtype()), bytes);
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data;
}

// A directory of a tiny model, which the tests then change. Not synced, as write_file would: there are hundreds.
struct Directory {
  TempDir folder;
  GPTConfig c = {.vocab = 7, .context = 5, .width = 4, .layers = 2, .heads = 2};
  GPT model{c};
  State state;
  Directory() {
    model.initialize(3);
    state = weights_of(model);
    put("config.json", R"({"model_type": "gpt2", "vocab_size": 7, "n_positions": 5, "n_embd": 4, "n_layer": 2, "n_head": 2})");
    write(state);
  }
  std::string path(const std::string& file = "") const { return folder / file; }
  void put(const std::string& file, const std::string& bytes) const {
    fs::remove(path(file));   // a file that is written over goes to the disk at once, on some systems
    std::ofstream(path(file), std::ios::binary) << bytes;
  }
  void write(const State& s) const { put("model.safetensors", packed(s)); }
  void change_config(const std::function<void(json&)>& change) const {
    json config = json::parse(read_file(path("config.json")));
    change(config);
    put("config.json", config.dump());
  }
  // In three parts with their index; what the index says may be changed before it is written.
  void shard(const std::function<void(json&)>& change = [](json&) {}) const {
    fs::remove(path("model.safetensors"));
    State parts[3];
    json index;
    size_t number = 0;
    for (const auto& [name, tensor] : state.tensors) {
      const size_t part = number++ * 3 / state.tensors.size();
      parts[part].tensors[name] = tensor;
      index["weight_map"][name] = file_name(part);
    }
    for (size_t i = 0; i < 3; ++i) put(file_name(i), packed(parts[i]));
    change(index);
    put("model.safetensors.index.json", index.dump());
  }
  static std::string file_name(size_t part) { return str("model-0000", part + 1, "-of-00003.safetensors"); }
  std::string refusal() const { return message_of([&] { load(path()); }); }
};

}  // namespace

TEST_CASE("gpt files: Hugging Face's directories give PyTorch's loss") {
  const json losses = json::parse(read_file(golden_folder("loss.json")));
  REQUIRE(losses.size() == 5);
  const Corpus corpus = read_corpus({golden_folder("text.txt")}, 0);
  test::on_every_table([&](const std::string& table) {
    CAPTURE(table);
    for (const auto& [name, loss] : losses.items()) {
      CAPTURE(name);
      const LanguageModel lm = load_language_model(golden_folder(name), 0, "byte");
      const TokenStream text(*lm.tokenizer, corpus.training);
      const Score s = score(*lm.model, *lm.tokenizer, text, lm.model->c.context);
      CHECK(s.tokens == text.size() - 1);
      CHECK(std::abs(s.loss() - loss.get<double>()) < 1e-5);
    }
  });
}

TEST_CASE("gpt files: names of other programs, and what may lie beside the weights") {
  const Directory d;
  const auto expect = [&](const State& state) {
    d.write(state);
    CHECK(same(*load(d.path()), d.model));
  };
  expect(d.state);
  State s;
  for (const auto& [name, tensor] : d.state.tensors) s.tensors["transformer." + name] = tensor;
  expect(s);
  s.tensors["lm_head.weight"] = d.state.tensors.at("wte.weight");
  s.tensors["transformer.h.0.attn.bias"] = zeros({1, 1, 5, 5}, DType::u8);
  s.tensors["transformer.h.1.attn.bias"] = zeros({1, 1, 5, 5});
  s.tensors["h.1.attn.masked_bias"] = zeros({});
  expect(s);
  State old;
  for (const auto& [name, tensor] : d.state.tensors) {
    const std::string path = name.substr(0, name.rfind('.') + 1), last = name.substr(path.size());
    old.tensors[!has(name, "ln_") ? name : path + (last == "weight" ? "gamma" : "beta")] = tensor;
  }
  expect(old);
  State bad = d.state;   // numbers that are no numbers are the user's business
  bad.tensors["ln_f.bias"] = full({4}, NAN);
  d.write(bad);
  CHECK(std::isnan(weights_of(*load(d.path())).tensors.at("ln_f.bias").data()[0]));
}

TEST_CASE("gpt files: tensors that do not belong are named") {
  const Directory d;
  const auto message = [&](const std::function<void(State&)>& change) {
    State s = d.state;
    change(s);
    d.write(s);
    const std::string text = d.refusal();
    CHECK(has(text, d.path("model.safetensors")));
    CHECK(text.size() < 2000);
    return text;
  };
  const auto add = [](const char* name, const Tensor& tensor) { return [=](State& s) { s.tensors[name] = tensor; }; };
  const std::string missing = message([](State& s) { s.tensors.erase("h.1.ln_2.bias"), s.tensors.erase("ln_f.weight"); });
  CHECK(has(missing, "2 missing: "));
  CHECK(has(missing, "h.1.ln_2.bias"));
  CHECK(has(missing, "ln_f.weight"));
  CHECK(has(message(add("h.2.ln_1.weight", zeros({4}))), "1 extra: h.2.ln_1.weight"));
  CHECK(has(message(add("score.weight", zeros({2, 4}))), "score.weight"));
  CHECK(has(message(add("h.2.attn.bias", zeros({1}))), "h.2.attn.bias"));   // of no block
  CHECK(has(message(add("h.-1.attn.bias", zeros({1}))), "h.-1.attn.bias"));
  CHECK(has(message(add("h.0.attn.bias.x", zeros({1}))), "h.0.attn.bias.x"));
  CHECK(has(message(add("h.99999999999999999999.attn.bias", zeros({1}))), "extra"));
  CHECK(has(message(add("transformer.wte.weight", zeros({7, 4}))), "'wte.weight' once"));
  CHECK(has(message(add("ln_f.gamma", zeros({4}))), "'ln_f.weight' once"));
  CHECK(has(message(add("wte.weight", zeros({8, 4}))), "wte.weight (expected F32 (7, 4), got F32 (8, 4))"));
  CHECK(has(message(add("wpe.weight", zeros({7, 4}))), "wpe.weight (expected F32 (5, 4)"));
  CHECK(has(message(add("ln_f.weight", zeros({4}, DType::i32))), "ln_f.weight (expected F32 (4), got I32 (4))"));
  Tensor other = d.state.tensors.at("wte.weight").clone();
  other.mutable_data()[27] += 1e-6f;
  CHECK(has(message(add("lm_head.weight", other)), "lm_head.weight to be the token embedding"));
  CHECK(has(message(add("lm_head.weight", zeros({6, 4}))), "lm_head.weight to be the token embedding"));
}

TEST_CASE("gpt files: sizes of config.json that the file does not have") {
  const Directory d;
  for (const auto& [key, value] : {std::pair("n_embd", 8), {"n_embd", 2}, {"n_embd", 1 << 24}, {"n_layer", 1}, {"n_layer", 3}, {"n_layer", 1 << 24},
                                   {"vocab_size", 8}, {"vocab_size", 6}, {"vocab_size", 1 << 24}, {"n_positions", 4}, {"n_positions", 6},
                                   {"n_positions", 1 << 24}, {"n_inner", 15}, {"n_inner", 1 << 24}}) {
    CAPTURE(key);
    CAPTURE(value);
    const std::string before = read_file(d.path("config.json"));
    d.change_config([&, key = key, value = value](json& config) { config[key] = value; });
    CHECK(has(d.refusal(), d.path("model.safetensors")));
    d.put("config.json", before);
  }
  CHECK(d.refusal() == "no error");
}

TEST_CASE("gpt files: several files with an index") {
  {
    const Directory d;
    d.shard();
    CHECK(same(*load(d.path()), d.model));
    // files may be links, as in Hugging Face's cache
    fs::create_directory(d.path("blobs"));
    fs::rename(d.path(d.file_name(1)), d.path("blobs/f00"));
    fs::create_symlink("blobs/f00", d.path(d.file_name(1)));
    CHECK(same(*load(d.path()), d.model));
  }
  struct Case {
    std::function<void(json&)> change;
    std::string part;
  };
  const std::string first = Directory::file_name(0), second = Directory::file_name(1);
  const Case cases[] = {
      {[](json& i) { i = 3; }, "weight_map"},
      {[](json& i) { i = json::array(); }, "weight_map"},
      {[](json& i) { i.erase("weight_map"); }, "weight_map"},
      {[](json& i) { i["weight_map"] = "model.safetensors"; }, "weight_map"},
      {[](json& i) { i["metadata"] = 3; }, "expected 'metadata' to be an object, got 3"},
      {[](json& i) { i["weight_map"]["wte.weight"] = 1; }, "'wte.weight', got a number"},
      {[](json& i) { i["weight_map"]["wte.weight"] = nullptr; }, "'wte.weight', got a null"},
      {[](json& i) { i["weight_map"]["wte.weight"] = json::array({"a"}); }, "'wte.weight', got a array"},
      {[](json& i) { i["weight_map"]["wte.weight"] = "../model-00003-of-00003.safetensors"; }, "in the same directory"},
      {[](json& i) { i["weight_map"]["wte.weight"] = "/etc/passwd"; }, "in the same directory"},
      {[](json& i) { i["weight_map"]["wte.weight"] = ".."; }, "in the same directory"},
      {[](json& i) { i["weight_map"]["wte.weight"] = ""; }, "in the same directory"},
      {[](json& i) { i["weight_map"]["wte.weight"] = std::string("a\0.safetensors", 14); }, "in the same directory"},
      {[](json& i) { i["weight_map"]["wte.weight"] = "config.json"; }, "in the same directory"},
      {[](json& i) { i["weight_map"]["wte.weight"] = "other.safetensors"; }, "other.safetensors] expected this file"},
      {[=](json& i) { i["weight_map"]["wte.weight"] = first; }, "it, got also 'wte.weight'"},
      {[=](json& i) { i["weight_map"]["h.9.ln_1.weight"] = second; }, "missing are 'h.9.ln_1.weight'"},
      {[](json& i) { i["weight_map"].erase("wte.weight"); }, "it, got also 'wte.weight'"},
      {[](json& i) { i["weight_map"] = json::object(); }, "too small"},
  };
  for (const Case& c : cases) {
    const Directory d;
    d.shard(c.change);
    const std::string message = d.refusal();
    CAPTURE(c.part);
    CAPTURE(message);
    CHECK(has(message, d.path()));
    CHECK(has(message, c.part));
  }
  const Directory d;
  d.shard();
  const auto index = d.path("model.safetensors.index.json");
  for (const std::string& text : {std::string(), std::string("{"), std::string(1 << 20, '['), std::string("{\"weight_map\":{\"a\":\"\xff\"}}")}) {
    d.put("model.safetensors.index.json", text);
    CHECK(has(d.refusal(), index));
  }
  d.put("model.safetensors.index.json", R"({"weight_map":{"wte.weight":"model-00001-of-00003.safetensors","wte.weight":"model-00003-of-00003.safetensors"}})");
  CHECK(has(d.refusal(), "each key once, got 'wte.weight' twice"));
  d.shard();
  fs::remove(d.path(second));
  CHECK(has(d.refusal(), second + "] expected this file"));
  fs::create_symlink(second, d.path(second));
  CHECK(has(d.refusal(), second + "] expected to read it: Too many levels of symbolic links"));
  fs::remove(d.path(second));
  fs::create_directory(d.path(second));
  CHECK(has(d.refusal(), second + "] expected to read it: Is a directory"));
}

TEST_CASE("gpt files: what is no directory of a model") {
  const Directory d;
  const std::string weights = d.path("model.safetensors"), config = d.path("config.json");
  const std::string good_weights = read_file(weights), good_config = read_file(config);
  const auto spoil = [&](const std::string& path, const std::function<void()>& make, const std::string& part) {
    fs::remove(path);
    make();
    const std::string message = d.refusal();
    CAPTURE(message);
    CHECK(has(message, d.path()));
    CHECK(has(message, part));
    fs::remove_all(path);
    d.put("model.safetensors", good_weights);
    d.put("config.json", good_config);
  };
  const auto header = [](uint64_t length, const std::string& rest) { return std::string(reinterpret_cast<const char*>(&length), 8) + rest; };
  for (const std::string& path : {weights, config}) {
    CAPTURE(path);
    spoil(path, [] {}, path == config ? "no config.json" : "there is none");
    spoil(path, [&] { fs::create_directory(path); }, "Is a directory");
    spoil(path, [&] { fs::create_symlink(path, path); }, "Too many levels of symbolic links");
    spoil(path, [&] { fs::create_symlink("nowhere", path); }, "No such file");
    spoil(path, [&] { REQUIRE(mkfifo(path.c_str(), 0600) == 0); }, "regular file");
    spoil(path, [&] { fs::create_symlink("/dev/zero", path); }, "regular file");
    spoil(path, [&] { std::ofstream(path).flush(); }, path == config ? "JSON" : "got 0 bytes");
  }
  spoil(weights, [&] { d.put("model.safetensors", header(1'000'000'000, good_weights.substr(8))); }, "a length of 1000000000");
  spoil(weights, [&] { d.put("model.safetensors", header(90'000'000, good_weights.substr(8))); }, "the file has");
  spoil(weights, [&] { d.put("model.safetensors", header(UINT64_MAX, good_weights.substr(8))); }, "at most");
  spoil(weights, [&] { d.put("pytorch_model.bin", "PK"); }, "only pytorch_model.bin");
  CHECK(has(message_of([&] { load(d.path("model.safetensors")); }), "no config.json"));
  CHECK(has(message_of([&] { load(d.path("missing")); }), "no config.json"));
  fs::create_directory_symlink(d.path("loop"), d.path("loop"));
  CHECK(has(message_of([&] { load(d.path("loop")); }), "loop/config.json"));
  CHECK(d.refusal() == "no error");
}

TEST_CASE("gpt files: exported weights are the same bits under Hugging Face's names") {
  const Directory d;
  const TempDir out;
  write_gpt2_weights(out / "", d.model);
  write_config(out / "", d.c, 6);
  CHECK(same(*load(out / ""), d.model));
  const State file = read_safetensors(out / "model.safetensors");
  CHECK(file.text("format") == "pt");
  CHECK(file.tensors.size() == d.state.tensors.size());
  for (const auto& [name, tensor] : d.state.tensors) CHECK(test::same_bits(file.tensors.at("transformer." + name), tensor));
  const json config = json::parse(read_file(out / "config.json"));
  CHECK(config["architectures"] == json::array({"GPT2LMHeadModel"}));
  CHECK(config["eos_token_id"] == 6);

  CHECK(beyond_gpt2({}).empty());
  CHECK(beyond_gpt2({.heads = 4, .kv_heads = 4, .hidden = 24, .activation = MLPKind::gelu_erf}).empty());
  const GPTConfig all = {.heads = 4, .kv_heads = 2, .norm = NormPlace::post, .norm_kind = NormKind::rms, .activation = MLPKind::swiglu,
                         .positions = PositionKind::rotary, .mask = Mask::prefix};
  const std::vector<std::string> options = {"--positions rope", "--norm post", "--norm-kind rms", "--activation swiglu", "--kv-heads 2",
                                            "--mask prefix"};
  CHECK(beyond_gpt2(all) == options);
}

TEST_CASE("gpt files: every byte of a directory may be wrong") {
  const Directory d;
  d.shard();
  std::vector<std::string> files = {"config.json", "model.safetensors.index.json"};
  for (size_t i = 0; i < 3; ++i) files.push_back(d.file_name(i));
  std::mt19937 random(1);
  int refused = 0, loaded = 0;
  for (const std::string& file : files) {
    const std::string good = read_file(d.path(file));
    for (int trial = 0; trial < 120; ++trial) {
      std::string bytes = good;
      const size_t at = random() % (trial % 2 ? std::min<size_t>(bytes.size(), 600) : bytes.size());   // headers above all
      switch (trial % 5) {
        case 0: bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8); break;
        case 1: bytes[at] = "\"{}[],:0129-.eE\\ \xff"[random() % 18]; break;
        case 2: bytes.resize(at); break;
        case 3: bytes.erase(at, 1 + random() % 9); break;
        default: bytes.insert(at, bytes.substr(random() % bytes.size(), 1 + random() % 40));
      }
      d.put(file, bytes);
      const std::string message = d.refusal();   // anything but an Error ends the test
      CAPTURE(file);
      CAPTURE(message);
      message == "no error" ? ++loaded : ++refused;
      if (message != "no error") REQUIRE(has(message, d.path()));
    }
    d.put(file, good);
  }
  CHECK(refused > 300);
  CHECK(loaded > 30);
  CHECK(d.refusal() == "no error");
}
