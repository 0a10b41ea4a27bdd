// Attention against f64: masks, biases, rotations, head layouts, dropout, sizes around the edges of blocks; rows that see nothing.
#include <doctest/doctest.h>

#include <array>

#include "core/allocator.h"
#include "core/random.h"
#include "tests/check_op.h"

using namespace qd;
using namespace qd::test;

namespace {

// q, k, v in tensors of their own, or side by side in one, with unused columns before them; the T5 table is the last input.
struct Case {
  int64_t batch = 2, queries = 5, keys = 5;
  AttentionOptions o{.heads = 2, .head_dim = 8};
  bool packed = false;
  int64_t buckets = 0;   // of the T5 table; 0: none
  double spread = 1;

  int64_t width() const { return o.heads * o.head_dim; }
  int64_t kv_width() const { return (o.kv_heads ? o.kv_heads : o.heads) * o.head_dim; }
};

constexpr int64_t before = 3;   // columns that belong to nobody

Arrays inputs_of(const Case& c) {
  Arrays out;
  if (c.packed) {
    out.push_back(normal({c.batch, c.keys, before + c.width() + 2 * c.kv_width()}, c.spread));
  } else {
    out = {normal({c.batch, c.queries, c.width()}, c.spread), normal({c.batch, c.keys, c.kv_width()}, c.spread),
           normal({c.batch, c.keys, c.kv_width()})};
  }
  if (c.buckets) out.push_back(normal({c.buckets, c.o.heads}));
  return out;
}

template <class H, class Xs>   // Heads of Tensor or of Array
std::array<H, 3> parts(const Case& c, const Xs& x) {
  if (!c.packed) return {H{x[0]}, H{x[1]}, H{x[2]}};
  return {H{x[0], before}, H{x[0], before + c.width()}, H{x[0], before + c.width() + c.kv_width()}};
}

Tensor attend(const Case& c, const Tensors& x) {
  AttentionOptions o = c.o;
  if (c.buckets) o.table = x.back();
  const auto [q, k, v] = parts<Heads>(c, x);
  return attention(q, k, v, o);
}

Array definition_of(const Case& c, const Arrays& x, const Array* kept = nullptr) {
  const auto [q, k, v] = parts<reference::Heads<double>>(c, x);
  return reference::attention(q, k, v, c.o, c.buckets ? &x.back() : nullptr, kept);
}

void check(const std::string& name, const Case& c, Tolerance tolerance = {2e-6, 5e-6}) {
  check_op(
      str("attention: ", name), [&](const Tensors& x) { return attend(c, x); },
      [&](const Arrays& x) { return definition_of(c, x); }, inputs_of(c), tolerance);
}

// Every mask, with what it needs.
std::vector<std::pair<std::string, Case>> masked(Case c) {
  std::vector<std::pair<std::string, Case>> out;
  const auto put = [&](const char* name, Mask mask) {
    c.o.mask = mask;
    out.emplace_back(name, c);
  };
  put("bidirectional", Mask::bidirectional);
  put("causal", Mask::causal);
  put("mixed", Mask::mixed);
  for (int64_t b = 0; b < c.batch; ++b) c.o.prefix.push_back(static_cast<int32_t>((b + 1) * c.keys / (c.batch + 1)));
  put("prefix", Mask::prefix);
  return out;
}

std::vector<int32_t> lengths(const Case& c) {   // the last sequence is whole, the first is nearly or wholly empty
  std::vector<int32_t> out;
  for (int64_t b = 0; b < c.batch; ++b)
    out.push_back(static_cast<int32_t>(c.batch > 1 ? b * c.keys / (c.batch - 1) : c.keys / 2));
  return out;
}

}  // namespace

TEST_CASE("attention: every mask, with padding, packed and apart") {
  for (const bool packed : {false, true})
    for (auto& [name, c] : masked({.packed = packed})) {
      check(name, c);
      c.o.lengths = lengths(c);
      check(name + " with lengths", c);
    }
}

