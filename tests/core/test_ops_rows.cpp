// Reductions, softmax and norms against f64; rows with special values; the fused norm against its composed form.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/check_op.h"

using namespace qd;
using namespace qd::test;

namespace {

std::vector<Shape> row_shapes() {
  std::vector<Shape> out{{1}, {0}, {0, 5}, {3, 0}, {5, 1}};
  for (const int64_t n : {2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65, 100, 127, 129}) out.push_back({3, n});
  out.insert(out.end(), {{2, 3, 5}, {2, 1, 2, 1, 2, 17}, {1, 5000}, {2000, 64}, {7, 20'001}});
  return out;
}

// One row of ones with one other value.
Tensor row_with(int64_t n, int64_t at, float value, float others = 1) {
  Tensor x = full({2, n}, others);
  x.mutable_data()[at] = value;
  return x;
}

}  // namespace

TEST_CASE("rows: sums and means") {
  for (const Shape& shape : edge_shapes()) {
    // A sum of n random signs is about sqrt(n), and a rounding error counts against that.
    const Arrays x{uniform(shape, {-0.5, 1.5})};
    check_op(
        "sum", [](const Tensors& t) { return sum(t[0]); }, [](const Arrays& a) { return reference::sum(a[0]); }, x);
    if (shape.size() == 0) continue;
    check_op(
        "mean", [](const Tensors& t) { return mean(t[0]); },
        [](const Arrays& a) {
          return reference::map(reference::sum(a[0]), [&](double v) { return v / static_cast<double>(a[0].size()); });
        },
        x);
  }
  for (const Shape& shape : row_shapes()) {
    const Arrays x{uniform(shape, {-0.5, 1.5})};
    check_op(
        "sum_last", [](const Tensors& t) { return sum_last(t[0]); }, [](const Arrays& a) { return reference::sum_last(a[0]); },
        x);
    if (shape.cols() == 0) continue;
    check_op(
        "mean_last", [](const Tensors& t) { return mean_last(t[0]); },
        [](const Arrays& a) {
          return reference::map(reference::sum_last(a[0]), [&](double v) { return v / static_cast<double>(a[0].cols()); });
        },
        x);
  }
  CHECK(contains(error_of([] { mean(zeros({0})); }), "[mean] expected at least one element"));
}

TEST_CASE("rows: a long sum keeps what f32 would lose") {
  on_every_table([](const std::string& table) {
    INFO(table);
    Tensor x = full({4'000'001}, 0.1f);
    x.mutable_data()[0] = 1e6f;
    const double exact = 1e6 + 4e6 * static_cast<double>(0.1f);   // one f32 after the other would stop growing: an error of 0.03
    CHECK(std::abs(kernels().sum(x.size(), x.data()) / exact - 1) < 1e-5);
    CHECK(std::abs(kernels().sum_squares(x.size(), x.data()) / (1e12 + 4e6 * 0.1f * 0.1f) - 1) < 1e-6);
    CHECK(kernels().sum(0, nullptr) == 0);
    CHECK(kernels().sum_squares(0, nullptr) == 0);
  });
}

TEST_CASE("rows: sum_rows adds columns up") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (const auto& [rows, cols] :
         {std::pair<int64_t, int64_t>{0, 5}, {5, 0}, {1, 17}, {3, 33}, {1000, 7}, {5000, 64}, {100, 3000}}) {
      const Array x = uniform({rows, cols}, {-0.5, 1.5});
      Array expected({cols}, 0);
      for (int64_t i = 0; i < x.size(); ++i) expected[i % cols] += x[i];
      const Tensor from = to_tensor(x);
      Tensor first = full({cols}, not_a_number), more = full({cols}, 2);
      set_threads(1);
      kernels().sum_rows(rows, cols, from.data(), first.mutable_data(), false);
      kernels().sum_rows(rows, cols, from.data(), more.mutable_data(), true);
      CHECK(difference(first, expected) < 1e-6);
      CHECK(difference(more, reference::map(expected, [](double v) { return v + 2; })) < 1e-6);
      for (const int threads : {2, 3}) {
        set_threads(threads);
        Tensor y = full({cols}, not_a_number);
        kernels().sum_rows(rows, cols, from.data(), y.mutable_data(), false);
        CHECK(same_bits(y, first));
      }
      set_threads(default_threads());
    }
  });
}

