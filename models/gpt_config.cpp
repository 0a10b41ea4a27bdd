#include "models/gpt_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/json_fields.h"
#include "core/json_file.h"
#include "core/log.h"

namespace qd {
namespace {

using nlohmann::json;

// The values of an enum in their order.
constexpr const char* norms[] = {"pre", "post", "deepnorm"};
constexpr const char* norm_kinds[] = {"layer", "rms"};
constexpr const char* positions[] = {"learned", "sinusoidal", "rope", "alibi", "t5", "none", "grid"};
constexpr const char* activations[] = {"gelu", "gelu-erf", "relu", "swiglu"};
constexpr const char* masks[] = {"bidirectional", "causal", "prefix", "mixed"};

template <class E>
E named(const char* option, std::span<const char* const> names, const std::string& name, const char* hint = "") {
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    if (name == names[i]) return static_cast<E>(i);
    list += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + std::string(names[i]);
  }
  fail(option, str("expected ", list, ", got '", printable(name.substr(0, 100)), "'"), hint);
}

// Hugging Face's names of the activations. "swiglu" is not one of them, but then the file is not one of GPT-2 either.
constexpr const char* activation_functions[] = {"gelu_new", "gelu", "relu", "swiglu"};
constexpr std::pair<const char*, MLPKind> more_activations[] = {   // other names for the same functions
    {"gelu_pytorch_tanh", MLPKind::gelu}, {"gelu_fast", MLPKind::gelu},       {"gelu_accurate", MLPKind::gelu},
    {"gelu_python_tanh", MLPKind::gelu},  {"gelu_python", MLPKind::gelu_erf},
};

// Options of GPT-2 that change the mathematics, and the one value that gpt.h knows.
const std::pair<const char*, json> fixed[] = {
    {"tie_word_embeddings", true},      {"scale_attn_weights", true},   {"scale_attn_by_inverse_layer_idx", false},
    {"reorder_and_upcast_attn", false}, {"add_cross_attention", false}, {"is_encoder_decoder", false},
    {"pruned_heads", json::object()},   {"rope_scaling", nullptr},      {"quantization_config", nullptr},
    {"tie_encoder_decoder", false},
};

// Keys that change no logit: notes, what heads of other tasks want, training, generation. With those that from_json reads and those
// above they are all that a file may hold: a key that nobody here knows may be the one that matters.
constexpr std::string_view harmless[] = {
    // where the file comes from, and how the weights are stored
    "_name_or_path", "_commit_hash", "transformers_version", "torch_dtype", "dtype", "tokenizer_class", "finetuning_task",
    "xla_device", "model_parallel", "keys_to_ignore_at_inference", "_attn_implementation", "_attn_implementation_autoset",
    "attn_implementation", "gradient_checkpointing", "use_cache", "use_bfloat16", "torchscript", "tf_legacy_loss", "chunk_size_feed_forward",
    "output_attentions", "output_hidden_states", "output_past", "output_scores", "return_dict", "use_return_dict", "is_decoder",
    // training, and other tasks
    "initializer_range", "summary_activation", "summary_first_dropout", "summary_hidden_size",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "classifier_dropout", "id2label",
    "label2id", "num_labels", "problem_type", "task_specific_params", "predict_special_tokens", "cross_attention_hidden_size",
    // generation
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "prefix", "max_length", "min_length",
    "max_new_tokens", "min_new_tokens", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature",
    "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "return_dict_in_generate", "forced_bos_token_id",
    "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
};

constexpr int64_t largest = 1 << 24;   // of any size in a configuration
constexpr const char* not_supported = "this model is not supported";
constexpr const char* other_file = "is it the config.json of a language model?";

class Fields : public JsonFields {
 public:
  Fields(const json& object, std::string where) : JsonFields(object, std::move(where), other_file) {}