TEST_CASE("attention: sizes around the edges of blocks") {
  for (const int64_t t : {0, 2, 3, 17, 33, 63, 64, 65, 66, 127, 128, 129, 130, 200})
    for (const Mask mask : {Mask::bidirectional, Mask::causal, Mask::mixed})
      check(str("T = ", t),
            {.batch = 1, .queries = t, .keys = t, .o = {.heads = 2, .head_dim = 8, .mask = mask}, .packed = t % 2 == 0});
  for (const int64_t d : {1, 2, 3, 7, 8, 15, 16, 17, 20, 32, 64, 65, 100, 128})
    check(str("head_dim = ", d), {.batch = 2, .queries = 19, .keys = 19, .o = {.heads = 2, .head_dim = d}, .packed = d % 2 == 0});
  for (const auto& [queries, keys] :
       {std::pair<int64_t, int64_t>{1, 70}, {70, 2}, {65, 129}, {129, 65}, {3, 200}, {0, 5}, {5, 0}})
    for (const Mask mask : {Mask::bidirectional, Mask::causal})
      check(str(queries, " queries, ", keys, " keys"),
            {.batch = 1,
             .queries = queries,
             .keys = keys,
             .o = {.heads = 1, .head_dim = 16, .mask = mask, .query_offset = std::max<int64_t>(keys - queries, 0)}});
  check("no sequence", {.batch = 0});
}

TEST_CASE("attention: one key takes all the weight") {
  for (const int64_t t : {1, 2, 70})
    on_every_table([&](const std::string& table) {
      INFO(table, ", ", t, " queries");
      Tensor q = to_tensor(normal({1, t, 16})).require_gradient(), k = to_tensor(normal({1, 1, 16})).require_gradient();
      Tensor v = to_tensor(normal({1, 1, 16})).require_gradient();
      const Tensor y = attention({q}, {k}, {v}, {.heads = 1, .head_dim = 16, .mask = Mask::bidirectional});
      backward(y, full(y.shape(), 1));
      CHECK(same_bits(y.reshape({t, 16}).row_range(t - 1, t), v.reshape({1, 16})));
      CHECK(difference(q.gradient(), Array({1, t, 16})) < 1e-5);   // no choice, no gradient
      CHECK(difference(k.gradient(), Array({1, 1, 16})) < 1e-5);
      CHECK(difference(v.gradient(), Array({1, 1, 16}, double(t))) < 1e-6);
    });
}

TEST_CASE("attention: enough work for several threads") {
  check("causal", {.batch = 2, .queries = 200, .keys = 200, .o = {.heads = 4, .head_dim = 20}, .packed = true});
  check("padded", {.batch = 3,
                   .queries = 150,
                   .keys = 150,
                   .o = {.heads = 2, .head_dim = 32, .mask = Mask::bidirectional, .lengths = {150, 1, 77}}});
  check("grouped", {.batch = 1, .queries = 180, .keys = 180, .o = {.heads = 4, .kv_heads = 1, .head_dim = 16}, .buckets = 8});
}

TEST_CASE("attention: several query heads share a key") {
  for (const auto& [heads, kv_heads] : {std::pair<int64_t, int64_t>{4, 2}, {4, 1}, {6, 2}, {3, 3}})
    for (const bool packed : {false, true})
      for (auto& [name, c] :
           masked({.queries = 9, .keys = 9, .o = {.heads = heads, .kv_heads = kv_heads, .head_dim = 4}, .packed = packed}))
        check(str(name, " ", heads, " to ", kv_heads), c);
}

TEST_CASE("attention: ALiBi, T5 bias, rotation, scale, and all of them") {
  for (const int64_t t : {7, 70})
    for (auto& [name, c] : masked({.queries = t, .keys = t, .o = {.heads = 2, .head_dim = 8}, .packed = t == 7})) {
      Case slopes = c, table = c, rotary = c, part = c, scale = c, all = c;
      slopes.o.slopes = alibi_slopes(2);
      check(name + " ALiBi", slopes);
      table.buckets = 8, table.o.max_distance = 20;
      check(name + " T5", table);
      rotary.o.rotary = rotary_table(t, 8);
      check(name + " rotary", rotary);
      part.o.rotary = rotary_table(t + 5, 4);
      check(name + " rotary on a part", part);
      scale.o.scale = 0.7f;
      check(name + " scale", scale);
      all.o.slopes = {0.5f, 0.25f}, all.o.rotary = rotary_table(t, 6), all.buckets = 32, all.o.lengths = lengths(all),
      all.o.scale = 0.5f;
      check(name + " with everything", all);
    }
}

