// Text from a language model, one token after another.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"

namespace qd {

struct GPT;

struct GenerateOptions {
  int64_t tokens = 200;     // how many to make
  double temperature = 1;   // logits are divided by it; 0 takes the most probable token
  int64_t top_k = 0;        // only the k most probable tokens; 0: all
  double top_p = 1;         // only the most probable tokens that together reach this probability (Holtzman et al. 2020)
  uint64_t seed = 1;
};
void check(const GenerateOptions& options);   // throws Error naming the option

// The next token, given its logits (V): temperature, then top_k, then top_p, then one random number; equal logits rank by id.
// Throws Error: no logit is finite, or one is NaN.
int32_t choose(std::span<const float> logits, const GenerateOptions& options, Random& random);

// Continues `ids`, at least one, and returns the new ones. The model sees the last `context` ids. on_token receives each as it is
// made and stops by returning false. Switch the model to evaluation first: dropout acts as elsewhere.
// A causal model computes each id once, with a cache of keys and values, until the context is full. From there on the window moves
// with each token, and its ids are computed again: what a block says of an id depends on those before it, at every layer, whatever
// the positions. The other masks have no cache at all.
std::vector<int32_t> generate(const GPT& model, std::vector<int32_t> ids, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& on_token = {});

}  // namespace qd
