// What bin/tok encode and decode share: their options and the figures at the end.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "apps/options.h"
#include "data/tokenizer.h"

namespace qd {

struct ConvertOptions {
  std::string model, file = "-";
  bool whole = false, json = false;
  int64_t threads = 0;

  void describe(Command& command, const char* about_file, const char* about_whole);
  std::unique_ptr<Tokenizer> tokenizer() const;   // throws Error naming --model
};

// What went through.
struct Totals {
  int64_t bytes = 0, tokens = 0;   // of the text, without the line ends that stand for themselves
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

  // On standard error, and as JSON where wanted, on a line of its own: `line_ended` tells what standard output ends with.
  void report(bool json, bool line_ended) const;
};

}  // namespace qd
