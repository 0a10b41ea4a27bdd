// Ten steps of each optimiser on given gradients against PyTorch (LAMB: its paper), to 1e-4 of how far the weights have moved.
#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "core/ops.h"
#include "nn/optimizer.h"
#include "tests/golden.h"

using namespace qd;
using namespace qd::test;

namespace {

const char* const names[] = {"matrix", "cube", "bias", "zero", "still"};   // `still` never gets a gradient

struct Parameters : Module {
  explicit Parameters(const Golden& start) {
    for (const char* name : names) {
      items.push_back(std::make_unique<Parameter>(*this, name, start[name].shape(), constant(0)));
      items.back()->value.copy_from(start[name]);
    }
  }
  std::vector<std::unique_ptr<Parameter>> items;
};

// Row t of x (steps, ...), in the shape of a parameter.
Tensor at_step(const Tensor& x, int64_t t, const Shape& shape) { return x.row_range(t, t + 1).reshape(shape); }

Tensor movement(const Tensor& to, const Tensor& from) { return to.detach() - from.detach(); }

void check_optimizer(const std::string& name, double gradient_scale) {
  CAPTURE(name);
  CAPTURE(gradient_scale);
  const State file = golden(name);
  const Golden start{file, "param."}, gradients{file, "gradients."}, after{file, "after."};
  OptimizerOptions options{.beta1 = file.real("beta1"), .decay = file.real("decay")};
  if (name != "sgd") options.beta2 = file.real("beta2"), options.epsilon = file.real("epsilon");
  Parameters module(start);
  const auto optimizer = make_optimizer(name, module, options);
  for (int64_t t = 0; t < 10; ++t) {
    CAPTURE(t);
    Tensor loss = full({}, 0);   // sum of w * g: its gradient is g
    for (const auto& p : module.items)
      if (p->path() != "still") loss = loss + sum(p->value * at_step(gradients[p->path()], t, p->value.shape()));
    (loss * static_cast<float>(1 / gradient_scale)).backward();
    optimizer->step(file.real("rate"), gradient_scale);
    for (const auto& p : module.items) {
      const std::string path = p->path();
      CAPTURE(path);
      const Tensor from = start[path], expected = at_step(after[path], t, from.shape());
      CHECK(difference(movement(p->value, from), movement(expected, from)) < 1e-4);
    }
  }
  CHECK(optimizer->steps() == 10);
}

}  // namespace

TEST_CASE("golden: AdamW, SGD with momentum, LAMB") {
  on_every_table([](const std::string& table) {
    CAPTURE(table);
    for (const char* name : {"adamw", "sgd", "lamb"})
      for (const double gradient_scale : {1.0, 0.25}) check_optimizer(name, gradient_scale);
  });
}
