// Convolutions and quantisation against their definitions in f64: values and every gradient, on every instruction set.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/kernels/table.h"
#include "core/parallel.h"
#include "tests/check_op.h"
#include "tests/reference_conv.h"

using namespace qd;
using namespace qd::test;

namespace {

struct Sizes {
  int64_t batch, height, width, in, out, kernel_height, kernel_width;
};

// conv2d with every gradient: x, weight, bias and, when fused has one, the residual.
void check_conv(const char* what, const Sizes& s, const ConvOptions& o, const ConvFused& fused = {}, bool with_residual = false) {
  Arrays inputs{fused.relu_input ? uniform({s.batch, s.height, s.width, s.in}, {-1, 1, 0.01}) : normal({s.batch, s.height, s.width, s.in}),
                normal({s.out, s.kernel_height, s.kernel_width, s.in}), normal({s.out})};
  const Shape shape = reference::conv2d(inputs[0], inputs[1], &inputs[2], o).shape;
  if (with_residual) inputs.push_back(normal(shape));
  check_op(
      what,
      [&](const Tensors& x) {
        ConvFused f = fused;
        if (with_residual) f.residual = x[3];
        return conv2d(x[0], x[1], x[2], o, f);
      },
      [&](const Arrays& x) { return reference::conv2d(x[0], x[1], &x[2], o, fused, with_residual ? &x[3] : nullptr); }, inputs,
      {2e-6, 4e-6});
}

void check_transposed(const char* what, const Sizes& s, const ConvOptions& o, const ConvFused& fused = {}) {
  check_op(
      what, [&](const Tensors& x) { return conv_transpose2d(x[0], x[1], x[2], o, fused); },
      [&](const Arrays& x) { return reference::conv_transpose2d(x[0], x[1], &x[2], o, fused); },
      {normal({s.batch, s.height, s.width, s.in}), normal({s.in, s.kernel_height, s.kernel_width, s.out}), normal({s.out})}, {2e-6, 4e-6});
}

// Numbers that bf16 holds exactly: its products then have no error but that of f32 sums.
Array exact_in_bf16(Array x) {
  for (double& value : x.values) value = std::round(value * 128) / 128;
  return x;
}

// The three kernels of one geometry against the definition; the gradients are added to what is there. Returns the largest error.
double kernel_error(kernel::Convolution c, const std::vector<uint8_t>& taps, bool rectify, bool exact = false) {
  const ConvOptions o{.stride = {c.stride_y, c.stride_x}, .padding = {c.padding_y, c.padding_x}, .dilation = {c.dilation_y, c.dilation_x}, .taps = taps};
  const int64_t per_tap = c.kernel_height * c.kernel_width * c.in;
  Array x = uniform({c.batch, c.height, c.width, c.in}, {-1, 1}), w = uniform({c.out, c.kernel_height, c.kernel_width, c.in}, {-1, 1});
  if (exact) x = exact_in_bf16(x), w = exact_in_bf16(w);
  Array dx = uniform(x.shape, {-1, 1}), dw = uniform(w.shape, {-1, 1});
  const Array y = reference::conv2d<double>(x, w, nullptr, o, {.relu_input = rectify});
  const Array dy = exact ? exact_in_bf16(uniform(y.shape, {-1, 1})) : uniform(y.shape, {-1, 1});
  Tensor tx = to_tensor(x), tw = to_tensor(w), tdy = to_tensor(dy), tdx = to_tensor(dx), tdw = to_tensor(dw), ty = to_tensor(dy);
  reference::each_pair(c.batch, c.out_height, c.out_width, c.height, c.width, c.kernel_height, c.kernel_width, o,
                       [&](int64_t to, int64_t from, int64_t tap) {
                         for (int64_t k = 0; k < c.out; ++k)
                           for (int64_t i = 0; i < c.in; ++i) {
                             if (rectify && x[from * c.in + i] <= 0) continue;
                             dx[from * c.in + i] += dy[to * c.out + k] * w[k * per_tap + tap * c.in + i];
                             dw[k * per_tap + tap * c.in + i] += dy[to * c.out + k] * x[from * c.in + i];
                           }
                       });
  c.taps = taps.empty() ? nullptr : taps.data();
  c.rectify = rectify;
  kernels().convolution(c, tx.data(), tw.data(), ty.mutable_data(), {});
  kernels().convolution_input_gradient(c, tx.data(), tdy.data(), tw.data(), tdx.mutable_data(), {.add = true});
  kernels().convolution_weight_gradient(c, tx.data(), tdy.data(), tdw.mutable_data(), true);
  return std::max(difference(ty, y), std::max(difference(tdx, dx), difference(tdw, dw)));
}

}  // namespace

