// What grids of codes are probable, so that new ones can be drawn: two kinds behind one interface.
//   attention   a causal transformer over the cells in reading order, told apart by a vector for each row and one for each column ("PixelAtt"
//               of kexue.fm/archives/6760). To compute cell t it sees cells 0 .. t - 1; before cell 0 stands code 0, which the vectors of row
//               and column tell from a real one.
//   pixelcnn    gated convolutions (models/pixelcnn.h)
// Of a model with two grids they see one: the coarse grid, s rows of s cells, above the fine one, whose 2 s rows are cut in two and whose codes have numbers
// from K / 2 on. The transformer needs to know no more; of convolutions there are two, of which the finer sees all of the coarse grid.
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
  int64_t levels = 1;               // grids in the one; 2: rows = 5 columns
  int64_t width = 256, layers = 4, heads = 8;   // heads, dropout: of attention
  double dropout = 0.1;
  int64_t recompute = 0;   // of attention: blocks per recomputed segment in training; 0: none. No part of the model
};

struct SampleOptions {
  double temperature = 1, top_p = 1;
  int64_t top_k = 0;
  uint64_t seed = 1;
};

// Convolutions over one grid, or over two.
struct ConvPrior : Module {
  explicit ConvPrior(const PriorConfig& config);
  const PriorConfig c;
  PixelCNN first;                       // of the only grid, or of the coarse one
  std::optional<Embedding> coarse;      // codes as the fine grid sees them,
  std::optional<Conv2d> around;         // with those around them
  std::optional<PixelCNN> second;       // of the fine grid

  Tensor loss(const Tensor& ids) const;
  Tensor draw(int64_t count, const PixelCNN::Chooser& choose) const;

 private:
  Tensor given(const Tensor& coarse_ids) const { return upsample_nearest((*around)((*coarse)(coarse_ids)), 2); }
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
  std::unique_ptr<ConvPrior> cnn_;
};

// Bits of a code by how often each occurs among the grids to learn from, one more added to each, measured on the others. Of two grids each has
// its own codes: which of the two a code is of, everybody knows.
double histogram_bits(const Tensor& training, const Tensor& held_out, int64_t codes, int64_t levels = 1);

// ids (N, h, w) -> what the transformer reads, (N, h w): every cell one place later.
Tensor shifted(const Tensor& ids);

}  // namespace qd
