#include "models/prior.h"

#include <algorithm>

#include "core/error.h"
#include "models/generate.h"

namespace qd {

GPTConfig prior_config(int64_t rows, int64_t columns, int64_t codes, const PriorOptions& o) {
  return {.vocab = codes,
          .context = rows * columns,
          .width = o.width,
          .layers = o.layers,
          .heads = o.heads,
          .positions = PositionKind::grid,
          .columns = columns,
          .dropout = o.dropout};
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

Tensor sample_grids(const GPT& prior, int64_t count, const SampleOptions& o) {
  constexpr int64_t at_once = 64;   // their keys and values must fit into memory
  const int64_t columns = prior.c.columns, rows = prior.c.context / columns;
  Tensor ids = empty({count, rows, columns}, DType::i32);
  int32_t* to = ids.mutable_data<int32_t>();
  for (int64_t first = 0; first < count; first += at_once) {
    const auto grids = generate_several(prior, {0}, std::min(at_once, count - first),
                                        {.tokens = prior.c.context, .temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p,
                                         .seed = o.seed + static_cast<uint64_t>(first / at_once)});
    for (const auto& grid : grids) to = std::copy(grid.begin(), grid.end(), to);
  }
  return ids;
}

}  // namespace qd
