// Convolutions and their gradients. The gradient of a convolution by its input is a transposed convolution and the other way round; the
// gradient by the weight is the same for both, with x and dy changing places.
#include <algorithm>

#include "core/error.h"
#include "core/ops_shared.h"

namespace qd {
namespace {

void expect_axes(const char* op, const char* what, PerAxis v, int64_t least) {
  constexpr int64_t most = 1 << 20;
  QD_CHECK(v.y >= least && v.x >= least && v.y <= most && v.x <= most, op,
           str("expected a ", what, " of ", least, " to ", most, " along each axis, got (", v.y, ", ", v.x, ")"));
}

// Everything but the sizes of the larger picture x and the smaller picture y.
kernel::Convolution geometry(const char* op, const Tensor& given, const Tensor& weight, const Tensor& bias, const ConvOptions& o, bool transposed) {
  QD_CHECK(given.rank() == 4 && weight.rank() == 4 && given.dim(3) == weight.dim(transposed ? 0 : 3), op,
           str("expected pictures (B, H, W, C) and a weight ", transposed ? "(C, kh, kw, out)" : "(out, kh, kw, C)", ", got ", given.shape().str(),
               " and ", weight.shape().str()));
  QD_CHECK(weight.dim(1) >= 1 && weight.dim(2) >= 1, op, str("expected a kernel of at least 1 by 1, got a weight ", weight.shape().str()));
  const int64_t out = weight.dim(transposed ? 3 : 0);
  QD_CHECK(!bias.defined() || bias.shape() == Shape({out}), op, str("expected a bias (", out, "), got ", bias.shape().str()));
  expect_axes(op, "stride", o.stride, 1);
  expect_axes(op, "dilation", o.dilation, 1);
  expect_axes(op, "padding", o.padding, 0);
  expect_axes(op, "output_padding", o.output_padding, 0);
  return {.batch = given.dim(0), .height = 0, .width = 0, .in = weight.dim(3), .out_height = 0, .out_width = 0, .out = weight.dim(0), .kernel_height = weight.dim(1), .kernel_width = weight.dim(2),
          .stride_y = o.stride.y, .stride_x = o.stride.x, .padding_y = o.padding.y, .padding_x = o.padding.x,
          .dilation_y = o.dilation.y, .dilation_x = o.dilation.x};
}

// What must be kept for the slope of the activation: relu's may be read off its output, until a residual is added.
struct Slope {
  Activation f;
  Tensor pre, saved;

  Slope(const ConvFused& fused, const Tensor& y, bool recorded) : f(fused.activation) {
    if (f == Activation::none || !recorded) return;
    if (f != Activation::relu || fused.residual.defined()) pre = empty_like(y);
    saved = pre.defined() ? pre : y;
  }
};

}  // namespace

// p = relu?(x) * W + bias,  y = f(p) + residual.   dp = dy f'(p),  dx = dp transposed* W where relu lets it through,  dW = dp^T patches(x)
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvOptions& o, const ConvFused& fused) {
  kernel::Convolution c = geometry("conv2d", x, weight, bias, o, false);
  c.height = x.dim(1), c.width = x.dim(2);
  const int64_t room_y = c.height + 2 * c.padding_y - c.dilation_y * (c.kernel_height - 1) - 1;
  const int64_t room_x = c.width + 2 * c.padding_x - c.dilation_x * (c.kernel_width - 1) - 1;
  QD_CHECK(room_y >= 0 && room_x >= 0, "conv2d",
           str("expected a kernel that fits the padded picture, got ", x.shape().str(), ", a weight ", weight.shape().str(), ", padding (",
               c.padding_y, ", ", c.padding_x, ") and dilation (", c.dilation_y, ", ", c.dilation_x, ")"));
  c.out_height = room_y / c.stride_y + 1, c.out_width = room_x / c.stride_x + 1;
  QD_CHECK(o.output_padding.y == 0 && o.output_padding.x == 0, "conv2d", "expected no output_padding, which is conv_transpose2d's");
  QD_CHECK(o.taps.empty() || static_cast<int64_t>(o.taps.size()) == c.kernel_height * c.kernel_width, "conv2d",
           str("expected taps for a kernel of ", c.kernel_height, " by ", c.kernel_width, ", got ", o.taps.size()));
  Tensor y = empty({c.batch, c.out_height, c.out_width, c.out});
  QD_CHECK(!fused.residual.defined() || fused.residual.shape() == y.shape(), "conv2d",
           str("expected a residual of the output's shape ", y.shape().str(), ", got ", fused.residual.shape().str()));
  c.rectify = fused.relu_input;
  c.taps = o.taps.empty() ? nullptr : o.taps.data();
  Slope slope(fused, y, records({x, weight, bias, fused.residual}));
  kernels().convolution(c, x.data(), weight.data(), y.mutable_data(),
                        {.bias = data_of(bias), .activation = slope.f, .pre = slope.pre.defined() ? slope.pre.mutable_data() : nullptr,
                         .residual = data_of(fused.residual)});
  auto gradient = [c, taps = o.taps, f = slope.f, x = Saved(x), weight = Saved(weight), saved = Saved(slope.saved)](const Tensor& dy, Sink& to) {
    kernel::Convolution g = c;
    g.taps = taps.empty() ? nullptr : taps.data();
    if (to.wants(3)) to.give(3, dy);
    const Tensor dp = before_activation(f, *saved, dy);
    send_bias(to, 2, dp);
    if (to.wants(1)) {
      const auto [dw, add] = to.into(1);
      kernels().convolution_weight_gradient(g, x->data(), dp.data(), dw, add);
    }
    if (!to.wants(0)) return;
    const auto [dx, add] = to.into(0);
    kernels().convolution_input_gradient(g, x->data(), dp.data(), weight->data(), dx, {.add = add});
  };
  return record("conv2d", y, {x, weight, bias, fused.residual}, std::move(gradient));
}

