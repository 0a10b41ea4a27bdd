#include "models/gpt_config.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "core/error.h"
#include "core/file.h"

namespace qd {
namespace {

using nlohmann::json;

// The values of an enum in their order.
constexpr const char* norms[] = {"pre", "post", "deepnorm"};
constexpr const char* norm_kinds[] = {"layer", "rms"};
constexpr const char* positions[] = {"learned", "sinusoidal", "rope", "alibi", "t5", "none"};
constexpr const char* activations[] = {"gelu", "gelu-erf", "relu", "swiglu"};
constexpr const char* masks[] = {"bidirectional", "causal", "prefix", "mixed"};

template <class E>
E named(const char* option, std::span<const char* const> names, const std::string& name) {
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    if (name == names[i]) return static_cast<E>(i);
    list += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + std::string(names[i]);
  }
  fail(option, str("expected ", list, ", got '", name, "'"));
}

// Hugging Face's names of the activations. "swiglu" is not one of them, but then the file is not one of GPT-2 either.
constexpr const char* activation_functions[] = {"gelu_new", "gelu", "relu", "swiglu"};

// What GPT-2's format can say: anything else gets a model_type of its own, so that no other program reads it as a GPT-2.
bool is_gpt2(const GPTConfig& c) {
  return c.norm == NormPlace::pre && c.norm_kind == NormKind::layer && c.activation != MLPKind::swiglu &&
         c.positions == PositionKind::learned && c.mask == Mask::causal && (c.kv_heads == 0 || c.kv_heads == c.heads);
}

constexpr int64_t largest = 1 << 24;   // of any size in a configuration

// Fields of a JSON object, read strictly: errors name the file and the key.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    QD_CHECK(object_.is_object(), where_, "expected a JSON object, got " + shown(object_));
  }

  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  const json& at(const char* key) const {
    QD_CHECK(has(key), where_, str("expected the key '", key, "', there is none"), "is it the config.json of a language model?");
    return object_[key];
  }
  int64_t size(const char* key, int64_t least = 1) const {
    const json& value = at(key);
    const bool fits = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t{largest});
    QD_CHECK(fits && value.get<int64_t>() >= least && value.get<int64_t>() <= largest, where_,
             str("expected '", key, "' to be a whole number from ", least, " to ", largest, ", got ", shown(value)));
    return value.get<int64_t>();
  }
  double real(const char* key) const {
    QD_CHECK(at(key).is_number(), where_, str("expected '", key, "' to be a number, got ", shown(at(key))));
    return at(key).get<double>();
  }
  std::string text(const char* key) const {
    QD_CHECK(at(key).is_string(), where_, str("expected '", key, "' to be a text, got ", shown(at(key))));
    return at(key).get<std::string>();
  }
  template <class E>
  E choice(const char* key, std::span<const char* const> names) const {
    return named<E>(str(where_, ": ", key).c_str(), names, text(key));
  }
  void expect(const char* key, const json& supported) const {   // where it is given
    QD_CHECK(!has(key) || object_[key] == supported, where_,
             str("expected '", key, "' to be ", supported.dump(), ", got ", shown(object_[key])), "this model is not supported");
  }
  void expect_only(std::span<const char* const> keys) const {
    for (const auto& [key, value] : object_.items()) {
      bool known = false;
      for (const char* one : keys) known = known || key == one;
      QD_CHECK(known, where_, str("expected no key '", key, "'"), "the file was written by a newer program, perhaps");
    }
  }

 private:
  static std::string shown(const json& value) {
    if (value.is_structured()) return value.type_name();   // however deep it is
    const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    return text.size() > 60 ? text.substr(0, 60) + "..." : text;
  }
  const json& object_;
  const std::string where_;
};

