// Generation with a cache of keys and values: the same tokens and the same probabilities as without one, whatever the model.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "models/generate.h"
#include "models/gpt.h"
#include "tests/golden.h"

using namespace qd;
using namespace qd::test;

namespace {

constexpr int64_t vocabulary = 23, context = 24;

GPTConfig small() { return {.vocab = vocabulary, .context = context, .width = 24, .layers = 3, .heads = 6}; }

// Every kind of positions, in every place of the norms, with as many key/value heads as queries and with fewer.
std::vector<std::pair<std::string, GPTConfig>> variety() {
  std::vector<std::pair<std::string, GPTConfig>> all;
  const NormPlace places[] = {NormPlace::pre, NormPlace::post, NormPlace::deepnorm};
  int turn = 0;
  for (const PositionKind p : {PositionKind::learned, PositionKind::sinusoidal, PositionKind::rotary, PositionKind::alibi, PositionKind::t5,
                               PositionKind::none, PositionKind::grid})
    for (const int64_t kv_heads : {0, 2, 1}) {
      GPTConfig c = small();
      c.columns = context / 4;   // of a grid
      c.positions = p, c.kv_heads = kv_heads, c.norm = places[turn++ % 4 % 3];
      all.emplace_back(str("positions ", name_of(p), ", norm ", name_of(c.norm), ", kv heads ", kv_heads), c);
    }
  GPTConfig c = small();
  c.norm_kind = NormKind::rms, c.activation = MLPKind::swiglu, c.positions = PositionKind::rotary, c.rotary = 0.5;
  all.emplace_back("rms, swiglu, half rotary", c);
  return all;
}

// Weights that are larger than those training begins with, so that tokens and positions matter. (Those of DeepNorm are large.)
struct Model : GPT {
  explicit Model(const GPTConfig& c) : GPT(c) {
    initialize(3);
    evaluate();
    const float factor = c.norm == NormPlace::deepnorm ? 2 : 8;
    for (Parameter* p : parameters())
      if (p->decays())
        for (int64_t i = 0; i < p->value.size(); ++i) p->value.mutable_data()[i] *= factor;
  }
};

Tensor random_ids(int64_t rows, int64_t cols, uint64_t stream) {
  Tensor ids = empty({rows, cols}, DType::i32);
  Random random(5, stream);
  for (int64_t i = 0; i < ids.size(); ++i) ids.mutable_data<int32_t>()[i] = static_cast<int32_t>(random.next() % vocabulary);
  return ids;
}

// Columns begin .. end of ids (B, T)
Tensor columns(const Tensor& ids, int64_t begin, int64_t end) {
  std::vector<int32_t> out;
  for (int64_t b = 0; b < ids.dim(0); ++b)
    for (int64_t t = begin; t < end; ++t) out.push_back(ids.data<int32_t>()[b * ids.dim(1) + t]);
  return tensor(out, {ids.dim(0), end - begin});
}

// The largest difference between softmax(a) and softmax(b), rows of logits.
double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const Tensor p = softmax(a), q = softmax(b);
  double most = 0;
  for (int64_t i = 0; i < p.size(); ++i) {
    const double d = std::abs(static_cast<double>(p.data()[i]) - static_cast<double>(q.data()[i]));
    most = d <= most ? most : std::isnan(d) ? INFINITY : d;
  }
  return most;
}

// Text `number` of those that continue the ids, the whole window computed for each token: what a model sees grows until the context is full,
// then half of it goes at once.
std::vector<int32_t> without_cache(const GPT& model, std::vector<int32_t> ids, const GenerateOptions& options, uint64_t number = 0) {
  const NoGrad off;
  Random random(options.seed, stream_of("generate") + number);
  std::vector<int32_t> made;
  int64_t seen = std::min(std::ssize(ids), model.c.context);
  for (int64_t i = 0; i < options.tokens; ++i) {
    const Tensor logits = model.logits(tensor(std::span<const int32_t>(ids).last(static_cast<size_t>(seen)), {1, seen}));
    made.push_back(choose(logits.values().last(static_cast<size_t>(model.c.vocab)), options, random));
    ids.push_back(made.back());
    if (seen == model.c.context) seen -= std::max<int64_t>(1, model.c.context / 2);
    ++seen;
  }
  return made;
}

std::vector<int32_t> random_prompt(int64_t length, uint64_t stream) {
  const Tensor ids = random_ids(1, length, stream);
  return {ids.data<int32_t>(), ids.data<int32_t>() + length};
}

}  // namespace

