// Training steps of language models: loss, gradients, clipping, AdamW. Six operations per weight and token, and the products of causal attention.
// Generation: one text, token after token; every weight is read once for each, which is the roof.
#include <memory>

#include "apps/bench/bench.h"
#include "models/generate.h"
#include "models/gpt.h"
#include "nn/optimizer.h"

namespace qd::bench {
namespace {

Row training_step(const char* name, const GPTConfig& c, int64_t batch, bool slow = true) {
  struct Step {
    Step(const GPTConfig& config, int64_t batch) : model(config), ids(random_ids({batch, config.context}, config.vocab)) { model.initialize(1); }
    GPT model;
    AdamW optimizer{model};
    Tensor ids;
    void operator()() {
      model.loss(ids, ids).backward();
      optimizer.step(1e-4, clip_factor(optimizer.gradient_norm(), 1));
    }
  };
  const double tokens = static_cast<double>(batch * c.context), weights = weight_count(c) - static_cast<double>(c.context * c.width);
  const double operations = 6 * weights * tokens + 6 * static_cast<double>(c.layers * c.width * c.context) * tokens;
  return model(name, "tokens/s", tokens, operations, [c, batch] { return [step = std::make_shared<Step>(c, batch)] { (*step)(); }; }, slow);
}

Row generation(const char* name, const GPTConfig& c, int64_t prompt, int64_t tokens) {
  Row row = model(name, "tokens/s", static_cast<double>(tokens), 0, [=] {
    auto network = std::make_shared<GPT>(c);
    network->initialize(1);
    network->evaluate();
    network->pack();
    return [=] { generate(*network, std::vector<int32_t>(static_cast<size_t>(prompt), 1), {.tokens = tokens, .temperature = 0}); };
  });
  const double weights = weight_count(c) - static_cast<double>(c.context * c.width);   // a row of the learned positions counts as nothing
  row.bytes = 4 * weights * static_cast<double>(tokens);
  return row;
}

// One token after `length` others that the cache holds; `length` 0: the first token after a prompt of `tokens`.
Row next_token(const char* name, const GPTConfig& c, int64_t length, int64_t tokens) {
  return model(name, "tokens/s", static_cast<double>(tokens), 0, [=] {
    auto network = std::make_shared<GPT>(c);
    network->initialize(1);
    network->evaluate();
    network->pack();
    auto cache = std::make_shared<Cache>(network->cache(1, c.context));
    return [=, ids = random_ids({1, tokens}, c.vocab)] {
      const NoGrad off;
      cache->set_length(length);
      network->next(ids, cache.get());
    };
  });
}

// A prompt's tokens at once, without a cache: what its first token should cost.
Row forward_pass(const char* name, const GPTConfig& c, int64_t tokens) {
  return model(name, "tokens/s", static_cast<double>(tokens), 0, [=] {
    auto network = std::make_shared<GPT>(c);
    network->initialize(1);
    network->evaluate();
    return [=, ids = random_ids({1, tokens}, c.vocab)] {
      const NoGrad off;
      network->hidden(ids);
    };
  });
}

}  // namespace

void language_models(Rows& rows) {
  rows.push_back(training_step("gpt 0.8 M (L4 H4 D128 T64 B12)", {.vocab = 256, .context = 64, .width = 128, .layers = 4, .heads = 4}, 12, false));
  rows.push_back(training_step("gpt 12.3 M (L6 H6 D384 T256 B8)", {.vocab = 4096, .context = 256, .width = 384, .layers = 6, .heads = 6}, 8));
  rows.push_back(training_step("gpt-2 124 M (L12 H12 D768 T64 B4)", {.vocab = 50257, .context = 64, .width = 768, .layers = 12, .heads = 12}, 4));
  rows.push_back(training_step("deepnorm 1000 layers (D32 T32 B8)",
                               {.vocab = 64, .context = 32, .width = 32, .layers = 1000, .heads = 2, .norm = NormPlace::deepnorm}, 8));
  rows.push_back(generation("generation 12.3 M (L6 H6 D384 T256 B1)", {.vocab = 4096, .context = 256, .width = 384, .layers = 6, .heads = 6}, 16, 240));
  const GPTConfig longer = {.vocab = 4096, .context = 1024, .width = 384, .layers = 6, .heads = 6};
  rows.push_back(forward_pass("generation 12.3 M, a pass over 200 tokens", longer, 200));
  rows.push_back(next_token("generation 12.3 M, first token after 200", longer, 0, 200));
  rows.push_back(next_token("generation 12.3 M, token 50", longer, 49, 1));
  rows.push_back(next_token("generation 12.3 M, token 500", longer, 499, 1));
}

}  // namespace qd::bench
