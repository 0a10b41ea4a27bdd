// Reads the golden files (tests/golden/README.md says what each holds) and compares with them.
#pragma once

#include <cmath>
#include <cstring>
#include <fstream>
#include <string>

#include "core/error.h"
#include "core/kernels/table.h"
#include "core/safetensors.h"
#include "core/tensor.h"
#include "tests/root.h"

namespace qd::test {

// tests/golden/<name>.safetensors, below the current directory or below QD_ROOT when that is set.
inline State golden(const std::string& name) {
  const std::string path = str(root(), "/tests/golden/", name, ".safetensors");
  QD_CHECK(std::ifstream(path).good(), "golden",
           str("expected the file ", path, ", it is not there: run from the root of the checkout, or set QD_ROOT to it"));
  return read_safetensors(path);
}

// One case of a golden file: the tensors and texts whose names start with `prefix`.
struct Golden {
  const State& file;
  std::string prefix;

  bool has(const std::string& name) const { return file.tensors.contains(prefix + name); }
  const Tensor& operator[](const std::string& name) const {
    const auto found = file.tensors.find(prefix + name);
    QD_CHECK(found != file.tensors.end(), "golden", str("expected a tensor '", prefix, name, "', it is missing"));
    return found->second;
  }
  Tensor leaf(const std::string& name) const {
    Tensor copy = (*this)[name].clone();
    copy.require_gradient();
    return copy;
  }
};

// ||a - b|| / ||b||, and ||a|| where b is zero; infinite where the shapes differ or a is not finite.
inline double difference(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return INFINITY;
  double error = 0, size = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    const double x = a.data()[i], y = b.data()[i];
    error += (x - y) * (x - y);
    size += y * y;
  }
  const double result = std::sqrt(size > 0 ? error / size : error);
  return std::isnan(result) ? INFINITY : result;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         (a.size() == 0 || std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size()) * sizeof(float)) == 0);
}

// Runs f with every kernel table that this machine supports; f gets the table's name.
template <class F>
void on_every_table(F f) {
  struct Restore {
    const Kernels& before = kernels();
    ~Restore() { use_kernels(before); }
  } restore;
  const Kernels* tables[4];
  const int count = supported_kernels(tables);
  for (int i = 0; i < count; ++i) {
    use_kernels(*tables[i]);
    f(std::string(tables[i]->name));
  }
}

}  // namespace qd::test
