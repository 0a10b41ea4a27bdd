#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "models/gpt.h"
#include "tests/errors.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
using test::message_of;
using nlohmann::json;

namespace {

// Every name of an option stands in the error about an unknown one.
template <class E>
void check_names(E (*named)(const std::string&), int count) {
  for (int i = 0; i < count; ++i) CHECK(named(name_of(static_cast<E>(i))) == static_cast<E>(i));
  const std::string message = message_of([&] { named("nothing"); });
  CHECK(has(message, "'nothing'"));
  for (int i = 0; i < count; ++i) CHECK(has(message, name_of(static_cast<E>(i))));
}

json gpt2() {   // what Hugging Face's config.json of GPT-2 holds
  return json::parse(R"({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "n_inner": null,
    "resid_pdrop": 0.1, "summary_activation": null, "summary_use_proj": true, "use_cache": true,
    "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "vocab_size": 50257})");
}

}  // namespace

TEST_CASE("config: every option survives config.json") {
  const test::TempDir folder;
  for (int i = 0; i < 24; ++i) {
    GPTConfig c = {.vocab = 300 + i, .context = 32, .width = 48, .layers = 3, .heads = 4};
    c.norm = static_cast<NormPlace>(i % 3);
    c.norm_kind = static_cast<NormKind>(i % 2);
    c.activation = static_cast<MLPKind>(i % 4);
    c.positions = static_cast<PositionKind>(i % 7);
    if (c.positions == PositionKind::grid) c.columns = 1;
    c.kv_heads = i % 5 == 0 ? 2 : 0;
    c.hidden = i % 7 == 0 ? 100 : 0;
    c.rotary = i % 2 ? 1 : 0.5;
    c.mask = i % 8 == 0 ? Mask::bidirectional : Mask::causal;
    c.dropout = i * 0.03;
    c.epsilon = 1e-6;
    write_config(folder / "", c);
    const GPTConfig read = read_config(folder / "");
    CAPTURE(read_file(folder / "config.json"));
    CHECK(read.vocab == c.vocab);
    CHECK(read.context == c.context);
    CHECK(read.width == c.width);
    CHECK(read.layers == c.layers);
    CHECK(read.heads == c.heads);
    CHECK((read.kv_heads ? read.kv_heads : read.heads) == (c.kv_heads ? c.kv_heads : c.heads));
    CHECK(read.hidden == hidden_width(c));
    CHECK(read.norm == c.norm);
    CHECK(read.norm_kind == c.norm_kind);
    CHECK(read.activation == c.activation);
    CHECK(read.positions == c.positions);
    CHECK(read.columns == c.columns);
    CHECK((c.positions != PositionKind::rotary || read.rotary == c.rotary));
    CHECK(read.mask == c.mask);
    CHECK(read.dropout == c.dropout);
    CHECK(read.epsilon == c.epsilon);
    CHECK(read.recompute == 0);
    GPT model(c), same(read);
    State state;
    model.save(state);
    same.load(state);   // strict
  }
}

TEST_CASE("config: only what GPT-2's format can say is called gpt2") {
  const test::TempDir folder;
  const auto type_of = [&](const GPTConfig& c) {
    write_config(folder / "", c);
    return json::parse(read_file(folder / "config.json"))["model_type"].get<std::string>();
  };
  CHECK(type_of({}) == "gpt2");
  CHECK(type_of({.activation = MLPKind::relu}) == "gpt2");
  CHECK(type_of({.kv_heads = 2}) == "qiudao");
  CHECK(type_of({.norm = NormPlace::post}) == "qiudao");
  CHECK(type_of({.norm_kind = NormKind::rms}) == "qiudao");
  CHECK(type_of({.activation = MLPKind::swiglu}) == "qiudao");
  CHECK(type_of({.positions = PositionKind::rotary}) == "qiudao");
  CHECK(type_of({.mask = Mask::bidirectional}) == "qiudao");
}

TEST_CASE("config: Hugging Face's GPT-2") {
  const test::TempDir folder;
  write_file(folder / "config.json", gpt2().dump());
  const GPTConfig c = read_config(folder / "");
  CHECK(c.vocab == 50257);
  CHECK(c.context == 1024);
  CHECK(c.width == 768);
  CHECK(c.layers == 12);
  CHECK(c.heads == 12);
  CHECK(hidden_width(c) == 3072);
  CHECK(c.activation == MLPKind::gelu);
  CHECK(c.positions == PositionKind::learned);
  CHECK(c.norm == NormPlace::pre);
  CHECK(c.dropout == 0.1);
  CHECK(weight_count(c) == doctest::Approx(124.3e6).epsilon(0.01));   // "124M"
}

