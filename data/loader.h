// Batches for language models: random windows to train on, all windows in order to evaluate on.
#pragma once

#include <cstdint>
#include <vector>

#include "core/state.h"
#include "core/tensor.h"
#include "data/prefetch.h"
#include "data/tokens.h"

namespace qd {

// B = rows, T = tokens per row
struct Batch {
  Tensor inputs;    // (B,T) i32
  Tensor targets;   // (B,T) i32: the token that follows each input
};

struct WindowOptions {
  int64_t batch, context;            // B, T
  uint64_t seed;
  int64_t rank = 0, world = 1;       // this process among those that train together: they draw from one sequence of samples
};

// Windows at random places. Sample number s starts where the random numbers of (seed, s) say; row r of the n-th batch is
// sample (n * world + rank) * B + r. A thread reads ahead. The saved position is that of the batches consumed.
class WindowLoader final : public Stateful {
 public:
  WindowLoader(TokenStream tokens, const WindowOptions& options);   // throws Error: fewer than T + 1 tokens
  Batch next();
  const TokenStream& tokens() const { return tokens_; }

  void save(State& to, const std::string& prefix) const override;
  void load(const State& from, const std::string& prefix) override;   // throws Error: saved with another corpus

 private:
  std::vector<int32_t> make(int64_t index) const;

  const TokenStream tokens_;
  const WindowOptions options_;
  Prefetch<std::vector<int32_t>> prefetch_;   // last: its thread uses what stands above
};

// The whole stream once: windows of T inputs side by side, the last one shorter. Every token but the first is a target once.
class WindowSequence {
 public:
  WindowSequence(const TokenStream& tokens, int64_t batch, int64_t context);   // keeps a reference; throws Error: below 2 tokens
  int64_t size() const;                       // batches
  Batch operator[](int64_t i) const;          // (B,T); fewer rows when the windows run out; the short window alone at the end
  int64_t targets() const { return tokens_.size() - 1; }

 private:
  const TokenStream& tokens_;
  const int64_t batch_, context_, windows_;   // windows_: full ones
};

}  // namespace qd