namespace {

// f(geometry, taps, rectify) for channels, kernels, strides, paddings, dilations and masks, every combination in turn.
template <class F>
void every_geometry(F f) {
  int count = 0;
  for (const int64_t in : {1, 3, 5, 17})
    for (const int64_t out : {1, 4, 33})
      for (const auto& [kh, kw] : {std::pair{1, 1}, {2, 3}, {3, 3}, {4, 4}})
        for (const int64_t stride : {1, 2, 3})
          for (const int64_t padding : {0, 1, 2, 3})
            for (const int64_t dilation : {1, 2}) {
              const int64_t height = 5 + count % 4, width = 4 + count % 5;
              const int64_t room_y = height + 2 * padding - dilation * (kh - 1) - 1, room_x = width + 2 * padding - dilation * (kw - 1) - 1;
              ++count;
              if (room_y < 0 || room_x < 0) continue;
              std::vector<uint8_t> taps;
              if (count % 5 == 0)
                for (int64_t t = 0; t < kh * kw; ++t) taps.push_back((t + count) % 3 != 0);
              const kernel::Convolution c{.batch = 1 + count % 2, .height = height, .width = width, .in = in, .out_height = room_y / stride + 1,
                                          .out_width = room_x / stride + 1, .out = out, .kernel_height = kh, .kernel_width = kw,
                                          .stride_y = stride, .stride_x = stride, .padding_y = padding, .padding_x = padding,
                                          .dilation_y = dilation, .dilation_x = dilation};
              f(c, taps, count % 4 == 0);
            }
  CHECK(count == 1152);
}

std::string describe(const kernel::Convolution& c) {
  return str("in ", c.in, " out ", c.out, " kernel ", c.kernel_height, "x", c.kernel_width, " stride ", c.stride_y, " padding ", c.padding_y,
             " dilation ", c.dilation_y, " picture ", c.height, "x", c.width);
}

// A square picture with padding 1.
kernel::Convolution square(int64_t batch, int64_t side, int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  const int64_t small = (side + 2 - kernel) / stride + 1;
  return {.batch = batch, .height = side, .width = side, .in = in, .out_height = small, .out_width = small, .out = out, .kernel_height = kernel,
          .kernel_width = kernel, .stride_y = stride, .stride_x = stride, .padding_y = 1, .padding_x = 1};
}

}  // namespace

TEST_CASE("conv: channels, kernels, strides, paddings, dilations and masks, every combination in turn") {
  on_every_table([](const std::string& table) {
    every_geometry([&](const kernel::Convolution& c, const std::vector<uint8_t>& taps, bool rectify) {
      const double error = kernel_error(c, taps, rectify);
      CHECK_MESSAGE(error < 3e-6, table, ": ", describe(c), " error ", error);
    });
  });
}

TEST_CASE("conv: sizes beyond one block of depth, panel and strip") {
  on_every_table([](const std::string& table) {
    INFO(table);
    CHECK(kernel_error(square(2, 6, 530, 70, 3, 1), {}, false) < 1e-6);    // channels are cut: 530 > 512, and depth: 4770 > 1280
    CHECK(kernel_error(square(2, 5, 3, 530, 4, 2), {}, true) < 1e-6);
    CHECK(kernel_error(square(9, 20, 9, 5, 3, 1), {}, true) < 1e-6);       // several slices of the weight's gradient
    CHECK(kernel_error(square(2, 70, 3, 65, 4, 2), {}, false) < 1e-6);     // several bands of columns
  });
}

