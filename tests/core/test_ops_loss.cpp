// Embedding and losses against f64; ignored targets; the fused loss against its composed form; ids outside the table.
#include <doctest/doctest.h>

#include <limits>

#include "core/allocator.h"
#include "tests/check_op.h"

using namespace qd;
using namespace qd::test;

namespace {

std::vector<int32_t> random_ids(int64_t count, int64_t vocabulary, int ignored_of_10 = 0) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) {
    const auto id = static_cast<int32_t>(generator()() % static_cast<uint32_t>(vocabulary));
    out.push_back(static_cast<int>(generator()() % 10) < ignored_of_10 ? ignored : id);
  }
  return out;
}

}  // namespace

TEST_CASE("embedding: repeated ids add up, unused rows get zero") {
  struct Table {
    int64_t vocabulary, width, count;
  };
  for (const Table& t : {Table{1, 1, 1}, Table{5, 3, 0}, Table{5, 0, 4}, Table{7, 16, 5}, Table{7, 17, 40}, Table{3, 33, 100},
                         Table{300, 64, 3000}}) {
    const auto list = random_ids(t.count, t.vocabulary);
    const Tensor where = ids(list, {t.count});
    check_op(
        "embedding", [&](const Tensors& x) { return embedding(x[0], where); },
        [&](const Arrays& x) { return reference::embedding(x[0], list); }, {normal({t.vocabulary, t.width})});
  }
  const Tensor y = embedding(to_tensor(normal({4, 5})), ids({0, 1, 2, 3, 0, 1}, {2, 3}));
  CHECK(y.shape() == Shape{2, 3, 5});
  CHECK(embedding(zeros({4, 5}), ids({2}, {})).shape() == Shape{5});
}

TEST_CASE("embedding: an id outside the table is named with the vocabulary") {
  const Tensor table = zeros({4, 5});
  CHECK(contains(error_of([&] {
                   embedding(table, ids({1, 4}, {2}));
                 }),
                 "[embedding] expected ids below the vocabulary of 4, got 4"));
  CHECK(contains(error_of([&] { embedding(table, ids({-1}, {1})); }), "vocabulary of 4, got -1"));
  CHECK(contains(error_of([&] { embedding(table, ids({ignored}, {1})); }), "got -100"));
  CHECK(contains(error_of([&] { embedding(table, ids({2147483647}, {1})); }), "got 2147483647"));
  CHECK(contains(error_of([&] { embedding(zeros({0, 5}), ids({0}, {1})); }), "vocabulary of 0, got 0"));
  CHECK(contains(error_of([&] { embedding(table, zeros({2})); }), "expected type I32, got F32"));
  CHECK(contains(error_of([&] { embedding(zeros({4}), ids({0}, {1})); }), "[embedding] expected a table (V, C)"));
}

