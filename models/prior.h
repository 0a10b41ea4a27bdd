// What grids of codes are probable, so that new ones can be drawn: two kinds behind one interface.
//   attention   a causal transformer over the cells in reading order, told apart by a vector for each row and one for each column ("PixelAtt"
//               of kexue.fm/archives/6760). To compute cell t it sees cells 0 .. t - 1; before cell 0 stands code 0, which the vectors of row
//               and column tell from a real one.
//   pixelcnn    gated convolutions (models/pixelcnn.h)
//   N = grids, h, w = a grid, K = codes
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "models/gpt.h"
#include "models/pixelcnn.h"

namespace qd {

struct PriorConfig {
  std::string kind = "attention";   // or pixelcnn
  int64_t codes = 512, rows = 16, columns = 16;
  int64_t width = 256, layers = 4, heads = 8;   // heads, dropout: of attention
  double dropout = 0.1;
  int64_t recompute = 0;   // of attention: blocks per recomputed segment in training; 0: none. No part of the model
};

struct SampleOptions {
  double temperature = 1, top_p = 1;
  int64_t top_k = 0;
  uint64_t seed = 1;
};

class Prior {
 public:
  explicit Prior(const PriorConfig& config);   // throws Error: another kind, sizes that do not fit
  const PriorConfig c;

  Module& module() { return gpt_ ? static_cast<Module&>(*gpt_) : *cnn_; }
  Tensor loss(const Tensor& ids) const;   // ids (N, h, w) -> mean over all cells in nats
  // `count` grids (count, h, w), in evaluation mode. Grid i is the same for every count.
  Tensor sample(int64_t count, const SampleOptions& options) const;

 private:
  std::unique_ptr<GPT> gpt_;
  std::unique_ptr<PixelCNN> cnn_;
};

// ids (N, h, w) -> what the transformer reads, (N, h w): every cell one place later.
Tensor shifted(const Tensor& ids);

}  // namespace qd
