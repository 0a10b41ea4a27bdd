// Pooling, and its counterpart: pixels repeated. Each walks over windows of pictures (B, H, W, C), channel-last.
// Memory bound: a pixel is read once for each window it lies in, all channels of it in a row.
#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/ops.h"
#include "core/parallel.h"

namespace qd {
namespace {

// Windows over a larger picture (H, W), one for every pixel of a smaller one (h, w).
struct Windows {
  int64_t batch, height, width, channels;   // of the larger picture
  int64_t rows, columns;                    // of the smaller one
  PerAxis window, stride, padding;

  // The pixels y0 .. y1 - 1 of one axis that the window of pixel i covers.
  struct Range {
    int64_t begin, end;
  };
  static Range along(int64_t i, int64_t window, int64_t stride, int64_t padding, int64_t size) {
    const int64_t first = i * stride - padding;
    return {std::max<int64_t>(first, 0), std::min(first + window, size)};
  }
  // f(smaller pixel, larger pixel), window by window. Windows of one picture may share pixels, those of two never do.
  template <class F>
  void each_pair(int64_t picture, F f) const {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const Range y = along(i, window.y, stride.y, padding.y, height), x = along(j, window.x, stride.x, padding.x, width);
        for (int64_t u = y.begin; u < y.end; ++u)
          for (int64_t v = x.begin; v < x.end; ++v) f((picture * rows + i) * columns + j, (picture * height + u) * width + v);
      }
  }
};

// f(picture) for each of a batch, side by side, after its `size` numbers of `out` became `start`, unless they are added to.
template <class T, class F>
void each_picture(int64_t batch, int64_t size, T* out, T start, bool add, F f) {
  parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
    if (!add) std::fill(out + begin * size, out + end * size, start);
    for (int64_t b = begin; b < end; ++b) f(b);
  });
}

// small (+)= factor * the sum of large over each window
void sum_windows(const Windows& w, float factor, const float* large, float* small, bool add) {
  each_picture(w.batch, w.rows * w.columns * w.channels, small, 0.0f, add, [&](int64_t b) {
    w.each_pair(b, [&](int64_t to, int64_t from) {
      for (int64_t c = 0; c < w.channels; ++c) small[to * w.channels + c] += factor * large[from * w.channels + c];
    });
  });
}

// large (+)= factor * small, to every pixel of each window
void spread_windows(const Windows& w, float factor, const float* small, float* large, bool add) {
  each_picture(w.batch, w.height * w.width * w.channels, large, 0.0f, add, [&](int64_t b) {
    w.each_pair(b, [&](int64_t from, int64_t to) {
      for (int64_t c = 0; c < w.channels; ++c) large[to * w.channels + c] += factor * small[from * w.channels + c];
    });
  });
}

Windows windows_of(const char* op, const Tensor& x, const PoolOptions& o) {
  constexpr int64_t most = 1 << 20;
  QD_CHECK(x.rank() == 4, op, str("expected pictures (B, H, W, C), got ", x.shape().str()));
  const auto axis = [&](const char* name, int64_t size, int64_t window, int64_t stride, int64_t padding) {
    QD_CHECK(window >= 1 && window <= most && stride >= 0 && stride <= most, op,
             str("expected a window and a stride of 1 to ", most, " along the ", name, ", got ", window, " and ", stride));
    QD_CHECK(padding >= 0 && padding <= window / 2, op, str("expected a padding of at most half the window of ", window, ", got ", padding));
    QD_CHECK(size >= 1 && size + 2 * padding >= window, op, str("expected a ", name, " that the window of ", window, " fits into, got ", size, " and a padding of ", padding));
    return (size + 2 * padding - window) / (stride > 0 ? stride : window) + 1;
  };
  const PerAxis stride(o.stride.y > 0 ? o.stride.y : o.window.y, o.stride.x > 0 ? o.stride.x : o.window.x);
  return {.batch = x.dim(0), .height = x.dim(1), .width = x.dim(2), .channels = x.dim(3),
          .rows = axis("height", x.dim(1), o.window.y, o.stride.y, o.padding.y),
          .columns = axis("width", x.dim(2), o.window.x, o.stride.x, o.padding.x), .window = o.window, .stride = stride, .padding = o.padding};
}

}  // namespace

