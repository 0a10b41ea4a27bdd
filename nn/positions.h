// What tells a transformer where its tokens stand. Two kinds are added to the embeddings, three act inside attention:
//   learned       a table of `context` rows (Gehring et al. 2017, GPT-2); nothing beyond it
//   sinusoidal    sin and cos of t / 10000^(2i/C) (Vaswani et al. 2017)
//   rotary        queries and keys are turned by angles that grow with t: their product sees t - s (Su et al. 2021, RoFormer)
//   alibi         scores fall by slope_h |t - s| (Press et al. 2021)
//   t5            scores get a learned number for each head and bucket of t - s, the same in all blocks (Raffel et al. 2020)
//   none          nothing: a causal mask alone breaks the symmetry (kexue.fm/archives/10347)
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/ops.h"
#include "nn/module.h"

namespace qd {

enum class PositionKind { learned, sinusoidal, rotary, alibi, t5, none };

struct Positions : Module {
  struct Options {
    PositionKind kind = PositionKind::learned;
    int64_t context, width, heads;
    int64_t rotary_dims = 0;                       // dimensions of each head that are turned
  };
  Positions(Module& up, std::string name, const Options& options);

  const Options o;
  std::optional<Parameter> weight;                 // learned: (context, C)
  std::optional<Parameter> relative_bias;          // t5: (buckets, heads)

  // To embeddings (B, T, C) of the positions first .. first + T - 1; throws Error beyond a learned table.
  Tensor add(const Tensor& x, int64_t first = 0) const;
  void describe(AttentionOptions& attention, int64_t keys) const;   // what attention over `keys` positions needs

 private:
  const Tensor& table(int64_t rows) const;         // sinusoidal or rotary, made once for the longest sequence so far
  mutable Tensor table_;
};

}  // namespace qd
