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
  GPT gpt({.vocab = 7, .context = 6, .width = 8, .layers = 1, .heads = 2, .positions = PositionKind::grid, .columns = 3});
  gpt.initialize(1);
  CHECK(gpt.wpe.row->value.shape() == Shape({2, 8}));
  CHECK(gpt.wpe.column->value.shape() == Shape({3, 8}));
  const Tensor x = zeros({1, 6, 8}), placed = gpt.wpe.add(x).detach();
  for (int64_t t = 0; t < 6; ++t)
    for (int64_t j = 0; j < 8; ++j)
      CHECK(placed.data()[t * 8 + j] == doctest::Approx(gpt.wpe.row->value.data()[t / 3 * 8 + j] + gpt.wpe.column->value.data()[t % 3 * 8 + j]));
  for (const std::string kind : {"attention", "pixelcnn"}) {
    INFO(kind);
    Prior prior({.kind = kind, .codes = 7, .rows = 2, .columns = 3, .width = 8, .layers = 2, .heads = 2, .dropout = 0});
    prior.module().initialize(1);
    prior.loss(ids).backward();
    for (const Parameter* p : prior.module().parameters()) {
      INFO(p->path());
      CHECK(kernels().sum_squares(p->value.size(), p->value.gradient().data()) > 0);
    }
  }
  CHECK(has(message_of([] { GPT model({.vocab = 5, .context = 7, .positions = PositionKind::grid, .columns = 3}); }), "a grid of whole rows, got 7 cells in 3 columns"));
}

TEST_CASE("prior: a change of one cell changes what comes after it, everywhere after it, and nothing before it") {
  constexpr int64_t h = 5, w = 6, codes = 9;
  PixelCNN cnn({.codes = codes, .rows = h, .columns = w, .width = 8, .layers = 6, .kernel = 3});
  cnn.initialize(4);
  const NoGrad off;
  const Tensor ids = striped(1, h, w, codes), before = cnn.logits(ids);
  for (int64_t t = 0; t < h * w; ++t) {
    Tensor other = ids.clone();
    other.mutable_data<int32_t>()[t] = (ids.data<int32_t>()[t] + 1) % codes;
    const Tensor after = cnn.logits(other);
    for (int64_t s = 0; s < h * w; ++s) {
      bool same = true;
      for (int64_t k = 0; k < codes; ++k) same = same && before.data()[s * codes + k] == after.data()[s * codes + k];
      INFO("cell ", t, " changed, seen from ", s);
      CHECK(same == (s <= t));   // no blind spot: six layers of 3 x 3 reach all of these cells
    }
  }
}

TEST_CASE("prior: learns grids by heart and gives them back, one by one as together") {
  for (const std::string kind : {"attention", "pixelcnn"}) {
    INFO(kind);
    Prior prior({.kind = kind, .codes = 7, .rows = 3, .columns = 4, .width = 32, .layers = kind == "attention" ? 2 : 4, .heads = 2, .dropout = 0});
    prior.module().initialize(1);
    AdamW optimizer(prior.module(), {.decay = 0});
    const Tensor ids = striped(8, 3, 4, 7);
    for (int step = 0; step < 250; ++step) {
      prior.loss(ids).backward();
      optimizer.step(3e-3);
    }
    prior.module().evaluate();
    const NoGrad off;
    CHECK(prior.loss(ids).item() * 12 == doctest::Approx(std::log(2.0)).epsilon(0.1));   // the first cell alone is not known
    const Tensor some = prior.sample(6, {.seed = 3}), one = prior.sample(1, {.seed = 3});
    CHECK(some.shape() == Shape({6, 3, 4}));
    bool seen[2] = {};
    for (int64_t n = 0; n < 6; ++n) {
      const int32_t* grid = some.data<int32_t>() + n * 12;
      const int64_t pattern = grid[0] / 3;
      seen[pattern] = true;
      for (int64_t t = 0; t < 12; ++t) CHECK(grid[t] == (pattern * 3 + t / 4 + 2 * (t % 4)) % 7);
    }
    CHECK(seen[0]);
    CHECK(seen[1]);
    for (int64_t t = 0; t < 12; ++t) CHECK(one.data<int32_t>()[t] == some.data<int32_t>()[t]);
  }
}