TEST_CASE("rows: largest element and its first place") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (const int64_t n : {1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 65, 300}) {
      Tensor x = to_tensor(uniform({n, n}, {-5, -1}));
      for (int64_t r = 0; r < n; ++r)   // the largest at each place, once more behind it
        for (int64_t c = r; c < n; c += 5) x.mutable_data()[r * n + c] = -0.5f;
      const Tensor largest = max_last(x), where = argmax_last(x);
      CHECK(largest.shape() == Shape{n});
      bool right = true;
      for (int64_t r = 0; r < n; ++r) right = right && largest.data()[r] == -0.5f && where.data<int32_t>()[r] == r;
      CHECK(right);
    }
    CHECK(argmax_last(full({2, 40}, -infinity)).data<int32_t>()[1] == 0);
    CHECK(max_last(full({2, 40}, -infinity)).data()[1] == -infinity);
    for (const int64_t n : {1, 9, 33})
      for (int64_t at = 0; at < n; ++at) {
        CHECK(std::isnan(max_last(row_with(n, at, not_a_number)).data()[0]));   // a NaN is not passed over
        CHECK(max_last(row_with(n, at, not_a_number)).data()[1] == 1);
        CHECK(argmax_last(row_with(n, at, infinity)).data<int32_t>()[0] == at);
      }
  });
  CHECK(contains(error_of([] { max_last(zeros({3, 0})); }), "[max_last] expected a last dimension of at least 1"));
}

TEST_CASE("rows: softmax") {
  for (const Shape& shape : row_shapes())
    for (const double spread :
         {1.0, 4.0})   // of 4: one weight may be nearly 1, and dy - sum(dy y) nearly cancels where it stands
      check_op(
          "softmax", [](const Tensors& x) { return softmax(x[0]); }, [](const Arrays& x) { return reference::softmax(x[0]); },
          {normal(shape, spread)}, {2e-6, spread > 1 ? 2e-5 : 4e-6});
}

TEST_CASE("rows: softmax of special rows") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (const int64_t n : {1, 2, 7, 8, 9, 16, 17, 33, 100}) {
      Tensor x = full({1, n}, -infinity).require_gradient();
      const Tensor y = softmax(x);
      backward(y, full({1, n}, 3));
      CHECK(difference(y, Array({1, n})) == 0);   // nothing to choose from: zeros
      CHECK(difference(x.gradient(), Array({1, n})) == 0);
      for (const float level : {1e30f, -1e30f, 3e38f, -3e38f})
        CHECK(difference(softmax(full({1, n}, level)), Array({1, n}, 1.0 / double(n))) < 1e-6);
      for (int64_t at = 0; at < n; ++at) {
        Array one({2, n}, n > 1 ? 0 : 1);
        for (int64_t c = 0; c < n; ++c) one[c] = c == at, one[n + c] = 1.0 / double(n);
        CHECK(difference(softmax(row_with(n, at, 1e30f, 0)), one) < 1e-6);
        CHECK(difference(softmax(row_with(n, at, 0, -1e30f)), one) < 1e-6);
        CHECK(std::isnan(softmax(row_with(n, at, not_a_number)).data()[at]));
        Tensor hidden = full({1, n}, 0);   // a hidden key has weight zero, exactly
        hidden.mutable_data()[at] = -infinity;
        const Tensor p = softmax(hidden);
        CHECK((n == 1 || p.data()[at] == 0));
        CHECK((n == 1 || std::abs(sum(p).item() - 1) < 1e-6));
      }
    }
  });
}

TEST_CASE("rows: layer norm and RMS norm, with and without weight and bias") {
  for (const Shape& shape : row_shapes()) {
    if (shape.cols() == 0) continue;
    const int64_t n = shape.cols();
    for (const bool rms : {false, true}) {
      // With few numbers in a row the gradient is what is left when nearly everything has cancelled; a large epsilon leaves more.
      const Tolerance tolerance = n < 4 ? Tolerance{2e-6, 1e-5} : Tolerance{};
      const NormOptions options{.epsilon = n < 4 ? 0.1f : 1e-3f, .rms = rms};
      const Array x = normal(shape, 1, 0.3), weight = normal({n}, 0.5, 1), bias = normal({n});
      check_op(
          "norm", [=](const Tensors& t) { return norm(t[0], t[1], t[2], options); },
          [=](const Arrays& a) { return reference::norm(a[0], &a[1], &a[2], options); }, {x, weight, bias}, tolerance);
      check_op(
          "norm without bias", [=](const Tensors& t) { return norm(t[0], t[1], {}, options); },
          [=](const Arrays& a) { return reference::norm<double>(a[0], &a[1], nullptr, options); }, {x, weight}, tolerance);
      check_op(
          "norm without weight", [=](const Tensors& t) { return norm(t[0], {}, t[1], options); },
          [=](const Arrays& a) { return reference::norm<double>(a[0], nullptr, &a[1], options); }, {x, bias}, tolerance);
      check_op(
          "norm alone", [=](const Tensors& t) { return norm(t[0], {}, {}, options); },
          [=](const Arrays& a) { return reference::norm<double>(a[0], nullptr, nullptr, options); }, {x}, tolerance);
    }
  }
}

