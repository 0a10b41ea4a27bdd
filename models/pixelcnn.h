// What grids of codes are probable, by convolutions that see earlier cells alone. Van den Oord et al. 2016, "Conditional Image Generation with
// PixelCNN Decoders": a vertical stack for the rows above and a horizontal one for the cells to the left, so that no cell is overlooked.
//   N = grids, h, w = a grid, K = codes, C = width
#pragma once

#include <cstdint>

#include "core/random.h"
#include "nn/layers.h"

namespace qd {

struct PixelCNNConfig {
  int64_t codes = 512, rows = 16, columns = 16;
  int64_t width = 64, layers = 8;
  int64_t kernel = 5;   // odd
};

// tanh(a) sigmoid(b), a and b from one convolution each, of 1 x kernel or kernel x kernel cells before the middle (and the middle row or cell, but for
// the first layer)
struct GatedLayer : Module {
  GatedLayer(Module& up, std::string name, const PixelCNNConfig& c, bool first) : Module(up, std::move(name)), c(c), first(first) {}
  const PixelCNNConfig& c;
  const bool first;
  const ConvOptions above = {.padding = c.kernel / 2, .taps = rows_above()};
  const ConvOptions left = {.padding = {0, c.kernel / 2}, .taps = cells_left()};
  Conv2d v_a{*this, "v_a", c.width, c.width, c.kernel, {.shape = above}}, v_b{*this, "v_b", c.width, c.width, c.kernel, {.shape = above}};
  Conv2d h_a{*this, "h_a", c.width, c.width, {1, c.kernel}, {.shape = left}}, h_b{*this, "h_b", c.width, c.width, {1, c.kernel}, {.shape = left}};
  Conv2d to_a{*this, "to_a", c.width, c.width, 1}, to_b{*this, "to_b", c.width, c.width, 1};   // from the vertical stack
  Conv2d out{*this, "out", c.width, c.width, 1};

  // v, h (N, h, w, C) -> the same, one layer on. h of a cell never saw the cell itself.
  void operator()(Tensor& v, Tensor& h) const {
    const Tensor a = v_a(v), b = v_b(v);
    const Tensor gated = tanh(h_a(h) + to_a(a)) * sigmoid(h_b(h) + to_b(b));
    v = tanh(a) * sigmoid(b);
    h = first ? out(gated) : out(gated, {.residual = h});
  }

 private:
  std::vector<uint8_t> rows_above() const {
    std::vector<uint8_t> taps(static_cast<size_t>(c.kernel * c.kernel));
    const int64_t rows = c.kernel / 2 + (first ? 0 : 1);   // what the vertical stack holds of a row comes from the rows above it
    std::fill(taps.begin(), taps.begin() + rows * c.kernel, uint8_t{1});
    return taps;
  }
  std::vector<uint8_t> cells_left() const {
    std::vector<uint8_t> taps(static_cast<size_t>(c.kernel));
    std::fill(taps.begin(), taps.begin() + c.kernel / 2 + (first ? 0 : 1), uint8_t{1});
    return taps;
  }
};

struct PixelCNN : Module {
  explicit PixelCNN(const PixelCNNConfig& config) : c(config) {
    for (int64_t i = 0; i < c.layers; ++i) layers.push_back(std::make_unique<GatedLayer>(*this, std::to_string(i), c, i == 0));
  }
  const PixelCNNConfig c;
  Embedding codes{*this, "codes", c.codes, c.width, normal(0.1)};
  Parameter place{*this, "place", {c.rows, c.columns, c.width}, normal(0.02)};   // where a cell stands: faces are in the middle
  std::vector<std::unique_ptr<GatedLayer>> layers;
  Conv2d head_1{*this, "head_1", c.width, 2 * c.width, 1}, head_2{*this, "head_2", 2 * c.width, c.codes, 1};

  // ids (N, h, w) -> (N, h, w, K)
  Tensor logits(const Tensor& ids) const {
    Tensor v = codes(ids), h = v;
    for (const auto& layer : layers) (*layer)(v, h);
    return head_2(head_1(h + place, {.relu_input = true}), {.relu_input = true});
  }
  Tensor loss(const Tensor& ids) const { return cross_entropy(logits(ids), ids); }   // mean over all cells in nats
};

}  // namespace qd
