// The commands of bin/tok: every function adds its own to the app.
#pragma once

#include "apps/options.h"

namespace qd {

inline constexpr const char* tokenizer_help = "folder with a tokenizer: of bin/tok, of a run, or of Hugging Face";

void add_train(App& app);
void add_encode(App& app);
void add_decode(App& app);

}  // namespace qd
