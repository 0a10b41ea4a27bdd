#include "models/pixelcnn.h"

#include <algorithm>

#include "core/autograd.h"

namespace qd {
namespace {

// Rows begin .. end - 1 of x (N, h, w, ...), without a gradient.
template <class T>
Tensor rows_of(const Tensor& x, int64_t begin, int64_t end) {
  std::vector<int64_t> dims(x.shape().begin(), x.shape().end());
  const int64_t row = x.size() / std::max<int64_t>(dims[0] * dims[1], 1), from = dims[1] * row, to = (end - begin) * row;
  dims[1] = end - begin;
  Tensor out = empty(Shape(dims), x.dtype());
  for (int64_t n = 0; n < dims[0]; ++n) std::copy_n(x.data<T>() + n * from + begin * row, to, out.mutable_data<T>() + n * to);
  return out;
}

}  // namespace

Tensor PixelCNN::draw(int64_t count, const Chooser& choose, const Tensor& given) const {
  const NoGrad off;
  const int64_t height = c.rows, width = c.columns;
  Tensor ids = zeros({count, height, width}, DType::i32);
  for (int64_t r = 0; r < height; ++r) {
    const int64_t first = std::max<int64_t>(0, r - reach());   // padding above it stands where nothing is seen
    std::vector<GatedLayer::Gates> from_above;
    const Tensor given_row = given.defined() ? rows_of<float>(given, r, r + 1) : Tensor();
    Tensor v = codes(rows_of<int32_t>(ids, first, r + 1));
    for (const auto& layer : layers) {
      const GatedLayer::Gates gates = layer->vertical(v);
      from_above.push_back(layer->sideways({rows_of<float>(gates.a, r - first, r - first + 1), rows_of<float>(gates.b, r - first, r - first + 1)}, given_row));
      v = gates.passed();
    }
    Tensor here = empty({width, c.width});
    std::copy_n(place.value.data() + r * width * c.width, here.size(), here.mutable_data());
    for (int64_t column = 0; column < width; ++column) {
      Tensor h = codes(rows_of<int32_t>(ids, r, r + 1));
      for (size_t i = 0; i < layers.size(); ++i) h = layers[i]->horizontal(h, from_above[i]);
      const Tensor logits = head(h + here);   // (count, 1, w, K)
      for (int64_t n = 0; n < count; ++n)
        ids.mutable_data<int32_t>()[(n * height + r) * width + column] =
            choose(n, {logits.data() + (n * width + column) * c.codes, static_cast<size_t>(c.codes)});
    }
  }
  return ids;
}

}  // namespace qd
