#include "models/generate.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "core/error.h"
#include "models/gpt.h"

using namespace qd;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// How often each id is chosen in `draws` draws.
std::map<int32_t, double> frequencies(const std::vector<float>& logits, const GenerateOptions& options, int draws = 20000) {
  Random random(5, 6);
  std::map<int32_t, double> count;
  for (int i = 0; i < draws; ++i) count[choose(logits, options, random)] += 1.0 / draws;
  return count;
}

struct TinyGPT : GPT {
  TinyGPT() : GPT({.vocab = 11, .context = 6, .width = 8, .layers = 2, .heads = 2}) {
    initialize(3);
    evaluate();
    for (Parameter* p : parameters())   // larger weights than those training begins with, so that tokens differ in probability
      for (int64_t i = 0; i < p->value.size(); ++i) p->value.mutable_data()[i] *= 20;
  }
};

}  // namespace

TEST_CASE("generate: choose follows softmax(logits / temperature)") {
  const std::vector<float> logits = {1, -1, 0.5f, 3, 3, -infinity};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    CAPTURE(temperature);
    double total = 0;
    for (const float x : logits) total += std::exp(x / temperature);
    auto seen = frequencies(logits, {.temperature = temperature});
    for (int32_t id = 0; id < 6; ++id) {   // four standard deviations of a frequency among 20,000
      const double p = std::exp(static_cast<double>(logits[static_cast<size_t>(id)]) / temperature) / total;
      CHECK(std::abs(seen[id] - p) <= 4 * std::sqrt(p * (1 - p) / 20000));
    }
  }
}

TEST_CASE("generate: greedy, top k, top p") {
  const std::vector<float> logits = {1, 3, 0, 3, 2};
  CHECK(frequencies(logits, {.temperature = 0}, 8) == std::map<int32_t, double>{{1, 1.0}});   // the first of equals
  CHECK(frequencies(logits, {.top_k = 1}, 8) == std::map<int32_t, double>{{1, 1.0}});
  CHECK(frequencies(logits, {.top_p = 1e-12}, 8) == std::map<int32_t, double>{{1, 1.0}});
  const auto ids = [&](const GenerateOptions& o) {
    std::set<int32_t> out;
    for (const auto& [id, share] : frequencies(logits, o, 2000)) out.insert(id);
    return out;
  };
  CHECK(ids({.top_k = 2}) == std::set<int32_t>{1, 3});
  CHECK(ids({.top_k = 3}) == std::set<int32_t>{1, 3, 4});
  CHECK(ids({.top_k = 99}) == std::set<int32_t>{0, 1, 2, 3, 4});
  // probabilities: 0.398 0.398 0.147 0.054 0.020 for ids 1 3 4 0 2
  CHECK(ids({.top_p = 0.39}) == std::set<int32_t>{1});
  CHECK(ids({.top_p = 0.7}) == std::set<int32_t>{1, 3});
  CHECK(ids({.top_p = 0.8}) == std::set<int32_t>{1, 3, 4});
  CHECK(ids({.top_p = 0.99}) == std::set<int32_t>{0, 1, 2, 3, 4});
  CHECK(ids({.top_k = 3, .top_p = 0.8}) == std::set<int32_t>{1, 3});   // among the three: 0.42 0.42 0.16
}

TEST_CASE("generate: extreme logits and temperatures") {
  Random random(1, 2);
  CHECK(choose(std::vector<float>{-3e38f, 3e38f, 0}, {}, random) == 1);
  CHECK(choose(std::vector<float>{0, 1e-3f}, {.temperature = 1e-300}, random) == 1);
  CHECK(choose(std::vector<float>{-infinity, -5e30f}, {}, random) == 1);
  CHECK(choose(std::vector<float>{7}, {}, random) == 0);
  for (const float bad : {std::nanf(""), infinity}) {
    CHECK_THROWS_AS(choose(std::vector<float>{1, bad, 2}, {}, random), Error);
    CHECK_THROWS_AS(choose(std::vector<float>{bad}, {.temperature = 0}, random), Error);
  }
  CHECK_THROWS_AS(choose(std::vector<float>{-infinity, -infinity}, {}, random), Error);
}

TEST_CASE("generate: greedy tokens are the most probable ones, and the model sees the last `context` ids") {
  const TinyGPT model;
  const std::vector<int32_t> prompt = {3, 1, 4};
  const auto made = generate(model, prompt, {.tokens = 9, .temperature = 0});
  REQUIRE(made.size() == 9);
  const NoGrad off;
  std::vector<int32_t> all = prompt;
  for (const int32_t id : made) {
    const size_t seen = std::min<size_t>(all.size(), 6);
    const Tensor ids = tensor(std::span<const int32_t>(all).last(seen), {1, static_cast<int64_t>(seen)});
    const Tensor best = argmax_last(model.logits(ids));
    CHECK(best.data<int32_t>()[seen - 1] == id);
    all.push_back(id);
  }
}

TEST_CASE("generate: the seed decides, tokens arrive as they are made, and the caller may stop") {
  const TinyGPT model;
  const GenerateOptions options = {.tokens = 40, .temperature = 1.5, .seed = 7};
  const auto made = generate(model, {0}, options);
  CHECK(made.size() == 40);
  CHECK(generate(model, {0}, options) == made);
  GenerateOptions other = options;
  other.seed = 8;
  CHECK(generate(model, {0}, other) != made);
  std::vector<int32_t> arrived;
  const auto stopped = generate(model, {0}, options, [&](int32_t id) {
    arrived.push_back(id);
    return arrived.size() < 5;
  });
  CHECK(arrived == std::vector<int32_t>(made.begin(), made.begin() + 5));
  CHECK(stopped == arrived);
  other.tokens = 0;
  CHECK(generate(model, {0}, other).empty());
}

TEST_CASE("generate: impossible requests") {
  const TinyGPT model;
  CHECK_THROWS_WITH(generate(model, {}, {}), doctest::Contains("at least one token"));
  CHECK_THROWS_WITH(generate(model, {0}, {.tokens = -1}), doctest::Contains("--tokens"));
  for (const double t : {-1.0, std::nan(""), HUGE_VAL})
    CHECK_THROWS_WITH(generate(model, {0}, {.temperature = t}), doctest::Contains("--temperature"));
  CHECK_THROWS_WITH(generate(model, {0}, {.top_k = -1}), doctest::Contains("--top-k"));
  for (const double p : {0.0, -0.1, 1.1, std::nan("")})
    CHECK_THROWS_WITH(generate(model, {0}, {.top_p = p}), doctest::Contains("--top-p"));
  CHECK_THROWS_WITH(generate(model, {11}, {}), doctest::Contains("11"));   // no such id
}