TEST_CASE("conv: bf16 is the convolution of rounded numbers") {
  if (!bf16_products()) {
    MESSAGE("left out: this processor has no AVX512-BF16");
    return;
  }
  const auto in_bf16 = [](kernel::Convolution c) {
    c.precision = Precision::bf16;
    return c;
  };
  every_geometry([&](kernel::Convolution c, const std::vector<uint8_t>& taps, bool rectify) {
    const double error = kernel_error(in_bf16(c), taps, rectify, true);
    CHECK_MESSAGE(error < 3e-6, describe(c), " error ", error);
  });
  for (const kernel::Convolution& c : {square(2, 6, 530, 70, 3, 1), square(3, 5, 3, 530, 4, 2), square(9, 20, 9, 11, 3, 1), square(2, 70, 3, 65, 4, 2)}) {
    CHECK(kernel_error(in_bf16(c), {}, true, true) < 1e-6);
    const double rounded = kernel_error(in_bf16(c), {}, false);
    CHECK(rounded < 4e-3);
    CHECK(rounded > 1e-4);   // it is bf16 that was measured
  }
  // One thread gives the bits of three, and the op asks for the precision in force.
  const Array x = normal({3, 12, 12, 24}), w = normal({40, 3, 3, 24}), bias = normal({40});
  const Tensor dy = to_tensor(uniform({3, 12, 12, 40}, {-1, 1}));
  const Op op = [](const Tensors& t) { return conv2d(t[0], t[1], t[2], {.padding = 1}, {.relu_input = true, .activation = Activation::relu}); };
  const OpResult f32 = run(op, {x, w, bias}, dy);
  set_precision(Precision::bf16);
  set_threads(1);
  const OpResult one = run(op, {x, w, bias}, dy);
  set_threads(3);
  const OpResult three = run(op, {x, w, bias}, dy);
  set_threads(default_threads());
  set_precision(Precision::f32);
  CHECK(same_bits(one.value, three.value));
  CHECK(same_bits(one.gradients, three.gradients));
  CHECK(test::difference(one.value, f32.value) < 1e-2);
  CHECK(test::difference(one.value, f32.value) > 1e-4);
}

TEST_CASE("conv2d: values and gradients") {
  check_conv("3x3", {2, 5, 7, 3, 4, 3, 3}, {.padding = 1});
  check_conv("4x4 stride 2", {2, 9, 8, 5, 3, 4, 4}, {.stride = 2, .padding = 1});
  check_conv("1x1", {2, 4, 3, 17, 5, 1, 1}, {});
  check_conv("1x1 relu before", {2, 4, 3, 17, 5, 1, 1}, {}, {.relu_input = true});
  check_conv("uneven", {1, 8, 9, 2, 3, 2, 3}, {.stride = {3, 2}, .padding = {0, 2}, .dilation = {2, 1}});
  check_conv("relu", {2, 6, 5, 3, 5, 3, 3}, {.padding = 1}, {.activation = Activation::relu});
  check_conv("silu", {2, 6, 5, 3, 5, 3, 3}, {.padding = 1}, {.activation = Activation::silu});
  check_conv("residual", {2, 6, 5, 3, 5, 3, 3}, {.padding = 1}, {}, true);
  check_conv("all fused", {2, 6, 5, 3, 5, 3, 3}, {.stride = 2, .padding = 1}, {.relu_input = true, .activation = Activation::relu}, true);
  check_conv("mask A", {2, 5, 5, 3, 4, 3, 3}, {.padding = 1, .taps = causal_taps(3, 3, false)});
  check_conv("mask B 5x5", {1, 7, 6, 4, 17, 5, 5}, {.padding = 2, .taps = causal_taps(5, 5, true)}, {.activation = Activation::relu});
  check_conv("no tap", {1, 3, 3, 2, 3, 1, 1}, {.taps = {0}});
  check_conv("empty batch", {0, 5, 5, 3, 4, 3, 3}, {.padding = 1});
  check_conv("several tasks", {4, 16, 16, 16, 40, 3, 3}, {.padding = 1}, {.relu_input = true, .activation = Activation::relu}, true);
}

TEST_CASE("conv_transpose2d: values and gradients") {
  check_transposed("4x4 stride 2", {2, 5, 4, 6, 5, 4, 4}, {.stride = 2, .padding = 1});
  check_transposed("few channels", {2, 5, 4, 6, 3, 4, 4}, {.stride = 2, .padding = 1});
  check_transposed("3x3", {2, 5, 4, 3, 17, 3, 3}, {.padding = 1}, {.activation = Activation::relu});
  check_transposed("few channels, relu", {2, 5, 4, 9, 1, 3, 3}, {.padding = 1}, {.activation = Activation::relu});
  check_transposed("output padding", {1, 4, 3, 2, 20, 3, 3}, {.stride = 2, .padding = 1, .output_padding = 1});
  check_transposed("gaps", {1, 4, 3, 5, 20, 2, 2}, {.stride = 3, .output_padding = {2, 0}}, {.activation = Activation::silu});
  check_transposed("dilated", {2, 4, 5, 3, 9, 3, 2}, {.stride = {2, 3}, .padding = {2, 0}, .dilation = {2, 3}, .output_padding = {1, 2}});
  check_transposed("1x1", {2, 4, 3, 17, 5, 1, 1}, {});
  check_transposed("1x1, output padding", {2, 4, 3, 17, 20, 1, 1}, {.dilation = {3, 2}, .output_padding = {2, 1}});
  check_transposed("1x1, few channels, output padding", {2, 4, 3, 17, 2, 1, 1}, {.dilation = 2, .output_padding = {0, 1}});
  check_transposed("empty batch", {0, 4, 4, 3, 2, 4, 4}, {.stride = 2, .padding = 1});
  check_transposed("several tasks", {4, 12, 12, 24, 3, 4, 4}, {.stride = 2, .padding = 1}, {.activation = Activation::relu});
}

