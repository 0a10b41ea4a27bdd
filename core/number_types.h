// The types of numbers that safetensors files hold, and how they become ours.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/tensor.h"

namespace qd {

struct NumberType {
  const char* name;                                                // "BF16"
  int64_t bytes;                                                   // of a number in the file
  void (*to_f64)(const void* from, int64_t count, double* to);     // exact, but for whole numbers beyond 2^53
  std::optional<DType> dtype;                                      // of the tensor that they become; none: nothing is computed with them
  // To that dtype; returns how many numbers fit before the first that does not. nullptr: the same bytes.
  int64_t (*convert)(const void* from, int64_t count, void* to) = nullptr;
};
const NumberType* number_type(const std::string& name);            // nullptr: unknown

}  // namespace qd