TEST_CASE("cache: the probabilities are those of the whole sequence, for every model, batch, prompt and step") {
  for (const auto& [name, c] : variety()) {
    CAPTURE(name);
    const Model model(c);
    const NoGrad off;
    for (const int64_t batch : {1, 3}) {
      const Tensor ids = random_ids(batch, context, static_cast<uint64_t>(batch));
      const Tensor all = model.logits(ids);   // (B, T, V); a causal model says of each token what it would say of the text up to it
      for (const int64_t prompt : {1, 2, 17, 24}) {
        CAPTURE(prompt);
        Cache cache = model.cache(batch, context);   // the last step fills it exactly
        for (int64_t begin = 0, end = prompt, step = 1; begin < context; begin = end, end = std::min(end + step, context), step = step % 3 + 1) {
          const Tensor next = model.next(columns(ids, begin, end), &cache);
          CHECK(cache.length() == end);
          std::vector<int32_t> rows;
          for (int64_t b = 0; b < batch; ++b) rows.push_back(static_cast<int32_t>(b * context + end - 1));
          CHECK(distance(next, embedding(all.reshape({batch * context, vocabulary}), tensor(rows, {batch}))) < 1e-5);
        }
      }
    }
  }
}

TEST_CASE("cache: positions and earlier tokens matter to these models") {   // or the case above would compare nothing
  for (const auto& [name, c] : variety()) {
    CAPTURE(name);
    const Model model(c);
    const NoGrad off;
    const Tensor ids = random_ids(1, 17, 9);
    Tensor other = ids.clone();
    other.mutable_data<int32_t>()[3] = (ids.data<int32_t>()[3] + 1) % vocabulary;
    CHECK(distance(model.next(ids), model.next(other)) > 1e-3);
    if (c.positions == PositionKind::none) continue;
    Tensor swapped = ids.clone();   // two tokens change places
    swapped.mutable_data<int32_t>()[2] = (ids.data<int32_t>()[11] + 1) % vocabulary;
    Tensor back = swapped.clone();
    std::swap(back.mutable_data<int32_t>()[2], back.mutable_data<int32_t>()[11]);
    CHECK(distance(model.next(back), model.next(swapped)) > 1e-4);
  }
}

TEST_CASE("cache: greedy text is the same, while the context fills and after it is full") {
  for (const auto& [name, c] : variety()) {
    CAPTURE(name);
    const Model model(c);
    for (const int64_t length : {1, 2, 17, 24, 30}) {
      CAPTURE(length);
      const std::vector<int32_t> prompt = random_prompt(length, static_cast<uint64_t>(100 + length));
      const int64_t tokens = length == 17 ? context - length : 50;   // one of them ends exactly at the capacity, others move the window thrice
      const GenerateOptions greedy = {.tokens = tokens, .temperature = 0};
      CHECK(generate(model, prompt, greedy) == without_cache(model, prompt, greedy));
    }
  }
}

TEST_CASE("cache: a prompt of 200 tokens takes one pass, and the window moves behind it") {
  for (auto [name, c] : variety()) {
    CAPTURE(name);
    c.context = 216;
    const Model model(c);
    const NoGrad off;
    const std::vector<int32_t> prompt = random_prompt(200, 7);
    Cache cache = model.cache(2, 216);
    std::vector<int32_t> twice = prompt;
    twice.insert(twice.end(), prompt.begin(), prompt.end());
    const Tensor both = model.next(tensor(twice, {2, 200}), &cache), one = model.logits(tensor(prompt, {1, 200}));
    for (int64_t row = 0; row < 2; ++row) CHECK(distance(both.row_range(row, row + 1), one.reshape({200, vocabulary}).row_range(199, 200)) < 1e-5);
    const GenerateOptions sampled = {.tokens = 20, .temperature = 0.7, .seed = 3};   // four of them beyond the context
    CHECK(generate(model, prompt, sampled) == without_cache(model, prompt, sampled));
  }
}

