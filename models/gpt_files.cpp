#include "models/gpt_files.h"

#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <string_view>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/safetensors.h"

namespace qd {
namespace {

constexpr std::string_view prefix = "transformer.", head = "lm_head.weight";

// h.N.attn.bias, the triangle of the causal mask, and h.N.attn.masked_bias, what stood for minus infinity
bool is_old_mask(std::string_view name, int64_t layers) {
  if (!name.starts_with("h.")) return false;
  name.remove_prefix(2);
  int64_t block = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), block);
  const std::string_view rest = name.substr(static_cast<size_t>(end - name.data()));
  return error == std::errc() && block >= 0 && block < layers && (rest == ".attn.bias" || rest == ".attn.masked_bias");
}

// The name in models/gpt.h of a name in a file.
std::string own_name(std::string_view name) {
  if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  const auto ending = [&](std::string_view theirs, const char* ours) {
    return name.ends_with(theirs) ? std::string(name.substr(0, name.size() - theirs.size())) + ours : std::string();
  };
  if (const std::string weight = ending(".gamma", ".weight"); !weight.empty()) return weight;
  if (const std::string bias = ending(".beta", ".bias"); !bias.empty()) return bias;
  return std::string(name);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size() * bytes_of(a.dtype()))) == 0;
}

// A config.json may speak of any sizes: what they need must be there before memory is taken.
void check_size(const std::string& path, const GPTConfig& config, const StoredState& stored) {
  constexpr double fewest_bytes = 2;   // of a weight in a file
  double bytes = 0;
  for (const auto& [name, tensor] : stored.tensors) bytes += static_cast<double>(tensor.bytes);
  QD_CHECK(weight_count(config) * fewest_bytes <= bytes, path,
           str("expected the ", weight_count(config), " weights that config.json speaks of, the files are too small for them"),
           "do config.json and model.safetensors belong together?");
}

}  // namespace

std::unique_ptr<GPT> load_gpt(const std::string& folder, const GPTConfig& config) {
  const StoredState stored = open_safetensors(folder);
  const std::string path = stored.tensors.empty() ? folder : stored.tensors.begin()->second.file->path();
  check_size(path, config, stored);

  std::map<std::string, const StoredTensor*> tensors;
  const StoredTensor* output = nullptr;
  for (const auto& [name, tensor] : stored.tensors) {
    const std::string own = own_name(name);
    if (is_old_mask(own, config.layers)) continue;
    if (own == head) {
      output = &tensor;
      continue;
    }
    const auto [other, is_new] = tensors.emplace(own, &tensor);
    QD_CHECK(is_new, tensor.file->path(),
             str("expected '", printable(own.substr(0, 100)), "' once, got '", printable(other->second->name.substr(0, 100)), "' and '",
                 printable(name.substr(0, 100)), "'"),
             "they are names of one tensor: which of them is it?");
  }
  std::map<std::string, Module::Kind> given;
  for (const auto& [name, tensor] : tensors) given[name] = {tensor->shape, tensor->dtype()};

  auto model = std::make_unique<GPT>(config);
  try {
    model->load(given, [&](const std::string& name) { return tensors.at(name)->read(); });
  } catch (const Error& error) {
    const bool named = std::string(error.what()).find(folder) != std::string::npos;
    fail(named ? "model" : path, error.what(), error.hint());
  }
  QD_CHECK(!output || same_bits(output->read(), model->wte.weight), path,
           str("expected ", head, " to be the token embedding, as 'tie_word_embeddings' says, got other numbers"),
           "a model with an output matrix of its own is not supported");
  return model;
}

void write_gpt2_weights(const std::string& folder, const GPT& model) {
  State own, theirs;
  model.save(own);
  for (const auto& [name, tensor] : own.tensors) theirs.tensors[std::string(prefix) + name] = tensor;
  theirs.texts["format"] = "pt";   // without it other readers refuse the file
  write_safetensors((std::filesystem::path(folder) / "model.safetensors").string(), theirs);
}

}  // namespace qd
