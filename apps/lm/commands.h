// The commands of bin/lm, one file each: every function adds its own to the app.
#pragma once

#include "apps/options.h"

namespace qd {

inline constexpr const char* model_help = "directory with config.json, model.safetensors and a tokenizer";
inline constexpr const char* tokenizer_help = "what the model speaks, where its directory holds no tokenizer";

void add_train(App& app);
void add_eval(App& app);
void add_sample(App& app);
void add_export(App& app);

}  // namespace qd
