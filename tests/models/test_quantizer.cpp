// Quantisers: each against its plain definition, what moves and what does not, and codes that come back.
#include "models/quantizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "core/ops.h"
#include "core/random.h"
#include "tests/errors.h"
#include "tests/golden.h"

using namespace qd;
using namespace qd::test;

namespace {

struct Root : Module {};

constexpr QuantizerKind kinds[] = {QuantizerKind::vq, QuantizerKind::ema, QuantizerKind::simvq, QuantizerKind::fsq};

QuantizerConfig config(QuantizerKind kind) { return {.kind = kind, .codes = 25, .width = 3, .beta = 0.7f, .gamma = 0.3f, .restart = false}; }

Tensor noise(const Shape& shape, uint64_t stream, double scale = 1) {
  Tensor x = empty(shape);
  Random random(9, stream);
  for (int64_t i = 0; i < x.size(); ++i) x.mutable_data()[i] = static_cast<float>(scale * random.normal());
  return x;
}

Tensor all_ids(int64_t codes) {
  Tensor ids = empty({codes}, DType::i32);
  std::iota(ids.mutable_data<int32_t>(), ids.mutable_data<int32_t>() + codes, 0);
  return ids;
}

}  // namespace

TEST_CASE("quantizer: codes forward, the identity backward, and losses as their definitions say") {
  for (const QuantizerKind kind : kinds) {
    INFO(name_of(kind));
    Root root;
    const auto quantizer = make_quantizer(root, "q", config(kind));
    root.initialize(3);
    const int64_t d = quantizer->width(), rows = 40;
    Tensor z = noise({2, 4, 5, d}, 1);
    z.require_gradient();
    const Tensor dq = noise(z.shape(), 2);
    const Tensor codes = quantizer->decode(all_ids(25)).detach();
    const Quantizer::Result r = (*quantizer)(z);
    CHECK(r.ids.shape() == Shape({2, 4, 5}));
    sum(r.q * dq).backward();

    double squares = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t id = r.ids.data<int32_t>()[row];
      REQUIRE(id >= 0);
      REQUIRE(id < 25);
      for (int64_t j = 0; j < d; ++j) {
        const double v = z.data()[row * d + j], e = codes.data()[id * d + j];
        CHECK(r.q.data()[row * d + j] == codes.data()[id * d + j]);
        squares += (v - e) * (v - e);
        const double slope = kind == QuantizerKind::fsq ? 2 * std::exp(-v) / std::pow(1 + std::exp(-v), 2) : 1;   // of 2 sigmoid(z) - 1
        CHECK(z.gradient().data()[row * d + j] == doctest::Approx(dq.data()[row * d + j] * slope).epsilon(1e-5));
      }
      if (kind == QuantizerKind::fsq) continue;
      for (int64_t k = 0; k < 25; ++k) {   // nobody is nearer
        double mine = 0, other = 0;
        for (int64_t j = 0; j < d; ++j) {
          mine += std::pow(z.data()[row * d + j] - codes.data()[id * d + j], 2);
          other += std::pow(z.data()[row * d + j] - codes.data()[k * d + j], 2);
        }
        CHECK(mine <= other + 1e-5);
      }
    }
    CHECK(r.loss.defined() == (kind != QuantizerKind::fsq));
    if (kind == QuantizerKind::fsq) continue;
    const double weight = kind == QuantizerKind::ema ? 0.3 : 0.7 + 0.3;
    CHECK(r.loss.item() == doctest::Approx(weight * squares / static_cast<double>(rows * d)).epsilon(1e-5));
  }
}

TEST_CASE("quantizer: gradients of the losses are those of differences with the choices held fast") {
  for (const QuantizerKind kind : {QuantizerKind::vq, QuantizerKind::simvq, QuantizerKind::ema}) {
    INFO(name_of(kind));
    Root root;
    const auto quantizer = make_quantizer(root, "q", config(kind));
    root.initialize(3);
    quantizer->evaluate();
    Tensor z = noise({30, 3}, 4);
    z.require_gradient();
    const Quantizer::Result r = (*quantizer)(z);
    r.loss.backward();
    // d/dz gamma mean |z - sg q|^2
    for (int64_t i = 0; i < z.size(); ++i)
      CHECK(z.gradient().data()[i] == doctest::Approx(0.3 * 2 * (z.data()[i] - r.q.data()[i]) / 90.0).epsilon(1e-4));
    // Of the parameters: beta mean |sg z - e|^2 with e = codes of the same ids.
    const auto parameters = root.parameters();
    CHECK(parameters.size() == (kind == QuantizerKind::ema ? 0u : 1u));
    for (Parameter* p : parameters) {
      const Tensor gradient = p->value.gradient();
      const auto loss = [&] {
        const Tensor q = quantizer->decode(r.ids);
        double total = 0;
        for (int64_t i = 0; i < q.size(); ++i) total += std::pow(static_cast<double>(z.data()[i]) - q.data()[i], 2);
        return 0.7 * total / 90;
      };
      for (int64_t i = 0; i < p->value.size(); i += 7) {
        const float old = p->value.data()[i], step = 1e-2f;
        p->value.mutable_data()[i] = old + step;
        const double above = loss();
        p->value.mutable_data()[i] = old - step;
        const double below = loss();
        p->value.mutable_data()[i] = old;
        CHECK(gradient.data()[i] == doctest::Approx((above - below) / (2 * static_cast<double>(step))).epsilon(2e-3).scale(0.01));
      }
    }
  }
}

