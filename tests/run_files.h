// What two runs must have in common: everything in their directories but the times.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "tests/errors.h"
#include "tests/nn/event_reader.h"

namespace qd::test {

// A checkpoint or a model, by name.
inline std::map<std::string, std::string> content(const std::string& file) {
  std::map<std::string, std::string> all;
  const State state = read_safetensors(file);
  for (const auto& [name, text] : state.texts)
    if (!has(name, "seconds") && !has(name, "metrics_length")) all[name] = text;   // a time has more digits or fewer
  for (const auto& [name, tensor] : state.tensors) {
    all[name] = tensor.shape().str();
    all[name].append(reinterpret_cast<const char*>(tensor.data()), static_cast<size_t>(tensor.size()) * sizeof(float));
  }
  return all;
}

// The lines of metrics.jsonl.
inline std::vector<nlohmann::json> metrics(const std::string& file) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(read_file(file));
  for (std::string line; std::getline(text, line);) {
    lines.push_back(nlohmann::json::parse(line));
    CHECK(lines.back().contains("seconds"));
    lines.back().erase("seconds");
    lines.back().erase("tokens_per_second");
  }
  return lines;
}

// What TensorBoard sees.
inline std::vector<std::string> events(const std::string& folder) {
  std::vector<std::string> all;
  for (const EventValue& value : read_events(events_file(folder)))
    if (!has(value.tag, "second")) all.push_back(str(value.step, " ", value.tag, " ", value.number, " ", value.text));
  return all;
}

inline void check_same_run(const std::string& a, const std::string& b) {
  CHECK(content(a + "/last.safetensors") == content(b + "/last.safetensors"));
  CHECK(content(a + "/model.safetensors") == content(b + "/model.safetensors"));
  CHECK(metrics(a + "/metrics.jsonl") == metrics(b + "/metrics.jsonl"));
  CHECK(events(a) == events(b));
}

}  // namespace qd::test
