// Causal attention. Counted are the products that the mask leaves, half of T by T: two forward, five more in the backward pass (one of
// them computes the weights a second time).
#include <algorithm>

#include "apps/bench/bench.h"
#include "core/error.h"
#include "core/ops.h"

namespace qd::bench {
namespace {

constexpr int64_t heads = 6, head_dim = 64, width = heads * head_dim;

int64_t batch_of(int64_t t) { return std::max<int64_t>(1, 1024 / t); }

Tensor run(const Tensor& qkv) { return qd::attention({qkv}, {qkv, width}, {qkv, 2 * width}, {.heads = heads, .head_dim = head_dim}); }

}  // namespace

void attentions(Rows& rows) {
  for (const int64_t t : {64, 256, 1024, 4096}) {
    const double product = static_cast<double>(batch_of(t) * heads * t * t * head_dim);
    const Shape shape{batch_of(t), t, 3 * width};
    rows.push_back(arithmetic(str("attention forward ", t), 2 * product, [shape] {
      return [qkv = noise(shape)] {
        const NoGrad off;
        run(qkv);
      };
    }, t > 1024));
    Row both = arithmetic(str("attention forward, backward ", t), 7 * product, [shape] {
      Tensor qkv = noise(shape);
      qkv.require_gradient();
      return [qkv, dy = noise(shape.with_last(width))]() mutable {
        backward(run(qkv), dy);
        qkv.clear_gradient();
      };
    }, t > 1024);
    both.model = t > 1024;   // its memory tells whether the weights were stored
    rows.push_back(both);
  }
}

}  // namespace qd::bench
