// Convolutions as loops over what they sum, in f64.
#pragma once

#include <cmath>

#include "tests/reference.h"

namespace qd::reference {

// f(pixel of the smaller picture y, pixel of the larger picture x, tap) for every pair that a tap joins.
template <class F>
void each_pair(int64_t batch, int64_t out_height, int64_t out_width, int64_t height, int64_t width, int64_t kernel_height,
               int64_t kernel_width, const ConvOptions& o, F f) {
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < out_height; ++i)
      for (int64_t j = 0; j < out_width; ++j)
        for (int64_t u = 0; u < kernel_height; ++u)
          for (int64_t v = 0; v < kernel_width; ++v) {
            const int64_t y = i * o.stride.y - o.padding.y + u * o.dilation.y, x = j * o.stride.x - o.padding.x + v * o.dilation.x;
            const int64_t tap = u * kernel_width + v;
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            if (!o.taps.empty() && !o.taps[static_cast<size_t>(tap)]) continue;
            f((b * out_height + i) * out_width + j, (b * height + y) * width + x, tap);
          }
}

template <class T>
void add_bias(Array<T>& y, const Array<T>* bias) {
  if (!bias) return;
  for (int64_t i = 0; i < y.size(); ++i) y[i] += (*bias)[i % y.cols()];
}

// x (B, H, W, C), weight (O, kh, kw, C)
template <class T>
Array<T> conv2d(const Array<T>& x, const Array<T>& weight, const Array<T>* bias, const ConvOptions& o, const ConvFused& fused = {},
                const Array<T>* residual = nullptr) {
  const int64_t out = weight.dim(0), kh = weight.dim(1), kw = weight.dim(2), in = weight.dim(3);
  const int64_t height = (x.dim(1) + 2 * o.padding.y - o.dilation.y * (kh - 1) - 1) / o.stride.y + 1;
  const int64_t width = (x.dim(2) + 2 * o.padding.x - o.dilation.x * (kw - 1) - 1) / o.stride.x + 1;
  Array<T> y({x.dim(0), height, width, out});
  each_pair(x.dim(0), height, width, x.dim(1), x.dim(2), kh, kw, o, [&](int64_t to, int64_t from, int64_t tap) {
    for (int64_t k = 0; k < out; ++k)
      for (int64_t c = 0; c < in; ++c) {
        const T value = x[from * in + c];
        y[to * out + k] += (fused.relu_input ? relu(value) : value) * weight[(k * kh * kw + tap) * in + c];
      }
  });
  add_bias(y, bias);
  for (int64_t i = 0; i < y.size(); ++i) y[i] = activate(fused.activation, y[i]) + (residual ? (*residual)[i] : 0);
  return y;
}

// x (B, H, W, C), weight (C, kh, kw, O): every pixel of x paints a kernel
template <class T>
Array<T> conv_transpose2d(const Array<T>& x, const Array<T>& weight, const Array<T>* bias, const ConvOptions& o, const ConvFused& fused = {}) {
  const int64_t in = weight.dim(0), kh = weight.dim(1), kw = weight.dim(2), out = weight.dim(3);
  const int64_t height = (x.dim(1) - 1) * o.stride.y - 2 * o.padding.y + o.dilation.y * (kh - 1) + o.output_padding.y + 1;
  const int64_t width = (x.dim(2) - 1) * o.stride.x - 2 * o.padding.x + o.dilation.x * (kw - 1) + o.output_padding.x + 1;
  Array<T> y({x.dim(0), height, width, out});
  each_pair(x.dim(0), x.dim(1), x.dim(2), height, width, kh, kw, o, [&](int64_t from, int64_t to, int64_t tap) {
    for (int64_t c = 0; c < in; ++c)
      for (int64_t k = 0; k < out; ++k) y[to * out + k] += x[from * in + c] * weight[(c * kh * kw + tap) * out + k];
  });
  add_bias(y, bias);
  return map(y, [&](T value) { return activate(fused.activation, value); });
}

// The first row of codebook (K, D) with the least distance to each row of x.
template <class T>
std::vector<int32_t> nearest(const Array<T>& x, const Array<T>& codebook) {
  std::vector<int32_t> ids;
  for (int64_t r = 0; r < x.rows(); ++r) {
    int64_t best = 0;
    T least = 0;
    for (int64_t k = 0; k < codebook.rows(); ++k) {
      T distance = 0;
      for (int64_t i = 0; i < x.cols(); ++i) distance += square(x[r * x.cols() + i] - codebook[k * x.cols() + i]);
      if (k == 0 || distance < least) best = k, least = distance;
    }
    ids.push_back(static_cast<int32_t>(best));
  }
  return ids;
}

}  // namespace qd::reference