TEST_CASE("rows: norms of rows far from zero, constant, tiny and empty") {
  // A mean of 1000 leaves 1e-7 * 1000 of each number: the variance must not be computed as E[x^2] - E[x]^2.
  check_op(
      "norm far away", [](const Tensors& t) { return norm(t[0], {}, {}); },
      [](const Arrays& a) { return reference::norm<double>(a[0], nullptr, nullptr); }, {normal({4, 300}, 1, 1000)}, {1e-4, 1e-4});
  on_every_table([](const std::string& table) {
    INFO(table);
    CHECK(difference(norm(full({2, 33}, 7), {}, full({33}, 2)), Array({2, 33}, 2)) < 1e-6);
    CHECK(kernels().all_finite(66, norm(full({2, 33}, 1e-30f), {}, {}, {.rms = true}).data()));
    CHECK(norm(zeros({0, 5}), full({5}, 1), {}).shape() == Shape{0, 5});
    CHECK(norm(zeros({5, 0}), full({0}, 1), {}).shape() == Shape{5, 0});
    for (const int64_t n : {1, 9, 33})
      for (const bool rms : {false, true})
        CHECK(std::isnan(norm(row_with(n, n - 1, not_a_number), {}, {}, {.rms = rms}).data()[0]));
  });
  CHECK(contains(error_of([] { norm(zeros({2, 3}), zeros({2}), {}); }), "[layer_norm] expected weight of shape (3), got (2)"));
  CHECK(contains(error_of([] {
                   norm(zeros({2, 3}), {}, zeros({4}), {.rms = true});
                 }),
                 "[rms_norm] expected bias of shape (3), got (4)"));
  CHECK(contains(error_of([] { norm(zeros({}), {}, {}); }), "[layer_norm] expected at least one dimension"));
}

TEST_CASE("rows: residual norm is the norm of alpha x + f") {
  for (const bool rms : {false, true})
    for (const Shape& shape : {Shape{0, 5}, Shape{1, 8}, Shape{3, 17}, Shape{2, 3, 33}, Shape{700, 128}}) {
      const int64_t n = shape.cols();
      const NormOptions options{.epsilon = 1e-3f, .rms = rms};
      const Arrays inputs{normal(shape), normal(shape), normal({n}, 0.5, 1), normal({n})};
      const auto definition = [=](const Arrays& a) {
        const Array s = reference::meet(a[0], a[1], [](double x, double f) { return 2.5 * x + f; });
        return reference::norm(s, &a[2], a.size() > 3 ? &a[3] : nullptr, options);
      };
      check_op(
          "residual_norm", [=](const Tensors& t) { return residual_norm(t[0], 2.5f, t[1], t[2], t[3], options); }, definition,
          inputs);
      check_op("residual_norm without bias", [=](const Tensors& t) { return residual_norm(t[0], 2.5f, t[1], t[2], {}, options); },
               definition, {inputs[0], inputs[1], inputs[2]});
      on_every_table([&](const std::string& table) {
        INFO(table);
        const Tensor r = to_tensor(normal(shape));
        const OpResult fused =
            run([=](const Tensors& t) { return residual_norm(t[0], 2.5f, t[1], t[2], t[3], options); }, inputs, r);
        const OpResult composed =
            run([=](const Tensors& t) { return norm(residual(t[0], 2.5f, t[1]), t[2], t[3], options); }, inputs, r);
        CHECK(difference(fused.value, composed.value) < 1e-6);
        for (size_t i = 0; i < inputs.size(); ++i) CHECK(difference(fused.gradients[i], composed.gradients[i]) < 1e-6);
      });
    }
  check_op(
      "residual_norm of one input", [](const Tensors& t) { return residual_norm(t[0], 2, t[0], {}, {}); },
      [](const Arrays& a) {
        return reference::norm<double>(reference::map(a[0], [](double v) { return 3 * v; }), nullptr, nullptr);
      },
      {normal({3, 17})});
  CHECK(contains(error_of([] { residual_norm(zeros({2, 3}), 1, zeros({3, 2}), {}, {}); }), "[residual_norm] expected one shape"));
}

