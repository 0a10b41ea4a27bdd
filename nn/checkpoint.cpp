#include "nn/checkpoint.h"

#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "core/safetensors.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

// True when this call made the directory, so that two runs that start together never share one.
bool make_directory(const std::string& path) {
  std::error_code error;
  const bool made = fs::create_directories(path, error);
  QD_CHECK(!error && fs::is_directory(path), path, str("expected to make this directory: ", error ? error.message() : "it is a file"));
  return made;
}

}  // namespace

std::string next_run_directory(const std::string& parent, const std::string& name) {
  make_directory(parent);
  for (int i = 1;; ++i) {
    char number[16];
    std::snprintf(number, sizeof number, "-%03d", i);
    const std::string path = (fs::path(parent) / (name + number)).string();
    if (!fs::exists(path) && make_directory(path)) return path;
  }
}

void claim_run_directory(const std::string& path) {
  make_directory(path);
  for (const char* file : {"last.safetensors", "model.safetensors", "model.safetensors.index.json", "metrics.jsonl"}) {
    QD_CHECK(!fs::exists(fs::path(path) / file), path, str("expected a directory without a run, it holds ", file),
             str("choose another --out", fs::exists(fs::path(path) / "run.json") ? ", or continue this run with --resume " + path : ""));
  }
  remove_leftovers(path);   // of one that was killed before it had a run.json
}

bool has_checkpoint(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::path(path) / "last.safetensors", ignored);
}

void begin_again(const std::string& path) {
  QD_CHECK(!fs::exists(fs::path(path) / "model.safetensors"), path, "expected last.safetensors beside model.safetensors, there is none",
           "without it the run cannot go on; its model is whole");
  remove_leftovers(path);
  std::error_code ignored;
  fs::remove(fs::path(path) / "metrics.jsonl", ignored);
}

void remove_leftovers(const std::string& path) {
  const auto is_leftover = [](const std::string& name) {   // FILE.tmp-PROCESS-NUMBER, and nothing that only looks like it
    const size_t at = name.rfind(".tmp-");
    return at != std::string::npos && at + 5 < name.size() && name.find_first_not_of("0123456789-", at + 5) == std::string::npos;
  };
  std::error_code ignored;
  std::vector<fs::path> found;
  for (const fs::path& folder : {fs::path(path), fs::path(path) / "samples"})
    for (const auto& entry : fs::directory_iterator(folder, ignored))
      if (is_leftover(entry.path().filename().string())) found.push_back(entry.path());
  for (const fs::path& file : found) fs::remove(file, ignored);
}

void save_checkpoint(const std::string& path, const Module& module, const Parts& parts) {
  State weights, all;
  module.save(weights);
  for (auto& [name, tensor] : weights.tensors) all.tensors["model." + name] = tensor;
  for (const auto& [name, part] : parts) part->save(all, name + ".");
  write_safetensors(path, all);
}

void load_checkpoint(const std::string& path, Module& module, const Parts& parts) {
  const State all = read_safetensors(path);
  State weights;
  const std::string prefix = "model.";
  for (auto at = all.tensors.lower_bound(prefix); at != all.tensors.end() && at->first.starts_with(prefix); ++at)
    weights.tensors[at->first.substr(prefix.size())] = at->second;
  module.load(weights);
  for (const auto& [name, part] : parts) part->load(all, name + ".");
}

void save_model(const std::string& path, const Module& module, int64_t step, const Values& evaluation) {
  State state;
  module.save(state);
  state.texts["format"] = "pt";   // other readers of such files insist on it
  state.put("step", step);
  put(state, "evaluation.", evaluation);
  write_safetensors(path, state);
}

}  // namespace qd
