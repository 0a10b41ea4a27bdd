// Safetensors files: the length of a JSON header in 8 bytes, the header, all numbers.
// https://github.com/huggingface/safetensors#format
#pragma once

#include <string>

#include "core/state.h"

namespace qd {

// A State's texts are the file's __metadata__. F32, I32 and U8 tensors are read as they are; F16, BF16 and F64 become f32, I64
// becomes i32, BOOL becomes u8. The file is trusted in nothing: throws Error naming file and tensor when it is cut, damaged or of
// another kind, or when a number does not fit its new type.
State read_safetensors(const std::string& path);
State read_safetensors_texts(const std::string& path);   // the same checks and the texts alone: no tensor is read

// Written as write_file does it: the old file or the new one, never a part. The same state gives the same bytes.
// Throws Error: disk full, no permission, a name or text that is not UTF-8, the name "__metadata__".
void write_safetensors(const std::string& path, const State& state);

}  // namespace qd