TEST_CASE("rows: batch norm normalises every channel over all rows, and tells its statistics") {
  const auto definition = [](const Arrays& a) {
    const int64_t rows = a[0].shape.rows(), cols = a[0].shape.cols();
    Array y(a[0].shape);
    for (int64_t c = 0; c < cols; ++c) {
      double mean = 0, variance = 0;
      for (int64_t r = 0; r < rows; ++r) mean += a[0][r * cols + c] / static_cast<double>(rows);
      for (int64_t r = 0; r < rows; ++r) variance += std::pow(a[0][r * cols + c] - mean, 2) / static_cast<double>(rows);
      for (int64_t r = 0; r < rows; ++r)
        y[r * cols + c] = a[1][c] * (a[0][r * cols + c] - mean) / std::sqrt(variance + 1e-3) + a[2][c];
    }
    return y;
  };
  for (const Shape& shape : {Shape{1, 4}, Shape{7, 1}, Shape{5, 8}, Shape{3, 17}, Shape{2, 3, 2, 33}, Shape{700, 16}, Shape{4, 129}, Shape{2, 0}}) {
    const int64_t n = shape.cols();
    const Arrays inputs{normal(shape), normal({n}, 0.5, 1), normal({n})};
    const auto op = [](const Tensors& t) {
      BatchStatistics batch;
      return batch_norm(t[0], t[1], t[2], 1e-3f, batch);
    };
    check_op("batch_norm", op, definition, inputs);
    BatchStatistics found;
    batch_norm(to_tensor(inputs[0]), to_tensor(inputs[1]), to_tensor(inputs[2]), 1e-3f, found);
    for (int64_t c = 0; c < n; ++c) {
      double mean = 0, variance = 0;
      const auto rows = static_cast<double>(shape.rows());
      for (int64_t r = 0; r < shape.rows(); ++r) mean += inputs[0][r * n + c] / rows;
      for (int64_t r = 0; r < shape.rows(); ++r) variance += std::pow(inputs[0][r * n + c] - mean, 2) / rows;
      CHECK(found.mean.data()[c] == doctest::Approx(mean).epsilon(1e-5).scale(1));
      CHECK(found.variance.data()[c] == doctest::Approx(variance).epsilon(1e-5));
    }
  }
  BatchStatistics found;
  CHECK(contains(error_of([&] { batch_norm(zeros({2, 3}), zeros({2}), zeros({3}), 1e-5f, found); }), "[batch_norm] expected weight of shape (3), got (2)"));
  CHECK(contains(error_of([&] { batch_norm(zeros({0, 3}), zeros({3}), zeros({3}), 1e-5f, found); }), "at least one row"));
}

TEST_CASE("rows: group norm normalises each sample's groups of channels") {
  struct Case {
    Shape shape;
    int64_t groups;
  };
  for (const Case& k : {Case{{1, 8}, 2}, Case{{3, 2, 2, 6}, 1}, Case{{2, 3, 5, 6}, 3}, Case{{2, 7, 17}, 17}, Case{{2, 5, 4, 33}, 11}, Case{{3, 40, 30, 16}, 4}}) {
    // At least four numbers a group: of two nothing but their order is left, and gradients cancel.
    const int64_t rows = k.shape.rows() / k.shape[0], cols = k.shape.cols(), width = cols / k.groups;
    const auto definition = [&](const Arrays& a) {
      Array y(k.shape);
      for (int64_t b = 0; b < k.shape[0]; ++b)
        for (int64_t g = 0; g < k.groups; ++g) {
          const auto each = [&](auto f) {
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t c = g * width; c < (g + 1) * width; ++c) f((b * rows + r) * cols + c, c);
          };
          const auto count = static_cast<double>(rows * width);
          double mean = 0, variance = 0;
          each([&](int64_t i, int64_t) { mean += a[0][i] / count; });
          each([&](int64_t i, int64_t) { variance += std::pow(a[0][i] - mean, 2) / count; });
          each([&](int64_t i, int64_t c) { y[i] = a[1][c] * (a[0][i] - mean) / std::sqrt(variance + 1e-3) + a[2][c]; });
        }
      return y;
    };
    check_op("group_norm", [&](const Tensors& t) { return group_norm(t[0], k.groups, t[1], t[2], 1e-3f); }, definition,
             {normal(k.shape), normal({cols}, 0.5, 1), normal({cols})});
  }
  CHECK(contains(error_of([&] { group_norm(zeros({2, 6}), 4, zeros({6}), zeros({6}), 1e-5f); }), "[group_norm] expected a number of groups that divides 6 channels, got 4"));
  CHECK(contains(error_of([&] { group_norm(zeros({2, 6}), 0, zeros({6}), zeros({6}), 1e-5f); }), "got 0"));
}