TEST_CASE("conv2d: without a bias, and pictures that want no gradient") {
  const Array x = normal({2, 6, 6, 3}), w = normal({4, 3, 3, 3});
  const Tensor pictures = to_tensor(x);
  Tensor weight = to_tensor(w);
  weight.require_gradient();
  const Tensor y = conv2d(pictures, weight, {}, {.padding = 1});
  CHECK(difference(y, reference::conv2d<double>(x, w, nullptr, {.padding = 1})) < 2e-6);
  sum(y).backward();
  CHECK(difference(weight.gradient(), Array(w.shape)) > 1);
  CHECK(!pictures.needs_gradient());
}

TEST_CASE("conv: the masks of PixelCNN") {
  CHECK(causal_taps(3, 3, false) == std::vector<uint8_t>{1, 1, 1, 1, 0, 0, 0, 0, 0});
  CHECK(causal_taps(3, 3, true) == std::vector<uint8_t>{1, 1, 1, 1, 1, 0, 0, 0, 0});
  CHECK(causal_taps(1, 1, false) == std::vector<uint8_t>{0});
  CHECK(contains(error_of([] { causal_taps(2, 3, true); }), "expected a kernel with a middle"));
  // Masked weights are not read: what stands there, NaN included, is no part of the result.
  Array w = normal({2, 3, 3, 1});
  Tensor weight = to_tensor(w);
  for (int64_t o = 0; o < 2; ++o)
    for (int64_t t = 5; t < 9; ++t) weight.mutable_data()[o * 9 + t] = not_a_number;
  CHECK(std::isfinite(sum(conv2d(to_tensor(normal({1, 4, 4, 1})), weight, {}, {.padding = 1, .taps = causal_taps(3, 3, true)})).item()));
}

TEST_CASE("conv: bad arguments are refused") {
  const Tensor x = zeros({2, 5, 5, 3}), w = zeros({4, 3, 3, 3}), b = zeros({4});
  const auto refused = [&](const char* part, const Tensor& x, const Tensor& w, const Tensor& b, const ConvOptions& o, const ConvFused& f = {}) {
    const std::string message = error_of([&] { conv2d(x, w, b, o, f); });
    CHECK_MESSAGE(contains(message, part), message);
  };
  refused("expected pictures (B, H, W, C)", zeros({5, 5, 3}), w, b, {});
  refused("expected pictures (B, H, W, C)", zeros({2, 5, 5, 2}), w, b, {});
  refused("expected a kernel of at least 1 by 1", x, zeros({4, 0, 3, 3}), b, {});
  refused("expected a bias (4)", x, w, zeros({3}), {});
  refused("stride of 1", x, w, b, {.stride = 0});
  refused("stride of 1", x, w, b, {.stride = {1, int64_t{1} << 40}});
  refused("padding of 0", x, w, b, {.padding = {0, -1}});
  refused("dilation of 1", x, w, b, {.dilation = 0});
  refused("expected a kernel that fits", x, w, b, {.dilation = 3});
  refused("expected no output_padding", x, w, b, {.output_padding = 1});
  refused("expected taps for a kernel of 3 by 3, got 4", x, w, b, {.taps = {1, 1, 1, 1}});
  refused("expected a residual of the output's shape (2, 5, 5, 4)", x, w, b, {.padding = 1}, {.residual = zeros({2, 5, 5, 3})});
  const auto transposed = [&](const char* part, const Tensor& x, const ConvOptions& o, const ConvFused& f = {}) {
    const std::string message = error_of([&] { conv_transpose2d(x, zeros({3, 3, 3, 4}), b, o, f); });
    CHECK_MESSAGE(contains(message, part), message);
  };
  transposed("(C, kh, kw, out)", zeros({2, 5, 5, 4}), {});
  transposed("expected an output_padding below", x, {.stride = 2, .output_padding = 2});
  transposed("expected pictures of at least 1 by 1", zeros({2, 1, 1, 3}), {.padding = 2});
  transposed("which are conv2d's", x, {}, {.relu_input = true});
}

