// Pooling and upsampling against their definitions in f64.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "tests/check_op.h"

using namespace qd;
using namespace qd::test;

namespace {

// f(pixels of the window, those that lie in the picture) for each output.
template <class F>
Array pooled(const Array& x, const PoolOptions& o, F f) {
  const int64_t sy = o.stride.y ? o.stride.y : o.window.y, sx = o.stride.x ? o.stride.x : o.window.x;
  Array y({x.dim(0), (x.dim(1) + 2 * o.padding.y - o.window.y) / sy + 1, (x.dim(2) + 2 * o.padding.x - o.window.x) / sx + 1, x.dim(3)});
  int64_t at = 0;
  for (int64_t b = 0; b < y.dim(0); ++b)
    for (int64_t i = 0; i < y.dim(1); ++i)
      for (int64_t j = 0; j < y.dim(2); ++j)
        for (int64_t c = 0; c < y.dim(3); ++c) {
          std::vector<double> values;
          for (int64_t u = i * sy - o.padding.y; u < i * sy - o.padding.y + o.window.y; ++u)
            for (int64_t v = j * sx - o.padding.x; v < j * sx - o.padding.x + o.window.x; ++v)
              if (u >= 0 && u < x.dim(1) && v >= 0 && v < x.dim(2)) values.push_back(x[((b * x.dim(1) + u) * x.dim(2) + v) * x.dim(3) + c]);
          y[at++] = f(values);
        }
  return y;
}

struct Case {
  Shape shape;
  PoolOptions options;
};
const std::vector<Case>& cases() {
  static const std::vector<Case> all{{{1, 2, 2, 1}, {}},
                                     {{2, 7, 5, 3}, {}},
                                     {{2, 7, 5, 17}, {.window = 3, .stride = 2, .padding = 1}},
                                     {{1, 6, 9, 5}, {.window = {2, 4}, .stride = {3, 1}, .padding = {1, 2}}},
                                     {{3, 4, 4, 4}, {.window = 1}},
                                     {{1, 1, 1, 2}, {.window = 2, .stride = 1, .padding = 1}},
                                     {{0, 4, 4, 2}, {}},
                                     {{5, 16, 16, 33}, {.window = 3, .stride = 1, .padding = 1}}};
  return all;
}

}  // namespace

TEST_CASE("pool: the largest and the mean of windows") {
  for (const Case& k : cases()) {
    INFO(k.shape.str());
    // All values are different, by more than the steps of numeric differences.
    Array x(k.shape);
    for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 7919 % 10007) * 0.01 - 50);
    check_op("max_pool2d", [&](const Tensors& t) { return max_pool2d(t[0], k.options); },
             [&](const Arrays& a) { return pooled(a[0], k.options, [](const auto& v) { return *std::max_element(v.begin(), v.end()); }); }, {x});
    const auto area = static_cast<double>(k.options.window.y * k.options.window.x);
    check_op("average_pool2d", [&](const Tensors& t) { return average_pool2d(t[0], k.options); },
             [&](const Arrays& a) {
               return pooled(a[0], k.options, [&](const auto& v) {
                 double sum = 0;
                 for (const double value : v) sum += value;
                 return sum / area;
               });
             },
             {normal(k.shape)});
  }
}

TEST_CASE("pool: equal values send the gradient to the first; NaN wins, -infinity is a value") {
  Tensor x = tensor(std::vector<float>{1, 3, 3, 2, 3, 0, 3, 3}).reshape({1, 2, 4, 1});
  x.require_gradient();
  const Tensor y = max_pool2d(x);
  CHECK(same_bits(y.detach(), tensor(std::vector<float>{3, 3}).reshape({1, 1, 2, 1})));
  backward(y, full({1, 1, 2, 1}, 1));
  CHECK(same_bits(x.gradient(), tensor(std::vector<float>{0, 1, 1, 0, 0, 0, 0, 0}).reshape({1, 2, 4, 1})));
  Tensor bad = tensor(std::vector<float>{not_a_number, 1, -infinity, -infinity, 2, 3, -infinity, -infinity}).reshape({1, 2, 4, 1});
  bad.require_gradient();
  const Tensor worst = max_pool2d(bad);
  CHECK(std::isnan(worst.data()[0]));
  CHECK(worst.data()[1] == -infinity);
  backward(worst, full({1, 1, 2, 1}, 1));
  CHECK(same_bits(bad.gradient(), tensor(std::vector<float>{1, 0, 1, 0, 0, 0, 0, 0}).reshape({1, 2, 4, 1})));
}

TEST_CASE("pool: upsampling repeats pixels") {
  const std::vector<std::pair<Shape, PerAxis>> all{{{2, 3, 2, 5}, 2}, {{1, 2, 5, 17}, {3, 1}}, {{1, 1, 1, 1}, {1, 4}}, {{3, 8, 8, 16}, 2}, {{2, 0, 3, 4}, 2}};
  for (const auto& k : all) {
    const PerAxis factor = k.second;
    check_op("upsample_nearest", [factor](const Tensors& t) { return upsample_nearest(t[0], factor); },
             [factor](const Arrays& a) {
               const Array& x = a[0];
               Array y({x.dim(0), x.dim(1) * factor.y, x.dim(2) * factor.x, x.dim(3)});
               int64_t at = 0;
               for (int64_t b = 0; b < y.dim(0); ++b)
                 for (int64_t i = 0; i < y.dim(1); ++i)
                   for (int64_t j = 0; j < y.dim(2); ++j)
                     for (int64_t c = 0; c < y.dim(3); ++c) y[at++] = x[((b * x.dim(1) + i / factor.y) * x.dim(2) + j / factor.x) * x.dim(3) + c];
               return y;
             },
             {normal(k.first)});
  }
}

TEST_CASE("pool: wrong shapes and options are named") {
  CHECK(contains(error_of([] { max_pool2d(zeros({4, 4})); }), "[max_pool2d] expected pictures (B, H, W, C), got (4, 4)"));
  CHECK(contains(error_of([] { max_pool2d(zeros({1, 1, 4, 2})); }), "expected a height that the window of 2 fits into, got 1"));
  CHECK(contains(error_of([] { max_pool2d(zeros({1, 0, 4, 2}), {.window = 2, .padding = 1}); }), "got 0 and a padding of 1"));
  CHECK(contains(error_of([] { average_pool2d(zeros({1, 4, 4, 2}), {.window = 2, .padding = 2}); }), "at most half the window of 2, got 2"));
  CHECK(contains(error_of([] { average_pool2d(zeros({1, 4, 4, 2}), {.window = 0}); }), "got 0"));
  CHECK(contains(error_of([] { average_pool2d(zeros({1, 4, 4, 2}), {.stride = -1}); }), "got 2 and -1"));
  CHECK(contains(error_of([] { upsample_nearest(zeros({1, 4, 4, 2}), 0); }), "expected factors"));
}
