// The machinery of gradients: order, sharing, reuse, freeing, and every way to use it wrongly.
#include <doctest/doctest.h>
#include <pthread.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/check_op.h"
#include "tests/errors.h"

using namespace qd;
using test::message_of;
using namespace qd::test;

namespace {

Tensor leaf(std::vector<float> values) {
  Tensor x = tensor(values);
  x.require_gradient();
  return x;
}

std::vector<float> gradient(const Tensor& x) {
  const Tensor g = x.gradient();
  return {g.values().begin(), g.values().end()};
}

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("autograd: a node that is used twice runs once, after all that use it") {
  const Tensor a = leaf({3, -2});
  const Tensor b = a + a, c = b + b;
  sum(c * c).backward();   // (4a)^2 -> 32 a
  CHECK(gradient(a) == Floats{96, -64});
}

TEST_CASE("autograd: diamond, same input twice, a leaf as the root") {
  const Tensor x = leaf({2, 5});
  const Tensor left = x * 3.0f, right = x * x;
  sum(left * right).backward();   // 3x^3 -> 9x^2
  CHECK(gradient(x) == Floats{36, 225});
  Tensor y = leaf({7});
  y.backward();
  CHECK(gradient(y) == Floats{1});
  backward(y, tensor({4}));
  CHECK(gradient(y) == Floats{5});
}

TEST_CASE("autograd: gradients add up in leaves until they are cleared") {
  Tensor x = leaf({1, 2});
  for (int i = 0; i < 3; ++i) sum(x * 2.0f).backward();
  CHECK(gradient(x) == Floats{6, 6});
  x.clear_gradient();
  CHECK(gradient(x) == Floats{0, 0});
  sum(x * 2.0f).backward();
  CHECK(gradient(x) == Floats{2, 2});
}

// x + y hands one and the same dy to both sides. Whatever arrives later at one side must not reach the other, nor the caller's
// dy.
TEST_CASE("autograd: shared gradients are copied before something is added to them") {
  const Tensor x = leaf({1, 1}), y = leaf({1, 1});
  const Tensor before = x * 1.0f, more = before * 10.0f;   // `more` is newer than z's inputs, older than z
  const Tensor z = before + y;
  const Tensor dy = tensor({1, 2});
  backward(z + more, dy);
  CHECK(gradient(x) == Floats{11, 22});
  CHECK(gradient(y) == Floats{1, 2});
  CHECK(dy.values()[0] == 1);
  CHECK(dy.values()[1] == 2);

  // The same with leaves, and with the other contribution coming first: it is written in place.
  for (const bool first : {true, false}) {
    const Tensor a = leaf({1, 1}), b = leaf({1, 1});
    const Tensor early = a * 10.0f, both = a + b, late = a * 10.0f;
    backward(both + (first ? late : early), dy);
    CHECK(gradient(a) == Floats{11, 22});
    CHECK(gradient(b) == Floats{1, 2});
    CHECK(dy.values()[1] == 2);
  }
  // Who holds a gradient keeps what he has.
  const Tensor x2 = leaf({1, 1});
  sum(x2).backward();
  const Tensor held = x2.gradient();
  sum(x2 * 2.0f).backward();
  CHECK(held.values()[0] == 1);
  CHECK(gradient(x2) == Floats{3, 3});

  const Tensor p = leaf({1, 1}), q = leaf({1, 1});
  const Tensor sum_of_both = p + q;
  backward(sum_of_both, dy);
  backward(p + p, dy);   // p's gradient may have been q's, or dy itself
  CHECK(gradient(p) == Floats{3, 6});
  CHECK(gradient(q) == Floats{1, 2});
  CHECK(dy.values()[0] == 1);
}

TEST_CASE("autograd: views pass gradients to what they show") {
  const Tensor x = leaf({1, 2, 3, 4, 5, 6});
  const Tensor m = x.reshape({3, 2});
  sum(m.row_range(0, 2) * m.row_range(1, 3)).backward();   // rows 0 * 1 and 1 * 2: ranges overlap
  CHECK(gradient(x) == Floats{3, 4, 1 + 5, 2 + 6, 3, 4});
  CHECK(gradient(m.detach().require_gradient()) == Floats(6, 0));

  check_op("reshape", [](const Tensors& t) { return t[0].reshape({2, 6}) * t[0].reshape({12}).reshape({2, 6}); },
           [](const Arrays& a) {
             Array y({2, 6});
             for (int64_t i = 0; i < 12; ++i) y[i] = a[0][i] * a[0][i];
             return y;
           }, {normal({3, 4})});
  check_op("row_range", [](const Tensors& t) { return t[0].row_range(0, 3) * t[0].row_range(1, 4).row_range(0, 3); },
           [](const Arrays& a) {
             Array y({3, 5});
             for (int64_t i = 0; i < 15; ++i) y[i] = a[0][i] * a[0][i + 5];
             return y;
           }, {normal({4, 5})});
  check_op("an empty row_range", [](const Tensors& t) { return t[0].row_range(2, 2); }, [](const Arrays&) { return Array({0, 5}); },
           {normal({4, 5})});
}

TEST_CASE("autograd: detached tensors and NoGrad record nothing") {
  const Tensor x = leaf({2});
  sum(x * x.detach()).backward();
  CHECK(gradient(x) == Floats{2});
  {
    NoGrad off;
    CHECK_FALSE(gradients_enabled());
    CHECK_FALSE((x * x).needs_gradient());
    { NoGrad again; }
    CHECK_FALSE(gradients_enabled());
    std::thread([] { CHECK(gradients_enabled()); }).join();   // off in this thread alone
  }
  CHECK(gradients_enabled());
  message_of([] {
    NoGrad off;
    fail("test", "thrown");
  });
  CHECK(gradients_enabled());
  CHECK(message_of([&] { sum(x.detach()).backward(); }).find("depends on a parameter") != std::string::npos);
}

TEST_CASE("autograd: wrong uses say what is wrong") {
  Tensor x = leaf({2, 3});
  const Tensor y = sum(x * x);
  y.backward();
  CHECK(message_of([&] { y.backward(); }).find("fresh graph") != std::string::npos);   // freed
  const Tensor shared = x * x;
  sum(shared).backward();
  const Tensor again = sum(shared * 2.0f);
  CHECK(message_of([&] { again.backward(); }).find("fresh graph") != std::string::npos);
  CHECK(message_of([&] { (x * 2.0f).backward(); }).find("got none") != std::string::npos);
  CHECK(message_of([&] { backward(x * 2.0f, tensor({1})); }).find("(2), got (1)") != std::string::npos);
  CHECK(message_of([&] { (x * 2.0f).gradient(); }).find("leaf") != std::string::npos);
  CHECK(message_of([&] { empty({2}, DType::i32).require_gradient(); }).find("f32") != std::string::npos);
}

TEST_CASE("autograd: a saved tensor that was written since is refused, by the op's name") {
  Tensor x = leaf({2, 3});
  const Tensor y = sum(square(x));
  x.mutable_data()[0] = 5;   // an optimiser's step
  CHECK(message_of([&] { y.backward(); }).find("[square]") != std::string::npos);
  const Tensor z = sum(square(x));
  x.mutable_data()[0] = 5;
  const Tensor w = sum(square(x));   // saved after the write
  w.backward();
  CHECK(message_of([&] { z.backward(); }).find("written since") != std::string::npos);
  // an output that is saved for its own gradient
  Tensor e = exp(x);
  const Tensor total = sum(e);
  e.mutable_data()[1] = 0;
  CHECK(message_of([&] { total.backward(); }).find("[exp]") != std::string::npos);
}

TEST_CASE("autograd: an op without a gradient throws when it is asked, and names itself") {
  const Tensor x = leaf({1, 2, 3});
  const Tensor m = max_last(x.reshape({1, 3}));
  CHECK(m.needs_gradient());   // so that nothing stops silently
  CHECK(message_of([&] { sum(m).backward(); }).find("[max_last]") != std::string::npos);
  CHECK_FALSE(max_last(x.detach().reshape({1, 3})).needs_gradient());
  CHECK_FALSE(argmax_last(x).needs_gradient());   // integers have none
}

TEST_CASE("autograd: QD_CHECK names the first op with a value that is not finite") {
  check_every_op = true;
  const Tensor x = leaf({-1, 2});
  const std::string message = message_of([&] { exp(log(x) + 1.0f); });
  check_every_op = false;
  CHECK(message.find("[log] expected finite values") != std::string::npos);
  CHECK(message_of([&] { exp(log(x) + 1.0f); }) == "no error");
}

TEST_CASE("autograd: nothing is left after a graph, used or not, nor after an exception") {
  const int64_t tensors = live_storages(), nodes = live_nodes();
  {
    Tensor x = leaf({1, 2, 3, 4});
    const Tensor unused = softmax(tanh(exp(x)) * x);
    Tensor y = sum(softmax(tanh(exp(x)) * sigmoid(x)));
    y.backward();
    message_of([&] { y.backward(); });
    Tensor z = sum(square(x));
    x.mutable_data();
    message_of([&] { z.backward(); });
  }
  CHECK(live_storages() == tensors);
  CHECK(live_nodes() == nodes);
}

TEST_CASE("autograd: closures and what they saved are freed as soon as they have run") {
  const Tensor x = leaf(Floats(1000, 1.5f));
  Tensor y = sum(exp(exp(x) * 0.1f));
  const int64_t before = live_storages();
  y.backward();
  CHECK(live_storages() < before);
}

namespace {

int64_t chain_result = 0;

void* long_chain(void*) {
  constexpr int length = 300'000;
  Tensor x = tensor({0});
  x.require_gradient();
  Tensor y = x;
  for (int i = 0; i < length; ++i) y = y + x;
  y.backward();
  const auto total = static_cast<int64_t>(x.gradient().item());
  Tensor unused = x;
  for (int i = 0; i < length; ++i) unused = unused * 1.0f;   // freed without a backward pass
  chain_result = total;
  return nullptr;
}

}  // namespace

TEST_CASE("autograd: 300,000 nodes are built, differentiated and freed on a stack of 256 KB") {
  const int64_t nodes = live_nodes();
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, 256 * 1024) == 0);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, &attributes, long_chain, nullptr) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  CHECK(chain_result == 300'001);
  CHECK(live_nodes() == nodes);
}

