// The figures of a run: one JSON object a line, appended as the run goes (metrics.jsonl).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/append_file.h"
#include "core/state.h"

namespace qd {

// Named figures in the order in which they are shown: {{"val_loss", 1.88}, {"bits_per_byte", 2.7}}.
using Values = std::vector<std::pair<std::string, double>>;
const double* find(const Values& values, const std::string& name);                   // null where it is missing
void put(State& to, const std::string& prefix, const Values& values);                // as texts "<prefix><name>"
Values values_in(const State& from, const std::string& prefix);                      // in alphabetical order
std::string describe(const Values& values);                                          // "val_loss 1.8812, bits_per_byte 2.71"

class MetricsFile {
 public:
  MetricsFile() = default;                                       // writes nothing
  MetricsFile(const std::string& path, int64_t length) : file_(path, length) {}   // cut to so many bytes and continued; throws Error
  void append(int64_t step, const Values& values);               // {"step": step, ...}; throws Error (disk full), and no part of a line stays
  int64_t length() const { return file_.length(); }              // bytes

 private:
  AppendFile file_;
};

}  // namespace qd