GPTConfig from_json(const json& file, const std::string& path) {
  const Fields f(file, path);
  const std::string type = f.text("model_type");
  QD_CHECK(type == "gpt2" || type == "qiudao", path, str("expected 'model_type' to be gpt2 or qiudao, got '", type, "'"));
  // Options of GPT-2 that change the mathematics, and the one value that we know. Other keys of that format are notes.
  const std::pair<const char*, json> known[] = {
      {"tie_word_embeddings", true},      {"scale_attn_weights", true},   {"scale_attn_by_inverse_layer_idx", false},
      {"reorder_and_upcast_attn", false}, {"add_cross_attention", false}, {"is_encoder_decoder", false},
      {"pruned_heads", json::object()},   {"rope_scaling", nullptr},      {"quantization_config", nullptr}};
  for (const auto& [key, supported] : known) f.expect(key, supported);

  GPTConfig c;
  c.vocab = f.size("vocab_size");
  c.context = f.size("n_positions");
  c.width = f.size("n_embd");
  c.layers = f.size("n_layer");
  c.heads = f.size("n_head");
  if (f.has("n_inner")) c.hidden = f.size("n_inner");
  if (f.has("activation_function")) {
    // two more names for what "gelu_new" is
    const std::string name = f.text("activation_function");
    const bool tanh_form = name == "gelu_pytorch_tanh" || name == "gelu_fast";
    c.activation = tanh_form ? MLPKind::gelu : f.choice<MLPKind>("activation_function", activation_functions);
  }
  if (f.has("layer_norm_epsilon")) c.epsilon = f.real("layer_norm_epsilon");
  if (f.has("resid_pdrop")) c.dropout = f.real("resid_pdrop");
  if (f.has("qiudao")) {
    const Fields own(file["qiudao"], path + ": qiudao");
    own.expect_only(std::initializer_list<const char*>{"norm", "norm_kind", "positions", "rotary", "kv_heads", "mask"});
    c.norm = own.choice<NormPlace>("norm", norms);
    c.norm_kind = own.choice<NormKind>("norm_kind", norm_kinds);
    c.positions = own.choice<PositionKind>("positions", positions);
    c.rotary = own.real("rotary");
    c.kv_heads = own.size("kv_heads", 0);
    c.mask = own.choice<Mask>("mask", masks);
  } else {
    QD_CHECK(type == "gpt2", path, "expected the key 'qiudao', which says what this model has beyond GPT-2");
  }
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
  if (c.positions == PositionKind::sinusoidal)
    QD_CHECK(c.width % 2 == 0, "--width", str("expected an even number for sinusoidal positions, got ", c.width));
  if (c.mask == Mask::mixed)
    QD_CHECK(c.heads % 2 == 0, "--heads", str("expected an even number for the mixed mask, got ", c.heads));
}

void write_config(const std::string& folder, const GPTConfig& c) {
  check(c);
  nlohmann::ordered_json file;
  if (is_gpt2(c)) file["architectures"] = {"GPT2LMHeadModel"};
  file["model_type"] = is_gpt2(c) ? "gpt2" : "qiudao";
  file["vocab_size"] = c.vocab;
  file["n_positions"] = c.context;
  file["n_embd"] = c.width;
  file["n_layer"] = c.layers;
  file["n_head"] = c.heads;
  file["n_inner"] = hidden_width(c);
  file["activation_function"] = activation_functions[static_cast<size_t>(c.activation)];
  file["layer_norm_epsilon"] = c.epsilon;
  for (const char* key : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) file[key] = c.dropout;
  file["tie_word_embeddings"] = true;
  if (!is_gpt2(c)) {
    file["qiudao"] = {{"norm", name_of(c.norm)},
                      {"norm_kind", name_of(c.norm_kind)},
                      {"positions", name_of(c.positions)},
                      {"rotary", c.rotary},
                      {"kv_heads", c.kv_heads},
                      {"mask", name_of(c.mask)}};
  }
  write_file((std::filesystem::path(folder) / "config.json").string(), file.dump(2) + "\n");
}

GPTConfig read_config(const std::string& folder) {
  constexpr size_t longest_file = 1 << 20;   // bytes
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  std::error_code error;
  QD_CHECK(std::filesystem::exists(path, error), folder, "expected the directory of a model, it holds no config.json",
           "the directory of a training run has one");
  const std::string text = read_file(path);
  QD_CHECK(text.size() <= longest_file, path, str("expected at most ", longest_file, " bytes, got ", text.size()));
  try {
    const GPTConfig c = from_json(json::parse(text), path);
    try {
      check(c);
    } catch (const Error& wrong) {
      fail(path, wrong.what(), wrong.hint());
    }
    return c;
  } catch (const json::exception& wrong) {
    fail(path, str("expected JSON: ", wrong.what()));
  }
}

}  // namespace qd