  int64_t size(const char* key, int64_t least = 1) const { return JsonFields::size(key, least, largest); }
  template <class E>
  E choice(const char* key, std::span<const char* const> names) const {
    return named<E>(str(where_, ": ", key).c_str(), names, text(key), not_supported);
  }
  void expect(const char* key, const json& supported) const {   // where it is given
    QD_CHECK(!has(key) || object_[key] == supported, where_,
             str("expected '", key, "' to be ", supported.dump(), ", got ", shown(object_[key])), not_supported);
  }
  // The size under the first of the keys that is there: other programs' names for one thing, which must agree.
  int64_t size_of(std::initializer_list<const char*> keys) const {
    int64_t value = 0;
    const char* first = nullptr;
    for (const char* key : keys) {
      if (!has(key)) continue;
      QD_CHECK(!first || size(key) == value, where_, str("expected '", key, "' to be the same as '", first, "', ", value, ", got ", size(key)),
               "both are names of one size");
      value = size(first = key);
    }
    return first ? value : size(*keys.begin());
  }
};

// "gpt2" or "qiudao". The first files of GPT-2 did not say; sizes under its names and no key unknown to it are sign enough.
std::string model_type(const Fields& f, const std::string& path) {
  const bool sizes = f.has("n_embd") && f.has("n_layer") && f.has("n_head");
  const std::string type = f.has("model_type") || !sizes ? f.text("model_type") : "gpt2";
  QD_CHECK(type == "gpt2" || type == "qiudao", path, str("expected 'model_type' to be gpt2 or qiudao, got '", printable(type.substr(0, 100)), "'"), not_supported);
  if (!f.has("architectures")) return type;
  const json& names = f.at("architectures");
  const auto is_ours = [](const json& name) { return name.is_string() && name.get_ref<const std::string&>().find("GPT2") != std::string::npos; };
  QD_CHECK(names.is_array() && std::all_of(names.begin(), names.end(), is_ours), path,
           "expected 'architectures' to be a list of kinds of GPT2, such as GPT2LMHeadModel, got others", not_supported);
  return type;
}

double dropout(const Fields& f) {
  for (const char* key : {"embd_pdrop", "attn_pdrop"}) {
    if (f.has(key)) f.real(key);   // ours is one for all three
  }
  return f.has("resid_pdrop") ? f.real("resid_pdrop") : 0.1;   // GPT-2's
}

GPTConfig from_json(const json& file, const std::string& path) {
  const Fields f(file, path);
  const std::string type = model_type(f, path);
  for (const auto& [key, supported] : fixed) f.expect(key, supported);

  GPTConfig c;
  c.vocab = f.size_of({"vocab_size"});
  c.context = f.size_of({"n_positions", "n_ctx", "max_position_embeddings"});
  c.width = f.size_of({"n_embd", "hidden_size"});
  c.layers = f.size_of({"n_layer", "num_hidden_layers"});
  c.heads = f.size_of({"n_head", "num_attention_heads"});
  if (f.has("n_inner")) c.hidden = f.size("n_inner");
  if (f.has("activation_function")) {
    const std::string name = f.text("activation_function");
    const auto same = std::find_if(std::begin(more_activations), std::end(more_activations), [&](const auto& a) { return name == a.first; });
    c.activation = same != std::end(more_activations) ? same->second : f.choice<MLPKind>("activation_function", activation_functions);
  }
  for (const char* key : {"layer_norm_epsilon", "layer_norm_eps"}) {
    if (f.has(key)) c.epsilon = f.real(key);
  }
  c.dropout = dropout(f);
  if (f.has("qiudao")) {
    const Fields own(file["qiudao"], path + ": qiudao");
    c.norm = own.choice<NormPlace>("norm", norms);
    c.norm_kind = own.choice<NormKind>("norm_kind", norm_kinds);
    c.positions = own.choice<PositionKind>("positions", positions);
    c.rotary = own.real("rotary");
    if (own.has("columns")) c.columns = own.size("columns", 0);   // older files have none
    c.kv_heads = own.size("kv_heads", 0);
    c.mask = own.choice<Mask>("mask", masks);
    own.expect_no_others([](const std::string&) { return false; });
  } else {
    QD_CHECK(type == "gpt2", path, "expected the key 'qiudao', which says what this model has beyond GPT-2", "the file is damaged, or was made by another program");
  }
  f.expect_no_others([](const std::string& key) { return std::find(std::begin(harmless), std::end(harmless), key) != std::end(harmless); });
  return c;
}

}  // namespace

