// The VQ-VAE: a whole step against PyTorch, and what holds for every model.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/allocator.h"
#include "core/parallel.h"
#include "core/random.h"
#include "models/vqvae2.h"
#include "nn/optimizer.h"
#include "tests/golden.h"

using namespace qd;
using namespace qd::test;

namespace {

VQVAEConfig small(QuantizerKind kind = QuantizerKind::ema) {
  return {.width = 16, .residual_width = 8, .quantizer = {.kind = kind, .codes = 16, .width = 6, .restart = false}};
}

const EmaCodebook& averages(const VQVAE& model) { return dynamic_cast<const EmaCodebook&>(*model.codebook); }

// Parameters and buffers by path.
std::vector<std::pair<std::string, Tensor>> named(Module& model) {
  std::vector<std::pair<std::string, Tensor>> all;
  for (const Parameter* p : model.parameters()) all.emplace_back(p->path(), p->value);
  for (const Buffer* b : model.buffers()) all.emplace_back(b->path(), b->value);
  return all;
}

Tensor pictures(const Shape& shape, uint64_t stream = 1) {
  Tensor x = empty(shape);
  Random random(3, stream);
  for (int64_t i = 0; i < x.size(); ++i) x.mutable_data()[i] = static_cast<float>(random.uniform());
  return x;
}

}  // namespace

TEST_CASE("vqvae: golden step: losses, ids, every gradient, the moving averages") {
  const State file = golden("vqvae");
  const Golden g{file, ""};
  on_every_table([&](const std::string& table) {
    INFO(table);
    VQVAE model({.channels = file.integer("channels"), .width = file.integer("width"), .residual_width = file.integer("residual_width"),
                 .residual_blocks = file.integer("blocks"),
                 .quantizer = {.codes = file.integer("codes"), .width = file.integer("code_width"),
                               .gamma = static_cast<float>(file.real("commitment")), .decay = static_cast<float>(file.real("decay")), .restart = false}});
    State start;
    for (const auto& [name, value] : file.tensors)
      if (name.starts_with("param.")) start.tensors[name.substr(6)] = value;
    model.load(start);
    CHECK(difference(averages(model).codes(), g["codes"]) < 1e-6);
    CHECK(difference((*model.encoder)(g["x"]).detach(), g["z"]) < 1e-5);
    const VQVAE::Losses losses = model.losses(g["x"]);
    CHECK(difference(losses.total.detach(), g["total"]) < 1e-5);
    CHECK(difference(losses.picture.detach(), g["picture"]) < 1e-5);
    CHECK(difference(losses.codes.detach(), g["distance"].detach() * model.c.quantizer.gamma) < 1e-5);
    const auto ids = losses.ids[0].values<int32_t>(), expected = g["ids"].values<int32_t>();
    CHECK(losses.ids[0].shape() == g["ids"].shape());
    CHECK(std::equal(ids.begin(), ids.end(), expected.begin(), expected.end()));
    losses.total.backward();
    for (const Parameter* p : model.parameters()) {
      INFO(p->path());
      CHECK(difference(p->value.gradient(), g["grad." + p->path()]) < 1e-4);
    }
    CHECK(difference(averages(model).counts.value, g["after.counts"]) < 1e-6);
    CHECK(difference(averages(model).sums.value, g["after.sums"]) < 1e-5);
  });
}

TEST_CASE("vqvae: golden step of the post's network with SimVQ: losses, ids, every gradient, the averages of the batch norms") {
  const State file = golden("vqvae_post");
  const Golden g{file, ""};
  on_every_table([&](const std::string& table) {
    INFO(table);
    const int64_t width = file.integer("width");
    VQVAE model({.net = PictureNet::post, .channels = file.integer("channels"), .width = width,
                 .quantizer = {.kind = QuantizerKind::simvq, .codes = file.integer("codes"), .width = width,
                               .beta = static_cast<float>(file.real("beta")), .gamma = static_cast<float>(file.real("gamma"))}});
    model.initialize(1);
    for (auto& [path, value] : named(model)) {
      INFO(path);
      if (g.has("param." + path)) std::copy_n(g["param." + path].data(), value.size(), value.mutable_data());
    }
    const VQVAE::Losses losses = model.losses(g["x"]);
    CHECK(difference(losses.total.detach(), g["total"]) < 1e-5);
    CHECK(difference(losses.picture.detach(), g["picture"]) < 1e-5);
    CHECK(difference(losses.codes.detach(), g["distance"]) < 1e-5);
    const auto ids = losses.ids[0].values<int32_t>(), expected = g["ids"].values<int32_t>();
    CHECK(std::equal(ids.begin(), ids.end(), expected.begin(), expected.end()));
    losses.total.backward();
    for (const Parameter* p : model.parameters()) {
      INFO(p->path());
      // A batch norm takes the mean away: the gradient of a bias before one is zero but for rounding.
      const Tensor& gradient = g["grad." + p->path()];
      if (kernels().sum_squares(gradient.size(), gradient.data()) < 1e-20) {
        CHECK(kernels().sum_squares(gradient.size(), p->value.gradient().data()) < 1e-10);
      } else {
        CHECK(difference(p->value.gradient(), gradient) < 1e-4);
      }
    }
    for (const Buffer* b : model.buffers()) {
      INFO(b->path());
      if (g.has("after." + b->path())) CHECK(difference(b->value, g["after." + b->path()]) < 1e-5);
    }
  });
}

