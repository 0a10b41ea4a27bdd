// What grids of codes are probable: a causal transformer over their cells in reading order, told apart by a vector for each row and one for
// each column ("PixelAtt" of kexue.fm/archives/6760). To compute cell t it sees cells 0 .. t - 1; before cell 0 stands code 0, which
// the vectors of row and column tell from a real one.
//   N = grids, h, w = a grid, K = codes
#pragma once

#include <cstdint>
#include <vector>

#include "models/gpt.h"

namespace qd {

struct PriorOptions {
  int64_t width = 256, layers = 4, heads = 8;
  double dropout = 0.1;
};
GPTConfig prior_config(int64_t rows, int64_t columns, int64_t codes, const PriorOptions& options);

// ids (N, h, w) -> what the transformer reads, (N, h w): every cell one place later.
Tensor shifted(const Tensor& ids);

// Mean over all cells in nats.
inline Tensor prior_loss(const GPT& prior, const Tensor& ids) {
  return prior.loss(shifted(ids), ids.reshape({ids.dim(0), ids.size() / ids.dim(0)}));
}

// `count` grids, (count, h, w). The prior in evaluation mode. Grid i is the same for every count.
struct SampleOptions {
  double temperature = 1, top_p = 1;
  int64_t top_k = 0;
  uint64_t seed = 1;
};
Tensor sample_grids(const GPT& prior, int64_t count, const SampleOptions& options);

}  // namespace qd
