#include "models/prior.h"

#include <algorithm>

#include "core/autograd.h"
#include "core/error.h"
#include "models/generate.h"

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

// Cell after cell, all grids together, the whole network each time.
Tensor draw(const PixelCNN& cnn, int64_t count, const SampleOptions& o) {
  const NoGrad off;
  const int64_t h = cnn.c.rows, w = cnn.c.columns, codes = cnn.c.codes;
  Tensor ids = zeros({count, h, w}, DType::i32);
  std::vector<Random> random;
  for (int64_t n = 0; n < count; ++n) random.emplace_back(o.seed, (uint64_t{1} << 61) + static_cast<uint64_t>(n));
  const GenerateOptions choice{.temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p};
  for (int64_t t = 0; t < h * w; ++t) {
    const Tensor logits = cnn.logits(ids);
    for (int64_t n = 0; n < count; ++n)
      ids.mutable_data<int32_t>()[n * h * w + t] =
          choose({logits.data() + (n * h * w + t) * codes, static_cast<size_t>(codes)}, choice, random[static_cast<size_t>(n)]);
  }
  return ids;
}

}  // namespace

Prior::Prior(const PriorConfig& config) : c(config) {
  QD_CHECK(c.kind == "attention" || c.kind == "pixelcnn", "--kind", "expected attention or pixelcnn, got '" + c.kind + "'");
  QD_CHECK(c.recompute == 0 || c.kind == "attention", "--recompute", str("expected 0 for --kind pixelcnn, got ", c.recompute), "convolutions keep what they computed");
  if (c.kind == "attention")
    gpt_ = std::make_unique<GPT>(transformer(c));
  else
    cnn_ = std::make_unique<PixelCNN>(PixelCNNConfig{.codes = c.codes, .rows = c.rows, .columns = c.columns, .width = c.width, .layers = c.layers});
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

Tensor Prior::loss(const Tensor& ids) const {
  QD_CHECK(ids.rank() == 3 && ids.dim(1) == c.rows && ids.dim(2) == c.columns, "prior",
           str("expected ids (N, ", c.rows, ", ", c.columns, "), got ", ids.shape().str()));
  return gpt_ ? gpt_->loss(shifted(ids), ids.reshape({ids.dim(0), c.rows * c.columns})) : cnn_->loss(ids);
}

Tensor Prior::sample(int64_t count, const SampleOptions& o) const {
  constexpr int64_t at_once = 64;   // what they hold must fit into memory
  Tensor ids = empty({count, c.rows, c.columns}, DType::i32);
  int32_t* to = ids.mutable_data<int32_t>();
  for (int64_t first = 0; first < count; first += at_once) {
    const int64_t some = std::min(at_once, count - first);
    const uint64_t seed = o.seed + static_cast<uint64_t>(first / at_once);
    if (cnn_) {
      const Tensor grids = draw(*cnn_, some, {.temperature = o.temperature, .top_p = o.top_p, .top_k = o.top_k, .seed = seed});
      to = std::copy_n(grids.data<int32_t>(), grids.size(), to);
      continue;
    }
    const auto grids = generate_several(*gpt_, {0}, some,
                                        {.tokens = c.rows * c.columns, .temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p, .seed = seed});
    for (const auto& grid : grids) to = std::copy(grid.begin(), grid.end(), to);
  }
  return ids;
}

}  // namespace qd
