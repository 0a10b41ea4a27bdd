// One line tests an op: its values against the definition in f64 (tests/reference.h), its gradients against central differences
// of that definition, on every instruction set, with one, two and three threads, and without leaks:
//   check_op("silu", silu, [](double x) { return x / (1 + std::exp(-x)); }, edge_shapes(), {-30, 30});
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "tests/golden.h"
#include "tests/reference.h"

namespace qd::test {

using Array = reference::Array<double>;
using Arrays = std::vector<Array>;
using Tensors = std::vector<Tensor>;
using Op = std::function<Tensor(const Tensors&)>;
using Definition = std::function<Array(const Arrays&)>;

constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

// Largest ||a - b|| / ||b|| per tensor. A rounding to f32 is an error of at most 6e-8; a few in a row, or a sum of some hundred
// terms in several lanes, stay well below 1e-6. The differences of the definition are good to about 1e-9.
struct Tolerance {
  double value = 1e-6, gradient = 2e-6;
};

// --- inputs: numbers of f32, held in f64

// Starts anew in each test case, so that a case sees the same numbers alone and among others.
inline std::mt19937& generator() {
  static std::mt19937 instance;
  static const void* of_case = nullptr;
  if (const void* now = doctest::getContextOptions()->currentTest; now != of_case) instance.seed(1), of_case = now;
  return instance;
}

inline Array normal(const Shape& shape, double deviation = 1, double mean = 0) {
  Array out(shape);
  std::normal_distribution<float> values(static_cast<float>(mean), static_cast<float>(deviation));
  for (double& value : out.values) value = values(generator());
  return out;
}

// From low to high; a number nearer to zero than `gap` moves away from it (for functions with a kink or a pole there).
struct Range {
  double low, high, gap = 0;
};
inline Array uniform(const Shape& shape, Range range) {
  Array out(shape);
  std::uniform_real_distribution<float> values(static_cast<float>(range.low), static_cast<float>(range.high));
  for (double& value : out.values) {
    value = values(generator());
    if (std::abs(value) < range.gap) value = static_cast<float>(value < 0 ? value - range.gap : value + range.gap);
  }
  return out;
}

// Nothing, one element, around the vectors of every instruction set, several rows, and enough for several threads.
inline std::vector<Shape> edge_shapes() {
  std::vector<Shape> out{{}, {0}, {3, 0}};
  for (const int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65}) out.push_back({n});
  out.insert(out.end(), {{7, 33}, {2, 3, 1, 19}, {3, 50'001}});
  return out;
}

// A tensor with these numbers that begins `shift` elements behind an aligned address.
inline Tensor to_tensor(const Array& x, int64_t shift = 0) {
  Tensor out(Storage::allocate((x.size() + shift) * bytes_of(DType::f32)), x.shape, DType::f32, shift);
  std::copy(x.values.begin(), x.values.end(), out.mutable_data());
  return out;
}
inline Tensor ids(const std::vector<int32_t>& values, const Shape& shape) {
  return tensor(std::span<const int32_t>(values), shape);
}

// --- comparisons

inline double difference(const Tensor& a, const Array& b) {
  if (a.shape() != b.shape) return INFINITY;
  double error = 0, size = 0;
  for (int64_t i = 0; i < b.size(); ++i) {
    error += reference::square(static_cast<double>(a.data()[i]) - b[i]);
    size += b[i] * b[i];
  }
  const double result = std::sqrt(size > 0 ? error / size : error);
  return std::isnan(result) ? INFINITY : result;
}

inline bool same_bits(const Tensors& a, const Tensors& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Tensor& x, const Tensor& y) { return same_bits(x, y); });
}

// Fails when nodes or memory outlive the block.
struct NoLeaks {
  const int64_t nodes = live_nodes(), storages = live_storages();
  ~NoLeaks() {
    CHECK_MESSAGE(live_nodes() == nodes, "graph nodes are left over");
    CHECK_MESSAGE(live_storages() == storages, "memory is left over");
  }
};

// --- one run of an op

struct OpResult {
  Tensor value;
  Tensors gradients;   // one for each input
};

// op(inputs), and the gradients of sum(weights * op(inputs)), added up over `times` runs. Only input `only` needs a gradient, or
// all (-1).
inline OpResult run(const Op& op, const Arrays& inputs, const Tensor& weights, int only = -1, int64_t shift = 0, int times = 1) {
  Tensors leaves;
  for (size_t i = 0; i < inputs.size(); ++i) {
    leaves.push_back(to_tensor(inputs[i], shift));
    if (only < 0 || static_cast<int>(i) == only) leaves.back().require_gradient();
  }
  OpResult out;
  for (int i = 0; i < times; ++i) {
    const Tensor y = op(leaves);
    backward(y, weights);
    out.value = y.detach();
  }
  for (const Tensor& leaf : leaves) out.gradients.push_back(leaf.needs_gradient() ? leaf.gradient().detach() : Tensor());
  return out;
}

// --- derivatives of a definition, from central differences

// Along some directions, the numeric derivative of sum(weights * definition(inputs)) by one input. Small inputs: along each axis.
struct Derivative {
  Arrays directions;
  std::vector<double> along;
};

inline double weighted(const Array& y, const Array& weights) {
  long double total = 0;
  for (int64_t i = 0; i < y.size(); ++i) total += static_cast<long double>(y[i]) * weights[i];
  return static_cast<double>(total);
}

inline Derivative differentiate(const Definition& definition, Arrays inputs, size_t input, const Array& weights) {
  constexpr double step = 1e-5;   // truncation about 1e-10, cancellation about 1e-11 of the terms
  constexpr int64_t small = 40, many = 10'000;
  Array& x = inputs[input];
  const Array start = x;
  const int64_t n = x.size();
  Derivative out;
  for (int64_t i = 0; i < (n <= small ? n : n < many ? 4 : 3); ++i) {
    out.directions.push_back(n <= small ? Array(x.shape) : normal(x.shape));
    if (n <= small) out.directions.back()[i] = 1;
    double side[2];
    for (const int sign : {0, 1}) {
      for (int64_t j = 0; j < n; ++j) x[j] = start[j] + (sign ? step : -step) * out.directions.back()[j];
      side[sign] = weighted(definition(inputs), weights);
    }
    x = start;
    out.along.push_back((side[1] - side[0]) / (2 * step));
  }
  return out;
}

// ||g - g'|| / ||g'|| for small inputs; for others estimated from the random directions d:
// the mean square of <g - g', d> is ||g - g'||^2.
inline double difference(const Tensor& g, const Derivative& expected) {
  double error = 0, size = 0, norm = 0;
  for (const float value : g.values()) norm += static_cast<double>(value) * value;
  for (size_t k = 0; k < expected.along.size(); ++k) {
    double along = 0;
    for (int64_t i = 0; i < g.size(); ++i) along += static_cast<double>(g.data()[i]) * expected.directions[k][i];
    error += reference::square(along - expected.along[k]);
    size += reference::square(expected.along[k]);
  }
  const auto count = static_cast<int64_t>(expected.along.size());
  if (count < g.size()) size = norm * static_cast<double>(count);
  const double result = std::sqrt(size > 0 ? error / size : error);
  return std::isnan(result) ? INFINITY : result;
}

// --- the check

inline void check_op(const std::string& name, const Op& op, const Definition& definition, const Arrays& inputs,
                     Tolerance tolerance = {}) {
  std::string shapes;
  for (const Array& x : inputs) shapes += str(" ", x.shape.str());
  // Weights that do not cancel: a sum of n random signs is sqrt(n), and rounding errors would count against that.
  const Array value = definition(inputs), weights = uniform(value.shape, {-0.5, 1.5});
  std::vector<Derivative> derivatives;
  for (size_t i = 0; i < inputs.size(); ++i) derivatives.push_back(differentiate(definition, inputs, i, weights));
  const Tensor r = to_tensor(weights);

  const NoLeaks no_leaks;
  on_every_table([&](const std::string& table) {
    INFO(name, shapes, " on ", table);
    set_threads(1);
    const OpResult first = run(op, inputs, r);
    REQUIRE_MESSAGE(first.value.shape() == value.shape, "shape ", first.value.shape().str(), ", expected ", value.shape.str());
    CHECK(difference(first.value, value) <= tolerance.value);
    for (size_t i = 0; i < inputs.size(); ++i) {
      INFO("gradient of input ", i);
      CHECK(difference(first.gradients[i], derivatives[i]) <= tolerance.gradient);
    }

    // Threads, addresses and the recording of a graph change no bit.
    for (const int threads : {2, 3}) {
      set_threads(threads);
      const OpResult again = run(op, inputs, r, -1, threads - 2);
      CHECK_MESSAGE(same_bits(first.value, again.value), threads, " threads: the value differs");
      CHECK_MESSAGE(same_bits(first.gradients, again.gradients), threads, " threads: a gradient differs");
    }
    {
      const NoGrad off;
      Tensors plain;
      for (const Array& x : inputs) plain.push_back(to_tensor(x));
      CHECK_MESSAGE(same_bits(first.value, op(plain)), "without a graph the value differs");
      for (size_t i = 0; i < inputs.size(); ++i) CHECK_MESSAGE(difference(plain[i], inputs[i]) == 0, "input ", i, " was written");
    }

    // Gradients are added to what is there, and each can be asked for alone.
    const OpResult twice = run(op, inputs, r, -1, 0, 2);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const OpResult alone = run(op, inputs, r, static_cast<int>(i));
      CHECK_MESSAGE(difference(alone.gradients[i], first.gradients[i]) <= 1e-6, "alone, the gradient of input ", i, " differs");
      CHECK_MESSAGE(difference(twice.gradients[i] * 0.5f, first.gradients[i]) <= 1e-6, "added twice, the gradient of input ", i,
                    " differs");
    }
    set_threads(default_threads());
  });
}

// An elementwise op of one input.
inline void check_op(const std::string& name, Tensor (*op)(const Tensor&), double (*definition)(double),
                     const std::vector<Shape>& shapes, Range range, Tolerance tolerance = {}) {
  for (const Shape& shape : shapes)
    check_op(
        name, [op](const Tensors& x) { return op(x[0]); },
        [definition](const Arrays& x) { return reference::map(x[0], definition); }, {uniform(shape, range)}, tolerance);
}

// The message of the Error that f throws, with its hint; empty when it throws none.
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return std::string(e.what()) + " HINT: " + e.hint();
  }
  return "";
}
inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace qd::test