TEST_CASE("vqvae: every parameter gets a finite gradient, one thread gives the bits of two") {
  const Tensor x = pictures({3, 16, 12, 3});
  std::vector<Tensor> first;
  for (const int threads : {1, 2}) {
    set_threads(threads);
    VQVAE model(small());
    model.initialize(7);
    const VQVAE::Losses losses = model.losses(x);
    CHECK(losses.ids[0].shape() == Shape({3, 4, 3}));
    losses.total.backward();
    std::vector<Tensor> now{losses.total.detach(), averages(model).sums.value};
    for (const Parameter* p : model.parameters()) {
      INFO(p->path());
      CHECK(kernels().all_finite(p->value.size(), p->value.gradient().data()));
      CHECK(kernels().sum_squares(p->value.size(), p->value.gradient().data()) > 0);
      now.push_back(p->value.gradient());
    }
    if (threads == 1) first = now;
    CHECK(std::equal(first.begin(), first.end(), now.begin(), now.end(), same_bits));
  }
  set_threads(default_threads());
}

TEST_CASE("vqvae: recomputed = not recomputed, in bits; the codebook moves once") {
  const Tensor x = pictures({2, 8, 8, 3});
  std::vector<Tensor> first;
  for (const bool recompute : {false, true}) {
    VQVAE model(small());
    model.initialize(7);
    const auto total = [&](const std::vector<Tensor>& in) { return model.losses(in[0]).total; };
    (recompute ? checkpoint(total, {x}) : total({x})).backward();
    std::vector<Tensor> now{averages(model).sums.value, averages(model).counts.value};
    for (const Parameter* p : model.parameters()) now.push_back(p->value.gradient());
    if (!recompute) first = now;
    CHECK(std::equal(first.begin(), first.end(), now.begin(), now.end(), same_bits));
  }
}

TEST_CASE("vqvae: with recompute every kind of model has the same bits, and keeps less") {
  const Tensor x = pictures({2, 16, 24, 3});
  for (const VQVAEConfig& config : {VQVAEConfig{.width = 16, .residual_width = 8}, VQVAEConfig{.net = PictureNet::post, .width = 16}, VQVAEConfig{.levels = 2, .width = 16, .residual_width = 8}}) {
    std::vector<Tensor> first;
    int64_t kept[2];
    for (const bool recompute : {false, true}) {
      VQVAEConfig c = config;
      c.quantizer = {.codes = 8, .width = 6}, c.recompute = recompute;
      const auto model = make_picture_coder(c);
      model->initialize(5);
      random_state() = {5, 0};
      const int64_t before = memory_use().active;
      const Tensor loss = model->loss(x);
      kept[recompute] = memory_use().active - before;
      loss.backward();
      std::vector<Tensor> now{loss.detach()};
      for (const Parameter* p : model->parameters()) now.push_back(p->value.gradient());
      for (const Buffer* b : model->buffers()) now.push_back(b->value);
      if (!recompute) first = now;
      CHECK(std::equal(first.begin(), first.end(), now.begin(), now.end(), same_bits));
    }
    CHECK(2 * kept[1] < kept[0]);
  }
}

TEST_CASE("vqvae: one batch is learned by heart") {
  VQVAE model(small());
  model.initialize(1);
  AdamW optimizer(model, {.decay = 0});
  Tensor x = empty({2, 16, 16, 3});   // smooth pictures: noise has no short code
  for (int64_t i = 0; i < x.size(); ++i) {
    const auto b = i / 768, row = i / 48 % 16, column = i / 3 % 16, channel = i % 3;
    x.mutable_data()[i] = static_cast<float>(0.5 + 0.5 * std::sin(0.3 * static_cast<double>(row * (channel + 1) + column * (b + 1))));
  }
  float start = 0, end = 0;
  int64_t memory = 0;
  for (int step = 0; step < 300; ++step) {
    const VQVAE::Losses losses = model.losses(x);
    losses.total.backward();
    optimizer.step(3e-3);
    end = losses.picture.item();
    if (step == 0) start = end;
    if (step == 5) memory = memory_use().active;
    if (step == 50) CHECK(memory_use().active == memory);
  }
  CHECK(end < 0.1f * start);
}

