// Elementwise ops: values and gradients against f64, the accuracy of each function over all of f32, special values, dropout.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

#include "core/random.h"
#include "tests/check_op.h"

using namespace qd;
using namespace qd::test;

namespace {

constexpr double smallest = std::numeric_limits<float>::min();   // denormals are zero

// Two-input op on pairs of shapes.
template <class F>
void check_binary(const std::string& name, Tensor (*op)(const Tensor&, const Tensor&), F definition, Range range) {
  const std::pair<Shape, Shape> pairs[] = {{{}, {}},
                                           {{1}, {}},
                                           {{0}, {0}},
                                           {{0}, {}},
                                           {{2, 0}, {0}},
                                           {{0, 3}, {3}},
                                           {{7}, {7}},
                                           {{17}, {17}},
                                           {{33}, {}},
                                           {{}, {33}},
                                           {{5, 7}, {7}},
                                           {{7}, {5, 7}},
                                           {{1, 7}, {7}},
                                           {{5, 1}, {1}},
                                           {{4, 3, 5}, {5}},
                                           {{4, 3, 5}, {3, 5}},
                                           {{3, 17}, {1, 1}},
                                           {{5, 16}, {16}},
                                           {{9, 65}, {65}},
                                           {{2, 3, 2, 3, 2, 3}, {3}},
                                           {{300, 501}, {501}},
                                           {{3, 50'001}, {}},
                                           {{40'000, 3}, {3}},
                                           {{3, 40'000}, {3, 40'000}}};
  for (const auto& [a, b] : pairs)
    check_op(
        name, [op](const Tensors& x) { return op(x[0], x[1]); },
        [definition](const Arrays& x) { return reference::meet(x[0], x[1], definition); },
        {uniform(a, range), uniform(b, range)});
}

// Bit patterns over the whole of f32 (a prime step, both signs), and a fine even grid where the functions bend.
std::vector<float> grid() {
  std::vector<float> out;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 8191) {
    const auto pattern = static_cast<uint32_t>(bits);
    float value;
    std::memcpy(&value, &pattern, sizeof value);
    if (std::isfinite(value)) out.push_back(value);
  }
  for (int i = -100'000; i <= 100'000; ++i) out.push_back(static_cast<float>(i) / 4096 * 1.0009f);   // -24.4 .. 24.4
  for (int i = 0; i <= 100'000; ++i) out.push_back(0.25f + static_cast<float>(i) / 32768);           // log around 1
  return out;
}

double flushed(double x) { return std::abs(x) < smallest ? std::copysign(0.0, x) : x; }

// The largest error of f over the grid, in units of `tolerance(x, y)`. Infinity where the exact value is beyond f32 is right.
template <class Exact, class Allowed>
double worst(const std::vector<float>& x, const std::vector<float>& y, Exact exact, Allowed allowed) {
  double out = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double input = flushed(x[i]), expected = exact(input);
    if (std::isnan(expected)) {
      if (!std::isnan(y[i])) return INFINITY;
      continue;
    }
    const double limit = std::numeric_limits<float>::max();
    if (std::isinf(y[i]) && std::abs(expected) > limit * (1 - 1e-6) && std::signbit(expected) == std::signbit(y[i])) continue;
    const double error = std::abs(y[i] - expected) / (allowed(input, expected) + 2 * smallest);
    if (!(error <= out)) out = std::isnan(error) ? INFINITY : error;
  }
  return out;
}

}  // namespace

TEST_CASE("elementwise: functions of one input") {
  const auto shapes = edge_shapes();
  check_op("exp", exp, [](double x) { return std::exp(x); }, shapes, {-9, 9});
  check_op("log", log, [](double x) { return std::log(x); }, shapes, {0.05, 50});
  check_op("sqrt", sqrt, [](double x) { return std::sqrt(x); }, shapes, {0.05, 50});
  check_op("square", square, [](double x) { return x * x; }, shapes, {-9, 9});
  check_op("reciprocal", reciprocal, [](double x) { return 1 / x; }, shapes, {-9, 9, 0.1});
  check_op("absolute", absolute, [](double x) { return std::abs(x); }, shapes, {-9, 9, 0.01});
  check_op("tanh", tanh, [](double x) { return std::tanh(x); }, shapes, {-2, 2});
  check_op("sigmoid", sigmoid, reference::sigmoid<double>, shapes, {-2.5, 2.5});
  check_op("relu", relu, reference::relu<double>, shapes, {-9, 9, 0.01});
  check_op("silu", silu, reference::silu<double>, shapes, {-6, 30});
  check_op("gelu", gelu, reference::gelu<double>, shapes, {-3, 3});
  check_op("gelu_erf", gelu_erf, reference::gelu_erf<double>, shapes, {-3, 3});
  check_op("minus", operator-, [](double x) { return -x; }, shapes, {-9, 9});
}

TEST_CASE("elementwise: two inputs, broadcast over trailing shapes") {
  check_binary("add", operator+, [](double a, double b) { return a + b; }, {-1, 3});
  check_binary("sub", operator-, [](double a, double b) { return a - b; }, {-1, 3});
  check_binary("mul", operator*, [](double a, double b) { return a * b; }, {-1, 3});
  check_binary("div", operator/, [](double a, double b) { return a / b; }, {-1, 3, 0.5});
}

TEST_CASE("elementwise: an input used twice, and numbers as operands") {
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{17}, Shape{5, 7}}) {
    const Arrays x{normal(shape)};
    const auto of = [&](const char* name, Tensor (*op)(const Tensor&), double (*definition)(double)) {
      check_op(
          name, [op](const Tensors& t) { return op(t[0]); }, [&](const Arrays& a) { return reference::map(a[0], definition); },
          x);
    };
    of(
        "x + x", [](const Tensor& t) { return t + t; }, [](double v) { return v + v; });
    of(
        "x x", [](const Tensor& t) { return t * t; }, [](double v) { return v * v; });
    of(
        "x + 2.5", [](const Tensor& t) { return t + 2.5f; }, [](double v) { return v + 2.5; });
    of(
        "x * -3", [](const Tensor& t) { return t * -3.0f; }, [](double v) { return v * -3; });
    of(
        "x 0", [](const Tensor& t) { return t * 0.0f; }, [](double) { return 0.0; });
    of(
        "none", [](const Tensor& t) { return activate(Activation::none, t) * 1.0f; }, [](double v) { return v; });
  }
  const Array x = normal({5, 7});
  CHECK(difference((to_tensor(x) - to_tensor(x)), Array({5, 7})) == 0);
}

TEST_CASE("elementwise: residual is alpha x + f") {
  for (const Shape& shape : {Shape{0}, Shape{1}, Shape{17}, Shape{3, 5, 33}, Shape{2, 60'001}})
    check_op(
        "residual", [](const Tensors& x) { return residual(x[0], 2.5f, x[1]); },
        [](const Arrays& x) { return reference::meet(x[0], x[1], [](double a, double f) { return 2.5 * a + f; }); },
        {normal(shape), normal(shape)});
  check_op(
      "residual of itself", [](const Tensors& x) { return residual(x[0], 2.5f, x[0]); },
      [](const Arrays& x) { return reference::map(x[0], [](double v) { return 3.5 * v; }); }, {normal({9})});
}

TEST_CASE("elementwise: activate chooses the function") {
  const Array x = normal({65}, 2);
  for (const Activation f : {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_erf, Activation::silu})
    CHECK(difference(activate(f, to_tensor(x)), reference::map(x, [f](double v) { return reference::activate(f, v); })) < 1e-6);
}

TEST_CASE("elementwise: operands that do not fit throw and name the op") {
  const Tensor a = zeros({2, 3}), b = zeros({2}), c = zeros({3, 2});
  CHECK(contains(error_of([&] { a + b; }), "[add] expected one shape, a scalar or a trailing shape, got (2, 3) and (2)"));
  CHECK(contains(error_of([&] { a - b; }), "[sub]"));
  CHECK(contains(error_of([&] { a* c; }), "[mul]"));
  CHECK(contains(error_of([&] { zeros({0}) / a; }), "[div]"));
  CHECK(contains(error_of([&] { residual(a, 1, b); }), "[residual]"));
  CHECK(contains(error_of([&] { zeros({2}, DType::i32) + b; }), "expected type F32, got I32"));
  CHECK(contains(error_of([&] { Tensor() + b; }), "undefined"));
}

TEST_CASE("elementwise: every function is accurate over all of f32") {
  const std::vector<float> x = grid();
  std::vector<float> y(x.size());
  const auto relative = [](double, double expected) { return 4e-7 * std::abs(expected); };
  // x s(x): an error of s is multiplied by x. In the tail of silu s is relatively right until it is a denormal, and so zero.
  const auto by_input = [](double in, double) { return 4e-7 * std::abs(in); };
  const auto to_the_end = [](double in, double expected) { return 4e-7 * std::abs(expected) + 2 * smallest * std::abs(in); };
  on_every_table([&](const std::string& table) {
    const auto error = [&](Unary f, double (*exact)(double), auto allowed) {
      kernels().unary(f, static_cast<int64_t>(x.size()), x.data(), y.data());
      return worst(x, y, exact, allowed);
    };
    INFO(table);
    CHECK(error(
              Unary::exp, [](double v) { return std::exp(v); }, relative) <= 1);
    CHECK(error(
              Unary::log, [](double v) { return std::log(v); }, relative) <= 1);
    CHECK(error(
              Unary::sqrt, [](double v) { return std::sqrt(v); }, relative) <= 1);
    CHECK(error(
              Unary::square, [](double v) { return v * v; }, relative) <= 1);
    CHECK(error(
              Unary::reciprocal, [](double v) { return 1 / v; }, relative) <= 1);
    CHECK(error(
              Unary::tanh, [](double v) { return std::tanh(v); }, relative) <= 1);
    CHECK(error(Unary::sigmoid, reference::sigmoid<double>, relative) <= 1);
    CHECK(error(Unary::silu, reference::silu<double>, to_the_end) <= 1);
    CHECK(error(Unary::gelu, reference::gelu<double>, by_input) <= 1);
    CHECK(error(Unary::gelu_erf, reference::gelu_erf<double>, by_input) <= 1);
  });
}

TEST_CASE("elementwise: slopes are accurate over all of f32") {
  const std::vector<float> x = grid();
  std::vector<float> y(x.size()), dx(x.size());
  const std::vector<float> ones(x.size(), 1);
  const auto near = [](double, double) { return 2e-6; };   // slopes lie in -0.2 .. 1.2
  on_every_table([&](const std::string& table) {
    INFO(table);
    const auto error = [&](Unary f, auto exact) {
      const auto n = static_cast<int64_t>(x.size());
      kernels().unary(f, n, x.data(), y.data());
      kernels().unary_gradient(f, n, saves_output(f) ? y.data() : x.data(), ones.data(), dx.data(), false);
      return worst(x, dx, exact, near);
    };
    CHECK(error(Unary::tanh, [](double v) { return 1 - std::tanh(v) * std::tanh(v); }) <= 1);
    CHECK(error(Unary::sigmoid, [](double v) { return reference::sigmoid(v) * reference::sigmoid(-v); }) <= 1);
    CHECK(error(Unary::relu, [](double v) { return v > 0 ? 1.0 : 0.0; }) <= 1);
    CHECK(error(Unary::absolute, [](double v) { return v > 0 ? 1.0 : v < 0 ? -1.0 : 0.0; }) <= 1);
    CHECK(error(Unary::silu, [](double v) {
            const double s = reference::sigmoid(v);
            return s + (s > 0 ? v * s * reference::sigmoid(-v) : 0.0);
          }) <= 1);
    CHECK(error(Unary::gelu_erf, [](double v) {
            return std::erfc(-v / std::sqrt(2.0)) / 2 + (std::abs(v) < 50 ? v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI) : 0.0);
          }) <= 1);
    CHECK(error(Unary::gelu, [](double v) {
            const double c = std::sqrt(2 / M_PI), t = std::tanh(c * (v + 0.044715 * v * v * v));
            return (1 + t) / 2 + (std::abs(v) < 50 ? v / 2 * (1 - t * t) * c * (1 + 3 * 0.044715 * v * v) : 0.0);
          }) <= 1);
  });
}

TEST_CASE("elementwise: special values") {
  on_every_table([](const std::string& table) {
    INFO(table);
    // At every place of vectors and tails.
    for (const int64_t n : {1, 3, 8, 17, 33})
      for (int64_t at = 0; at < n; ++at) {
        const auto of = [&](Tensor (*op)(const Tensor&), float value) {
          Tensor x = full({n}, 1);
          x.mutable_data()[at] = value;
          const NoGrad off;
          return op(x).data()[at];
        };
        for (const auto op :
             {qd::exp, qd::log, qd::sqrt, square, reciprocal, absolute, qd::tanh, sigmoid, relu, silu, gelu, gelu_erf})
          CHECK(std::isnan(of(op, not_a_number)));   // a NaN never disappears
        CHECK(of(exp, 89) == infinity);
        CHECK(of(exp, infinity) == infinity);
        CHECK(of(exp, -infinity) == 0);
        CHECK(of(exp, -200) == 0);
        CHECK(of(exp, 0) == 1);
        CHECK(of(log, 0) == -infinity);
        CHECK(of(log, infinity) == infinity);
        CHECK(std::isnan(of(log, -1)));
        CHECK(of(log, 1) == 0);
        CHECK(std::isnan(of(sqrt, -1)));
        CHECK(of(sqrt, infinity) == infinity);
        CHECK(of(reciprocal, 0) == infinity);
        CHECK(of(reciprocal, infinity) == 0);
        CHECK(of(tanh, infinity) == 1);
        CHECK(of(tanh, -infinity) == -1);
        CHECK(of(sigmoid, infinity) == 1);
        CHECK(of(sigmoid, -infinity) == 0);
        CHECK(of(relu, -infinity) == 0);
        CHECK(of(relu, infinity) == infinity);
        CHECK(of(gelu, infinity) == infinity);
        CHECK(of(gelu_erf, infinity) == infinity);
        CHECK(of(silu, infinity) == infinity);
        CHECK(std::abs(of(gelu, -1e30f)) <= 1e-6f);
        CHECK(std::abs(of(gelu_erf, -1e30f)) <= 1e-6f);
        CHECK(std::abs(of(silu, -1e30f)) <= 1e-6f);
      }
  });
}

TEST_CASE("elementwise: all_finite finds one bad number anywhere") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (int64_t n = 0; n <= 70; ++n) {
      Tensor x = full({n}, -3e38f);
      CHECK(kernels().all_finite(n, x.data()));
      for (const float bad : {not_a_number, infinity, -infinity})
        for (int64_t at = 0; at < n; ++at) {
          x.mutable_data()[at] = bad;
          CHECK_FALSE(kernels().all_finite(n, x.data()));
          CHECK(kernels().all_finite(at, x.data()));
          x.mutable_data()[at] = 0;
        }
    }
    Tensor large = zeros({300'000});
    CHECK(kernels().all_finite(large.size(), large.data()));
    for (const int64_t at : {0, 150'001, 299'999}) {
      large.mutable_data()[at] = not_a_number;
      CHECK_FALSE(kernels().all_finite(large.size(), large.data()));
      large.mutable_data()[at] = 0;
    }
  });
}

TEST_CASE("elementwise: combine, scale_add and fill in place") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (const int64_t n : {0, 1, 15, 16, 17, 65, 100'001}) {
      const Array a = normal({n}), b = normal({n});
      Tensor x = to_tensor(a), y = to_tensor(b);
      kernels().combine(n, 2, x.data(), -1, y.data(), y.mutable_data());
      CHECK(difference(y, reference::meet(a, b, [](double u, double v) { return 2 * u - v; })) < 1e-7);
      kernels().combine(n, 3, x.data(), 0, nullptr, x.mutable_data());
      CHECK(difference(x, reference::map(a, [](double u) { return 3 * u; })) < 1e-7);
      kernels().scale_add(n, 0.5f, x.data(), x.mutable_data());
      CHECK(difference(x, reference::map(a, [](double u) { return 4.5 * u; })) < 1e-6);
      kernels().fill(n, -2, x.mutable_data());
      CHECK(difference(x, Array({n}, -2)) == 0);
    }
  });
}

