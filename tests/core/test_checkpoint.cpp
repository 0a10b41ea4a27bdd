// checkpoint(f, inputs): the same bits as without it, and no gradient lost.
#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "core/allocator.h"
#include "core/random.h"
#include "tests/check_op.h"
#include "tests/errors.h"

using namespace qd;
using test::message_of;
using test::same_bits;

namespace {

Tensor noise(const Shape& shape, uint64_t stream) {
  Tensor x = empty(shape);
  Random random(3, stream);
  float* p = x.mutable_data();
  for (int64_t i = 0; i < x.size(); ++i) p[i] = static_cast<float>(random.normal());
  x.require_gradient();
  return x;
}

using Part = std::function<Tensor(const std::vector<Tensor>&)>;
Tensor plain(const Part& f, const std::vector<Tensor>& inputs) { return f(inputs); }

struct Outcome {
  Tensor y, dx, dz, dw;
  RandomState random;
};

// Two inputs, a parameter that both segments use, dropout inside; `run` is plain or checkpoint.
template <class Run>
Outcome two_segments(Run run) {
  random_state() = {.seed = 4, .next = 0};
  const Tensor x = noise({6, 9}, 0), z = noise({6, 9}, 1), w = noise({9, 9}, 2);
  const Part segment = [&w](const std::vector<Tensor>& in) {
    return dropout(tanh(matmul(in[0], w)) * in[1], 0.3f) + in[0];
  };
  const Tensor middle = run(segment, {x * 1.5f, z});
  const Tensor y = run(segment, {middle, z * z});
  backward(y, noise({6, 9}, 3).detach());
  return {y.detach(), x.gradient(), z.gradient(), w.gradient(), random_state()};
}

}  // namespace

TEST_CASE("checkpoint: recomputed = not recomputed, in bits, with dropout and a shared parameter") {
  const test::NoLeaks no_leaks;
  test::on_every_table([](const std::string& table) {
    INFO(table);
    const Outcome a = two_segments(plain), b = two_segments(checkpoint);
    CHECK(same_bits(a.y, b.y));
    CHECK(same_bits(a.dx, b.dx));
    CHECK(same_bits(a.dz, b.dz));
    CHECK(same_bits(a.dw, b.dw));
    CHECK(a.random.next == b.random.next);   // what follows draws the same numbers
    CHECK(b.random.seed == 4);
  });
}

TEST_CASE("checkpoint: nested, and under NoGrad") {
  const auto nested = [](const Part& f, const std::vector<Tensor>& inputs) {
    return checkpoint([f](const std::vector<Tensor>& in) { return checkpoint(f, in); }, inputs);
  };
  const auto within = [](const Part& f, const std::vector<Tensor>& inputs) {   // with more around the inner one
    return checkpoint([f](const std::vector<Tensor>& in) { return checkpoint(f, {in[0] * 1.0f, in[1]}) * 1.0f; }, inputs);
  };
  const Outcome a = two_segments(plain);
  for (const Outcome& b : {two_segments(nested), two_segments(within)}) {
    CHECK(same_bits(a.dx, b.dx));
    CHECK(same_bits(a.dz, b.dz));
    CHECK(same_bits(a.dw, b.dw));
    CHECK(a.random.next == b.random.next);
  }
  NoGrad off;
  const Tensor x = noise({2}, 0);
  CHECK_FALSE(checkpoint([](const std::vector<Tensor>& in) { return in[0] * 2.0f; }, {x}).needs_gradient());
}

TEST_CASE("checkpoint: integers and frozen tensors may be inputs, and unused ones get zeros") {
  const std::vector<int32_t> values{2, 0, 2};
  const Tensor table = noise({4, 3}, 0), ids = tensor(values, {3}), frozen = noise({3, 3}, 1).detach();
  const Tensor unused = noise({2}, 2);
  const auto f = [](const std::vector<Tensor>& in) { return embedding(in[0], in[1]) * in[2]; };
  sum(checkpoint(f, {table, ids, frozen, unused})).backward();
  const Tensor through = table.gradient().clone(), again = noise({4, 3}, 0);
  sum(f({again, ids, frozen})).backward();
  CHECK(same_bits(through, again.gradient()));
  for (const float g : unused.gradient().values()) CHECK(g == 0);

  // One tensor twice, an input as the output, and a parameter where no input has a gradient.
  Tensor x = full({3}, 3).require_gradient();
  const auto product = [](const std::vector<Tensor>& in) { return in[0] * in[1]; };
  sum(checkpoint(product, {x, x})).backward();
  CHECK(x.gradient().data()[0] == 6);
  sum(checkpoint([](const std::vector<Tensor>& in) { return in[0]; }, {x * 2.0f})).backward();
  CHECK(x.gradient().data()[0] == 8);
  sum(checkpoint([&](const std::vector<Tensor>& in) { return in[0] * x; }, {full({3}, 5)})).backward();
  CHECK(x.gradient().data()[0] == 13);
}