TEST_CASE("attention: rotation keeps apart what the positions say") {
  check("odd half", {.queries = 9, .keys = 9, .o = {.heads = 2, .head_dim = 7, .rotary = rotary_table(9, 6)}});
  check("one pair", {.queries = 9, .keys = 9, .o = {.heads = 1, .head_dim = 2, .rotary = rotary_table(9, 2)}});
  check(
      "wide",
      {.batch = 1, .queries = 66, .keys = 66, .o = {.heads = 2, .head_dim = 64, .rotary = rotary_table(66, 64)}, .packed = true});
  check("shared keys",
        {.queries = 9, .keys = 9, .o = {.heads = 4, .kv_heads = 2, .head_dim = 6, .rotary = rotary_table(9, 4)}, .packed = true});
}

TEST_CASE("attention: later queries (cached generation)") {
  for (const int64_t offset : {0, 1, 4, 64, 70})
    for (const int64_t queries : {1, 3}) {
      const int64_t keys = offset + queries;
      for (auto& [name, c] :
           masked({.queries = queries, .keys = keys, .o = {.heads = 2, .head_dim = 8, .query_offset = offset}})) {
        check(name + " from an offset", c);
        c.o.slopes = {0.5f, 0.1f}, c.o.rotary = rotary_table(keys, 8), c.buckets = 8, c.o.max_distance = 30;
        check(name + " from an offset with positions", c);
      }
    }
  check("beyond the keys",
        {.queries = 4, .keys = 6, .o = {.heads = 2, .head_dim = 8, .query_offset = 9, .slopes = {0.5f, 0.1f}}});
}

TEST_CASE("attention: the last query of a cache is the last of the whole") {
  const Array x = normal({2, 40, 3 * 16});
  AttentionOptions o{.heads = 2, .head_dim = 8, .slopes = {0.5f, 0.1f}, .rotary = rotary_table(40, 8)};
  const Tensor all = to_tensor(x), whole = attention({all}, {all, 16}, {all, 32}, o);
  Array last({2, 1, 48});
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t i = 0; i < 48; ++i) last[b * 48 + i] = x[(b * 40 + 39) * 48 + i];
  o.query_offset = 39;
  const Tensor now = to_tensor(last), y = attention({now}, {all, 16}, {all, 32}, o);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t i = 0; i < 16; ++i)
      CHECK(y.data()[b * 16 + i] == doctest::Approx(whole.data()[(b * 40 + 39) * 16 + i]).epsilon(1e-5));
}

TEST_CASE("attention: a query that sees no key gives zeros and gets none") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (const int64_t t : {3, 65}) {
      Tensor x = to_tensor(normal({2, t, 3 * 16})).require_gradient();
      AttentionOptions o{.heads = 2, .head_dim = 8, .mask = Mask::bidirectional, .lengths = {0, static_cast<int32_t>(t)}};
      const Tensor y = attention({x}, {x, 16}, {x, 32}, o);
      backward(y, full(y.shape(), 1));
      CHECK(difference(y.row_range(0, 1), Array({1, t, 16})) == 0);
      CHECK(difference(x.gradient().row_range(0, 1), Array({1, t, 48})) == 0);
      CHECK(kernels().all_finite(x.size(), x.gradient().data()));
      // The mixed mask with short lengths: later queries of the heads that look ahead see nothing.
      o.mask = Mask::mixed, o.lengths = {1, 2};
      x.clear_gradient();
      const Tensor z = attention({x}, {x, 16}, {x, 32}, o);
      backward(z, full(z.shape(), 1));
      CHECK(z.data()[(t - 1) * 16 + 8] == 0);
      CHECK(z.data()[(t - 1) * 16] != 0);
      CHECK(kernels().all_finite(x.size(), x.gradient().data()));
    }
  });
}