TEST_CASE("cross-entropy: with and without ignored targets") {
  struct Logits {
    int64_t rows, vocabulary;
    int ignored_of_10;
  };
  const Logits cases[] = {{1, 1, 0},   {1, 7, 0},   {3, 2, 3},    {5, 16, 3},    {5, 17, 0},
                          {8, 65, 10}, {33, 31, 3}, {7, 1000, 3}, {600, 129, 3}, {3, 30'000, 0}};
  for (const Logits& c : cases)
    for (const double spread : {1.0, 10.0}) {
      const auto targets = random_ids(c.rows, c.vocabulary, c.ignored_of_10);
      const Tensor t = ids(targets, {c.rows});
      check_op(
          "cross_entropy", [&](const Tensors& x) { return cross_entropy(x[0], t); },
          [&](const Arrays& x) { return reference::cross_entropy(x[0], targets); }, {normal({c.rows, c.vocabulary}, spread)},
          {1e-6, 3e-6});
    }
}

TEST_CASE("cross-entropy: a large vocabulary and other ignored values") {
  const std::vector<int32_t> targets{3, 0, 0, 2, 3, 0};
  check_op(
      "cross_entropy ignoring 0",
      [&](const Tensors& x) {
        return cross_entropy(x[0], ids(targets, {2, 3}), 0);
      },
      [&](const Arrays& x) { return reference::cross_entropy(x[0], targets, 0); }, {normal({2, 3, 4})});
  // Each gradient row sums to zero, also far from zero.
  Tensor x = to_tensor(normal({2, 50'000}, 3, 500)).require_gradient();
  cross_entropy(x, ids({7, 49'999}, {2})).backward();
  CHECK(std::abs(sum(x.gradient()).item()) < 1e-5);
}

TEST_CASE("cross-entropy: no target that counts is a loss of zero") {
  const NoLeaks no_leaks;
  on_every_table([](const std::string& table) {
    INFO(table);
    Tensor x = to_tensor(normal({3, 17})).require_gradient(), w = to_tensor(normal({20, 17})).require_gradient();
    const Tensor none = ids({ignored, ignored, ignored}, {3});
    const Tensor loss = cross_entropy(x, none);
    CHECK(loss.item() == 0);
    loss.backward();
    CHECK(difference(x.gradient(), Array({3, 17})) == 0);
    x.clear_gradient();
    const Tensor fused = linear_cross_entropy(x, w, none);
    CHECK(fused.item() == 0);
    fused.backward();
    CHECK(difference(x.gradient(), Array({3, 17})) == 0);
    CHECK(difference(w.gradient(), Array({20, 17})) == 0);
    CHECK(cross_entropy(zeros({0, 5}), ids({}, {0})).item() == 0);
    CHECK(linear_cross_entropy(zeros({0, 17}), w, ids({}, {0})).item() == 0);
  });
}

TEST_CASE("cross-entropy: logits of any size") {
  on_every_table([](const std::string& table) {
    INFO(table);
    for (const float level : {1e4f, -1e4f, 1e30f}) {
      const Tensor x = full({1, 9}, level);
      CHECK(cross_entropy(x, ids({4}, {1})).item() == doctest::Approx(std::log(9.0)).epsilon(1e-6));
    }
    Tensor x = zeros({1, 9});
    x.mutable_data()[3] = 1e4f;
    x.require_gradient();
    const Tensor loss = cross_entropy(x, ids({4}, {1}));
    CHECK(loss.item() == 1e4f);
    loss.backward();
    CHECK(x.gradient().data()[3] == doctest::Approx(1));
    CHECK(x.gradient().data()[4] == doctest::Approx(-1));
    x.mutable_data()[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(cross_entropy(x, ids({4}, {1})).item()));
  });
}

TEST_CASE("cross-entropy: targets outside the vocabulary and of another number throw") {
  const Tensor x = zeros({2, 3}), w = zeros({3, 3});
  CHECK(contains(error_of([&] {
                   cross_entropy(x, ids({0, 3}, {2}));
                 }),
                 "[cross_entropy] expected ids below the vocabulary of 3, got 3"));
  CHECK(contains(error_of([&] { cross_entropy(x, ids({0, -1}, {2})); }), "got -1 HINT: was the text encoded"));
  CHECK(contains(error_of([&] {
                   cross_entropy(x, ids({0, 1, 2}, {3}));
                 }),
                 "[cross_entropy] expected one target for each of 2 rows, got (3)"));
  CHECK(contains(error_of([&] { cross_entropy(zeros({2, 0}), ids({0, 1}, {2})); }), "[cross_entropy] expected logits (..., V)"));
  CHECK(contains(error_of([&] {
                   linear_cross_entropy(x, w, ids({0, 3}, {2}));
                 }),
                 "[linear_cross_entropy] expected ids below the vocabulary of 3, got 3"));
  CHECK(contains(error_of([&] {
                   linear_cross_entropy(x, zeros({3, 4}), ids({0, 1}, {2}));
                 }),
                 "[linear_cross_entropy] expected x (..., C)"));
}

TEST_CASE("linear cross-entropy: is cross_entropy(matmul), over several chunks too") {
  struct Case {
    int64_t rows, width, vocabulary;
    int ignored_of_10;
  };
  for (const Case& c :
       {Case{1, 1, 1, 0}, Case{5, 7, 9, 3}, Case{33, 16, 65, 3}, Case{300, 8, 17'000, 2}}) {   // the last: chunks of 256 rows
    const auto targets = random_ids(c.rows, c.vocabulary, c.ignored_of_10);
    const Tensor t = ids(targets, {c.rows});
    const Arrays inputs{normal({c.rows, c.width}), normal({c.vocabulary, c.width})};
    const Op fused = [&](const Tensors& x) { return linear_cross_entropy(x[0], x[1], t); };
    if (c.rows < 100)
      check_op("linear_cross_entropy", fused,
               [&](const Arrays& x) { return reference::cross_entropy(reference::matmul(x[0], x[1], false, true), targets); },
               inputs, {1e-6, 4e-6});
    on_every_table([&](const std::string& table) {
      INFO(table);
      const Tensor r = full({}, 1.5f);
      const OpResult whole = run([&](const Tensors& x) { return cross_entropy(matmul(x[0], x[1], false, true), t); }, inputs, r);
      set_threads(1);
      const OpResult chunks = run(fused, inputs, r);
      set_threads(2);
      const OpResult parallel = run(fused, inputs, r);
      set_threads(default_threads());
      CHECK(difference(chunks.value, whole.value) < 1e-6);
      for (size_t i : {0, 1}) CHECK(difference(chunks.gradients[i], whole.gradients[i]) < 4e-6);
      CHECK(same_bits(chunks.value, parallel.value));
      CHECK(same_bits(chunks.gradients, parallel.gradients));
    });
  }
}

TEST_CASE("linear cross-entropy: the logits never exist whole") {
  const int64_t rows = 2048, width = 8, vocabulary = 16'384;
  Tensor x = to_tensor(normal({rows, width})).require_gradient(),
         w = to_tensor(normal({vocabulary, width}, 0.1)).require_gradient();
  const Tensor t = ids(random_ids(rows, vocabulary), {rows});
  const int64_t before = memory_use().active;
  reset_peak();
  linear_cross_entropy(x, w, t).backward();
  CHECK(memory_use().peak - before < rows * vocabulary * 4 / 4);
}

TEST_CASE("mse: mean of squared differences") {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{17}, Shape{3, 5, 7}, Shape{3, 40'001}})
    check_op(
        "mse", [](const Tensors& x) { return mse(x[0], x[1]); }, [](const Arrays& x) { return reference::mse(x[0], x[1]); },
        {normal(shape), normal(shape)});
  Tensor x = to_tensor(normal({9})).require_gradient();
  const Tensor zero = mse(x, x);
  zero.backward();
  CHECK(zero.item() == 0);
  CHECK(difference(x.gradient(), Array({9})) == 0);
  CHECK(contains(error_of([] { mse(zeros({2}), zeros({3})); }), "[mse] expected one shape with elements, got (2) and (3)"));
  CHECK(contains(error_of([] { mse(zeros({0}), zeros({0})); }), "[mse]"));
}
