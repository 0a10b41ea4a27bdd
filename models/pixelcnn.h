// What grids of codes are probable, by convolutions that see earlier cells alone. Van den Oord et al. 2016, "Conditional Image Generation with
// PixelCNN Decoders": a vertical stack for the rows above and a horizontal one for the cells to the left, so that no cell is overlooked; of two grids
// (Razavi et al. 2019) the finer one sees all of the coarser one.
//   N = grids, h, w = a grid, K = codes, C = width
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "nn/layers.h"

namespace qd {

struct PixelCNNConfig {
  int64_t codes = 512, rows = 16, columns = 16;
  int64_t width = 64, layers = 8;
  int64_t kernel = 5;         // odd; a cell sees layers (kernel / 2) cells up and to the left
  bool conditional = false;   // on what is given for every cell: the coarser of two grids
};

// tanh(a) sigmoid(b), a and b from one convolution each, of 1 x kernel or kernel x kernel cells before the middle (and the middle row or cell, but for
// the first layer)
struct GatedLayer : Module {
  GatedLayer(Module& up, std::string name, const PixelCNNConfig& c, bool first) : Module(up, std::move(name)), c(c), first(first) {
    if (!c.conditional) return;
    given_a.emplace(*this, "given_a", c.width, c.width, 1);
    given_b.emplace(*this, "given_b", c.width, c.width, 1);
  }
  const PixelCNNConfig& c;
  const bool first;
  const ConvOptions above = {.padding = c.kernel / 2, .taps = rows_above()};
  const ConvOptions left = {.padding = {0, c.kernel / 2}, .taps = cells_left()};
  Conv2d v_a{*this, "v_a", c.width, c.width, c.kernel, {.shape = above}}, v_b{*this, "v_b", c.width, c.width, c.kernel, {.shape = above}};
  Conv2d h_a{*this, "h_a", c.width, c.width, {1, c.kernel}, {.shape = left}}, h_b{*this, "h_b", c.width, c.width, {1, c.kernel}, {.shape = left}};
  Conv2d to_a{*this, "to_a", c.width, c.width, 1}, to_b{*this, "to_b", c.width, c.width, 1};   // from the vertical stack
  Conv2d out{*this, "out", c.width, c.width, 1};
  std::optional<Conv2d> given_a, given_b;

  // What the vertical stack has for this layer's gates, (N, h, w, C) each, and what it passes on.
  struct Gates {
    Tensor a, b;
    Tensor passed() const { return tanh(a) * sigmoid(b); }
  };
  Gates vertical(const Tensor& v) const { return {v_a(v), v_b(v)}; }
  // What the horizontal stack gets from above, and from the coarser grid `given` (N, h, w, C) if there is one.
  Gates sideways(const Gates& g, const Tensor& given) const {
    const Gates s{to_a(g.a), to_b(g.b)};
    return given.defined() ? Gates{s.a + (*given_a)(given), s.b + (*given_b)(given)} : s;
  }
  // h (N, h, w, C), one layer on. h of a cell never saw the cell itself.
  Tensor horizontal(const Tensor& h, const Gates& from_above) const {
    const Tensor gated = tanh(h_a(h) + from_above.a) * sigmoid(h_b(h) + from_above.b);
    return first ? out(gated) : out(gated, {.residual = h});
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
  explicit PixelCNN(const PixelCNNConfig& config) : c(config) { add_layers(); }
  PixelCNN(Module& up, std::string name, const PixelCNNConfig& config) : Module(up, std::move(name)), c(config) { add_layers(); }
  const PixelCNNConfig c;
  Embedding codes{*this, "codes", c.codes, c.width, normal(0.1)};
  Parameter place{*this, "place", {c.rows, c.columns, c.width}, normal(0.02)};   // where a cell stands: faces are in the middle
  std::vector<std::unique_ptr<GatedLayer>> layers;
  Conv2d head_1{*this, "head_1", c.width, 2 * c.width, 1}, head_2{*this, "head_2", 2 * c.width, c.codes, 1};

  // ids (N, h, w), given (N, h, w, C) where conditional -> (N, h, w, K)
  Tensor logits(const Tensor& ids, const Tensor& given = {}) const {
    Tensor v = codes(ids), h = v;
    for (const auto& layer : layers) {
      const GatedLayer::Gates gates = layer->vertical(v);
      h = layer->horizontal(h, layer->sideways(gates, given));
      v = gates.passed();
    }
    return head(h + place);
  }
  Tensor head(const Tensor& h) const { return head_2(head_1(h, {.relu_input = true}), {.relu_input = true}); }
  Tensor loss(const Tensor& ids, const Tensor& given = {}) const { return cross_entropy(logits(ids, given), ids); }   // mean over all cells in nats
  int64_t reach() const { return c.layers * (c.kernel / 2); }

  // The next code of a cell, given its logits (K) and the number of its grid.
  using Chooser = std::function<int32_t(int64_t grid, std::span<const float> logits)>;
  // Grids (count, h, w), cell by cell, all together: above a row everything is computed once, and of a row what its cells see.
  Tensor draw(int64_t count, const Chooser& choose, const Tensor& given = {}) const;

 private:
  void add_layers() {
    for (int64_t i = 0; i < c.layers; ++i) layers.push_back(std::make_unique<GatedLayer>(*this, std::to_string(i), c, i == 0));
  }
};

}  // namespace qd