TEST_CASE("cache: what remains of a window that has moved gives the probabilities of those ids alone") {
  for (const auto& [name, c] : variety()) {
    CAPTURE(name);
    const Model model(c);
    const NoGrad off;
    const Tensor ids = random_ids(3, context + 5, 21);
    Cache cache = model.cache(3, context);
    model.next(columns(ids, 0, context), &cache);
    const int64_t first = context + 1 - window(context + 1, context);
    for (int64_t b = 0; b < 3; ++b) {   // as generation does it: each sequence by itself
      Cache own = cache.sequences(b, b + 1);
      own.set_length(0);
      model.next(columns(ids, first, context + 1).row_range(b, b + 1), &own);
    }
    cache.set_length(context + 1 - first);
    for (int64_t end = context + 2; end <= context + 5; ++end) {
      const Tensor next = model.next(columns(ids, end - 1, end), &cache);
      CHECK(distance(next, model.next(columns(ids, first, end))) < 1e-5);
    }
  }
}

TEST_CASE("cache: several texts are those made alone, however many, and however they end") {
  for (const auto& [name, c] : variety()) {
    CAPTURE(name);
    const Model model(c);
    const std::vector<int32_t> prompt = random_prompt(9, 31);
    const GenerateOptions endless = {.tokens = 45, .temperature = 1.3, .seed = 5};   // the window moves
    const auto texts = generate_several(model, prompt, 11, endless);                  // eight together, then three
    CHECK(texts[0] == generate(model, prompt, endless));
    CHECK(texts[10] == without_cache(model, prompt, endless, 10));
    CHECK(texts[1] != texts[2]);
    for (const int64_t count : {2, 3, 7}) CHECK(generate_several(model, prompt, count, endless).back() == texts[static_cast<size_t>(count - 1)]);
    GenerateOptions ending = endless;
    ending.end_of_text = 4;
    const auto ended = generate_several(model, prompt, 11, ending);
    std::set<size_t> lengths;
    for (size_t i = 0; i < texts.size(); ++i) {
      CHECK(ended[i] == std::vector(texts[i].begin(), std::find(texts[i].begin(), texts[i].end(), 4)));
      lengths.insert(ended[i].size());
    }
    CHECK(lengths.size() > 2);   // they do end, at different times
  }
}

TEST_CASE("cache: a model with another mask generates without one") {
  for (const Mask mask : {Mask::bidirectional, Mask::mixed}) {
    GPTConfig c = small();
    c.mask = mask;
    const Model model(c);
    const GenerateOptions greedy = {.tokens = 30, .temperature = 0}, sampled = {.tokens = 30};
    CHECK(generate(model, {3, 1, 4}, greedy) == without_cache(model, {3, 1, 4}, greedy));
    CHECK(generate_several(model, {3, 1, 4}, 3, sampled)[2] == without_cache(model, {3, 1, 4}, sampled, 2));
    CHECK_THROWS_WITH(model.cache(1, 8), doctest::Contains("expected a causal model, got the mask"));
  }
}

TEST_CASE("cache: nothing is recorded and nothing left over") {
  const Model model(small());
  generate(model, {1}, {.tokens = 2});   // tables that are made once
  const int64_t nodes = live_nodes(), storages = live_storages();
  bool recorded = false;
  generate(model, {1, 2, 3}, {.tokens = 40}, [&](int32_t) {
    recorded = recorded || live_nodes() != nodes;
    return true;
  });
  CHECK_FALSE(recorded);
  CHECK(live_nodes() == nodes);
  CHECK(live_storages() == storages);
  CHECK(gradients_enabled());
}

TEST_CASE("cache: one that is too small, used with gradients, or cleared") {
  for (const PositionKind p : {PositionKind::learned, PositionKind::rotary}) {
    GPTConfig c = small();
    c.positions = p;
    const Model model(c);
    Cache cache = model.cache(2, 5);
    CHECK_THROWS_WITH(model.next(random_ids(2, 3, 1), &cache), doctest::Contains("no gradient is wanted"));
    const NoGrad off;
    const Tensor ids = random_ids(2, 3, 2);
    const Tensor first = model.next(ids, &cache);
    CHECK_THROWS_WITH(model.next(ids, &cache), doctest::Contains("at most 5 tokens, the capacity of the cache, got 3 + 3"));
    CHECK_THROWS_WITH(model.next(random_ids(1, 1, 3), &cache), doctest::Contains("[store_heads]"));   // another batch
    Cache shallow = cache;
    shallow.blocks.pop_back();
    CHECK_THROWS_WITH(model.next(ids, &shallow), doctest::Contains("expected one for 3 blocks, got 2"));
    cache.set_length(0);
    CHECK(distance(first, model.next(ids, &cache)) == 0);
  }
}
