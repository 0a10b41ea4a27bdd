// Matrix products. The arithmetic of m n k multiply-adds, 2 operations each, is counted.
#include "apps/bench/bench.h"
#include "apps/bench/shapes.h"
#include "core/kernels/table.h"

namespace qd::bench {
namespace {

std::function<void()> prepare(const Product& c) {
  const Tensor a = noise({c.batch, c.m, c.k}), b = noise({c.batch, c.k, c.n});
  Tensor y = empty({c.batch, c.m, c.n});
  const Gemm g{.m = c.m, .n = c.n, .k = c.k, .a = {a.data(), c.ta ? c.m : c.k, c.ta}, .b = {b.data(), c.tb ? c.k : c.n, c.tb}, .c = y.mutable_data(),
               .ldc = c.n, .batch = c.batch, .step_a = c.m * c.k, .step_b = c.k * c.n, .step_c = c.m * c.n};
  return [a, b, y, g] { kernels().gemm(g); };
}

}  // namespace

void products(Rows& rows) {
  for (const Product& c : product_shapes) {
    rows.push_back(arithmetic(c.name, 2.0 * static_cast<double>(c.batch * c.m * c.n * c.k), [&c] { return prepare(c); }, c.m > 1024));
  }
}

}  // namespace qd::bench
