// The prior over grids of codes: what it sees, that it learns, and that its samples do not depend on how many there are.
#include "models/prior.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/autograd.h"
#include "nn/optimizer.h"
#include "tests/errors.h"
#include "tests/golden.h"

using namespace qd;
using namespace qd::test;

namespace {

// Grids whose cells follow from row and column, but for the first cell.
Tensor striped(int64_t count, int64_t rows, int64_t columns, int64_t codes) {
  Tensor ids = empty({count, rows, columns}, DType::i32);
  int32_t* to = ids.mutable_data<int32_t>();
  for (int64_t n = 0; n < count; ++n)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) *to++ = static_cast<int32_t>((n % 2 * 3 + r + 2 * c) % codes);
  return ids;
}

}  // namespace

TEST_CASE("prior: a cell sees those before it, and where it stands") {
  const Tensor ids = striped(2, 2, 3, 7);
  const Tensor in = shifted(ids);
  CHECK(in.shape() == Shape({2, 6}));
  for (int64_t n = 0; n < 2; ++n) {
    CHECK(in.data<int32_t>()[n * 6] == 0);
    for (int64_t t = 1; t < 6; ++t) CHECK(in.data<int32_t>()[n * 6 + t] == ids.data<int32_t>()[n * 6 + t - 1]);
  }
  GPT prior(prior_config(2, 3, 7, {.width = 8, .layers = 1, .heads = 2, .dropout = 0}));
  prior.initialize(1);
  CHECK(prior.wpe.row->value.shape() == Shape({2, 8}));
  CHECK(prior.wpe.column->value.shape() == Shape({3, 8}));
  const Tensor x = zeros({1, 6, 8}), placed = prior.wpe.add(x).detach();
  for (int64_t t = 0; t < 6; ++t)
    for (int64_t j = 0; j < 8; ++j)
      CHECK(placed.data()[t * 8 + j] == doctest::Approx(prior.wpe.row->value.data()[t / 3 * 8 + j] + prior.wpe.column->value.data()[t % 3 * 8 + j]));
  prior_loss(prior, ids).backward();
  for (const Parameter* p : prior.parameters()) CHECK(kernels().sum_squares(p->value.size(), p->value.gradient().data()) > 0);
  CHECK(has(message_of([] { GPT model({.vocab = 5, .context = 7, .positions = PositionKind::grid, .columns = 3}); }), "a grid of whole rows, got 7 cells in 3 columns"));
}

TEST_CASE("prior: learns grids by heart and gives them back, one by one as together") {
  GPT prior(prior_config(3, 4, 7, {.width = 32, .layers = 2, .heads = 2, .dropout = 0}));
  prior.initialize(1);
  AdamW optimizer(prior, {.decay = 0});
  const Tensor ids = striped(8, 3, 4, 7);
  for (int step = 0; step < 250; ++step) {
    prior_loss(prior, ids).backward();
    optimizer.step(3e-3);
  }
  prior.evaluate();
  const NoGrad off;
  CHECK(prior_loss(prior, ids).item() * 12 == doctest::Approx(std::log(2.0)).epsilon(0.1));   // the first cell alone is not known
  const Tensor some = sample_grids(prior, 6, {.seed = 3}), one = sample_grids(prior, 1, {.seed = 3});
  CHECK(some.shape() == Shape({6, 3, 4}));
  bool seen[2] = {};
  for (int64_t n = 0; n < 6; ++n) {
    const int32_t* grid = some.data<int32_t>() + n * 12;
    const int64_t kind = grid[0] / 3;
    seen[kind] = true;
    for (int64_t t = 0; t < 12; ++t) CHECK(grid[t] == (kind * 3 + t / 4 + 2 * (t % 4)) % 7);
  }
  CHECK(seen[0]);
  CHECK(seen[1]);
  for (int64_t t = 0; t < 12; ++t) CHECK(one.data<int32_t>()[t] == some.data<int32_t>()[t]);
}
