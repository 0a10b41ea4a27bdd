// Attention of a few queries against many keys, as in generation, and the cache of keys and values that it reads: against f64 and
// against the path of many queries.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "core/random.h"
#include "tests/check_op.h"

using namespace qd;
using namespace qd::test;

namespace {

struct Case {
  int64_t batch, queries, keys;
  AttentionOptions o;
  int64_t buckets = 0;   // of a T5 table; 0: none
};

void check(const std::string& name, const Case& c) {
  const int64_t width = c.o.heads * c.o.head_dim, kv_width = (c.o.kv_heads ? c.o.kv_heads : c.o.heads) * c.o.head_dim;
  constexpr int64_t beside = 3;   // columns that belong to nobody
  Arrays x = {normal({c.batch, c.queries, width + beside}), normal({c.batch, c.keys, beside + 2 * kv_width})};
  if (c.buckets) x.push_back(normal({c.buckets, c.o.heads}));
  check_op(
      str("few queries: ", name),
      [&](const Tensors& x) {
        AttentionOptions o = c.o;
        if (c.buckets) o.table = x[2];
        return attention({x[0]}, {x[1], beside}, {x[1], beside + kv_width}, o);
      },
      [&](const Arrays& x) {
        return reference::attention<double>({x[0]}, {x[1], beside}, {x[1], beside + kv_width}, c.o, c.buckets ? &x[2] : nullptr);
      },
      x, {2e-6, c.buckets ? 1e-5 : 5e-6});   // gradients of a bucket are sums of many terms that nearly cancel
}

}  // namespace

TEST_CASE("attention of few queries: sizes around the edges of runs and vectors") {
  for (const int64_t keys : {0, 2, 15, 16, 17, 33, 63, 64, 65, 200, 512, 513, 1030})   // two runs of up to 256 keys, then four
    for (const int64_t queries : {1, 3})
      for (const Mask mask : {Mask::causal, Mask::bidirectional})
        check(str(queries, " queries, ", keys, " keys"),
              {.batch = 1, .queries = queries, .keys = keys,
               .o = {.heads = 2, .head_dim = 64, .mask = mask, .query_offset = std::max<int64_t>(keys - queries, 0)}});
  for (const int64_t d : {1, 2, 7, 8, 15, 16, 17, 33, 100, 128})
    check(str("head_dim ", d), {.batch = 2, .queries = 1, .keys = 70, .o = {.heads = 2, .head_dim = d, .query_offset = 69}});
}

TEST_CASE("attention of few queries: every number of rows, from queries and from heads that share keys") {
  for (const int64_t queries : {1, 2, 3, 4, 5, 6, 7, 8, 9})
    check(str(queries, " queries"), {.batch = 1, .queries = queries, .keys = 150, .o = {.heads = 2, .head_dim = 64, .query_offset = 150 - queries}});
  for (const auto& [heads, kv_heads, queries] :
       {std::array<int64_t, 3>{8, 1, 1}, {6, 2, 1}, {6, 2, 2}, {4, 1, 2}, {6, 3, 2}, {9, 1, 1}, {12, 3, 2}})
    for (const Mask mask : {Mask::causal, Mask::mixed})
      check(str(heads, " heads share ", kv_heads, ", ", queries, " queries"),
            {.batch = 2, .queries = queries, .keys = 90, .o = {.heads = heads, .kv_heads = kv_heads, .head_dim = 32, .mask = mask, .query_offset = 60}});
}