const char* name_of(NormPlace norm) { return norms[static_cast<size_t>(norm)]; }
const char* name_of(NormKind kind) { return norm_kinds[static_cast<size_t>(kind)]; }
const char* name_of(PositionKind kind) { return positions[static_cast<size_t>(kind)]; }
const char* name_of(MLPKind activation) { return activations[static_cast<size_t>(activation)]; }
const char* name_of(Mask mask) { return masks[static_cast<size_t>(mask)]; }
NormPlace norm_place_named(const std::string& name) { return named<NormPlace>("--norm", norms, name); }
NormKind norm_kind_named(const std::string& name) { return named<NormKind>("--norm-kind", norm_kinds, name); }
PositionKind positions_named(const std::string& name) { return named<PositionKind>("--positions", positions, name); }
MLPKind activation_named(const std::string& name) { return named<MLPKind>("--activation", activations, name); }
Mask mask_named(const std::string& name) { return named<Mask>("--mask", masks, name); }

int64_t hidden_width(const GPTConfig& c) {
  if (c.hidden > 0) return c.hidden;
  return c.activation == MLPKind::swiglu ? (8 * c.width + 23) / 24 * 8 : 4 * c.width;
}

int64_t rotary_dims(const GPTConfig& c) { return std::llround(c.rotary * static_cast<double>(c.width / c.heads)); }

double weight_count(const GPTConfig& c) {
  const auto width = static_cast<double>(c.width), hidden = static_cast<double>(hidden_width(c));
  const double kv = static_cast<double>(c.kv_heads ? c.kv_heads : c.heads) / static_cast<double>(c.heads);
  const double attention = (2 + 2 * kv) * width * width, mlp = (c.activation == MLPKind::swiglu ? 3 : 2) * width * hidden;
  const double learned = c.positions == PositionKind::learned ? static_cast<double>(c.context) * width : 0;
  return static_cast<double>(c.vocab) * width + learned + static_cast<double>(c.layers) * (attention + mlp);
}

std::vector<std::string> beyond_gpt2(const GPTConfig& c) {
  std::vector<std::string> options;
  const auto note = [&](bool beyond, const char* option, const auto& value) {
    if (beyond) options.push_back(str(option, " ", value));
  };
  note(c.positions != PositionKind::learned, "--positions", name_of(c.positions));
  note(c.norm != NormPlace::pre, "--norm", name_of(c.norm));
  note(c.norm_kind != NormKind::layer, "--norm-kind", name_of(c.norm_kind));
  note(c.activation == MLPKind::swiglu, "--activation", name_of(c.activation));
  note(c.kv_heads != 0 && c.kv_heads != c.heads, "--kv-heads", c.kv_heads);
  note(c.mask != Mask::causal, "--mask", name_of(c.mask));
  return options;
}