TEST_CASE("autograd: check_gradient finds right and wrong gradients") {
  const Tensor x = tensor({0.3f, -0.7f, 1.1f});
  CHECK(check_gradient([](const Tensor& t) { return tanh(t) * t; }, x) < 1e-3);
  const auto wrong = [](const Tensor& t) {
    Tensor y = t.detach() * 3.0f;
    return record("wrong", y, {t}, [](const Tensor& dy, Sink& to) {
      if (to.wants(0)) to.give(0, dy * 2.0f);
    });
  };
  CHECK(check_gradient(wrong, x) > 0.1);
}

TEST_CASE("autograd: an op of the user's own, with a gradient of another shape, is refused") {
  const Tensor x = leaf({1, 2});
  const Tensor y = record("mine", x.detach() * 2.0f, {x}, [](const Tensor&, Sink& to) { to.give(0, full({3}, 1)); });
  CHECK(message_of([&] { sum(y).backward(); }).find("[mine]") != std::string::npos);
  const Tensor z = record("mine", x.detach() * 2.0f, {x, full({2}, 1)}, [](const Tensor& dy, Sink& to) { to.give(1, dy); });
  CHECK(message_of([&] { sum(z).backward(); }) == "[mine] expected to be asked for wanted gradients only, got input 1");
}