TEST_CASE("attention of few queries: masks, padding, biases, rotation, scale, and all of them") {
  for (const Mask mask : {Mask::causal, Mask::bidirectional, Mask::prefix, Mask::mixed})
    for (const int64_t offset : {0, 77, 148}) {
      Case c{.batch = 3, .queries = 2, .keys = 150, .o = {.heads = 4, .kv_heads = 2, .head_dim = 64, .mask = mask, .query_offset = offset}};
      if (mask == Mask::prefix) c.o.prefix = {0, 100, 150};
      Case lengths = c, slopes = c, table = c, rotary = c;
      check("mask", c);
      lengths.o.lengths = {0, 70, 150};
      check("lengths", lengths);
      slopes.o.slopes = alibi_slopes(4);
      check("ALiBi", slopes);
      table.buckets = 8, table.o.max_distance = 40;
      check("T5", table);
      rotary.o.rotary = rotary_table(150, 64);
      check("rotary", rotary);
      Case all = table;
      all.o.max_distance = 160, all.o.lengths = {150, 40, 0}, all.o.slopes = {0.5f, 0.25f, 0.1f, 0}, all.o.rotary = rotary_table(170, 34), all.o.scale = 0.3f;
      check(str("everything, offset ", offset, ", mask ", static_cast<int>(mask)), all);
    }
}

TEST_CASE("attention of few queries: large scores, and rows that see nothing") {
  Case c{.batch = 2, .queries = 2, .keys = 200, .o = {.heads = 2, .head_dim = 64, .scale = 1, .query_offset = 198}};
  check("large scores", c);
  on_every_table([](const std::string&) {
    const Tensor x = to_tensor(normal({1, 2, 128})), y = to_tensor(normal({1, 200, 128}));
    const Tensor blind = attention({x}, {y}, {y}, {.heads = 2, .head_dim = 64, .mask = Mask::bidirectional, .lengths = {0}});
    CHECK(difference(blind, Array({1, 2, 128})) == 0);
  });
}

TEST_CASE("attention of few queries: a sequence has the bits that it has alone, whatever lies behind its end and beside it") {
  constexpr int64_t batch = 4, keys = 300, heads = 4, kv_heads = 2, d = 20, kv_width = kv_heads * d;
  const int64_t ends[batch] = {0, 5, 140, keys};
  const Tensor rotary = rotary_table(2 * keys, 12);
  int wrong = 0;
  for (const int64_t queries : {1, 3})
    for (const Mask mask : {Mask::bidirectional, Mask::prefix})
      on_every_table([&](const std::string&) {
        AttentionOptions o{.heads = heads, .kv_heads = kv_heads, .head_dim = d, .mask = mask};
        if (queries == 3) o.rotary = rotary;
        auto& of_each = mask == Mask::prefix ? o.prefix : o.lengths;
        of_each.assign(ends, ends + batch);
        const Tensor q = to_tensor(normal({batch, queries, heads * d})), clean = to_tensor(normal({batch, keys, 2 * kv_width}));
        Tensor x = clean.clone();
        for (int64_t b = 0; b < batch; ++b)
          for (int64_t i = std::max(ends[b], mask == Mask::prefix ? queries : 0) * 2 * kv_width; i < keys * 2 * kv_width; ++i)
            x.mutable_data()[b * keys * 2 * kv_width + i] = i % 2 ? not_a_number : infinity;
        const Tensor together = attention({q}, {x}, {x, kv_width}, o);
        for (int64_t b = 0; b < batch; ++b) {
          of_each = {static_cast<int32_t>(ends[b])};
          const auto part = [&](const Tensor& t) { return t.reshape({batch, t.dim(1) * t.cols()}).row_range(b, b + 1).reshape({1, t.dim(1), t.cols()}); };
          const Tensor alone = attention({part(q)}, {part(clean)}, {part(clean), kv_width}, o);
          wrong += !same_bits(alone, part(together));
        }
      });
  CHECK(wrong == 0);
}

