// What holds for every decoder-only model, whatever its options: gradients reach all parameters, one batch can be learned by heart,
// recomputation changes no bit, positions do what they promise.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/allocator.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/random.h"
#include "models/gpt.h"
#include "nn/optimizer.h"
#include "tests/golden.h"

using namespace qd;
using namespace qd::test;

namespace {

constexpr int64_t vocabulary = 29;

Tensor random_ids(int64_t rows, int64_t cols, uint64_t stream) {
  Tensor ids = empty({rows, cols}, DType::i32);
  Random random(5, stream);
  for (int64_t i = 0; i < ids.size(); ++i) ids.mutable_data<int32_t>()[i] = static_cast<int32_t>(random.next() % vocabulary);
  return ids;
}

GPTConfig small() { return {.vocab = vocabulary, .context = 16, .width = 24, .layers = 2, .heads = 3}; }

// Every value of every option at least once.
std::vector<std::pair<std::string, GPTConfig>> variety() {
  std::vector<std::pair<std::string, GPTConfig>> all;
  for (const PositionKind p : {PositionKind::learned, PositionKind::sinusoidal, PositionKind::rotary, PositionKind::alibi, PositionKind::t5,
                               PositionKind::none}) {
    GPTConfig c = small();
    c.positions = p;
    all.emplace_back(std::string("positions ") + name_of(p), c);
  }
  for (const NormPlace place : {NormPlace::post, NormPlace::deepnorm}) {
    GPTConfig c = small();
    c.norm = place;
    all.emplace_back(std::string("norm ") + name_of(place), c);
  }
  for (const MLPKind f : {MLPKind::gelu_erf, MLPKind::relu, MLPKind::swiglu}) {
    GPTConfig c = small();
    c.activation = f;
    all.emplace_back(std::string("activation ") + name_of(f), c);
  }
  GPTConfig c = small();
  c.norm_kind = NormKind::rms, c.kv_heads = 1, c.positions = PositionKind::rotary, c.rotary = 0.5;
  all.emplace_back("rms, one kv head, half rotary", c);
  c = small();
  c.mask = Mask::bidirectional;
  all.emplace_back("bidirectional", c);
  c.mask = Mask::mixed, c.heads = 4;
  all.emplace_back("mixed", c);
  return all;
}

// Loss and all gradients of one step, in order.
std::vector<Tensor> one_step(GPT& model, const Tensor& ids, const Tensor& targets) {
  random_state() = {.seed = 9, .next = 0};
  model.clear_gradients();
  const Tensor loss = model.loss(ids, targets);
  loss.backward();
  std::vector<Tensor> all{loss.detach()};
  for (const Parameter* p : model.parameters()) all.push_back(p->value.gradient().clone());
  return all;
}

Tensor logits_of(const GPT& model, const Tensor& ids) {
  NoGrad off;
  return model.logits(ids);
}

}  // namespace

TEST_CASE("gpt: every parameter of every variant gets a finite gradient that is not zero") {
  for (const auto& [name, c] : variety()) {
    CAPTURE(name);
    GPT model(c);
    model.initialize(1);
    const auto all = one_step(model, random_ids(3, 16, 0), random_ids(3, 16, 1));
    CHECK(all[0].item() == doctest::Approx(std::log(vocabulary)).epsilon(0.05));   // knows nothing yet
    size_t i = 1;
    for (const Parameter* p : model.parameters()) {
      const std::string path = p->path();
      CAPTURE(path);
      const Tensor& g = all[i++];
      CHECK(kernels().all_finite(g.size(), g.data()));
      CHECK(kernels().sum_squares(g.size(), g.data()) > 0);
    }
  }
}

TEST_CASE("gpt: one batch is learned by heart, in every variant") {
  for (const auto& [name, c] : variety()) {
    CAPTURE(name);
    GPT model(c);
    model.initialize(2);
    AdamW optimizer(model, {.decay = 0});
    const Tensor ids = random_ids(2, 12, 2), targets = random_ids(2, 12, 3);
    float loss = 0;
    for (int step = 0; step < 150; ++step) {
      const Tensor l = model.loss(ids, targets);
      l.backward();
      optimizer.step(3e-3, clip_factor(optimizer.gradient_norm(), 1));
      loss = l.item();
    }
    CHECK(loss < 0.1);
  }
}

