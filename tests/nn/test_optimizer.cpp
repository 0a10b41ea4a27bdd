#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/ops.h"
#include "nn/optimizer.h"
#include "tests/golden.h"

using namespace qd;
using test::same_bits;

namespace {

// Parameters of odd sizes, in an order that the arena changes; `still` never gets a gradient.
struct Some : Module {
  explicit Some(bool turned = false) {
    const std::vector<std::pair<const char*, Shape>> all = {{"bias", {17}}, {"matrix", {3, 5}}, {"zero", {2, 3}}, {"still", {4, 4}}, {"one", {1}}};
    for (size_t i = 0; i < all.size(); ++i) {
      const auto& [name, shape] = all[turned ? all.size() - 1 - i : i];
      items.push_back(std::make_unique<Parameter>(*this, name, shape, name == std::string("zero") ? constant(0) : normal(0.5)));
    }
    initialize(7);
  }
  std::vector<std::unique_ptr<Parameter>> items;
};

float gradient_at(int step, const std::string& path, int64_t i) {
  return path == "still" ? 0.0f : static_cast<float>(std::sin(1.7 * step + 0.9 * static_cast<double>(i) + static_cast<double>(path.size())));
}

void fill_gradients(Some& module, int step) {
  for (const auto& p : module.items) {
    const std::string path = p->path();
    if (path == "still") continue;
    std::vector<float> g(static_cast<size_t>(p->value.size()));
    for (size_t i = 0; i < g.size(); ++i) g[i] = gradient_at(step, path, static_cast<int64_t>(i));
    backward(sum(p->value * tensor(g, p->value.shape())));
  }
}

// The definitions, in double, of one parameter.
struct Plain {
  std::vector<double> w, m, v;
  void step(const std::string& name, const OptimizerOptions& o, double rate, double decay, int t, const std::vector<double>& g) {
    double w_norm = 0, r_norm = 0;
    std::vector<double> r(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      if (name == "sgd") {
        m[i] = o.beta1 * m[i] + g[i] + decay * w[i];
        r[i] = m[i];
      } else {
        m[i] = o.beta1 * m[i] + (1 - o.beta1) * g[i];
        v[i] = o.beta2 * v[i] + (1 - o.beta2) * g[i] * g[i];
        r[i] = m[i] / (1 - std::pow(o.beta1, t)) / (std::sqrt(v[i] / (1 - std::pow(o.beta2, t))) + o.epsilon) + decay * w[i];
      }
      w_norm += w[i] * w[i];
      r_norm += r[i] * r[i];
    }
    const double ratio = name == "lamb" && w_norm > 0 && r_norm > 0 ? std::sqrt(w_norm / r_norm) : 1;
    for (size_t i = 0; i < w.size(); ++i) w[i] -= rate * ratio * r[i];
  }
};

void check_against_definition(const std::string& name) {
  CAPTURE(name);
  const OptimizerOptions options{.beta1 = 0.9, .beta2 = 0.97, .epsilon = 1e-6, .decay = 0.1};
  const double scale = 0.4;
  Some module;
  std::vector<Plain> plain;
  for (const auto& p : module.items) {
    const auto values = p->value.values();
    plain.push_back({{values.begin(), values.end()}, std::vector<double>(values.size()), std::vector<double>(values.size())});
  }
  const auto optimizer = make_optimizer(name, module, options);
  for (int t = 1; t <= 8; ++t) {
    CAPTURE(t);
    const double rate = 0.02 / t;
    fill_gradients(module, t);
    optimizer->step(rate, scale);
    for (size_t k = 0; k < plain.size(); ++k) {
      const Parameter& p = *module.items[k];
      const std::string path = p.path();
      CAPTURE(path);
      std::vector<double> g(plain[k].w.size());
      for (size_t i = 0; i < g.size(); ++i) g[i] = scale * gradient_at(t, path, static_cast<int64_t>(i));
      plain[k].step(name, options, rate, p.decays() ? options.decay : 0, t, g);
      double error = 0, size = 0;
      for (size_t i = 0; i < g.size(); ++i) {
        error += std::pow(p.value.data()[i] - plain[k].w[i], 2);
        size += std::pow(plain[k].w[i], 2);
      }
      CHECK(std::sqrt(error) <= 1e-6 * std::sqrt(size));
    }
  }
  CHECK(optimizer->steps() == 8);
}

}  // namespace

TEST_CASE("optimizer: SGD, AdamW and LAMB are their definitions") {
  for (const char* name : {"sgd", "adamw", "lamb"}) check_against_definition(name);
}

TEST_CASE("optimizer: norm, clearing and stale graphs") {
  Some module;
  AdamW optimizer(module);
  fill_gradients(module, 1);
  double squares = 0;
  for (const auto& p : module.items)
    for (int64_t i = 0; i < p->value.size(); ++i) squares += std::pow(gradient_at(1, p->path(), i), 2);
  CHECK(optimizer.gradient_norm() == doctest::Approx(std::sqrt(squares)).epsilon(1e-6));
  CHECK(clip_factor(4, 1) == 0.25);
  CHECK(clip_factor(0.5, 1) == 1);
  CHECK(clip_factor(4, 0) == 1);   // 0: off

  const Tensor loss = sum(square(module.items[0]->value));   // saves the weights
  optimizer.step(0.1);
  CHECK(optimizer.gradient_norm() == 0);
  CHECK_THROWS_AS(loss.backward(), Error);                   // they have been written since
}

TEST_CASE("optimizer: moments survive by path, whatever the order") {
  Some one, other(true);
  LAMB first(one), second(other);
  for (int t = 1; t <= 3; ++t) {
    fill_gradients(one, t);
    first.step(0.01);
  }
  State state;
  one.save(state);
  other.load(state);
  state = {};
  first.save(state, "optimizer.");
  CHECK(state.tensors.contains("optimizer.m.matrix"));
  CHECK(state.tensors.at("optimizer.v.matrix").shape() == Shape{3, 5});
  second.load(state, "optimizer.");
  CHECK(second.steps() == 3);
  for (Some* module : {&one, &other}) fill_gradients(*module, 4);
  first.step(0.01);
  second.step(0.01);
  for (size_t i = 0; i < one.items.size(); ++i) CHECK(same_bits(one.items[i]->value, other.items[one.items.size() - 1 - i]->value));

  CHECK_THROWS_WITH(AdamW(other).load(state, "optimizer."), doctest::Contains("expected the state of adamw, got that of lamb"));
  state.tensors["optimizer.m.bias"] = zeros({16});
  CHECK_THROWS_AS(second.load(state, "optimizer."), Error);
  state.tensors.erase("optimizer.m.bias");
  CHECK_THROWS_AS(second.load(state, "optimizer."), Error);
}

TEST_CASE("optimizer: impossible options") {
  Some module;
  CHECK_THROWS_AS(make_optimizer("adam", module), Error);
  CHECK_THROWS_AS(AdamW(module, {.beta2 = 1}), Error);
  CHECK_THROWS_AS(SGD(module, {.decay = -1}), Error);
}

TEST_CASE("optimizer: the norm of gradients whose squares are beyond f32") {
  Some module;
  AdamW optimizer(module);
  sum(module.items[0]->value * 1e30f).backward();   // 17 numbers
  CHECK(optimizer.gradient_norm() == doctest::Approx(std::sqrt(17.0) * 1e30).epsilon(1e-5));
}