TEST_CASE("checkpoint: a tensor from outside that is no input throws instead of losing its gradient") {
  const Tensor x = noise({3}, 0), outside = exp(x);
  const Tensor y = checkpoint([&](const std::vector<Tensor>& in) { return in[0] * outside; }, {x});
  const std::string message = message_of([&] { sum(y).backward(); });
  CHECK(message.find("[checkpoint]") != std::string::npos);
  CHECK(message.find("'exp'") != std::string::npos);
}

TEST_CASE("checkpoint: buffers are updated once") {
  int updates = 0, runs = 0;
  const Tensor x = noise({3}, 0);
  const Tensor y = checkpoint(
      [&](const std::vector<Tensor>& in) {
        ++runs;
        if (!recomputing()) ++updates;
        return exp(in[0]);
      },
      {x});
  sum(y).backward();
  CHECK(runs == 2);
  CHECK(updates == 1);
  CHECK_FALSE(recomputing());
}

TEST_CASE("checkpoint: an input that was written since is refused; an exception inside leaves everything as it was") {
  Tensor x = noise({3}, 0);
  const Tensor y = checkpoint([](const std::vector<Tensor>& in) { return exp(in[0]); }, {x});
  x.mutable_data()[0] = 1;
  CHECK(message_of([&] { sum(y).backward(); }).find("written since") != std::string::npos);

  random_state() = {.seed = 8, .next = 5};
  int runs = 0;
  const Tensor z = checkpoint(
      [&](const std::vector<Tensor>& in) {
        if (++runs == 2) throw std::runtime_error("second run");
        return dropout(in[0], 0.5f);
      },
      {x});
  CHECK(message_of([&] { sum(z).backward(); }) == "second run");
  CHECK(random_state().next == 6);
  CHECK_FALSE(recomputing());
  CHECK(gradients_enabled());
}

TEST_CASE("checkpoint: a graph serves one backward") {
  const Tensor x = noise({3}, 0);
  const Tensor y = checkpoint([](const std::vector<Tensor>& in) { return exp(in[0]); }, {x});
  sum(y).backward();
  CHECK(message_of([&] { sum(y).backward(); }).find("[checkpoint] expected a fresh graph") != std::string::npos);
}

TEST_CASE("checkpoint: an inner one counts as recomputed too") {
  int inner = 0;
  const Tensor x = noise({3}, 0);
  const Part f = [&](const std::vector<Tensor>& in) {
    if (!recomputing()) ++inner;
    return exp(in[0]);
  };
  sum(checkpoint([&](const std::vector<Tensor>& in) { return checkpoint(f, in); }, {x})).backward();
  CHECK(inner == 1);
}

TEST_CASE("checkpoint: keeps what goes in and nothing else") {
  Tensor x = noise({64, 1024}, 0);
  const Part f = [](const std::vector<Tensor>& in) {
    Tensor h = in[0];
    for (int i = 0; i < 16; ++i) h = tanh(h);
    return h;
  };
  const auto peak = [&](auto run) {
    x.clear_gradient();
    const int64_t start = memory_use().active;
    reset_peak();
    Tensor h = x;
    for (int i = 0; i < 16; ++i) h = run(f, {h});
    sum(h).backward();
    return memory_use().peak - start;
  };
  CHECK(peak(checkpoint) * 5 < peak(plain));   // 16 + 16 tensors, not 256
}

TEST_CASE("checkpoint: a second run with another result throws: weights written since, another mode") {
  Tensor x = noise({4}, 0), w = noise({4}, 1);
  bool drop = true;
  const auto f = [&](const std::vector<Tensor>& in) { return drop ? dropout(in[0] * w, 0.5f) : in[0] * w; };
  const Tensor y = sum(checkpoint(f, {x}));
  drop = false;
  CHECK(message_of([&] { y.backward(); }).find("its result differs") != std::string::npos);
  const Tensor z = sum(checkpoint(f, {x}));
  w.copy_from(noise({4}, 2).detach());
  CHECK(message_of([&] { z.backward(); }).find("its result differs") != std::string::npos);
}