TEST_CASE("gpt: recomputed or not, the same bits, dropout included") {
  for (const double dropout : {0.0, 0.2}) {
    GPTConfig c = small();
    c.layers = 5, c.dropout = dropout, c.positions = PositionKind::t5;
    GPT whole(c);
    const auto expected = (whole.initialize(3), one_step(whole, random_ids(2, 16, 4), random_ids(2, 16, 5)));
    for (const int64_t segment : {1, 2, 5, 9}) {
      CAPTURE(segment);
      c.recompute = segment;
      GPT again(c);
      again.initialize(3);
      const auto all = one_step(again, random_ids(2, 16, 4), random_ids(2, 16, 5));
      for (size_t i = 0; i < all.size(); ++i) CHECK(same_bits(all[i], expected[i]));
    }
  }
}

TEST_CASE("gpt: dropout acts in training alone") {
  GPTConfig c = small();
  c.dropout = 0.5;
  GPT model(c);
  model.initialize(1);
  const Tensor ids = random_ids(1, 16, 6);
  CHECK_FALSE(same_bits(logits_of(model, ids), logits_of(model, ids)));
  model.evaluate();
  CHECK(same_bits(logits_of(model, ids), logits_of(model, ids)));
}

TEST_CASE("gpt: one and two threads, the same bits after ten steps") {
  const auto train = [](int count) {
    set_threads(count);
    GPT model({.vocab = vocabulary, .context = 64, .width = 96, .layers = 2, .heads = 3, .dropout = 0.1});
    model.initialize(4);
    AdamW optimizer(model);
    random_state() = {.seed = 1, .next = 0};
    for (uint64_t step = 0; step < 10; ++step) {
      model.loss(random_ids(8, 64, 10 + step), random_ids(8, 64, 40 + step)).backward();
      optimizer.step(1e-3, clip_factor(optimizer.gradient_norm(), 1));
    }
    set_threads(default_threads());
    return model.arena().values.clone();
  };
  CHECK(same_bits(train(1), train(2)));
}

TEST_CASE("gpt: memory after step 5 is memory after step 50") {
  GPT model(small());
  model.initialize(1);
  AdamW optimizer(model);
  int64_t after_5 = 0;
  for (uint64_t step = 1; step <= 50; ++step) {
    model.loss(random_ids(3, 16, 0), random_ids(3, 16, 1)).backward();
    optimizer.step(1e-3);
    if (step == 5) after_5 = memory_use().active;
  }
  CHECK(memory_use().active == after_5);
}

TEST_CASE("gpt: causal logits do not see what follows; the others do") {
  for (const auto& [name, c] : variety()) {
    CAPTURE(name);
    GPT model(c);
    model.initialize(5);
    model.evaluate();
    Tensor ids = random_ids(1, 16, 7), other = ids.clone();
    other.mutable_data<int32_t>()[15] = (ids.data<int32_t>()[15] + 1) % vocabulary;
    const Tensor a = logits_of(model, ids), b = logits_of(model, other);
    const bool same = std::memcmp(a.data(), b.data(), sizeof(float) * 15 * vocabulary) == 0;
    CHECK(same == (c.mask == Mask::causal));
  }
}

// kexue.fm/archives/10347: attention to all sides without positions cannot tell an order, everything else can.
TEST_CASE("gpt: which models notice that the context is permuted") {
  for (const PositionKind p : {PositionKind::none, PositionKind::learned, PositionKind::sinusoidal, PositionKind::rotary, PositionKind::alibi,
                               PositionKind::t5})
    for (const Mask mask : {Mask::bidirectional, Mask::causal}) {
      CAPTURE(name_of(p));
      GPTConfig c = small();
      c.positions = p, c.mask = mask;
      GPT model(c);
      model.initialize(6);
      for (Parameter* parameter : model.parameters()) {   // larger than at the start, where attention is nearly uniform
        float* w = parameter->value.mutable_data();
        for (int64_t i = 0; i < parameter->value.size() && parameter->value.rank() > 1; ++i) w[i] *= 10;
      }
      model.evaluate();
      const Tensor ids = random_ids(1, 16, 8);
      Tensor turned = ids.clone();
      int32_t* t = turned.mutable_data<int32_t>();
      std::swap(t[2], t[9]);
      std::swap(t[5], t[11]);
      const int64_t last = 15 * vocabulary;
      const Tensor a = logits_of(model, ids), b = logits_of(model, turned);
      double moved = 0;
      for (int64_t i = last; i < last + vocabulary; ++i) moved = std::max<double>(moved, std::abs(a.data()[i] - b.data()[i]));
      if (p == PositionKind::none && mask == Mask::bidirectional) {
        CHECK(moved < 1e-4);
      } else {
        CHECK(moved > 1e-2);
      }
    }
}