TEST_CASE("attention from a cache: stored and turned keys give what plain ones give, whatever lies behind them") {
  constexpr int64_t batch = 2, capacity = 80, heads = 4, kv_heads = 2, d = 16, kv_width = kv_heads * d;
  const NoGrad off;
  const Tensor rotary = rotary_table(capacity, 12);
  for (const int64_t seen : {0, 1, 40, 60})
    for (const int64_t now : {1, 2, 20})   // the last one takes the path of many queries
      on_every_table([&](const std::string& table) {
        INFO(table, ": ", seen, " tokens, then ", now);
        const Tensor before = to_tensor(normal({batch, seen, 2 * kv_width})), qkv = to_tensor(normal({batch, now, heads * d + 2 * kv_width}));
        Tensor keys = full({batch, capacity, kv_width}, not_a_number), values = full({batch, capacity, kv_width}, not_a_number);
        store_heads({before}, d, rotary, 0, keys);
        store_heads({before, kv_width}, d, {}, 0, values);
        store_heads({qkv, heads * d}, d, rotary, seen, keys);
        store_heads({qkv, heads * d + kv_width}, d, {}, seen, values);
        Tensor plain = empty({batch, seen + now, 2 * kv_width});   // the same keys and values, in one tensor
        for (int64_t b = 0; b < batch; ++b)
          for (int64_t t = 0; t < seen + now; ++t)
            for (int64_t i = 0; i < 2 * kv_width; ++i)
              plain.mutable_data()[(b * (seen + now) + t) * 2 * kv_width + i] =
                  t < seen ? before.data()[(b * seen + t) * 2 * kv_width + i]
                           : qkv.data()[(b * now + t - seen) * qkv.cols() + heads * d + i];
        AttentionOptions o{.heads = heads, .kv_heads = kv_heads, .head_dim = d, .query_offset = seen, .rotary = rotary};
        const Tensor expected = attention({qkv}, {plain}, {plain, kv_width}, o);
        o.keys_turned = true;
        const Tensor y = attention({qkv}, {keys}, {values}, o);
        Array e(expected.shape());
        for (int64_t i = 0; i < e.size(); ++i) e[i] = expected.data()[i];
        CHECK(difference(y, e) < 1e-6);
        bool untouched = true;
        for (int64_t b = 0; b < batch; ++b)
          for (int64_t i = (seen + now) * kv_width; i < capacity * kv_width; ++i)
            untouched = untouched && std::isnan(keys.data()[b * capacity * kv_width + i]) && std::isnan(values.data()[b * capacity * kv_width + i]);
        CHECK(untouched);
      });
}

TEST_CASE("attention from a cache: calls that do not fit throw") {
  Tensor cache = zeros({2, 5, 16}), x = zeros({2, 3, 24});
  const auto error = [&](const Tensor& x, int64_t column, int64_t d, int64_t first, const Tensor& rotary = {}) {
    return error_of([&] { store_heads({x, column}, d, rotary, first, cache); });
  };
  CHECK(error(x, 8, 8, 2) == "");
  CHECK(contains(error(x, 9, 8, 0), "[store_heads] expected columns from 9"));
  CHECK(contains(error(x, -1, 8, 0), "columns from -1"));
  CHECK(contains(error(x, 0, 7, 0), "heads of 7"));
  CHECK(contains(error(x, 0, 0, 0), "heads of 0"));
  CHECK(contains(error(zeros({1, 3, 24}), 0, 8, 0), "got (1, 3, 24) and (2, 5, 16)"));
  CHECK(contains(error(x, 0, 8, 3), "at most 5 tokens, the capacity of the cache, got 3 + 3"));
  CHECK(contains(error(x, 0, 8, -1), "got -1 + 3"));
  CHECK(contains(error(x, 0, 8, 2, rotary_table(4, 8)), "at least 5 positions"));
  CHECK(contains(error(x, 0, 8, 2, rotary_table(5, 10)), "at most 8 dimensions"));
  x.require_gradient();
  CHECK(contains(error(x, 0, 8, 0), "a cache passes none on"));
  CHECK(contains(error_of([&] { attention({x}, {cache}, {cache}, {.heads = 2, .head_dim = 8, .keys_turned = true}); }), "not turned yet"));
}