// p = x transposed* W + bias,  y = f(p).   dp = dy f'(p),  dx = dp * W,  dW = x^T patches(dp)
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvOptions& o, const ConvFused& fused) {
  kernel::Convolution c = geometry("conv_transpose2d", x, weight, bias, o, true);
  const PerAxis extra = o.output_padding;
  QD_CHECK(extra.y < std::max(c.stride_y, c.dilation_y) && extra.x < std::max(c.stride_x, c.dilation_x), "conv_transpose2d",
           str("expected an output_padding below the larger of stride and dilation, got (", extra.y, ", ", extra.x, ")"));
  QD_CHECK(o.taps.empty() && !fused.relu_input && !fused.residual.defined(), "conv_transpose2d",
           "expected no taps, relu_input or residual, which are conv2d's");
  c.out_height = x.dim(1), c.out_width = x.dim(2);
  c.height = (c.out_height - 1) * c.stride_y - 2 * c.padding_y + c.dilation_y * (c.kernel_height - 1) + extra.y + 1;
  c.width = (c.out_width - 1) * c.stride_x - 2 * c.padding_x + c.dilation_x * (c.kernel_width - 1) + extra.x + 1;
  QD_CHECK(c.out_height >= 1 && c.out_width >= 1 && c.height >= 1 && c.width >= 1, "conv_transpose2d",
           str("expected pictures of at least 1 by 1, got ", c.out_height, " by ", c.out_width, " from which ", c.height, " by ", c.width,
               " would be made"));
  Tensor y = empty({c.batch, c.height, c.width, c.in});
  Slope slope(fused, y, records({x, weight, bias}));
  kernels().convolution_input_gradient(c, nullptr, x.data(), weight.data(), y.mutable_data(),
                                       {.bias = data_of(bias), .activation = slope.f,
                                        .pre = slope.pre.defined() ? slope.pre.mutable_data() : nullptr});
  auto gradient = [c, f = slope.f, x = Saved(x), weight = Saved(weight), saved = Saved(slope.saved)](const Tensor& dy, Sink& to) {
    const Tensor dp = before_activation(f, *saved, dy);
    send_bias(to, 2, dp);
    if (to.wants(1)) {
      const auto [dw, add] = to.into(1);
      kernels().convolution_weight_gradient(c, dp.data(), x->data(), dw, add);
    }
    if (!to.wants(0)) return;
    const auto [dx, add] = to.into(0);
    kernels().convolution(c, dp.data(), weight->data(), dx, {.add = add});
  };
  return record("conv_transpose2d", y, {x, weight, bias}, std::move(gradient));
}

std::vector<uint8_t> causal_taps(int64_t kernel_height, int64_t kernel_width, bool type_b) {
  QD_CHECK(kernel_height % 2 == 1 && kernel_width % 2 == 1 && kernel_height > 0 && kernel_width > 0, "causal_taps",
           str("expected a kernel with a middle, got ", kernel_height, " by ", kernel_width));
  const int64_t middle = kernel_height / 2 * kernel_width + kernel_width / 2;
  std::vector<uint8_t> taps(static_cast<size_t>(kernel_height * kernel_width), 0);
  std::fill_n(taps.begin(), middle + (type_b ? 1 : 0), uint8_t{1});
  return taps;
}

}  // namespace qd
