// Multi-head self-attention with packed projections. Vaswani et al. 2017; names and layout as in GPT-2.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "nn/layers.h"
#include "nn/positions.h"

namespace qd {

// Which part of each sequence of a batch is real, and which part may be seen from everywhere. Empty: all of it, and none.
struct Extent {
  std::vector<int32_t> lengths;              // per sequence: tokens from here on are padding
  std::vector<int32_t> prefix;               // per sequence, for Mask::prefix: the first so many tokens
};

// What a block remembers of the tokens it has seen, so that the next ones need not compute them again: their keys (turned already,
// with RoPE) and values. Lives under NoGrad: a cache passes no gradient on.
struct KVCache {
  Tensor keys, values;                       // (B, capacity, KV)
  int64_t length = 0;                        // tokens so far
  int64_t capacity() const { return keys.dim(1); }
};

struct Attention : Module {
  struct Options {
    int64_t width, heads;
    int64_t kv_heads = 0;                    // 0: as many as heads; a divisor: grouped queries
    Mask mask = Mask::causal;
    double dropout = 0;                      // of attention weights
    Init q_init = normal(0.02), k_init = normal(0.02), v_init = normal(0.02), out_init = normal(0.02);
  };
  // `positions` is shared by all blocks of a model and outlives them.
  Attention(Module& up, std::string name, const Options& o, const Positions& positions)
      : Module(up, std::move(name)), o(o), positions(positions) {}

  const Options o;
  const Positions& positions;
  const int64_t head_dim = o.width / o.heads, kv_width = head_dim * (o.kv_heads ? o.kv_heads : o.heads);
  Linear c_attn{*this, "c_attn", o.width, o.width + 2 * kv_width,
                {.layout = Layout::in_out, .init = side_by_side({{o.width, o.q_init}, {kv_width, o.k_init}, {kv_width, o.v_init}})}};
  Linear c_proj{*this, "c_proj", o.width, o.width, {.layout = Layout::in_out, .init = o.out_init}};

  // x (B, T, C) -> (B, T, C). With a cache x holds the next T tokens, which see those of the cache and are added to it.
  Tensor operator()(const Tensor& x, const Extent& extent = {}, KVCache* cache = nullptr) const {
    const Tensor qkv = c_attn(x);                                   // (B, T, C + 2 KV)
    AttentionOptions a{.heads = o.heads, .kv_heads = o.kv_heads, .head_dim = head_dim, .mask = o.mask};
    a.prefix = extent.prefix;
    a.lengths = extent.lengths;
    a.dropout = training() ? static_cast<float>(o.dropout) : 0;
    positions.describe(a, cache ? cache->capacity() : x.dim(1));
    const Heads q{qkv}, k{qkv, o.width}, v{qkv, o.width + kv_width};
    if (!cache) return c_proj(attention(q, k, v, a));
    store_heads(k, head_dim, a.rotary, cache->length, cache->keys);
    store_heads(v, head_dim, {}, cache->length, cache->values);
    a.query_offset = cache->length;                                 // what lies behind the new tokens the causal mask hides
    a.keys_turned = true;
    cache->length += x.dim(1);
    return c_proj(attention(q, {cache->keys}, {cache->values}, a));
  }

  // What the heads look at in x (B, T, C): their weights (B, heads, T, T), without dropout. No gradient.
  Tensor probabilities(const Tensor& x) const {
    const Tensor qkv = c_attn(x);
    AttentionOptions a{.heads = o.heads, .kv_heads = o.kv_heads, .head_dim = head_dim, .mask = o.mask};
    positions.describe(a, x.dim(1));
    return attention_probabilities({qkv}, {qkv, o.width}, a);
  }
};

}  // namespace qd