TEST_CASE("autograd: the number of paths does not count, only that of nodes") {
  const Tensor x = leaf({1});
  Tensor y = x;
  for (int i = 0; i < 60; ++i) y = y + y;
  y.backward();
  CHECK(gradient(x) == Floats{0x1p60f});
}

TEST_CASE("autograd: graphs in several threads at once") {
  const NoLeaks no_leaks;
  const Tensor shared = full({3}, 2);
  std::vector<std::thread> team;
  std::vector<float> results(4);
  for (size_t i = 0; i < results.size(); ++i)
    team.emplace_back([&, i] {
      serial_thread();
      for (int step = 0; step < 200; ++step) {
        const Tensor x = leaf(Floats(3, static_cast<float>(i)));
        sum(x * x * shared).backward();
        results[i] = gradient(x)[2];
      }
    });
  for (std::thread& thread : team) thread.join();
  CHECK(results == Floats{0, 4, 8, 12});
}

TEST_CASE("autograd: after a backward pass that threw, what it left behind is refused instead of losing gradients") {
  const Tensor w = leaf({1, 2, 3});
  const Tensor h = square(w);
  const Tensor bad = sum(h) + sum(max_last(h.reshape({1, 3})));
  CHECK(message_of([&] { bad.backward(); }).find("[max_last]") != std::string::npos);
  CHECK(message_of([&] { sum(h * 2.0f).backward(); }).find("fresh graph") != std::string::npos);
}

TEST_CASE("autograd: nothing cuts a graph without a word") {
  const Tensor w = leaf({1, 2});
  Tensor h = square(w);
  CHECK(message_of([&] { h.require_gradient(); }).find("'square'") != std::string::npos);
  CHECK(message_of([&] { h.copy_from(tensor({5, 6})); }).find("[copy_from]") != std::string::npos);
  Tensor same = w;
  same.require_gradient();   // a leaf stays the leaf it is
  CHECK(same.node().get() == w.node().get());
  CHECK(message_of([&] { backward(leaf({1, 2}), tensor(std::vector<int32_t>{1, 2}, {2})); }).find("f32") != std::string::npos);
}
