// Safetensors files: the length of a JSON header in 8 bytes, the header, all numbers.
// https://github.com/huggingface/safetensors#format
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "core/state.h"

namespace qd {

class InputFile;
struct NumberType;

// A State's texts are the file's __metadata__. F32, I32 and U8 tensors are read as they are; F16, BF16 and F64 become f32, I64
// becomes i32, BOOL becomes u8. The file is trusted in nothing: throws Error naming file and tensor when it is cut, damaged or of
// another kind, or when a number does not fit its new type.
State read_safetensors(const std::string& path);
State read_safetensors_texts(const std::string& path);   // the same checks and the texts alone: no tensor is read

// Written as write_file does it: the old file or the new one, never a part. The same state gives the same bytes.
// Throws Error: disk full, no permission, a name or text that is not UTF-8, the name "__metadata__".
void write_safetensors(const std::string& path, const State& state);

// A tensor that still lies in its file, checked like the rest of the header; copies share the open file.
struct StoredTensor {
  std::string name, type;                   // as the file has them: "BF16"
  const NumberType* number;                 // of that type; nullptr: unknown here, then `bytes` may be any number
  Shape shape;
  uint64_t bytes, offset;                   // in the file
  std::shared_ptr<const InputFile> file;

  DType dtype() const;                      // of the tensor that read() gives; throws Error: nothing is computed with this type
  Tensor read() const;                      // as read_safetensors reads it; throws Error
  void read_bytes(uint64_t first, std::span<char> to) const;   // as they are stored, from `first` on
};

// What files hold, before it is read: large models need not be in memory twice.
struct StoredState {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> texts;
};

// Opens a file, or a directory as Hugging Face writes it: model.safetensors, or model.safetensors.index.json with the files that it
// names, in which exactly its tensors must be. All headers are checked. Throws Error.
StoredState open_safetensors(const std::string& path);
StoredState open_safetensors_file(const std::string& path);

}  // namespace qd