TEST_CASE("nearest: the first of the nearest codes") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (const auto& [rows, codes, width] : {std::tuple{1, 1, 1}, {3, 2, 5}, {70, 33, 17}, {5, 512, 64}, {1500, 400, 16}, {0, 4, 3}}) {
      const Array x = normal({rows, width}), codebook = normal({codes, width});
      const Tensor found = nearest(to_tensor(x), to_tensor(codebook));
      const std::vector<int32_t> expected = reference::nearest(x, codebook);
      CHECK(found.shape() == Shape({rows}));
      CHECK(std::equal(expected.begin(), expected.end(), found.values<int32_t>().begin()));
    }
    // Equals: the first wins, wherever the others stand.
    Array codebook({70, 4});
    for (int64_t i = 0; i < 70 * 4; ++i) codebook[i] = i / 4 % 7;
    const Array x = uniform({40, 4}, {0, 6});
    const Tensor found = nearest(to_tensor(x), to_tensor(codebook));
    const std::vector<int32_t> expected = reference::nearest(x, codebook);
    CHECK(std::equal(expected.begin(), expected.end(), found.values<int32_t>().begin()));
    // Far from the origin the squares are a million times the distances.
    Array far = normal({64, 8}), codes = normal({32, 8});
    for (double& v : far.values) v = static_cast<float>(v + 1000);
    for (double& v : codes.values) v = static_cast<float>(v + 1000);
    const std::vector<int32_t> right = reference::nearest(far, codes);
    const Tensor ids = nearest(to_tensor(far), to_tensor(codes));
    int wrong = 0;
    for (size_t i = 0; i < right.size(); ++i) wrong += ids.values<int32_t>()[i] != right[i];
    CHECK(wrong <= 1);
  });
  CHECK(contains(error_of([] { nearest(zeros({2, 3}), zeros({4, 2})); }), "expected x (..., D) and a codebook (K, D)"));
  CHECK(contains(error_of([] { nearest(zeros({2, 3}), zeros({0, 3})); }), "expected x (..., D) and a codebook (K, D)"));
}

TEST_CASE("straight_through: q forward, the identity backward; stop_gradient: a constant") {
  const NoLeaks no_leaks;
  Tensor x = to_tensor(normal({3, 5})), q = to_tensor(normal({3, 5}));
  x.require_gradient(), q.require_gradient();
  const Tensor dy = to_tensor(normal({3, 5})), y = straight_through(x, q);
  CHECK(same_bits(y, q));
  backward(y, dy);
  CHECK(same_bits(x.gradient(), dy));
  CHECK(same_bits(q.gradient(), zeros({3, 5})));
  CHECK(!stop_gradient(x).needs_gradient());
  CHECK(contains(error_of([&] { straight_through(x, zeros({3, 4})); }), "expected one shape"));
}

TEST_CASE("max_last: the first of the largest, a NaN before all") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (const int64_t cols : {1, 3, 4, 15, 16, 17, 33, 70}) {
      const Array x = map(uniform({50, cols}, {-4, 4}), [](double v) { return std::round(v); });   // many equals
      Tensor t = to_tensor(x);
      const Tensor where = argmax_last(t), value = max_last(t);
      int wrong = 0;
      for (int64_t r = 0; r < 50; ++r) {
        const auto row = x.values.begin() + r * cols;
        wrong += where.values<int32_t>()[static_cast<size_t>(r)] != std::max_element(row, row + cols) - row;
        wrong += value.data()[r] != *std::max_element(row, row + cols);
      }
      CHECK(wrong == 0);
      for (const int64_t at : {cols / 2, cols - 1}) t.mutable_data()[at] = not_a_number;
      CHECK(argmax_last(t).values<int32_t>()[0] == cols / 2);
      CHECK(std::isnan(max_last(t).data()[0]));
    }
    CHECK(argmax_last(full({2, 40}, -infinity)).values<int32_t>()[1] == 0);
  });
}
