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

TEST_CASE("prior: convolutions over two grids: the finer sees all of the coarser, the coarser nothing of it; drawn row by row as computed at once") {
  constexpr int64_t s = 3, codes = 10;   // 3 x 3 and 6 x 6
  ConvPrior prior({.kind = "pixelcnn", .codes = codes, .rows = 5 * s, .columns = s, .levels = 2, .width = 8, .layers = 4});
  prior.initialize(2);
  prior.evaluate();
  const auto grids = [&](int32_t first, int32_t last) {   // the first coarse and the last fine code; the rest is the same
    Tensor ids = empty({1, 5 * s, s}, DType::i32);
    for (int64_t i = 0; i < ids.size(); ++i) ids.mutable_data<int32_t>()[i] = static_cast<int32_t>(i < s * s ? (i == 0 ? first : i % 5) : 5 + (i == 5 * s * s - 1 ? last : i % 5));
    return ids;
  };
  const Tensor ids = grids(1, 2);
  prior.loss(ids).backward();
  for (const Parameter* p : prior.parameters()) {
    INFO(p->path());
    CHECK(kernels().sum_squares(p->value.size(), p->value.gradient().data()) > 0);
  }
  const NoGrad off;
  CHECK(prior.loss(grids(1, 3)).item() != prior.loss(ids).item());
  // What draw() asks of every cell is what logits() says of the grids that came out.
  std::vector<std::vector<float>> asked;
  const Tensor drawn = prior.draw(2, [&](int64_t n, std::span<const float> logits) {
    if (n == 1) asked.emplace_back(logits.begin(), logits.end());
    return static_cast<int32_t>((asked.size() * 3 + static_cast<size_t>(n)) % 5);
  });
  CHECK(drawn.shape() == Shape({2, 5 * s, s}));
  REQUIRE(asked.size() == 5 * s * s);
  const Tensor one = drawn.row_range(1, 2);
  Tensor above = empty({1, s, s}, DType::i32), below = empty({1, 2 * s, 2 * s}, DType::i32);
  for (int64_t i = 0; i < s * s; ++i) above.mutable_data<int32_t>()[i] = one.data<int32_t>()[i];
  for (int64_t i = 0; i < 4 * s * s; ++i) below.mutable_data<int32_t>()[i] = one.data<int32_t>()[s * s + i] - 5;
  const Tensor given = upsample_nearest((*prior.around)((*prior.coarse)(above)), 2);
  const Tensor first = prior.first.logits(above), second = prior.second->logits(below, given);
  for (size_t cell = 0; cell < asked.size(); ++cell)
    for (size_t k = 0; k < 5; ++k) {
      const auto at = static_cast<int64_t>(cell);
      const float expected = at < s * s ? first.data()[at * 5 + static_cast<int64_t>(k)] : second.data()[(at - s * s) * 5 + static_cast<int64_t>(k)];
      CHECK(asked[cell][k] == doctest::Approx(expected).epsilon(1e-4).scale(1));
    }
  // Every fine cell depends on every coarse one.
  for (int64_t i = 0; i < s * s; ++i) {
    Tensor other = above.clone();
    other.mutable_data<int32_t>()[i] = (above.data<int32_t>()[i] + 1) % 5;
    const Tensor now = prior.second->logits(below, upsample_nearest((*prior.around)((*prior.coarse)(other)), 2));
    CHECK(difference(now, second) > 1e-6);
  }
  CHECK(has(message_of([] { ConvPrior({.kind = "pixelcnn", .codes = 10, .rows = 4, .columns = 2, .levels = 2}); }), "expected two grids of 2 and 4 cells a side"));
}

TEST_CASE("prior: samples do not repeat from seed to seed, and the hundredth is the same in any number") {
  for (const std::string kind : {"attention", "pixelcnn"}) {
    INFO(kind);
    Prior prior({.kind = kind, .codes = 200, .rows = 2, .columns = 2, .width = 8, .layers = 2, .heads = 2, .dropout = 0});
    prior.module().initialize(1);
    prior.module().evaluate();
    const Tensor first = prior.sample(130, {.seed = 1}), second = prior.sample(70, {.seed = 2}), fewer = prior.sample(70, {.seed = 1});
    const auto grid = [](const Tensor& t, int64_t n) { return std::vector<int32_t>(t.data<int32_t>() + 4 * n, t.data<int32_t>() + 4 * n + 4); };
    for (int64_t n = 0; n < 70; ++n) CHECK(grid(first, n) == grid(fewer, n));
    int same = 0;
    for (int64_t n = 0; n < 60; ++n) same += grid(first, 64 + n) == grid(second, n);
    CHECK(same == 0);
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
