// Decoder-only transformer. Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2): its shapes and names.
// Where the norm stands, its kind, the activation, positions and mask are options (gpt_config.h), so that the posts' comparisons are one
// flag each: kexue.fm/archives/8978 (DeepNorm), 9529 (masks), 10347 (positions).
//   B = batch, T = time, C = width, V = vocabulary, L = layers
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/autograd.h"
#include "core/error.h"
#include "models/gpt_config.h"
#include "nn/attention.h"
#include "nn/layers.h"
#include "nn/positions.h"

namespace qd {

// How the weights of a block start. GPT-2: N(0, 0.02^2), and 0.02 / sqrt(2L) where a branch returns to the residual stream.
// DeepNorm (Wang et al. 2022): x alpha + F(x) with alpha = (2L)^(1/4), and Xavier with gain beta = (8L)^(-1/4) for all matrices but Q, K.
struct BlockInit {
  explicit BlockInit(const GPTConfig& c)
      : deep(c.norm == NormPlace::deepnorm),
        depth(static_cast<double>(c.layers)),
        alpha(deep ? static_cast<float>(std::pow(2 * depth, 0.25)) : 1.0f),
        beta(std::pow(8 * depth, -0.25)) {}
  bool deep;
  double depth;
  float alpha;
  double beta;

  Init inner(int64_t in, int64_t out) const { return deep ? xavier(in, out, beta) : normal(0.02); }
  Init to_stream(int64_t in, int64_t out) const { return deep ? xavier(in, out, beta) : normal(0.02 / std::sqrt(2 * depth)); }
  Init attending(int64_t in, int64_t out) const { return deep ? xavier(in, out) : normal(0.02); }   // Q and K
};

struct FeedForward : Module {
  using Module::Module;
  virtual Tensor operator()(const Tensor& x) const = 0;    // (B, T, C) -> (B, T, C)
};

// c_proj(f(c_fc(x)))
struct MLP final : FeedForward {
  MLP(Module& up, std::string name, const GPTConfig& c, const BlockInit& init)
      : FeedForward(up, std::move(name)), c(c), init(init) {}
  const GPTConfig& c;
  const BlockInit& init;
  const int64_t hidden = hidden_width(c);
  Linear c_fc{*this, "c_fc", c.width, hidden, {.layout = Layout::in_out, .init = init.inner(c.width, hidden)}};
  Linear c_proj{*this, "c_proj", hidden, c.width, {.layout = Layout::in_out, .init = init.to_stream(hidden, c.width)}};
  const Activation f = c.activation == MLPKind::relu       ? Activation::relu
                       : c.activation == MLPKind::gelu_erf ? Activation::gelu_erf
                                                           : Activation::gelu;

  Tensor operator()(const Tensor& x) const override { return c_proj(c_fc(x, f)); }
};

// w2(silu(w1 x) * w3 x), without biases. Shazeer 2020, "GLU Variants Improve Transformer"
struct SwiGLU final : FeedForward {
  SwiGLU(Module& up, std::string name, const GPTConfig& c, const BlockInit& init)
      : FeedForward(up, std::move(name)), c(c), init(init) {}
  const GPTConfig& c;
  const BlockInit& init;
  const int64_t hidden = hidden_width(c);
  Linear w1{*this, "w1", c.width, hidden, {.bias = false, .layout = Layout::in_out, .init = init.inner(c.width, hidden)}};
  Linear w3{*this, "w3", c.width, hidden, {.bias = false, .layout = Layout::in_out, .init = init.inner(c.width, hidden)}};
  Linear w2{*this, "w2", hidden, c.width, {.bias = false, .layout = Layout::in_out, .init = init.to_stream(hidden, c.width)}};

  Tensor operator()(const Tensor& x) const override { return w2(w1(x, Activation::silu) * w3(x)); }
};

struct Block : Module {
  Block(Module& up, std::string name, const GPTConfig& c, const Positions& positions)
      : Module(up, std::move(name)), c(c), positions(positions) {}
  const GPTConfig& c;
  const Positions& positions;
  const BlockInit init{c};
  Norm ln_1{*this, "ln_1", c.width, c.norm_kind, c.epsilon};
  Attention attn{*this, "attn",
                 {.width = c.width, .heads = c.heads, .kv_heads = c.kv_heads, .mask = c.mask, .dropout = c.dropout,
                  .q_init = init.attending(c.width, c.width), .k_init = init.attending(c.width, kv_width()),
                  .v_init = init.inner(c.width, kv_width()), .out_init = init.to_stream(c.width, c.width)},
                 positions};
  Norm ln_2{*this, "ln_2", c.width, c.norm_kind, c.epsilon};
  const std::unique_ptr<FeedForward> mlp = make_mlp();
  Dropout drop{*this, "drop", c.dropout};

  // x (B, T, C) -> (B, T, C)
  Tensor operator()(Tensor x, const Extent& extent = {}, KVCache* cache = nullptr) const {
    if (c.norm == NormPlace::pre) {
      x = x + drop(attn(ln_1(x), extent, cache));          // tokens talk to each other
      x = x + drop((*mlp)(ln_2(x)));                       // each token thinks alone
    } else {
      x = ln_1(x, init.alpha, drop(attn(x, extent, cache)));   // norm(alpha x + F(x)); alpha is 1 without DeepNorm
      x = ln_2(x, init.alpha, drop((*mlp)(x)));
    }
    return x;
  }

