// Matrix products. The arithmetic of m n k multiply-adds, 2 operations each, is counted.
#include "apps/bench/bench.h"
#include "core/error.h"
#include "core/kernels/table.h"

namespace qd::bench {
namespace {

struct Case {
  const char* name;
  int64_t m, n, k;
  bool ta, tb;       // stored transposed
  int64_t batch = 1;
};

// The first thirteen are those that tests/peers runs with other libraries.
constexpr Case cases[] = {
    {"NN 64^3", 64, 64, 64, false, false},
    {"NN 256^3", 256, 256, 256, false, false},
    {"NN 512^3", 512, 512, 512, false, false},
    {"NN 1024^3", 1024, 1024, 1024, false, false},
    {"NN 2048^3", 2048, 2048, 2048, false, false},
    {"NT qkv 1024x1152x384", 1024, 1152, 384, false, true},
    {"NT mlp up 1024x1536x384", 1024, 1536, 384, false, true},
    {"NT mlp down 1024x384x1536", 1024, 384, 1536, false, true},
    {"NT vocabulary 1024x8192x384", 1024, 8192, 384, false, true},
    {"TN weight gradient 384x1536x1024", 384, 1536, 1024, true, false},
    {"NN input gradient 1024x384x1536", 1024, 384, 1536, false, false},
    {"NT attention qk 256x256x64", 256, 256, 64, false, true},
    {"NN attention pv 256x64x256", 256, 64, 256, false, false},
    {"batch 48 NN 64^3", 64, 64, 64, false, false, 48},
    {"batch 48 NT attention qk 256x256x64", 256, 256, 64, false, true, 48},
    {"batch 48 NN attention pv 256x64x256", 256, 64, 256, false, false, 48},
    {"NN one row 1x1536x384", 1, 1536, 384, false, false},
    {"NT one row 1x8192x384", 1, 8192, 384, false, true},
};

std::function<void()> prepare(const Case& c) {
  const Tensor a = noise({c.batch, c.m, c.k}), b = noise({c.batch, c.k, c.n});
  Tensor y = empty({c.batch, c.m, c.n});
  const Gemm g{.m = c.m, .n = c.n, .k = c.k, .a = {a.data(), c.ta ? c.m : c.k, c.ta}, .b = {b.data(), c.tb ? c.k : c.n, c.tb}, .c = y.mutable_data(),
               .ldc = c.n, .batch = c.batch, .step_a = c.m * c.k, .step_b = c.k * c.n, .step_c = c.m * c.n};
  return [a, b, y, g] { kernels().gemm(g); };
}

}  // namespace

void products(Rows& rows) {
  for (const Case& c : cases) {
    rows.push_back(arithmetic(str("gemm ", c.name), 2.0 * static_cast<double>(c.batch * c.m * c.n * c.k), [&c] { return prepare(c); }, c.m > 1024));
  }
}

}  // namespace qd::bench