TEST_CASE("attention: what is masked may hold anything") {
  // Padding is often not a number that means something: it must not reach the result.
  on_every_table([](const std::string& table) {
    INFO(table);
    const int64_t t = 70, seen = 40;
    Tensor q = to_tensor(normal({1, t, 8})), k = to_tensor(normal({1, t, 8})), v = to_tensor(normal({1, t, 8}));
    AttentionOptions o{.heads = 1, .head_dim = 8, .mask = Mask::bidirectional, .lengths = {seen}};
    const Tensor clean = attention({q}, {k}, {v}, o);
    for (int64_t i = seen * 8; i < t * 8; ++i) k.mutable_data()[i] = 1e30f, v.mutable_data()[i] = -1e30f;
    CHECK(difference(attention({q}, {k}, {v}, o), clean) < 1e-6);
    o.mask = Mask::causal, o.lengths = {};
    const Tensor y = attention({q}, {k}, {v}, o);
    CHECK(
        difference(y.reshape({t, 8}).row_range(0, seen),
                   attention({q}, {k}, {v}, {.heads = 1, .head_dim = 8, .lengths = {seen}}).reshape({t, 8}).row_range(0, seen)) <
        1e-6);
  });
}

TEST_CASE("attention: large scores") {
  // Scores of 1e4 with differences of order 1: exp would overflow without the maximum taken off.
  const int64_t t = 70, d = 4;
  Case c{.batch = 1, .queries = t, .keys = t, .o = {.heads = 1, .head_dim = d, .scale = 1, .mask = Mask::bidirectional}};
  for (const double level : {100.0, -100.0}) {
    Arrays x = inputs_of(c);
    for (int64_t i = 0; i < t; ++i) x[0][i * d] = 100, x[1][i * d] = level;
    on_every_table([&](const std::string& table) {
      INFO(table, " ", level);
      const Tensor y = attend(c, {to_tensor(x[0]), to_tensor(x[1]), to_tensor(x[2])});
      CHECK(difference(y, definition_of(c, x)) < 2e-3);   // a score of 1e4 is known to 1e-3
    });
  }
  on_every_table([&](const std::string& table) {   // one key wins by far, wherever it stands
    INFO(table);
    for (const int64_t winner : {0, 1, 63, 64, 69}) {
      Tensor q = full({1, t, d}, 100), k = full({1, t, d}, -50), v = to_tensor(normal({1, t, d}));
      for (int64_t i = 0; i < d; ++i) k.mutable_data()[winner * d + i] = 50;
      q.require_gradient(), k.require_gradient(), v.require_gradient();
      const Tensor y = attention({q}, {k}, {v}, c.o);
      bool same = true;
      for (int64_t i = 0; i < t * d; ++i) same = same && y.data()[i] == v.data()[winner * d + i % d];
      CHECK(same);
      backward(y, full(y.shape(), 1));
      for (const Tensor* x : {&q, &k, &v}) CHECK(kernels().all_finite(x->size(), x->gradient().data()));
    }
  });
}

TEST_CASE("attention: one tensor as query, key and value") {
  check_op(
      "attention of one tensor", [](const Tensors& x) { return attention({x[0]}, {x[0]}, {x[0]}, {.heads = 2, .head_dim = 8}); },
      [](const Arrays& x) { return reference::attention<double>({x[0]}, {x[0]}, {x[0]}, {.heads = 2, .head_dim = 8}); },
      {normal({2, 70, 16})}, {2e-6, 5e-6});
}

TEST_CASE("attention: probabilities are those of the definition and of attention") {
  for (const auto& entry : masked({.queries = 40, .keys = 70, .o = {.heads = 4, .kv_heads = 2, .head_dim = 8}, .buckets = 8}))
    on_every_table([&](const std::string& table) {
      INFO(entry.first, " on ", table);
      Case now = entry.second;
      now.o.lengths = {0, 33}, now.o.rotary = rotary_table(70, 4), now.o.slopes = alibi_slopes(4);
      const Arrays x = inputs_of(now);
      Tensors t;
      for (const Array& a : x) t.push_back(to_tensor(a));
      AttentionOptions o = now.o;
      o.table = t.back();
      const Tensor p = attention_probabilities({t[0]}, {t[1]}, o);
      const Array expected = reference::attention_probabilities<double>({x[0]}, {x[1]}, now.o, &x.back());
      CHECK(difference(p, expected) < 2e-6);
      bool ones = true, hidden = true;
      for (int64_t r = 0; r < expected.rows(); ++r) {
        double total = 0, exact = 0;
        for (int64_t j = r * 70; j < (r + 1) * 70; ++j) {
          total += p.data()[j], exact += expected[j];
          hidden = hidden && (expected[j] != 0 || p.data()[j] == 0);
        }
        ones = ones && std::abs(total - exact) < 2e-6;   // 1, or 0 where nothing is seen
      }
      CHECK(ones);
      CHECK(hidden);
      o.dropout = 0.5f;   // is not for looking at
      CHECK(difference(attention_probabilities({t[0]}, {t[1]}, o), p) < 1e-6);
    });
  Tensor q = zeros({1, 2, 4}).require_gradient();
  CHECK(contains(error_of([&] { sum(attention_probabilities({q}, {q}, {.heads = 1, .head_dim = 4})).backward(); }),
                 "[attention_probabilities]"));
}