TEST_CASE("config: what GPT-2's files say beside the model") {
  const test::TempDir folder;
  const auto read = [&](const json& changes, std::initializer_list<const char*> without = {}) {
    json file = gpt2();
    file.update(changes);
    for (const char* key : without) file.erase(key);
    write_file(folder / "config.json", file.dump());
    return read_config(folder / "");
  };
  // a fine-tuned model of today
  const GPTConfig today = read(json::parse(R"({"_name_or_path": "gpt2", "_commit_hash": "607a30d", "id2label": {"0": "LABEL_0"}, "label2id":
    {"LABEL_0": 0}, "gradient_checkpointing": false, "output_attentions": false, "output_hidden_states": true, "return_dict": true,
    "top_k": 50, "temperature": 0.7, "repetition_penalty": 1.2, "max_length": 20, "pad_token_id": 50256, "torch_dtype": "float16",
    "transformers_version": "4.40.1", "reorder_and_upcast_attn": false, "scale_attn_weights": true, "scale_attn_by_inverse_layer_idx": false,
    "tie_word_embeddings": true, "problem_type": null, "tokenizer_class": "GPT2Tokenizer", "n_inner": 100, "layer_norm_epsilon": 1e-6})"));
  CHECK(today.hidden == 100);
  CHECK(today.epsilon == 1e-6);
  // one of 2019
  const GPTConfig old = read(json::parse(R"({"finetuning_task": null, "num_labels": 1, "pruned_heads": {}, "torchscript": false,
    "use_bfloat16": false, "output_past": true})"), {"model_type", "architectures", "activation_function", "layer_norm_epsilon", "use_cache", "n_inner"});
  CHECK(old.activation == MLPKind::gelu);
  CHECK(old.epsilon == 1e-5);
  CHECK(old.heads == 12);
  // other names for the same
  CHECK(read({{"n_ctx", 1024}}, {"n_positions"}).context == 1024);
  CHECK(read({{"hidden_size", 768}, {"num_attention_heads", 12}, {"num_hidden_layers", 12}, {"max_position_embeddings", 1024}}).width == 768);
  CHECK(read({{"layer_norm_eps", 1e-12}}, {"layer_norm_epsilon"}).epsilon == 1e-12);
  CHECK(read({{"activation_function", "gelu"}}).activation == MLPKind::gelu_erf);
  for (const char* name : {"gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_accurate"}) CHECK(read({{"activation_function", name}}).activation == MLPKind::gelu);
  CHECK(read({{"resid_pdrop", 0.3}}).dropout == 0.3);
  CHECK(read({{"some_new_option", nullptr}}).layers == 12);   // not set
}