 private:
  int64_t kv_width() const { return c.width / c.heads * (c.kv_heads ? c.kv_heads : c.heads); }
  std::unique_ptr<FeedForward> make_mlp() {
    if (c.activation == MLPKind::swiglu) return std::make_unique<SwiGLU>(*this, "mlp", c, init);
    return std::make_unique<MLP>(*this, "mlp", c, init);
  }
};

// What the blocks remember of a batch of sequences: see GPT::cache(). A copy shares the memory: it must not be continued beside the first.
struct Cache {
  std::vector<KVCache> blocks;
  int64_t length() const { return blocks.front().length; }   // tokens of each sequence so far
  void set_length(int64_t tokens) {                          // those behind are forgotten
    for (KVCache& block : blocks) block.length = tokens;
  }
  // Sequences begin .. end - 1 alone, in the same memory.
  Cache sequences(int64_t begin, int64_t end) const {
    Cache some;
    for (const KVCache& block : blocks)
      some.blocks.push_back({block.keys.row_range(begin, end), block.values.row_range(begin, end), block.length});
    return some;
  }
  void copy_sequence(int64_t from, int64_t to) {
    for (KVCache& block : blocks)
      for (Tensor* x : {&block.keys, &block.values}) {
        const int64_t row = x->dim(1) * x->dim(2);
        float* data = x->mutable_data();
        std::copy_n(data + from * row, block.length * x->dim(2), data + to * row);
      }
  }
};

struct GPT : Module {
  explicit GPT(const GPTConfig& config) : c((check(config), config)) {
    if (c.norm == NormPlace::pre) ln_f.emplace(*this, "ln_f", c.width, c.norm_kind, c.epsilon);
  }
  const GPTConfig c;
  Embedding wte{*this, "wte", c.vocab, c.width};
  Positions wpe{*this, "wpe",
                {.kind = c.positions, .context = c.context, .width = c.width, .heads = c.heads, .rotary_dims = rotary_dims(c), .columns = c.columns}};
  Dropout drop{*this, "drop", c.dropout};
  ModuleList<Block> h{*this, "h", c.layers, c, wpe};
  std::optional<Norm> ln_f;                                // of pre-norm alone: otherwise every block ends in a norm

  // ids (B, T) -> (B, T, C). With a cache ids are the next T tokens of its sequences, and it holds them afterwards.
  Tensor hidden(const Tensor& ids, const Extent& extent = {}, Cache* cache = nullptr) const {
    QD_CHECK(!cache || std::ssize(cache->blocks) == c.layers, "cache", str("expected one for ", c.layers, " blocks, got ", cache->blocks.size()),
             "make it with cache() of this model");
    Tensor x = drop(wpe.add(wte(ids), cache ? cache->length() : 0));
    const bool recompute = training() && c.recompute > 0;
    const int64_t step = recompute ? c.recompute : c.layers;
    for (int64_t first = 0; first < c.layers; first += step) {
      const auto segment = [this, first, last = std::min(first + step, c.layers), extent, cache](const std::vector<Tensor>& in) {
        Tensor y = in[0];
        for (int64_t i = first; i < last; ++i) y = h[i](y, extent, cache ? &cache->blocks[static_cast<size_t>(i)] : nullptr);
        return y;
      };
      x = recompute ? checkpoint(segment, {x}) : segment({x});   // Chen et al. 2016
    }
    return ln_f ? (*ln_f)(x) : x;
  }

  // ids (B, T) -> (B, T, V). The output matrix is the token embedding.
  Tensor logits(const Tensor& ids, const Extent& extent = {}) const { return matmul(hidden(ids, extent), wte.weight, false, true); }

  // ids (B, T) -> (B, V), the logits of the token after the last one
  Tensor next(const Tensor& ids, Cache* cache = nullptr) const {
    const int64_t batch = ids.dim(0), length = ids.dim(1);
    const Tensor x = hidden(ids, {}, cache).reshape({batch * length, c.width});
    std::vector<int32_t> last;
    for (int64_t b = 1; b <= batch; ++b) last.push_back(static_cast<int32_t>(b * length - 1));
    return matmul(embedding(x, tensor(last, {batch})), wte.weight, false, true);
  }

  // ids (B, T) -> for each block what its heads look at, (B, heads, T, T). In evaluation mode, without gradients: for maps.
  std::vector<Tensor> attention_maps(const Tensor& ids) const {
    const NoGrad off;
    std::vector<Tensor> maps;
    Tensor x = wpe.add(wte(ids));
    for (int64_t i = 0; i < c.layers; ++i) {
      maps.push_back(h[i].attn.probabilities(c.norm == NormPlace::pre ? h[i].ln_1(x) : x));
      x = h[i](x);
    }
    return maps;
  }

  // Memory for what the blocks would compute again: the keys and values of `batch` sequences of at most `capacity` tokens. Only a causal
  // model can use it: under another mask a token changes those before it. Throws Error then.
  Cache cache(int64_t batch, int64_t capacity) const {
    QD_CHECK(c.mask == Mask::causal, "cache", str("expected a causal model, got the mask ", name_of(c.mask)));
    Cache out;
    for (int64_t i = 0; i < c.layers; ++i) {
      const Shape shape{batch, capacity, h[i].attn.kv_width};
      out.blocks.push_back({empty(shape), empty(shape)});
    }
    return out;
  }

  // ids (B, T), targets (B, T) -> mean cross-entropy in nats; a target of -100 does not count
  Tensor loss(const Tensor& ids, const Tensor& targets, const Extent& extent = {}) const {
    return linear_cross_entropy(hidden(ids, extent), wte.weight, targets);   // the logits are never stored whole
  }
};

}  // namespace qd
