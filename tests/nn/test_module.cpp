#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "core/autograd.h"
#include "core/error.h"
#include "core/ops.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "tests/errors.h"

using namespace qd;
using test::has;

namespace {

struct Inner : Module {
  Inner(Module& up, std::string name, int64_t width) : Module(up, std::move(name)), width(width) {}
  int64_t width;
  Linear fc{*this, "fc", width, 3};
  Buffer mean{*this, "mean", zeros({width})};
};

struct Outer : Module {
  Parameter scale{*this, "scale", {5}, constant(1)};
  ModuleList<Inner> h{*this, "h", 2, 4};
  Norm ln{*this, "ln", 4};
};

std::string message_of(Module& module, const State& state) {
  return test::message_of([&] { module.load(state); });
}

}  // namespace

TEST_CASE("module: paths are the names of the members") {
  Outer model;
  std::vector<std::string> paths;
  for (const Parameter* p : model.parameters()) paths.push_back(p->path());
  CHECK(paths == std::vector<std::string>{"scale", "h.0.fc.weight", "h.0.fc.bias", "h.1.fc.weight", "h.1.fc.bias", "ln.weight", "ln.bias"});
  CHECK(model.buffers()[1]->path() == "h.1.mean");
  CHECK(model.h[1].path() == "h.1");
  CHECK(model.parameter_count() == 5 + 2 * (12 + 3) + 8);
}

TEST_CASE("module: training mode reaches the whole tree, and gradients are another matter") {
  Outer model;
  CHECK(model.h[0].fc.training());
  model.evaluate();
  CHECK_FALSE(model.h[0].fc.training());
  CHECK(gradients_enabled());
  model.train();
  CHECK(model.h[1].fc.training());
}

TEST_CASE("module: the arena keeps values, sorts decayed parameters first and collects gradients") {
  Outer model;
  model.initialize(3);
  State before, after;
  model.save(before);
  for (auto& [name, tensor] : before.tensors) tensor = tensor.clone();
  const Arena& arena = model.arena();
  model.save(after);
  for (const auto& [name, tensor] : before.tensors)
    CHECK(std::memcmp(tensor.data(), after.tensors.at(name).data(), static_cast<size_t>(tensor.size()) * sizeof(float)) == 0);
  bool decayed = true;
  for (const Parameter* p : arena.order) {
    const int64_t at = p->value.data() - arena.values.data();
    CHECK(at % 16 == 0);
    CHECK(p->decays() == (at < arena.decayed));
    CHECK((decayed || !p->decays()));
    decayed = p->decays();
  }
  sum(model.scale * model.scale).backward();
  const int64_t at = model.scale.value.data() - arena.values.data();
  CHECK(arena.gradients.data()[at + 2] == 2);
  model.clear_gradients();
  sum(model.scale * 3.0f).backward();   // overwrites, does not add
  CHECK(arena.gradients.data()[at + 2] == 3);
  sum(model.scale * 3.0f).backward();   // adds
  CHECK(arena.gradients.data()[at + 2] == 6);
  model.clear_gradients();
  model.settle_gradients();
  CHECK(arena.gradients.data()[at + 2] == 0);
}

TEST_CASE("module: tensors are read one at a time, and none before all names fit") {
  Outer net, other;
  net.initialize(1);
  other.initialize(2);
  State state;
  net.save(state);
  std::map<std::string, Module::Kind> given;
  for (const auto& [name, tensor] : state.tensors) given[name] = {tensor.shape(), tensor.dtype()};
  size_t reads = 0;
  const auto read = [&](const std::string& name) { return ++reads, state.tensors.at(name); };
  given["stranger"] = {{2}, DType::f32};
  CHECK_THROWS_AS(other.load(given, read), Error);
  CHECK(reads == 0);
  given.erase("stranger");
  other.load(given, read);
  CHECK(reads == given.size());
  State loaded;
  other.save(loaded);
  for (const auto& [name, tensor] : state.tensors)
    CHECK(std::memcmp(tensor.data(), loaded.tensors.at(name).data(), static_cast<size_t>(tensor.size()) * sizeof(float)) == 0);
}

