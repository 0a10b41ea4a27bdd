// Tables of vectors and the losses over them, with their gradients.
#include <algorithm>
#include <cstring>
#include <optional>

#include "core/error.h"
#include "core/ops.h"

namespace qd {
namespace {

void expect_ids(const char* op, const Tensor& ids, int64_t vocabulary, std::optional<int32_t> allowed = {}) {
  for (const int32_t id : ids.values<int32_t>())
    QD_CHECK((id >= 0 && id < vocabulary) || id == allowed, op, str("expected ids below the vocabulary of ", vocabulary, ", got ", id),
             "was the text encoded with the model's tokenizer?");
}

// What the mean runs over, and the factor 1 / count.
float mean_factor(const char* op, const Tensor& targets, int64_t rows, int64_t vocabulary, int32_t ignored_target) {
  QD_CHECK(targets.size() == rows, op, str("expected one target for each of ", rows, " rows, got ", targets.shape().str()));
  expect_ids(op, targets, vocabulary, ignored_target);
  const auto ids = targets.values<int32_t>();
  const int64_t count = rows - std::count(ids.begin(), ids.end(), ignored_target);
  return count ? 1.0f / static_cast<float>(count) : 0.0f;
}

Tensor mean_loss(const Tensor& losses, float factor) { return full({}, static_cast<float>(kernels().sum(losses.size(), losses.data()) * factor)); }

// Sends dy * g, where g is the gradient for dy = 1 that the forward pass has computed.
void send_scaled(Sink& to, int input, const Tensor& dy, const Tensor& g) {
  if (!to.wants(input)) return;
  const auto [dx, add] = to.into(input);
  add ? kernels().scale_add(g.size(), dy.item(), g.data(), dx) : kernels().combine(g.size(), dy.item(), g.data(), 0, nullptr, dx);
}

}  // namespace

// dtable[id] += dy of every place where id stands
Tensor embedding(const Tensor& table, const Tensor& ids) {
  QD_CHECK(table.rank() == 2, "embedding", str("expected a table (V, C), got ", table.shape().str()));
  expect_ids("embedding", ids, table.dim(0));
  std::vector<int64_t> dims(ids.shape().begin(), ids.shape().end());
  dims.push_back(table.cols());
  Tensor y = empty(Shape(dims));
  kernels().gather(ids.size(), table.cols(), ids.data<int32_t>(), table.data(), y.mutable_data());
  return record("embedding", y, {table}, [ids = Saved(ids), n = table.size()](const Tensor& dy, Sink& to) {
    const auto [dtable, add] = to.into(0);
    if (!add) kernels().fill(n, 0, dtable);
    kernels().scatter_add(dy.rows(), dy.cols(), ids->data<int32_t>(), dy.data(), dtable);
  });
}

// dlogits = (softmax - one-hot) / count, computed in the forward pass in the place of a copy of the logits.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, int32_t ignored_target) {
  QD_CHECK(logits.rank() >= 1 && logits.cols() > 0, "cross_entropy", str("expected logits (..., V), got ", logits.shape().str()));
  const int64_t rows = logits.rows(), vocabulary = logits.cols();
  const float factor = mean_factor("cross_entropy", targets, rows, vocabulary, ignored_target);
  Tensor g = logits.clone(), losses = empty({rows});
  kernels().cross_entropy(rows, vocabulary, g.mutable_data(), targets.data<int32_t>(), ignored_target, factor, records({logits}),
                          losses.mutable_data());
  return record("cross_entropy", mean_loss(losses, factor), {logits}, [g = Saved(g)](const Tensor& dy, Sink& to) { send_scaled(to, 0, dy, *g); });
}

// Logits of a chunk of rows are made, turned into their gradient in place, and multiplied on while they are in the cache: no product is
// computed twice and (rows, V) never exists. Costs one (V, C) tensor between forward and backward.
Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets, int32_t ignored_target) {
  QD_CHECK(x.rank() >= 1 && weight.rank() == 2 && x.cols() == weight.cols() && weight.dim(0) > 0, "linear_cross_entropy",
           str("expected x (..., C) and weight (V, C), got ", x.shape().str(), " and ", weight.shape().str()));
  const int64_t rows = x.rows(), width = x.cols(), vocabulary = weight.dim(0);
  const float factor = mean_factor("linear_cross_entropy", targets, rows, vocabulary, ignored_target);
  const bool want_x = records({x}), want_weight = records({weight});
  Tensor dx = want_x ? empty_like(x) : Tensor(), dweight = want_weight ? empty_like(weight) : Tensor(), losses = empty({rows});
  if (want_weight && rows == 0) kernels().fill(dweight.size(), 0, dweight.mutable_data());

  constexpr int64_t chunk_floats = 1 << 22;   // 16 MiB of logits: in the cache, and enough rows to fill the product
  const int64_t chunk = std::min(rows, std::max<int64_t>(256, chunk_floats / vocabulary / 64 * 64));
  Tensor logits = empty({chunk, vocabulary});
  for (int64_t row = 0; row < rows; row += chunk) {
    const int64_t m = std::min(chunk, rows - row);
    const float* from = x.data() + row * width;
    float* g = logits.mutable_data();
    kernels().gemm({.m = m, .n = vocabulary, .k = width, .a = {from, width, false}, .b = {weight.data(), width, true}, .c = g, .ldc = vocabulary});
    kernels().cross_entropy(m, vocabulary, g, targets.data<int32_t>() + row, ignored_target, factor, want_x || want_weight,
                            losses.mutable_data() + row);
    if (want_x)
      kernels().gemm({.m = m, .n = width, .k = vocabulary, .a = {g, vocabulary, false}, .b = {weight.data(), width, false},
                      .c = dx.mutable_data() + row * width, .ldc = width});
    if (want_weight)
      kernels().gemm({.m = vocabulary, .n = width, .k = m, .a = {g, vocabulary, true}, .b = {from, width, false}, .c = dweight.mutable_data(),
                      .ldc = width, .out = {.add = row > 0}});
  }
  return record("linear_cross_entropy", mean_loss(losses, factor), {x, weight}, [dx = Saved(dx), dweight = Saved(dweight)](const Tensor& dy, Sink& to) {
    send_scaled(to, 0, dy, *dx);
    send_scaled(to, 1, dy, *dweight);
  });
}

// d = a - b:   da = 2 d / n,  db = -da
Tensor mse(const Tensor& a, const Tensor& b) {
  QD_CHECK(a.shape() == b.shape() && a.size() > 0, "mse", str("expected one shape with elements, got ", a.shape().str(), " and ", b.shape().str()));
  const int64_t n = a.size();
  Tensor d = empty_like(a);
  kernels().combine(n, 1, a.data(), -1, b.data(), d.mutable_data());
  Tensor y = full({}, static_cast<float>(kernels().sum_squares(n, d.data()) / static_cast<double>(n)));
  return record("mse", y, {a, b}, [n, d = Saved(d)](const Tensor& dy, Sink& to) {
    for (const int input : {0, 1}) {
      if (!to.wants(input)) continue;
      const float factor = (input ? -2.0f : 2.0f) * dy.item() / static_cast<float>(n);
      const auto [dx, add] = to.into(input);
      add ? kernels().scale_add(n, factor, d->data(), dx) : kernels().combine(n, factor, d->data(), 0, nullptr, dx);
    }
  });
}

}  // namespace qd