TEST_CASE("dropout: scales what it keeps, and repeats with its stream") {
  for (const float p : {0.1f, 0.5f, 0.9f}) {
    const int64_t n = 40'003;
    const RandomState start{7, 3};
    Tensor mask;   // of the first table; all draw the same
    on_every_table([&](const std::string& table) {
      INFO(table, " p ", p);
      random_state() = start;
      const Tensor y = dropout(full({n}, 1), p);
      int64_t kept = 0;
      bool exact = true;
      for (const float value : y.values()) {
        kept += value != 0;
        exact = exact && (value == 0 || std::abs(value - 1 / (1 - p)) < 1e-6f / (1 - p));
      }
      CHECK(exact);
      CHECK(std::abs(static_cast<double>(kept) / n - (1 - p)) < 4 * std::sqrt(p * (1 - p) / n));
      if (mask.defined()) CHECK(same_bits(y, mask));
      mask = y;
      CHECK(random_state().next == start.next + 1);   // one stream for each call
      CHECK_FALSE(same_bits(y, dropout(full({n}, 1), p)));
      // The head of a longer tensor is the same: element i has its own counter.
      for (const int64_t m : {1, 2, 3, 4, 5, 15, 16, 17, 33, 10'001}) {
        random_state() = start;
        CHECK(same_bits(dropout(full({m}, 1), p), y.row_range(0, m)));
      }
    });
  }
}

TEST_CASE("dropout: the gradient has the mask of the value") {
  const auto replayed = [](float p) {
    return [p](const Tensors& x) {
      random_state() = {11, 5};
      return dropout(x[0], p);
    };
  };
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{17}, Shape{3, 5, 33}, Shape{3, 30'001}})
    for (const float p : {0.25f, 0.5f}) {
      random_state() = {11, 5};
      const Tensor mask = dropout(full(shape, 1), p);
      check_op("dropout", replayed(p),
               [&](const Arrays& x) {
                 Array y = x[0];
                 for (int64_t i = 0; i < y.size(); ++i) y[i] *= mask.data()[i] != 0 ? 1 / (1 - static_cast<double>(p)) : 0;
                 return y;
               },
               {normal(shape)});
    }
}

TEST_CASE("dropout: probabilities at and beyond the ends") {
  const Tensor x = full({9}, 2);
  const RandomState before = random_state();
  CHECK(same_bits(dropout(x, 0), x));
  CHECK(random_state().next == before.next);   // nothing is drawn
  CHECK(contains(error_of([&] { dropout(x, 1); }), "[dropout] expected a probability in [0, 1), got 1"));
  CHECK(contains(error_of([&] { dropout(x, -0.1f); }), "[dropout]"));
  CHECK(contains(error_of([&] { dropout(x, not_a_number); }), "[dropout]"));
}