TEST_CASE("module: loading is strict and lists everything that is wrong") {
  Outer model, other;
  model.initialize(1);
  other.initialize(2);
  State state;
  model.save(state);
  other.load(state);
  CHECK(other.h[1].fc.weight.value.data()[3] == model.h[1].fc.weight.value.data()[3]);
  State wrong = state;
  wrong.tensors.erase("ln.bias");
  wrong.tensors.erase("h.0.mean");
  wrong.tensors["h.2.fc.weight"] = zeros({1});
  wrong.tensors["scale"] = zeros({6});
  wrong.tensors["ln.weight"] = zeros({4}, DType::i32);
  const float kept = other.h[1].fc.weight.value.data()[0];
  wrong.tensors["h.1.fc.weight"] = zeros({3, 4});
  const std::string message = message_of(other, wrong);
  for (const char* part : {"2 missing", "ln.bias", "h.0.mean", "1 extra", "h.2.fc.weight", "scale (expected F32 (5), got F32 (6))",
                           "ln.weight (expected F32 (4), got I32 (4))"})
    CHECK(has(message, part));
  CHECK(other.h[1].fc.weight.value.data()[0] == kept);   // nothing was loaded
}

TEST_CASE("module: a start is a function of seed and path") {
  Outer model;
  model.initialize(7);
  const Tensor first = model.h[0].fc.weight.value.clone();
  CHECK(std::memcmp(first.data(), model.h[1].fc.weight.value.data(), 12 * sizeof(float)) != 0);
  model.initialize(7);
  CHECK(std::memcmp(first.data(), model.h[0].fc.weight.value.data(), 12 * sizeof(float)) == 0);
}

TEST_CASE("module: initialisers") {
  Random random(1, 0);
  Tensor w = empty({200, 300});
  const auto moments = [&](int64_t begin, int64_t end) {
    double sum = 0, squares = 0, largest = 0;
    for (int64_t r = 0; r < 200; ++r)
      for (int64_t j = begin; j < end; ++j) {
        const double x = w.data()[r * 300 + j];
        sum += x, squares += x * x, largest = std::max(largest, std::abs(x));
      }
    const auto n = static_cast<double>(200 * (end - begin));
    return std::array{sum / n, std::sqrt(squares / n), largest};
  };
  normal(0.5)(w, random);
  auto [mean, deviation, largest] = moments(0, 300);
  CHECK(std::abs(mean) < 0.01);
  CHECK(deviation == doctest::Approx(0.5).epsilon(0.02));
  CHECK(largest < 3);
  xavier(200, 300, 2)(w, random);
  std::tie(mean, deviation, largest) = std::tuple_cat(moments(0, 300));
  CHECK(largest == doctest::Approx(2 * std::sqrt(6.0 / 500)).epsilon(0.01));
  CHECK(deviation == doctest::Approx(largest / std::sqrt(3)).epsilon(0.02));
  side_by_side({{100, constant(3)}, {50, normal(0.1)}, {150, uniform(2)}})(w, random);
  CHECK(moments(0, 100)[0] == doctest::Approx(3));
  CHECK(moments(100, 150)[1] == doctest::Approx(0.1).epsilon(0.03));
  CHECK(moments(150, 300)[2] == doctest::Approx(2).epsilon(0.01));
}

TEST_CASE("module: gradients find the arena from graphs that are older than it, and keep what they had") {
  Outer model;
  sum(model.scale * 2.0f).backward();
  const Tensor loss = sum(model.scale * 3.0f);
  const Arena& arena = model.arena();
  const int64_t at = model.scale.value.data() - arena.values.data();
  CHECK(arena.gradients.data()[at] == 2);
  loss.backward();
  CHECK(arena.gradients.data()[at] == 5);
  model.scale.value.require_gradient();   // changes nothing
  sum(model.scale * 1.0f).backward();
  CHECK(arena.gradients.data()[at] == 6);
}

TEST_CASE("module: one arena for a tree, names of their own, frozen parameters stay out") {
  Outer model;
  CHECK_THROWS_WITH(model.h[0].arena(), doctest::Contains("'h.0'"));
  struct Twice : Module {
    Linear a{*this, "fc", 2, 2}, b{*this, "fc", 2, 2};
  };
  CHECK_THROWS_WITH(Twice(), doctest::Contains("'fc' twice"));
  model.initialize(1);
  model.scale.value = model.scale.value.detach();
  CHECK(model.arena().order.size() == model.parameters().size() - 1);
  sum(model.scale * model.ln.weight.value.row_range(0, 1)).backward();
  model.settle_gradients();
  CHECK(model.ln.weight.value.gradient().data()[0] == 5);
}