void check(const GPTConfig& c) {
  const auto size = [](const char* option, int64_t value, int64_t least) {
    QD_CHECK(value >= least && value <= largest, option,
             str("expected a whole number from ", least, " to ", largest, ", got ", value));
  };
  size("vocabulary", c.vocab, 1);
  size("--context", c.context, 1);
  size("--width", c.width, 1);
  size("--layers", c.layers, 1);
  size("--heads", c.heads, 1);
  size("--kv-heads", c.kv_heads, 0);
  size("--hidden", c.hidden, 0);
  size("--recompute", c.recompute, 0);
  QD_CHECK(c.width % c.heads == 0, "--heads", str("expected a divisor of --width ", c.width, ", got ", c.heads),
           str("try --width ", std::max<int64_t>(1, (c.width + c.heads / 2) / c.heads) * c.heads, ", a multiple of --heads ",
               c.heads));
  QD_CHECK(c.kv_heads == 0 || c.heads % c.kv_heads == 0, "--kv-heads",
           str("expected a divisor of --heads ", c.heads, ", got ", c.kv_heads));
  QD_CHECK(c.dropout >= 0 && c.dropout < 1, "--dropout", str("expected at least 0 and below 1, got ", c.dropout));
  QD_CHECK(c.epsilon > 0 && c.epsilon <= 1, "epsilon of the norms", str("expected above 0 and at most 1, got ", c.epsilon));
  QD_CHECK(c.rotary > 0 && c.rotary <= 1, "--rotary", str("expected a fraction above 0 and at most 1, got ", c.rotary));
  if (c.positions == PositionKind::rotary) {
    const int64_t dims = rotary_dims(c), head = c.width / c.heads;
    QD_CHECK(dims >= 2 && dims % 2 == 0, "--rotary",
             str("expected an even number of the ", head, " dimensions of a head, got ", c.rotary, " of them, which is ", dims),
             str("RoPE turns pairs of dimensions; --width / --heads is ", head));
  }
  if (c.positions == PositionKind::grid)
    QD_CHECK(c.columns > 0 && c.context % c.columns == 0, "--positions",
             str("expected a grid of whole rows, got ", c.context, " cells in ", c.columns, " columns"), "grids are for codes of pictures");
  if (c.positions == PositionKind::sinusoidal)
    QD_CHECK(c.width % 2 == 0, "--width", str("expected an even number for sinusoidal positions, got ", c.width));
  if (c.mask == Mask::mixed)
    QD_CHECK(c.heads % 2 == 0, "--heads", str("expected an even number for the mixed mask, got ", c.heads));
}

// What GPT-2's format cannot say gets a model_type of its own, so that no other program reads it as a GPT-2.
void write_config(const std::string& folder, const GPTConfig& c, int32_t end_of_text) {
  check(c);
  const bool is_gpt2 = beyond_gpt2(c).empty();
  nlohmann::ordered_json file;
  if (is_gpt2) file["architectures"] = {"GPT2LMHeadModel"};
  file["model_type"] = is_gpt2 ? "gpt2" : "qiudao";
  file["vocab_size"] = c.vocab;
  file["n_positions"] = c.context;
  file["n_embd"] = c.width;
  file["n_layer"] = c.layers;
  file["n_head"] = c.heads;
  file["n_inner"] = hidden_width(c);
  file["activation_function"] = activation_functions[static_cast<size_t>(c.activation)];
  file["layer_norm_epsilon"] = c.epsilon;
  for (const char* key : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) file[key] = c.dropout;
  for (const char* key : {"bos_token_id", "eos_token_id"}) {   // without the keys other programs take GPT-2's own, 50256
    if (end_of_text >= 0) file[key] = end_of_text;
    else file[key] = nullptr;
  }
  file["tie_word_embeddings"] = true;
  if (!is_gpt2) {
    file["qiudao"] = {{"norm", name_of(c.norm)},
                      {"norm_kind", name_of(c.norm_kind)},
                      {"positions", name_of(c.positions)},
                      {"rotary", c.rotary},
                      {"columns", c.columns},
                      {"kv_heads", c.kv_heads},
                      {"mask", name_of(c.mask)}};
  }
  write_file((std::filesystem::path(folder) / "config.json").string(), file.dump(2) + "\n");
}

GPTConfig read_config(const std::string& folder) {
  constexpr size_t longest_file = 1 << 20;   // bytes
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  QD_CHECK(is_there(path), folder, "expected the directory of a model, it holds no config.json",
           "the directory of a training run has one");
  try {
    const GPTConfig c = from_json(read_json(path, longest_file), path);
    try {
      check(c);
    } catch (const Error& wrong) {
      fail(path, wrong.what(), wrong.hint().empty() ? not_supported : wrong.hint());
    }
    return c;
  } catch (const json::exception& wrong) {
    fail(path, str("expected JSON: ", wrong.what()), other_file);
  }
}

}  // namespace qd