TEST_CASE("quantizer: fsq has every code once, and levels multiply to their number") {
  CHECK(levels_for(512) == std::vector<int64_t>{8, 8, 8});
  CHECK(levels_for(64) == std::vector<int64_t>{8, 8});
  CHECK(levels_for(1000) == std::vector<int64_t>{10, 10, 10});
  CHECK(levels_for(1024) == std::vector<int64_t>{8, 8, 16});
  CHECK(levels_for(4096) == std::vector<int64_t>{8, 8, 8, 8});
  CHECK(levels_for(256) == std::vector<int64_t>{16, 16});
  CHECK(levels_for(16) == std::vector<int64_t>{16});
  CHECK(has(message_of([] { levels_for(509); }), "expected a product of numbers from 5 to 64 for fsq, got 509"));

  Root root;
  const auto fsq = make_quantizer(root, "q", {.kind = QuantizerKind::fsq, .codes = 60});
  const Tensor ids = all_ids(60), q = fsq->decode(ids);
  std::set<std::vector<float>> different;
  Tensor z = empty(q.shape());
  for (int64_t i = 0; i < q.size(); ++i) {
    CHECK(std::abs(q.data()[i]) <= 1);
    const double share = std::min(std::max((q.data()[i] + 1) / 2.0, 1e-9), 1 - 1e-9);
    z.mutable_data()[i] = static_cast<float>(std::log(share / (1 - share)));
  }
  for (int64_t k = 0; k < 60; ++k) different.insert({q.data() + k * q.cols(), q.data() + (k + 1) * q.cols()});
  CHECK(different.size() == 60);
  const Tensor back = fsq->encode(z);
  for (int64_t k = 0; k < 60; ++k) CHECK(back.data<int32_t>()[k] == k);
}

TEST_CASE("quantizer: codes that nobody chooses begin anew from the batch, alike for a seed, and only in training") {
  random_state() = {1, 0};
  std::vector<Tensor> first;
  for (int run = 0; run < 2; ++run) {
    random_state() = {1, 0};
    Root root;
    const auto quantizer = make_quantizer(root, "q", {.codes = 32, .width = 4});
    auto& codebook = dynamic_cast<EmaCodebook&>(*quantizer);
    root.initialize(1);
    const Tensor before = codebook.codes();
    CHECK(kernels().all_finite(before.size(), before.data()));
    quantizer->evaluate();
    (*quantizer)(noise({200, 4}, 1, 5));
    CHECK(same_bits(codebook.codes(), before));
    quantizer->train();
    const Tensor z = noise({200, 4}, 1, 5);
    (*quantizer)(z);
    std::vector<int64_t> used = code_counts(quantizer->encode(z), 32);
    CHECK(std::count(used.begin(), used.end(), 0) < 8);   // they began at vectors of the batch
    for (int i = 0; i < 300; ++i) (*quantizer)(noise({200, 4}, static_cast<uint64_t>(i), 5));
    used = code_counts(quantizer->encode(noise({2000, 4}, 999, 5)), 32);
    CHECK(std::count(used.begin(), used.end(), 0) == 0);
    if (run == 0) first = {codebook.counts.value, codebook.sums.value};
    CHECK(same_bits(codebook.counts.value, first[0]));
    CHECK(same_bits(codebook.sums.value, first[1]));
  }
}

TEST_CASE("quantizer: a code that begins anew is a vector of the batch, as if chosen once; the others stay") {
  random_state() = {2, 0};
  Root root;
  const auto quantizer = make_quantizer(root, "q", {.codes = 6, .width = 3, .decay = 1});   // which moves no code
  auto& codebook = dynamic_cast<EmaCodebook&>(*quantizer);
  root.initialize(1);
  (*quantizer)(noise({40, 3}, 1, 5));
  const Tensor e = codebook.codes(), z = noise({40, 3}, 2, 5);
  codebook.counts.value.mutable_data()[4] = 0.01f;
  (*quantizer)(z);
  const Tensor now = codebook.codes();
  bool found = false;
  for (int64_t row = 0; row < 40; ++row) {
    bool same = true;
    for (int64_t j = 0; j < 3; ++j) same = same && std::abs(now.data()[4 * 3 + j] - z.data()[row * 3 + j]) < 1e-3f;
    found = found || same;
  }
  CHECK(found);
  CHECK(codebook.counts.value.data()[4] == 1);
  for (const int64_t k : {0, 1, 2, 3, 5})
    for (int64_t j = 0; j < 3; ++j) CHECK(now.data()[k * 3 + j] == doctest::Approx(e.data()[k * 3 + j]).epsilon(1e-3));
}

TEST_CASE("quantizer: k-means begins nearer to the batch than its random vectors do") {
  const Tensor z = noise({500, 4}, 1);
  const auto distance = [&](int64_t rounds) {
    random_state() = {1, 0};
    Root root;
    const auto quantizer = make_quantizer(root, "q", {.codes = 16, .width = 4, .kmeans = rounds});
    root.initialize(1);
    return static_cast<double>((*quantizer)(z).loss.item());
  };
  CHECK(distance(10) < 0.8 * distance(0));
}

TEST_CASE("quantizer: wrong sizes and names") {
  Root root;
  CHECK(has(message_of([&] { make_quantizer(root, "q", {.codes = 1}); }), "[--codes] expected 2 to"));
  CHECK(has(message_of([&] { make_quantizer(root, "q", {.width = 0}); }), "[--dim] expected 1 to"));
  CHECK(has(message_of([] { quantizer_named("rvq"); }), "expected vq, ema, simvq or fsq, got 'rvq'"));
  CHECK(perplexity({5, 5, 5, 5}) == doctest::Approx(4));
  CHECK(perplexity({7, 0, 0}) == doctest::Approx(1));
  CHECK(perplexity({0, 0}) == 0);
}
