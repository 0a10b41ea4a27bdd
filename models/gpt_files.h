// A GPT as files: a directory with config.json and weights, of this program or of Hugging Face's GPT-2.
//   weights   model.safetensors, or several files with an index (core/safetensors.h); F16 and BF16 are widened
//   names     those of models/gpt.h; also behind "transformer.", with gamma and beta for weight and bias
//   beside    h.N.attn.bias and .masked_bias, the masks that old files hold, are not read; lm_head.weight must be the token embedding
#pragma once

#include <memory>
#include <string>

#include "models/gpt.h"

namespace qd {

// The model of a directory; `config` is what read_config() gave, with a longer context perhaps. Strict: throws Error with all names that
// are missing, too many or of another shape, before memory is taken for sizes that the file cannot fill.
std::unique_ptr<GPT> load_gpt(const std::string& folder, const GPTConfig& config);

// model.safetensors with the names that GPT2LMHeadModel.save_pretrained gives. The model must be one (beyond_gpt2).
void write_gpt2_weights(const std::string& folder, const GPT& model);

}  // namespace qd
