#include "models/generate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
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

TEST_CASE("generate: choose among many is the plain definition: all sorted, cut, drawn") {
  Random numbers(3, 4);
  std::vector<float> logits(1000);
  for (float& x : logits) x = std::round(static_cast<float>(numbers.normal()) * 16) / 8;   // with equal ones among them
  for (const int64_t k : {0, 1, 50, 999})
    for (const double p : {0.01, 0.3, 0.7, 0.95, 0.9999, 1.0})
      for (const double temperature : {0.3, 1.0, 3.0}) {
        CAPTURE(k);
        CAPTURE(p);
        CAPTURE(temperature);
        const GenerateOptions options = {.temperature = temperature, .top_k = k, .top_p = p};
        std::vector<int32_t> ids(logits.size());
        std::iota(ids.begin(), ids.end(), 0);
        if (k > 0 || p < 1) std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
        if (k > 0) ids.resize(static_cast<size_t>(k));
        const auto weight = [&](int32_t id) { return std::exp((static_cast<double>(logits[id]) - *std::max_element(logits.begin(), logits.end())) / temperature); };
        double total = 0, sum = 0;
        for (const int32_t id : ids) total += weight(id);
        size_t kept = 0;
        while (kept < ids.size() && (p == 1 || sum < p * total)) sum += weight(ids[kept++]);
        ids.resize(kept);
        Random mine(1, 2), plain(1, 2);
        int different = 0;
        for (int draw = 0; draw < 50; ++draw) {
          double left = plain.uniform() * sum;
          const auto chosen = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return (left -= weight(id)) < 0; });
          different += choose(logits, options, mine) != *chosen;
        }
        CHECK(different == 0);
      }
}

TEST_CASE("generate: the repetition penalty makes logits smaller, once for each id") {
  std::vector<float> logits = {2, -2, 0, 3, -infinity, 1};
  penalise(logits, std::vector<int32_t>{0, 1, 0, 4, 1, 2}, 1.25);
  CHECK(logits == std::vector<float>{1.6f, -2.5f, 0, 3, -infinity, 1});
  penalise(logits, std::vector<int32_t>{3}, 0.5);
  CHECK(logits[3] == 6);
  penalise(logits, std::vector<int32_t>{3}, 1);
  CHECK(logits[3] == 6);
}

TEST_CASE("generate: greedy tokens are the most probable ones of those that the penalty leaves") {
  const TinyGPT model;
  const NoGrad off;
  std::set<std::vector<int32_t>> different;
  for (const double penalty : {1.0, 1.5, 40.0}) {
    std::vector<int32_t> all = {3, 1, 4};
    const auto made = generate(model, all, {.tokens = 9, .temperature = 0, .repetition_penalty = penalty});
    REQUIRE(made.size() == 9);
    different.insert(made);
    for (const int32_t id : made) {
      const int64_t seen = window(std::ssize(all), 6);
      const Tensor logits = model.next(tensor(std::span<const int32_t>(all).last(static_cast<size_t>(seen)), {1, seen})).clone();
      for (const int32_t there : std::set<int32_t>(all.begin(), all.end())) {   // the prompt and what has left the window count
        float& x = Tensor(logits).mutable_data()[there];
        x = x > 0 ? static_cast<float>(x / penalty) : static_cast<float>(x * penalty);
      }
      CHECK(argmax_last(logits).data<int32_t>()[0] == id);
      all.push_back(id);
    }
  }
  CHECK(different.size() == 3);
}

TEST_CASE("generate: the window holds all ids until the context is full, then half of it goes at once") {
  for (const int64_t context : {1, 2, 3, 6, 7, 256}) {
    CAPTURE(context);
    int64_t seen = 0, wrong = 0;
    for (int64_t length = 1; length < 5 * context; ++length) {
      if (seen == context) seen -= std::max<int64_t>(1, context / 2);
      wrong += window(length, context) != ++seen;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("generate: of a prompt longer than the context the last ids count") {
  const TinyGPT model;
  const GenerateOptions options = {.tokens = 20, .temperature = 1.5, .repetition_penalty = 2};
  const std::vector<int32_t> prompt = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  CHECK(generate(model, prompt, options) == generate(model, {5, 6, 7, 8, 9, 10}, options));
  CHECK(generate(model, prompt, options) != generate(model, {6, 7, 8, 9, 10}, options));
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

TEST_CASE("generate: of several texts tokens arrive as they are made, and the caller may stop them all") {
  const TinyGPT model;
  const GenerateOptions options = {.tokens = 5, .temperature = 1.5};
  std::vector<std::pair<int64_t, int32_t>> arrived;
  const auto texts = generate_several(model, {0}, 3, options, [&](int64_t text, int32_t id) {
    arrived.emplace_back(text, id);
    return arrived.size() < 8;
  });
  REQUIRE(arrived.size() == 8);
  for (size_t i = 0; i < arrived.size(); ++i) {
    CHECK(arrived[i].first == static_cast<int64_t>(i % 3));
    CHECK(arrived[i].second == texts[i % 3][i / 3]);
  }
  CHECK(texts[2].size() == 2);
  int calls = 0;   // not even a second group begins
  CHECK(generate_several(model, {0}, 20, options, [&](int64_t, int32_t) { return ++calls < 3; })[9].empty());
  CHECK(calls == 3);
  CHECK(generate_several(model, {0}, 3, {.tokens = 0}) == std::vector<std::vector<int32_t>>(3));
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
  for (const double p : {0.0, -2.0, std::nan(""), HUGE_VAL})
    CHECK_THROWS_WITH(generate(model, {0}, {.repetition_penalty = p}), doctest::Contains("--repetition-penalty"));
  CHECK_THROWS_WITH(generate_several(model, {0}, 0, {}), doctest::Contains("--samples"));
  for (const int32_t id : {11, -1}) CHECK_THROWS_WITH(generate(model, {id}, {.repetition_penalty = 2}), doctest::Contains(str(id).c_str()));   // no such id
}
