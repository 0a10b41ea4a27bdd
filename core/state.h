// What must survive an interruption: optimiser moments, loader positions, random streams, moving averages.
#pragma once

#include <map>
#include <string>

#include "core/tensor.h"

namespace qd {

// Named tensors and named texts, as a safetensors file holds them.
struct State {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> texts;

  void put(const std::string& name, int64_t value);
  void put(const std::string& name, double value);          // every bit survives
  int64_t integer(const std::string& name) const;           // throws Error: missing or not a number
  double real(const std::string& name) const;
  const std::string& text(const std::string& name) const;
  const Tensor& tensor(const std::string& name, const Shape& shape, DType dtype = DType::f32) const;   // throws Error: missing, or another shape or type
};

struct Stateful {
  virtual ~Stateful() = default;
  virtual void save(State& to, const std::string& prefix) const = 0;
  virtual void load(const State& from, const std::string& prefix) = 0;
};

}  // namespace qd