TEST_CASE("attention: dropout multiplies the weights by one mask, forward and backward") {
  const int64_t t = 70;
  const RandomState start{3, 8};
  const AttentionOptions options{.heads = 4, .kv_heads = 2, .head_dim = 8, .dropout = 0.3f};
  for (const auto& entry : masked({.batch = 2, .queries = t, .keys = t, .o = options, .packed = true})) {
    const Case& c = entry.second;
    // The mask, seen through values that are rows of the identity, eight keys at a time, where every weight is 1 / t.
    Case flat = c;
    flat.o.kv_heads = 0, flat.packed = false, flat.o.mask = Mask::bidirectional;
    Array kept({2, 4, t, t});
    for (int64_t first = 0; first < t; first += 8) {
      Tensor v = zeros({2, t, 32});
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t j = first; j < std::min(t, first + 8); ++j)
          for (int64_t h = 0; h < 4; ++h) v.mutable_data()[(b * t + j) * 32 + h * 8 + j - first] = 1;
      random_state() = start;
      const Tensor zero = zeros({2, t, 32}), y = attention({zero}, {zero}, {v}, flat.o);
      for (int64_t i = 0; i < y.size(); ++i) {
        const int64_t b = i / 32 / t, query = i / 32 % t, h = i % 32 / 8, j = first + i % 8;
        if (j < t) kept[((b * 4 + h) * t + query) * t + j] = y.data()[i] != 0 ? 1 / (1 - static_cast<double>(c.o.dropout)) : 0;
      }
    }
    double count = 0;
    for (const double factor : kept.values) count += factor != 0;
    const auto n = static_cast<double>(kept.size());
    CHECK(std::abs(count / n - 0.7) < 4 * std::sqrt(0.21 / n));
    check_op(
        str("attention with dropout: ", entry.first),
        [&](const Tensors& x) {
          random_state() = start;
          return attend(c, x);
        },
        [&](const Arrays& x) { return definition_of(c, x, &kept); }, inputs_of(c), {2e-6, 5e-6});
  }
}

TEST_CASE("attention: dropout differs between calls, heads and sequences") {
  const Tensor x = zeros({2, 16, 16});
  Tensor v = full({2, 16, 16}, 1);
  const AttentionOptions o{.heads = 2, .head_dim = 8, .mask = Mask::bidirectional, .dropout = 0.5f};
  random_state() = {1, 0};
  const Tensor a = attention({x}, {x}, {v}, o), b = attention({x}, {x}, {v}, o);
  CHECK_FALSE(same_bits(a, b));
  CHECK_FALSE(same_bits(a.row_range(0, 1), a.row_range(1, 2)));
  bool heads_equal = true;
  for (int64_t r = 0; r < 32; ++r) heads_equal = heads_equal && a.data()[r * 16] == a.data()[r * 16 + 8];
  CHECK_FALSE(heads_equal);
  random_state() = {1, 0};
  CHECK(same_bits(a, attention({x}, {x}, {v}, o)));
}

TEST_CASE("attention: memory grows with the length, not with its square") {
  const auto peak = [](int64_t t) {
    Tensor x = to_tensor(normal({1, t, 3 * 32})).require_gradient();
    const int64_t start = memory_use().active;
    reset_peak();
    sum(attention({x}, {x, 32}, {x, 64}, {.heads = 4, .head_dim = 8})).backward();
    return static_cast<double>(memory_use().peak - start);
  };
  CHECK(peak(1024) < 2.3 * peak(512));
}