TEST_CASE("gpt: beyond the learned positions is an error, other kinds go on") {
  for (const PositionKind p : {PositionKind::learned, PositionKind::sinusoidal, PositionKind::rotary, PositionKind::alibi, PositionKind::t5}) {
    GPTConfig c = small();
    c.positions = p;
    GPT model(c);
    model.initialize(1);
    const Tensor ids = random_ids(1, 17, 9);
    if (p == PositionKind::learned) {
      CHECK_THROWS_WITH(model.logits(ids), doctest::Contains("at most 16"));
    } else {
      CHECK(model.logits(ids).dim(1) == 17);
    }
  }
}

// Wang et al. 2022, table of constants for decoders; Glorot's fans are those of each matrix in the packed one.
TEST_CASE("gpt: DeepNorm's constants") {
  GPTConfig c = small();
  c.norm = NormPlace::deepnorm, c.layers = 18, c.width = 48;
  GPT model(c);
  model.initialize(1);
  const double beta = std::pow(8.0 * 18, -0.25), limit = std::sqrt(6.0 / (48 + 48));
  CHECK(model.h[0].init.alpha == doctest::Approx(std::pow(2.0 * 18, 0.25)));
  const auto largest = [](const Tensor& w, int64_t begin, int64_t end) {
    double most = 0;
    for (int64_t r = 0; r < w.rows(); ++r)
      for (int64_t j = begin; j < end; ++j) most = std::max<double>(most, std::abs(w.data()[r * w.cols() + j]));
    return most;
  };
  const Tensor& qkv = model.h[3].attn.c_attn.weight;
  CHECK(largest(qkv, 0, 48) == doctest::Approx(limit).epsilon(0.02));
  CHECK(largest(qkv, 48, 96) == doctest::Approx(limit).epsilon(0.02));
  CHECK(largest(qkv, 96, 144) == doctest::Approx(limit * beta).epsilon(0.02));
  CHECK(largest(model.h[3].attn.c_proj.weight, 0, 48) == doctest::Approx(limit * beta).epsilon(0.02));
  CHECK_FALSE(model.ln_f.has_value());
}

TEST_CASE("gpt: GPT-2's names, shapes and start") {
  GPTConfig c = small();
  c.width = 48, c.layers = 8;
  GPT model(c);
  model.initialize(1);
  State state;
  model.save(state);
  CHECK(state.tensors.at("wte.weight").shape() == Shape{vocabulary, 48});
  CHECK(state.tensors.at("wpe.weight").shape() == Shape{16, 48});
  CHECK(state.tensors.at("h.0.attn.c_attn.weight").shape() == Shape{48, 144});
  CHECK(state.tensors.at("h.7.mlp.c_fc.weight").shape() == Shape{48, 192});
  CHECK(state.tensors.at("h.7.mlp.c_proj.bias").shape() == Shape{48});
  CHECK(state.tensors.size() == 4 + 12 * 8);
  const auto deviation = [&](const std::string& name) {
    const Tensor& w = state.tensors.at(name);
    return std::sqrt(kernels().sum_squares(w.size(), w.data()) / static_cast<double>(w.size()));
  };
  CHECK(deviation("h.3.mlp.c_fc.weight") == doctest::Approx(0.02).epsilon(0.05));
  CHECK(deviation("h.3.mlp.c_proj.weight") == doctest::Approx(0.02 / 4).epsilon(0.05));
  GPT again(c);
  again.initialize(1);
  CHECK(same_bits(again.h[2].mlp->parameters()[0]->value, model.h[2].mlp->parameters()[0]->value));
  again.initialize(2);
  CHECK_FALSE(same_bits(again.h[2].mlp->parameters()[0]->value, model.h[2].mlp->parameters()[0]->value));
}

// Issue: a 1000-layer decoder of width 32. Gradients in bits; recomputation keeps a tenth of the activations.
TEST_CASE("gpt: a thousand layers, with and without recomputation" * doctest::test_suite("slow")) {
  GPTConfig c{.vocab = 64, .context = 32, .width = 32, .layers = 1000, .heads = 2, .norm = NormPlace::deepnorm};
  std::vector<Tensor> expected;
  double activations = 0;
  for (const int64_t segment : {0, 30}) {
    c.recompute = segment;
    GPT model(c);
    model.initialize(1);
    model.arena();
    const Tensor ids = random_ids(8, 32, 0), targets = random_ids(8, 32, 1);
    const auto before = memory_use().active;
    reset_peak();
    model.loss(ids, targets).backward();
    const auto peak = static_cast<double>(memory_use().peak - before);
    const Tensor gradients = model.arena().gradients;
    if (segment == 0) {
      activations = peak;
      expected.push_back(gradients.clone());
    } else {
      CHECK(same_bits(gradients, expected[0]));
      CHECK(peak < 0.1 * activations);
    }
  }
}
