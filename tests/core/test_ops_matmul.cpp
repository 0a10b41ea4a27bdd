// Products against f64: every layout, batched and shared operands; dense layers with every activation. test_gemm.cpp tests the
// engine itself.
#include <doctest/doctest.h>

#include "tests/check_op.h"

using namespace qd;
using namespace qd::test;

namespace {

// Leading sizes, m, n, k.
struct Sizes {
  std::vector<int64_t> leading;
  int64_t m, n, k;
  Shape shape(int64_t rows, int64_t cols, bool transposed, bool with_leading = true) const {
    std::vector<int64_t> dims = with_leading ? leading : std::vector<int64_t>{};
    dims.insert(dims.end(), {transposed ? cols : rows, transposed ? rows : cols});
    return Shape(dims);
  }
};

}  // namespace

TEST_CASE("matmul: every layout and batch") {
  const Sizes cases[] = {{{}, 1, 1, 1},     {{}, 3, 5, 7},  {{}, 16, 17, 15},    {{}, 1, 33, 8},          {{}, 33, 1, 8},
                         {{}, 0, 3, 4},     {{}, 3, 0, 4},  {{}, 3, 4, 0},       {{}, 65, 66, 67},        {{2}, 3, 5, 4},
                         {{2, 3}, 4, 5, 6}, {{1}, 9, 8, 7}, {{0}, 2, 3, 4},      {{2, 1, 2, 2}, 3, 2, 5}, {{3}, 31, 33, 32},
                         {{2}, 0, 3, 4},    {{2}, 3, 4, 0}, {{}, 120, 150, 130}, {{4}, 60, 70, 50}};
  for (const Sizes& s : cases)
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const bool shared : {false, true}) {
          if (shared && s.leading.empty()) continue;
          check_op(
              str("matmul", ta ? " ta" : "", tb ? " tb" : "", shared ? " shared" : ""),
              [=](const Tensors& x) { return matmul(x[0], x[1], ta, tb); },
              [=](const Arrays& x) { return reference::matmul(x[0], x[1], ta, tb); },
              {normal(s.shape(s.m, s.k, ta)), normal(s.shape(s.k, s.n, tb, !shared))});
        }
}

TEST_CASE("matmul: a matrix with itself") {
  check_op(
      "x x^T", [](const Tensors& x) { return matmul(x[0], x[0], false, true); },
      [](const Arrays& x) { return reference::matmul(x[0], x[0], false, true); }, {normal({5, 7})});
  check_op(
      "x^T x, batched", [](const Tensors& x) { return matmul(x[0], x[0], true); },
      [](const Arrays& x) { return reference::matmul(x[0], x[0], true); }, {normal({3, 20, 9})});
}

TEST_CASE("matmul: shapes that do not fit throw") {
  CHECK(contains(error_of([] {
                   matmul(zeros({2, 3}), zeros({2, 3}));
                 }),
                 "[matmul] expected (..., m, k) and (..., k, n) with equal leading sizes, got (2, 3) and (2, 3)"));
  CHECK(contains(error_of([] {
                   matmul(zeros({2, 3}), zeros({4, 3}), true, true);
                 }),
                 "got (2, 3) transposed and (4, 3) transposed"));
  CHECK(contains(error_of([] { matmul(zeros({2, 3, 4}), zeros({3, 4, 5})); }), "[matmul]"));
  CHECK(contains(error_of([] { matmul(zeros({3, 4}), zeros({2, 4, 5})); }), "[matmul]"));
  CHECK(contains(error_of([] { matmul(zeros({3}), zeros({3, 4})); }), "[matmul] expected matrices"));
}

TEST_CASE("linear: both layouts, every activation, with and without bias") {
  struct Dense {
    Shape x;
    int64_t out;
  };
  const Dense cases[] = {{{7}, 5},       {{0, 4}, 3},     {{3, 0}, 4},
                         {{3, 4}, 0},    {{1, 1}, 1},     {{2, 3, 8}, 9},
                         {{5, 17}, 16},  {{33, 31}, 15},  {{2, 2, 2, 2, 2, 3}, 7},
                         {{1, 300}, 70}, {{90, 110}, 130}};
  for (const Dense& c : cases)
    for (const Layout layout : {Layout::out_in, Layout::in_out})
      for (const Activation f : {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_erf, Activation::silu})
        for (const bool with_bias : {false, true}) {
          if (f == Activation::relu && c.x.size() > 200) continue;   // some pre-activation lies on the kink: see below
          const int64_t in = c.x.cols();
          Arrays inputs{normal(c.x), normal(layout == Layout::out_in ? Shape{c.out, in} : Shape{in, c.out},
                                            in ? 1 / std::sqrt(double(in)) : 1)};
          if (with_bias) inputs.push_back(normal({c.out}));
          check_op(
              str("linear ", layout == Layout::out_in ? "out_in" : "in_out", " activation ", static_cast<int>(f)),
              [=](const Tensors& x) { return linear(x[0], x[1], with_bias ? x[2] : Tensor(), layout, f); },
              [=](const Arrays& x) { return reference::linear(x[0], x[1], with_bias ? &x[2] : nullptr, layout, f); }, inputs);
        }
}

TEST_CASE("linear: the fused activation is the composed one") {
  const Arrays inputs{normal({3, 40, 70}), normal({90, 70}, 0.1), normal({90})};
  const Tensor r = to_tensor(normal({3, 40, 90}));
  on_every_table([&](const std::string& table) {
    INFO(table);
    for (const Activation f : {Activation::relu, Activation::gelu, Activation::gelu_erf, Activation::silu}) {
      const OpResult fused = run([=](const Tensors& x) { return linear(x[0], x[1], x[2], Layout::out_in, f); }, inputs, r);
      const OpResult composed =
          run([=](const Tensors& x) { return activate(f, matmul(x[0], x[1], false, true) + x[2]); }, inputs, r);
      CHECK(difference(fused.value, composed.value) < 1e-6);
      for (size_t i = 0; i < 3; ++i) CHECK(difference(fused.gradients[i], composed.gradients[i]) < 2e-6);
    }
  });
}

TEST_CASE("linear: frozen inputs and weights get no gradient") {
  const NoLeaks no_leaks;
  Tensor x = to_tensor(normal({4, 5})), w = to_tensor(normal({3, 5})), b = to_tensor(normal({3}));
  w.require_gradient();
  sum(linear(x, w, b, Layout::out_in, Activation::silu)).backward();
  CHECK_FALSE(x.needs_gradient());
  CHECK(kernels().sum_squares(w.size(), w.gradient().data()) > 0);
  CHECK_FALSE(linear(x, w.detach(), b).needs_gradient());
}

TEST_CASE("linear: shapes that do not fit throw") {
  CHECK(contains(error_of([] {
                   linear(zeros({2, 3}), zeros({3, 4}), {});
                 }),
                 "[linear] expected (..., in) and a weight (out, in), got (2, 3) and (3, 4)"));
  CHECK(contains(error_of([] { linear(zeros({2, 3}), zeros({4, 3}), {}, Layout::in_out); }), "(in, out)"));
  CHECK(contains(error_of([] { linear(zeros({2, 3}), zeros({4, 3}), zeros({3})); }), "[linear] expected a bias (4), got (3)"));
  CHECK(contains(error_of([] { linear(zeros({}), zeros({4, 3}), {}); }), "[linear]"));
}