TEST_CASE("attention: tables of positions") {
  CHECK(alibi_slopes(4) == std::vector<float>{0.25f, 0.0625f, 0.015625f, 0.00390625f});
  const std::vector<float> six = alibi_slopes(6);   // four of 4 heads, then every second of 8
  CHECK(six.size() == 6);
  CHECK(six[4] == 0.5f);
  CHECK(six[5] == 0.125f);
  for (const bool both : {false, true})
    for (const int64_t buckets : {4, 8, 32})
      for (const int64_t distance : {20, 128})
        for (int64_t r = -200; r <= 200; ++r)
          CHECK(t5_bucket(r, both, buckets, distance) == reference::bucket(r, both, buckets, distance));
  CHECK(t5_bucket(-1000, false, 32, 128) == 31);
  CHECK(t5_bucket(1000, true, 32, 128) == 31);
  const Tensor table = rotary_table(50, 6, 100);
  for (int64_t position : {0, 1, 49})
    for (int64_t i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(position) * std::pow(100, -2.0 * static_cast<double>(i) / 6);
      CHECK(table.data()[position * 6 + i] == doctest::Approx(std::cos(angle)).epsilon(1e-6));
      CHECK(table.data()[position * 6 + 3 + i] == doctest::Approx(std::sin(angle)).epsilon(1e-6));
    }
  CHECK(contains(error_of([] { rotary_table(4, 3); }), "[rotary_table] expected an even number"));
}

TEST_CASE("attention: calls that do not fit throw") {
  const Tensor x = zeros({2, 5, 16});
  const auto error = [&](const AttentionOptions& o, int64_t column = 0) {
    return error_of([&] { attention({x, column}, {x}, {x}, o); });
  };
  CHECK(error({.heads = 2, .head_dim = 8}) == "");
  CHECK(contains(error({.heads = 0, .head_dim = 8}), "[attention] expected heads that are a multiple of kv_heads"));
  CHECK(contains(error({.heads = 2, .kv_heads = 3, .head_dim = 8}), "got 2 and 3"));
  CHECK(contains(error({.heads = 2, .head_dim = 9}), "expected q in columns 0 to 18 of a tensor (2, T, row), got (2, 5, 16)"));
  CHECK(contains(error({.heads = 2, .head_dim = 8}, 1), "columns 1 to 17"));
  CHECK(contains(error({.heads = 2, .head_dim = 8}, -1), "columns -1"));
  CHECK(contains(error({.heads = 2, .head_dim = 8, .mask = Mask::prefix}), "expected prefix lengths"));
  CHECK(contains(error({.heads = 2, .head_dim = 8, .lengths = {5}}), "expected 2 lengths, got 1"));
  CHECK(contains(error({.heads = 2, .head_dim = 8, .slopes = {1, 1, 1}}), "expected 2 slopes, got 3"));
  CHECK(contains(error({.heads = 2, .head_dim = 8, .table = zeros({4, 3})}), "expected a bias table (buckets, 2)"));
  CHECK(contains(error({.heads = 2, .head_dim = 8, .rotary = rotary_table(4, 8)}), "rotary table of at least 5 positions"));
  CHECK(contains(error({.heads = 2, .head_dim = 8, .rotary = rotary_table(5, 10)}), "at most 8 dimensions"));
  CHECK(contains(error({.heads = 2, .head_dim = 8, .dropout = 1}), "dropout"));
  CHECK(contains(error({.heads = 2, .head_dim = 8, .query_offset = -1}), "query_offset"));
  CHECK(contains(error_of([&] {
                   attention({x}, {x}, {zeros({2, 4, 16})}, {.heads = 2, .head_dim = 8});
                 }),
                 "as many values as keys, got 4 and 5"));
  CHECK(contains(error_of([&] {
                   attention({x}, {zeros({3, 5, 16})}, {x}, {.heads = 2, .head_dim = 8});
                 }),
                 "expected k in columns"));
  CHECK(contains(error_of([&] { attention({zeros({5, 16})}, {x}, {x}, {.heads = 2, .head_dim = 8}); }), "[attention]"));
}