TEST_CASE("config: wrong and hostile files are refused, naming file and key") {
  const test::TempDir folder;
  const std::string path = folder / "config.json";
  CHECK(has(message_of([&] { read_config(folder / ""); }), "config.json"));
  CHECK(has(message_of([&] { read_config(folder / "missing"); }), "missing"));
  std::string deep = gpt2().dump();   // printing it again would take a stack of its depth
  deep.insert(1, "\"tie_word_embeddings\":" + std::string(200'000, '[') + std::string(200'000, ']') + ",");
  write_file(path, deep);
  CHECK(has(message_of([&] { read_config(folder / ""); }), "tie_word_embeddings"));
  const auto with = [](const char* key, const json& value) {
    json file = gpt2();
    file[key] = value;
    return file.dump();
  };
  const auto without = [](const char* key) {
    json file = gpt2();
    file.erase(key);
    return file.dump();
  };
  const json own = {{"norm", "pre"}, {"norm_kind", "rms"}, {"positions", "rope"},
                    {"rotary", 1},   {"kv_heads", 0},      {"mask", "causal"}};
  json wrong_own = own, odd_own = own;
  wrong_own["colour"] = 1;
  odd_own["rotary"] = 0.02;
  const std::pair<std::string, const char*> cases[] = {
      {"", "JSON"},
      {"[1, 2]", "object"},
      {"{}", "model_type"},
      {"{\"model_type\": ", "JSON"},
      {std::string(100000, '['), "JSON"},
      {std::string(2 << 20, ' '), "at most"},
      {with("model_type", "bert"), "bert"},
      {with("model_type", 7), "model_type"},
      {with("model_type", "qiudao"), "qiudao"},
      {without("vocab_size"), "vocab_size"},
      {without("n_layer"), "n_layer"},
      {with("n_layer", 0), "n_layer"},
      {with("n_layer", -3), "n_layer"},
      {with("n_layer", 2.5), "n_layer"},
      {with("n_layer", "12"), "n_layer"},
      {with("n_layer", nullptr), "n_layer"},
      {with("n_embd", uint64_t{1} << 63), "n_embd"},
      {with("n_embd", int64_t{1} << 40), "n_embd"},
      {with("n_positions", true), "n_positions"},
      {with("n_head", 7), "divisor"},
      {with("n_inner", -1), "n_inner"},
      {with("activation_function", "tanh"), "activation_function"},
      {with("activation_function", 3), "activation_function"},
      {with("layer_norm_epsilon", "small"), "layer_norm_epsilon"},
      {with("layer_norm_epsilon", 0), "epsilon"},
      {with("resid_pdrop", 1.5), "dropout"},
      {with("tie_word_embeddings", false), "tie_word_embeddings"},
      {with("scale_attn_weights", false), "scale_attn_weights"},
      {with("scale_attn_by_inverse_layer_idx", true), "scale_attn_by_inverse_layer_idx"},
      {with("reorder_and_upcast_attn", true), "reorder_and_upcast_attn"},
      {with("add_cross_attention", true), "add_cross_attention"},
      {with("attention_window", 128), "'attention_window': 128"},   // a key that nobody knows may be the one that matters
      {with("rotary_dim", 64), "'rotary_dim'"},
      {with("afn", "gelu"), "'afn'"},
      {with("auto_map", json::object()), "'auto_map'"},
      {with("\x1b[2J", 1), "'\\x1b[2J'"},
      {with("n_ctx", 512), "'n_ctx' to be the same as 'n_positions', 1024, got 512"},
      {with("hidden_size", 64), "'hidden_size' to be the same as 'n_embd'"},
      {with("architectures", "GPT2LMHeadModel"), "architectures"},
      {with("architectures", {"GPTNeoForCausalLM"}), "architectures"},
      {with("pruned_heads", {{"0", {1}}}), "pruned_heads"},
      {with("rope_scaling", {{"factor", 2}}), "rope_scaling"},
      {with("quantization_config", {{"bits", 4}}), "quantization_config"},
      {with("attn_pdrop", "high"), "attn_pdrop"},
      {without("n_embd"), "n_embd"},
      {"{\"n_embd\": 768, " + gpt2().dump().substr(1), "each key once, got 'n_embd' twice"},
      {"{\"a\": {\"b\": [{\"c\": 1, \"c\": 2}]}, " + gpt2().dump().substr(1), "got 'c' twice"},
      {with("n_layer", 1e300), "n_layer"},
      {"{\"layer_norm_epsilon\": 1e999, " + gpt2().dump().substr(1), "JSON"},
      {with("qiudao", 3), "qiudao"},
      {with("qiudao", json::object()), "norm"},
      {with("qiudao", wrong_own), "colour"},
      {with("qiudao", odd_own), "even"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.first.substr(0, 200));
    write_file(path, c.first);
    const std::string message = message_of([&] { read_config(folder / ""); });
    CAPTURE(message);
    CHECK(has(message, path));
    CHECK(has(message, c.second));
    CHECK(message.size() < 1000);
  }
  write_file(path, with("qiudao", own));
  CHECK(read_config(folder / "").positions == PositionKind::rotary);
  for (const auto& [key, value] : {std::pair<const char*, json>{"scale_attn_weights", true}, {"add_cross_attention", false}}) {
    write_file(path, with(key, value));
    CHECK(read_config(folder / "").layers == 12);
  }
}

TEST_CASE("config: impossible options name themselves") {
  const auto message = [](const GPTConfig& c) { return message_of([&] { check(c); }); };
  CHECK(message({}) == "no error");
  const std::string heads = message({.width = 128, .heads = 3});
  CHECK(has(heads, "--heads"));
  CHECK(has(heads, "--width 128"));
  CHECK(has(message({.heads = 4, .kv_heads = 3}), "--kv-heads"));
  CHECK(has(message({.layers = 0}), "--layers"));
  CHECK(has(message({.width = -4}), "--width"));
  CHECK(has(message({.context = int64_t{1} << 60}), "--context"));
  CHECK(has(message({.width = 12, .heads = 4, .positions = PositionKind::rotary}), "--rotary"));   // 3 dimensions
  CHECK(message({.width = 12, .heads = 4}) == "no error");
  CHECK(has(message({.rotary = 0}), "--rotary"));
  CHECK(has(message({.dropout = 1}), "--dropout"));
  CHECK(has(message({.epsilon = 0}), "epsilon"));
  CHECK(has(message({.width = 15, .heads = 3, .positions = PositionKind::sinusoidal}), "--width"));
  CHECK(has(message({.width = 15, .heads = 3, .mask = Mask::mixed}), "--heads"));
}

TEST_CASE("config: names, and what 0 stands for") {
  check_names(norm_place_named, 3);
  check_names(norm_kind_named, 2);
  check_names(positions_named, 7);
  check_names(activation_named, 4);
  check_names(mask_named, 4);
  CHECK(positions_named("rope") == PositionKind::rotary);
  CHECK(hidden_width({.width = 128}) == 512);
  CHECK(hidden_width({.width = 128, .hidden = 5}) == 5);
  CHECK(hidden_width({.width = 128, .activation = MLPKind::swiglu}) == 344);   // 341.3, up to a multiple of 8
  CHECK(hidden_width({.width = 96, .activation = MLPKind::swiglu}) == 256);
  CHECK(rotary_dims({.width = 128, .heads = 4}) == 32);
  CHECK(rotary_dims({.width = 128, .heads = 4, .rotary = 0.25}) == 8);
}
