// A whole GPT-2 with a tied head against PyTorch: logits, loss, every gradient, and ten AdamW steps on one batch.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "core/ops.h"
#include "models/gpt.h"
#include "nn/optimizer.h"
#include "tests/golden.h"

using namespace qd;
using namespace qd::test;

namespace {

// The tensors of a file under one prefix, under their own names.
State under(const State& file, const std::string& prefix) {
  State out;
  for (const auto& [name, value] : file.tensors)
    if (name.starts_with(prefix)) out.tensors[name.substr(prefix.size())] = value;
  return out;
}

// GPT-2 from ops alone, parameters under Hugging Face's names.
struct PlainGPT : Module {
  explicit PlainGPT(const State& file) : layers(file.integer("layers")), heads(file.integer("heads")) {
    for (const auto& [name, value] : under(file, "param.").tensors)
      p[name] = std::make_unique<Parameter>(*this, name, value.shape(), constant(0));
  }

  Tensor hidden(const Tensor& ids) const {
    Tensor x = embedding(at("wte.weight"), ids) + at("wpe.weight").row_range(0, ids.dim(1));
    for (int64_t i = 0; i < layers; ++i) {
      const std::string block = str("h.", i, ".");
      const Tensor qkv = dense(block + "attn.c_attn", ln(block + "ln_1", x));
      const int64_t width = x.cols();
      const Tensor seen = attention({qkv}, {qkv, width}, {qkv, 2 * width}, {.heads = heads, .head_dim = width / heads});
      x = x + dense(block + "attn.c_proj", seen);
      x = x + dense(block + "mlp.c_proj", dense(block + "mlp.c_fc", ln(block + "ln_2", x), Activation::gelu));
    }
    return ln("ln_f", x);
  }
  Tensor logits(const Tensor& ids) const { return matmul(hidden(ids), at("wte.weight"), false, true); }
  Tensor loss(const Tensor& ids, const Tensor& targets) const {
    return linear_cross_entropy(hidden(ids), at("wte.weight"), targets);
  }

 private:
  const Tensor& at(const std::string& name) const { return p.at(name)->value; }
  Tensor ln(const std::string& name, const Tensor& x) const { return norm(x, at(name + ".weight"), at(name + ".bias")); }
  Tensor dense(const std::string& name, const Tensor& x, Activation f = Activation::none) const {
    return linear(x, at(name + ".weight"), at(name + ".bias"), Layout::in_out, f);
  }
  int64_t layers, heads;
  std::map<std::string, std::unique_ptr<Parameter>> p;
};

// The keys' bias has no influence: its gradient is rounding noise, which Adam brings to the size of a step.
Tensor without_key_bias(const std::string& path, const Tensor& value) {
  Tensor out = value.clone();
  const int64_t width = value.size() / 3;
  if (path.ends_with("attn.c_attn.bias")) std::fill_n(out.mutable_data() + width, width, 0.0f);
  return out;
}

// Any model with loss(ids, targets) and logits(ids) whose parameters have the file's names.
template <class Model>
void check_against_golden(Model& model, const State& file) {
  const Tensor ids = file.tensors.at("ids"), targets = file.tensors.at("targets");
  const auto losses = file.tensors.at("losses10").values(), norms = file.tensors.at("norms10").values();
  model.load(under(file, "param."));
  AdamW optimizer(model, {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .decay = 0.1});
  {
    NoGrad off;
    CHECK(difference(model.logits(ids), file.tensors.at("logits")) < 1e-5);
  }
  for (size_t step = 0; step < losses.size(); ++step) {
    CAPTURE(step);
    const Tensor loss = model.loss(ids, targets);
    CHECK(loss.item() == doctest::Approx(losses[step]).epsilon(step ? 1e-4 : 1e-5));
    loss.backward();
    if (step == 0) {
      for (const Parameter* p : model.parameters()) {
        const std::string path = p->path();
        CAPTURE(path);
        CHECK(difference(p->value.gradient(), file.tensors.at("grad." + path)) < 1e-4);
      }
    }
    const double norm = optimizer.gradient_norm();
    CHECK(norm == doctest::Approx(norms[step]).epsilon(1e-4));
    optimizer.step(1e-2, clip_factor(norm, 1));
  }
  for (const Parameter* p : model.parameters()) {
    const std::string path = p->path();
    CAPTURE(path);
    CHECK(difference(without_key_bias(path, p->value), without_key_bias(path, file.tensors.at("param10." + path))) < 1e-4);
  }
}

}  // namespace

TEST_CASE("golden: GPT-2 from ops") {
  const State file = golden("gpt2");
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    PlainGPT model(file);
    check_against_golden(model, file);
  });
}

TEST_CASE("golden: GPT-2 from models/gpt.h") {
  const State file = golden("gpt2");
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    GPT model({.vocab = file.integer("vocab"), .context = file.integer("context"), .width = file.integer("width"),
               .layers = file.integer("layers"), .heads = file.integer("heads")});
    check_against_golden(model, file);
  });
}

// The block of models/gpt.h in the six styles of the file.
TEST_CASE("golden: the block of models/gpt.h, in six styles") {
  const State file = golden("block");
  const int64_t width = file.tensors.at("x").cols(), layers = file.integer("layers");
  const std::map<std::string, GPTConfig> styles{
      {"pre", {}},
      {"post", {.norm = NormPlace::post}},
      {"deepnorm", {.norm = NormPlace::deepnorm}},
      {"gelu_erf", {.activation = MLPKind::gelu_erf}},
      {"relu", {.activation = MLPKind::relu}},
      {"rms_swiglu", {.hidden = 56, .norm_kind = NormKind::rms, .activation = MLPKind::swiglu}}};
  struct Alone : Module {
    explicit Alone(const GPTConfig& config) : c(config) {}
    const GPTConfig c;
    Positions positions{*this, "none", {.kind = PositionKind::none, .context = 64, .width = c.width, .heads = c.heads}};
    Block block{*this, "block", c, positions};
  };
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    for (auto [variant, c] : styles) {
      CAPTURE(variant);
      c.width = width, c.heads = file.integer("heads"), c.layers = layers;
      const bool own = variant == "rms_swiglu";
      Alone model(c);
      State weights;
      for (const auto& [name, value] : under(file, own ? variant + ".param." : "param.").tensors) weights.tensors["block." + name] = value;
      model.load(weights);
      Tensor x = file.tensors.at("x").clone();
      x.require_gradient();
      const Tensor y = model.block(x);
      CHECK(difference(y, file.tensors.at(variant + ".y")) < 1e-5);
      backward(y, file.tensors.at("dy"));
      CHECK(difference(x.gradient(), file.tensors.at(variant + ".dx")) < 1e-4);
      for (const Parameter* p : model.parameters()) {
        const std::string path = p->path().substr(6);
        CAPTURE(path);
        CHECK(difference(p->value.gradient(), file.tensors.at(variant + ".grad." + path)) < 1e-4);
      }
    }
  });
}
