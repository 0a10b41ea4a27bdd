// What tells a transformer where its tokens stand. Three kinds are added to the embeddings, three act inside attention:
//   learned       a table of `context` rows (Gehring et al. 2017, GPT-2); nothing beyond it
//   sinusoidal    sin and cos of t / 10000^(2i/C) (Vaswani et al. 2017)
//   rotary        queries and keys are turned by angles that grow with t: their product sees t - s (Su et al. 2021, RoFormer)
//   alibi         scores fall by slope_h |t - s| (Press et al. 2021)
//   t5            scores get a learned number for each head and bucket of t - s, the same in all blocks (Raffel et al. 2020)
//   grid          the cells of a grid in reading order: a table of rows and one of columns, added to the embeddings (kexue.fm/archives/6760)
//   none          nothing: a causal mask alone breaks the symmetry (kexue.fm/archives/10347)
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/ops.h"
#include "nn/module.h"

namespace qd {

enum class PositionKind { learned, sinusoidal, rotary, alibi, t5, none, grid };

struct Positions : Module {
  struct Options {
    PositionKind kind = PositionKind::learned;
    int64_t context, width, heads;
    int64_t rotary_dims = 0;                       // dimensions of each head that are turned
    int64_t columns = 0;                           // of the grid
  };
  Positions(Module& up, std::string name, const Options& options);

  const Options o;
  std::optional<Parameter> weight;                 // learned: (context, C)
  std::optional<Parameter> relative_bias;          // t5: (buckets, heads)
  std::optional<Parameter> row, column;            // grid: (context / columns, C), (columns, C)

  // To embeddings (B, T, C) of the positions first .. first + T - 1; throws Error beyond a learned table or grid.
  Tensor add(const Tensor& x, int64_t first = 0) const;
  void describe(AttentionOptions& attention, int64_t keys) const;   // what attention over `keys` positions needs

 private:
  const Tensor& table(int64_t rows) const;         // sinusoidal or rotary, made once for the longest sequence so far
  mutable Tensor table_;
};

}  // namespace qd
