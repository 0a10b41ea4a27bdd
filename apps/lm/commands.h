// The commands of bin/lm, one file each: every function adds its own to the app.
#pragma once

#include <cstdint>
#include <string>

#include "apps/options.h"

namespace qd {

struct GPT;
class Tokenizer;

inline constexpr const char* model_help = "directory with config.json, model.safetensors and a tokenizer";
inline constexpr const char* tokenizer_help = "what the model speaks, where its directory holds no tokenizer";

void add_train(App& app);
void add_eval(App& app);
void add_sample(App& app);
void add_export(App& app);
void add_report(App& app);

// report.html of a run, with what the heads of its model look at. The model in evaluation mode. Throws Error: it cannot be written.
void write_language_report(const std::string& run, GPT& model, const Tokenizer& tokenizer, uint64_t seed);

}  // namespace qd
