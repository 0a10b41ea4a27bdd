// What the apps with language models share: the model's options, its score on a text, its directory, and text as it is made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "apps/options.h"
#include "core/log.h"
#include "data/text.h"
#include "data/tokenizer.h"
#include "data/tokens.h"
#include "models/generate.h"
#include "models/gpt.h"

namespace qd {

// The model's options with CLI.md's names.
struct ModelFlags {
  GPTConfig sizes;
  std::string positions = "learned", norm = "pre", norm_kind = "layer", activation = "gelu";

  void describe(Command& command);
  // The model of --init: the flags become its own, --dropout and --context excepted where they are given; throws Error naming an option
  // that contradicts it. sizes.context is then the window that is trained, which may be shorter than the positions learned.
  GPTConfig adopt(GPTConfig config, const Command& command);
  GPTConfig config(int64_t vocabulary) const;   // throws Error naming the option; also for a model that memory cannot hold
};

// How well a model predicts a text: every token but the first, each from those before it in its window.
struct Score {
  double nats = 0;      // over all predicted tokens
  int64_t tokens = 0;   // predicted
  int64_t bytes = 0;    // of the text that they stand for
  double loss() const { return nats / static_cast<double>(tokens); }
  double bits_per_byte() const;
};

// Windows of `context` inputs side by side, the last one shorter (WindowSequence). Ends early when a signal asks a trainer to
// leave.
Score score(const GPT& model, const Tokenizer& tokenizer, const TokenStream& text, int64_t context, Progress* line = nullptr);

// A directory with config.json, weights and a tokenizer (models/gpt_files.h), ready for use, in evaluation mode.
struct LanguageModel {
  std::unique_ptr<GPT> model;
  std::unique_ptr<Tokenizer> tokenizer;
};
// context: the longest window, 0 for that of the file. tokenizer: byte or a directory, where that of the model holds none. Throws Error:
// something is missing, damaged or does not fit, or the context is longer than the learned positions.
LanguageModel load_language_model(const std::string& folder, int64_t context = 0, const std::string& tokenizer = "");

// The tokenizer in a model's directory, or `other` where that is not empty: byte or a directory. Throws Error: it has not as many ids as
// the model's vocabulary.
std::unique_ptr<Tokenizer> tokenizer_of(const std::string& folder, const std::string& other, int64_t vocabulary);

// What one would want to know about a corpus: files skipped, bytes that are not UTF-8.
void note_problems(const Corpus& corpus);

// What a model writes after `prompt`, to the end of the text at most: whole characters only. Ends early when a signal asks a trainer to leave.
std::string write_text(const GPT& model, const Tokenizer& tokenizer, const std::string& prompt, GenerateOptions options);

// Text that comes in pieces, on standard output as soon as its characters are whole. Broken bytes become U+FFFD, and on a
// terminal control characters are shown, not sent.
class TextOutput {
 public:
  void add(std::string_view bytes);   // throws Error: standard output cannot be written
  void finish();                      // ends the line

 private:
  std::string waiting_;   // the beginning of a character
  char last_ = '\n';
};

}  // namespace qd
