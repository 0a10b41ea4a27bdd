// Directories with tensors: safetensors.h declares what is here.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/json_file.h"
#include "core/log.h"
#include "core/safetensors.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

constexpr const char* weights = "model.safetensors";
constexpr const char* index_name = "model.safetensors.index.json";
constexpr size_t longest_index = 64 << 20;   // bytes; 100 for a tensor
constexpr const char* other_files = "the index and the other files belong to different models, perhaps";

std::string quote(const std::string& name) { return str("'", printable(name.substr(0, 100)), name.size() > 100 ? "...'" : "'"); }

// "a, b, c, ..." of the names that `wrong` picks; empty when there are none
template <class Names, class F>
std::string listed(const Names& names, F wrong) {
  constexpr int shown = 12;
  std::string list;
  int count = 0;
  for (const auto& [name, value] : names) {
    if (wrong(name, value) && ++count <= shown) list += (list.empty() ? "" : ", ") + quote(name);
  }
  return count > shown ? str(list, ", ... (", count, ")") : list;
}

// Tensor -> file, both untrusted: {"metadata": {...}, "weight_map": {"h.0.ln_1.weight": "model-00001-of-00003.safetensors"}}
std::map<std::string, std::string> read_index(const std::string& path) {
  const auto index = read_json(path, longest_index);
  QD_CHECK(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(), path,
           "expected an object with 'weight_map', an object as well", "is it the index of a model in several files?");
  QD_CHECK(!index.contains("metadata") || index["metadata"].is_object(), path, "expected 'metadata' to be an object, got " + shown(index["metadata"]),
           "is it the index of a model in several files?");
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : index["weight_map"].items()) {
    QD_CHECK(file.is_string(), path, str("expected the name of a file for ", quote(name), ", got a ", file.type_name()), other_files);
    const auto& text = file.template get_ref<const std::string&>();
    const bool plain = text.find('/') == text.npos && text.find('\0') == text.npos && text.ends_with(".safetensors");
    QD_CHECK(plain, path, str("expected the name of a .safetensors file in the same directory for ", quote(name), ", got ", quote(text)),
             other_files);
    files[name] = text;
  }
  return files;
}

StoredState open_shards(const std::string& folder, const std::string& index) {
  const auto file_of = read_index(index);
  std::set<std::string> files;
  for (const auto& [name, file] : file_of) files.insert(file);
  const auto path_of = [&](const std::string& file) { return (fs::path(folder) / file).string(); };
  for (const std::string& file : files) {
    QD_CHECK(is_there(path_of(file)), path_of(file), str("expected this file, of which ", index_name, " speaks, it is not there"),
             "all parts of a model belong into its directory");
  }
  StoredState all;
  for (const std::string& file : files) {
    const std::string path = path_of(file);
    StoredState shard = open_safetensors_file(path);
    const auto elsewhere = [&](const std::string& name, const auto&) {
      const auto found = file_of.find(name);
      return found == file_of.end() || found->second != file;
    };
    const std::string extra = listed(shard.tensors, elsewhere);
    QD_CHECK(extra.empty(), path, str("expected only the tensors that ", index_name, " says are in it, got also ", extra), other_files);
    all.tensors.merge(shard.tensors);   // no name is in two files: the index has each once
    all.texts.merge(shard.texts);
  }
  const std::string missing = listed(file_of, [&](const std::string& name, const auto&) { return !all.tensors.contains(name); });
  QD_CHECK(missing.empty(), index, str("expected the tensors that it lists to be in their files, missing are ", missing), other_files);
  return all;
}

}  // namespace

StoredState open_safetensors(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return open_safetensors_file(path);
  const auto in = [&](const char* name) { return (fs::path(path) / name).string(); };
  if (is_there(in(weights))) return open_safetensors_file(in(weights));
  if (is_there(in(index_name))) return open_shards(path, in(index_name));
  const bool pickled = is_there(in("pytorch_model.bin")) || is_there(in("pytorch_model.bin.index.json"));
  fail(path, str("expected a directory with ", weights, ", there is ", pickled ? "only pytorch_model.bin" : "none"),
       pickled ? "write it with Python: transformers.AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OTHER)"
               : "a training run writes it when it is evaluated or saved first");
}

}  // namespace qd
