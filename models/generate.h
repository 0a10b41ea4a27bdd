// Text from a language model, one token after another: one text, or several of one prompt at once.
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
  int64_t tokens = 200;            // how many to make, at most
  double temperature = 1;          // logits are divided by it; 0 takes the most probable token
  int64_t top_k = 0;               // only the k most probable tokens; 0: all
  double top_p = 1;                // only the most probable tokens that together reach this probability (Holtzman et al. 2020)
  double repetition_penalty = 1;   // above 1 tokens that were there become less probable, below 1 more
  int32_t end_of_text = -1;        // a text ends where this id is chosen, which is no part of it; -1: at no id
  uint64_t seed = 1;
};
void check(const GenerateOptions& options);   // throws Error naming the option

// Logits (V) of ids that were there already: divided by the penalty where positive, multiplied by it where negative, however often the id
// was there. Keskar et al. 2019 (CTRL), as Hugging Face applies it.
void penalise(std::span<float> logits, std::span<const int32_t> seen, double penalty);

// The next token, given its logits (V), penalised where that is wanted: temperature, then top_k, then top_p, then one random number; equal
// logits rank by id. Throws Error: no logit is finite, or one is NaN.
int32_t choose(std::span<const float> logits, const GenerateOptions& options, Random& random);

// How many of its last ids a model with this context sees of a text of `length` ids: all of them while they fit. When there is one more, the
// oldest half of the context is forgotten at once, and again whenever the context is full. What is seen depends on the length alone.
int64_t window(int64_t length, int64_t context);

// Continues `ids`, at least one, and returns the new ones; of a prompt longer than the context its last `context` ids count. on_token receives
// each as it is made and stops by returning false. Switch the model to evaluation first: dropout acts as elsewhere.
// A causal model computes each id once, with a cache of keys and values; when the window moves, what remains in it is computed again: what a
// block says of an id depends on those before it, at every layer, whatever the positions. The other masks have no cache at all.
std::vector<int32_t> generate(const GPT& model, std::vector<int32_t> ids, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& on_token = {});

// `count` texts that continue the same prompt, made together. Text i has random numbers of its own, and the same bits all the way: it is the
// same text for every count, and text 0 is that of generate(). on_token(i, id) stops them all by returning false.
std::vector<std::vector<int32_t>> generate_several(const GPT& model, std::vector<int32_t> ids, int64_t count, const GenerateOptions& options,
                                                   const std::function<bool(int64_t, int32_t)>& on_token = {});

}  // namespace qd