// y = the largest of each window.   dx = dy where that largest stood
Tensor max_pool2d(const Tensor& x, const PoolOptions& o) {
  const Windows w = windows_of("max_pool2d", x, o);
  QD_CHECK(w.height * w.width <= std::numeric_limits<int32_t>::max(), "max_pool2d", str("expected pictures below 2^31 pixels, got ", x.shape().str()));
  Tensor y = full({w.batch, w.rows, w.columns, w.channels}, -std::numeric_limits<float>::infinity());
  Tensor where = empty(y.shape(), DType::i32);   // the pixel of the picture
  const float* in = x.data();
  float* out = y.mutable_data();
  int32_t* pixel = where.mutable_data<int32_t>();
  each_picture(w.batch, w.rows * w.columns * w.channels, pixel, int32_t{-1}, false, [&](int64_t b) {
    w.each_pair(b, [&](int64_t to, int64_t from) {
      for (int64_t c = 0; c < w.channels; ++c) {
        const int64_t i = to * w.channels + c;
        const float value = in[from * w.channels + c];
        // Not a number wins, once, as the first pixel does.
        if (pixel[i] >= 0 && !(value > out[i]) && !(value != value && out[i] == out[i])) continue;
        out[i] = value, pixel[i] = static_cast<int32_t>(from - b * w.height * w.width);
      }
    });
  });
  return record("max_pool2d", y, {x}, [w, where](const Tensor& dy, Sink& to) {
    const Destination dx = to.into(0);
    const float* g = dy.data();
    const int32_t* from = where.data<int32_t>();
    const int64_t large = w.height * w.width * w.channels, small = w.rows * w.columns * w.channels;
    each_picture(w.batch, large, dx.data, 0.0f, dx.add, [&](int64_t b) {
      for (int64_t i = b * small; i < (b + 1) * small; ++i) dx.data[b * large + from[i] * w.channels + i % w.channels] += g[i];
    });
  });
}

// y = the mean of each window.   dx = the sum of dy over the windows a pixel lies in, over a window's size
Tensor average_pool2d(const Tensor& x, const PoolOptions& o) {
  const Windows w = windows_of("average_pool2d", x, o);
  const float share = 1 / static_cast<float>(w.window.y * w.window.x);
  Tensor y = empty({w.batch, w.rows, w.columns, w.channels});
  sum_windows(w, share, x.data(), y.mutable_data(), false);
  return record("average_pool2d", y, {x}, [w, share](const Tensor& dy, Sink& to) {
    const auto [dx, add] = to.into(0);
    spread_windows(w, share, dy.data(), dx, add);
  });
}

// y = x at every pixel of its window.   dx = the sum of dy over the window
Tensor upsample_nearest(const Tensor& x, PerAxis factor) {
  QD_CHECK(x.rank() == 4, "upsample_nearest", str("expected pictures (B, H, W, C), got ", x.shape().str()));
  QD_CHECK(factor.y >= 1 && factor.x >= 1 && factor.y <= 1 << 20 && factor.x <= 1 << 20, "upsample_nearest",
           str("expected factors of 1 to ", 1 << 20, ", got (", factor.y, ", ", factor.x, ")"));
  const Windows w{.batch = x.dim(0), .height = x.dim(1) * factor.y, .width = x.dim(2) * factor.x, .channels = x.dim(3), .rows = x.dim(1), .columns = x.dim(2),
                  .window = factor, .stride = factor, .padding = 0};
  Tensor y = empty({w.batch, w.height, w.width, w.channels});
  spread_windows(w, 1, x.data(), y.mutable_data(), false);
  return record("upsample_nearest", y, {x}, [w](const Tensor& dy, Sink& to) {
    const auto [dx, add] = to.into(0);
    sum_windows(w, 1, dy.data(), dx, add);
  });
}

}  // namespace qd