TEST_CASE("vqvae: the codebook moves in training mode only; codes go through files; pictures come back from ids") {
  VQVAE model(small());
  model.initialize(1);
  const Tensor x = pictures({2, 8, 8, 3}), codes = averages(model).codes();
  CHECK(difference(codes, averages(model).sums.value) < 1e-6);   // as if each had been chosen once
  model.evaluate();
  model.losses(x);
  CHECK(same_bits(averages(model).codes(), codes));
  const Tensor ids = model.encode(x);
  CHECK(ids.shape() == Shape({2, 2, 2}));
  CHECK(model.decode(ids).shape() == x.shape());
  model.train();
  std::vector<bool> chosen(static_cast<size_t>(codes.dim(0)));
  for (int i = 0; i < 3000; ++i) {
    const Tensor now = model.losses(x).ids[0];
    for (int64_t j = 0; j < now.size(); ++j) chosen[static_cast<size_t>(now.data<int32_t>()[j])] = true;
  }
  CHECK(!same_bits(averages(model).codes(), codes));
  const Tensor moved = averages(model).codes();
  for (int64_t k = 0; k < codes.dim(0); ++k) {                  // codes that are never chosen stay where they are
    if (chosen[static_cast<size_t>(k)]) continue;
    for (int64_t j = 0; j < codes.cols(); ++j) CHECK(std::abs(moved.data()[k * codes.cols() + j] - codes.data()[k * codes.cols() + j]) < 1e-3f);
  }
  State file;
  model.save(file);
  VQVAE other(small());
  other.load(file);
  CHECK(same_bits(averages(other).codes(), averages(model).codes()));
}

TEST_CASE("vqvae: the post's network: every parameter gets a gradient, averages are kept in training and used in evaluation") {
  for (const int64_t code_width : {16, 6}) {
    VQVAE model({.net = PictureNet::post, .width = 16, .quantizer = {.codes = 8, .width = code_width}});
    model.initialize(2);
    const Tensor x = pictures({4, 12, 16, 3});
    const auto buffer = [&](const std::string& path) {
      for (const Buffer* b : model.buffers())
        if (b->path() == path) return b->value.clone();
      return Tensor();
    };
    const Tensor before = buffer("encoder.norm_1.mean");
    const VQVAE::Losses losses = model.losses(x);
    CHECK(losses.ids[0].shape() == Shape({4, 3, 4}));
    losses.total.backward();
    for (const Parameter* p : model.parameters()) {
      INFO(p->path());
      CHECK(kernels().all_finite(p->value.size(), p->value.gradient().data()));
    }
    CHECK(!same_bits(before, buffer("encoder.norm_1.mean")));
    for (int i = 0; i < 200; ++i) model.losses(x);   // the averages come to the batch
    const Tensor trained = (*model.encoder)(x).detach();
    model.evaluate();
    const Tensor kept = buffer("encoder.norm_1.mean"), evaluated = (*model.encoder)(x).detach();
    CHECK(same_bits(kept, buffer("encoder.norm_1.mean")));
    CHECK(difference(evaluated, trained) < 0.05);
    const Tensor y = model.decode(model.encode(x));
    CHECK(y.shape() == x.shape());
    for (int64_t i = 0; i < y.size(); ++i) CHECK(std::abs(y.data()[i]) <= 1);
    // A picture is the same alone as among others.
    const Tensor alone = (*model.encoder)(x.row_range(1, 2)).detach();
    CHECK(difference(alone, evaluated.row_range(1, 2)) < 1e-6);
  }
}

TEST_CASE("vqvae: two levels: every parameter gets a gradient, both grids matter, one batch is learned by heart") {
  for (const QuantizerKind kind : {QuantizerKind::vq, QuantizerKind::ema, QuantizerKind::fsq}) {
    INFO(std::string(name_of(kind)));
    VQVAE2 model({.levels = 2, .width = 16, .residual_width = 8, .residual_blocks = 1, .quantizer = {.kind = kind, .codes = 25, .width = 6}});
    model.initialize(3);
    random_state() = {3, 0};
    const Tensor x = pictures({3, 16, 24, 3});
    model.loss(x).backward();
    for (const Parameter* p : model.parameters()) {
      INFO(p->path());
      CHECK(kernels().all_finite(p->value.size(), p->value.gradient().data()));
      if (kind == QuantizerKind::fsq) continue;   // at first all of its numbers are rounded to 0
      CHECK(kernels().sum_squares(p->value.size(), p->value.gradient().data()) > 0);
    }
    AdamW optimizer(model, {.decay = 0});
    const float start = model.loss(x).item();
    for (int step = 0; step < 150; ++step) {
      model.loss(x).backward();
      optimizer.step(3e-3);
    }
    model.evaluate();
    const NoGrad off;
    const Codes codes = model.codes_of(x);
    REQUIRE(codes.size() == 2);
    CHECK(codes[0].shape() == Shape({3, 2, 3}));
    CHECK(codes[1].shape() == Shape({3, 4, 6}));
    const Tensor y = model.picture_of(codes);
    CHECK(y.shape() == x.shape());
    CHECK(model.unquantised(x).shape() == x.shape());
    CHECK(mse(y, x).item() < 0.8f * start);
    for (size_t level = 0; level < 2; ++level) {
      Codes other = {codes[0].clone(), codes[1].clone()};
      other[level].mutable_data<int32_t>()[0] = (codes[level].data<int32_t>()[0] + 1) % 25;
      CHECK(difference(model.picture_of(other), y) > 1e-5);
    }
  }
}
