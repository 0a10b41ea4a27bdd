#include "models/prior.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "core/autograd.h"
#include "core/error.h"
#include "models/generate.h"
#include "models/quantizer.h"

namespace qd {
namespace {

GPTConfig transformer(const PriorConfig& c) {
  return {.vocab = c.codes,
          .context = c.rows * c.columns,
          .width = c.width,
          .layers = c.layers,
          .heads = c.heads,
          .positions = PositionKind::grid,
          .columns = c.columns,
          .dropout = c.dropout,
          .recompute = c.recompute};
}

PixelCNNConfig convolutions(const PriorConfig& c, bool fine) {
  const int64_t side = fine ? 2 * c.columns : c.columns;
  return {.codes = c.codes / c.levels, .rows = c.levels == 2 ? side : c.rows, .columns = side, .width = c.width, .layers = c.layers, .conditional = fine};
}

// Cells begin .. end - 1 of each of the grids, `less` subtracted, as (N, h, w).
Tensor part_of(const Tensor& ids, int64_t begin, int64_t h, int64_t w, int32_t less) {
  const int64_t cells = ids.dim(1) * ids.dim(2);
  Tensor out = empty({ids.dim(0), h, w}, DType::i32);
  int32_t* to = out.mutable_data<int32_t>();
  for (int64_t n = 0; n < ids.dim(0); ++n)
    for (int64_t i = 0; i < h * w; ++i) *to++ = ids.data<int32_t>()[n * cells + begin + i] - less;
  return out;
}

}  // namespace

Prior::Prior(const PriorConfig& config) : c(config) {
  QD_CHECK(c.kind == "attention" || c.kind == "pixelcnn", "--kind", "expected attention or pixelcnn, got '" + c.kind + "'");
  QD_CHECK(c.recompute == 0 || c.kind == "attention", "--recompute", str("expected 0 for --kind pixelcnn, got ", c.recompute), "convolutions keep what they computed");
  if (c.kind == "attention")
    gpt_ = std::make_unique<GPT>(transformer(c));
  else
    cnn_ = std::make_unique<ConvPrior>(c);
}

ConvPrior::ConvPrior(const PriorConfig& config) : c(config), first(*this, c.levels == 2 ? "first" : "grid", convolutions(c, false)) {
  if (c.levels == 1) return;
  QD_CHECK(c.levels == 2 && c.rows == 5 * c.columns && c.codes % 2 == 0, "prior",
           str("expected two grids of ", c.columns, " and ", 2 * c.columns, " cells a side, got ", c.rows, " rows of codes below ", c.codes));
  coarse.emplace(*this, "coarse", c.codes / 2, c.width, normal(0.1));
  around.emplace(*this, "around", c.width, c.width, 3, Conv2d::Options{.shape = {.padding = 1}});
  second.emplace(*this, "second", convolutions(c, true));
}

Tensor ConvPrior::loss(const Tensor& ids) const {
  if (!second) return first.loss(ids);
  const int64_t s = c.columns, coarse_cells = s * s, fine_cells = 4 * coarse_cells;
  const Tensor above = part_of(ids, 0, s, s, 0), below = part_of(ids, coarse_cells, 2 * s, 2 * s, static_cast<int32_t>(c.codes / 2));
  const auto share = [&](int64_t cells) { return static_cast<float>(cells) / static_cast<float>(coarse_cells + fine_cells); };
  return first.loss(above) * share(coarse_cells) + second->loss(below, given(above)) * share(fine_cells);
}

Tensor ConvPrior::draw(int64_t count, const PixelCNN::Chooser& choose) const {
  const Tensor above = first.draw(count, choose);
  if (!second) return above;
  const NoGrad off;
  const Tensor below = second->draw(count, choose, given(above).detach());
  Tensor ids = empty({count, c.rows, c.columns}, DType::i32);
  int32_t* to = ids.mutable_data<int32_t>();
  for (int64_t n = 0; n < count; ++n) {
    const int64_t coarse_cells = above.size() / count, fine_cells = below.size() / count;
    to = std::copy_n(above.data<int32_t>() + n * coarse_cells, coarse_cells, to);
    for (int64_t i = 0; i < fine_cells; ++i) *to++ = below.data<int32_t>()[n * fine_cells + i] + static_cast<int32_t>(c.codes / 2);
  }
  return ids;
}

Tensor shifted(const Tensor& ids) {
  QD_CHECK(ids.rank() == 3 && ids.dtype() == DType::i32, "prior", str("expected ids (N, h, w), got ", ids.shape().str()));
  const int64_t cells = ids.dim(1) * ids.dim(2);
  Tensor out = empty({ids.dim(0), cells}, DType::i32);
  for (int64_t n = 0; n < ids.dim(0); ++n) {
    int32_t* to = out.mutable_data<int32_t>() + n * cells;
    to[0] = 0;
    std::copy_n(ids.data<int32_t>() + n * cells, cells - 1, to + 1);
  }
  return out;
}

double histogram_bits(const Tensor& training, const Tensor& held_out, int64_t codes, int64_t levels) {
  const auto counts = code_counts(training, codes);
  const auto of_level = static_cast<size_t>(codes / levels);
  std::vector<double> totals;
  for (size_t begin = 0; begin < counts.size(); begin += of_level)
    totals.push_back(static_cast<double>(std::accumulate(counts.begin() + static_cast<std::ptrdiff_t>(begin), counts.begin() + static_cast<std::ptrdiff_t>(begin + of_level), int64_t{0})) +
                     static_cast<double>(of_level));
  double nats = 0;
  for (const int32_t id : held_out.values<int32_t>()) {
    const auto code = static_cast<size_t>(id);
    nats -= std::log(static_cast<double>(counts[code] + 1) / totals[code / of_level]);
  }
  return nats / std::numbers::ln2 / static_cast<double>(held_out.size());
}

Tensor Prior::loss(const Tensor& ids) const {
  QD_CHECK(ids.rank() == 3 && ids.dim(1) == c.rows && ids.dim(2) == c.columns, "prior",
           str("expected ids (N, ", c.rows, ", ", c.columns, "), got ", ids.shape().str()));
  return gpt_ ? gpt_->loss(shifted(ids), ids.reshape({ids.dim(0), c.rows * c.columns})) : cnn_->loss(ids);
}

Tensor Prior::sample(int64_t count, const SampleOptions& o) const {
  constexpr int64_t at_once = 64;   // what they hold must fit into memory
  QD_CHECK(count >= 1, "--count", str("expected at least 1, got ", count));
  Tensor ids = empty({count, c.rows, c.columns}, DType::i32);
  int32_t* to = ids.mutable_data<int32_t>();
  const GenerateOptions choice{.tokens = c.rows * c.columns, .temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p, .seed = o.seed};
  if (gpt_) {
    for (const auto& grid : generate_several(*gpt_, {0}, count, choice)) to = std::copy(grid.begin(), grid.end(), to);
    return ids;
  }
  for (int64_t begin = 0; begin < count; begin += at_once) {
    std::vector<Random> random;   // one for each grid, whatever the others are
    for (int64_t n = begin; n < std::min(count, begin + at_once); ++n) random.emplace_back(o.seed, (uint64_t{1} << 61) + static_cast<uint64_t>(n));
    const Tensor grids = cnn_->draw(std::ssize(random), [&](int64_t n, std::span<const float> logits) { return choose(logits, choice, random[static_cast<size_t>(n)]); });
    to = std::copy_n(grids.data<int32_t>(), grids.size(), to);
  }
  return ids;
}

}  // namespace qd
