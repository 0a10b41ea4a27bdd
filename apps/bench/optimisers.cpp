// One step of an optimiser over 16 M weights: every array that is read or written counts.
#include "apps/bench/bench.h"
#include "core/kernels/table.h"

namespace qd::bench {
namespace {

constexpr int64_t n = 16 << 20;

constexpr kernel::AdamW step{.rate = 1e-3f, .beta1 = 0.9f, .beta2 = 0.99f, .rest1 = 0.1f, .rest2 = 0.01f, .epsilon = 1e-8f, .decay = 0.1f, .correction1 = 1,
                             .correction2 = 1, .gradient_scale = 1};

using Kernel = void (*)(float* w, const float* g, float* m, float* v);
Row over_weights(const char* name, int arrays, Kernel kernel) {
  return traffic(name, 4.0 * arrays * n, [kernel] {
    return [kernel, w = noise({n}), g = noise({n}), m = zeros({n}), v = zeros({n})]() mutable { kernel(w.mutable_data(), g.data(), m.mutable_data(), v.mutable_data()); };
  });
}

}  // namespace

void optimisers(Rows& rows) {
  rows.push_back(over_weights("adamw", 7, [](float* w, const float* g, float* m, float* v) { kernels().adamw(n, step, w, g, m, v); }));
  rows.push_back(over_weights("sgd with momentum", 5, [](float* w, const float* g, float* m, float*) { kernels().momentum(n, 1e-3f, 0.9f, 0.1f, 1, w, g, m); }));
  rows.push_back(traffic("lamb direction", 4.0 * 7 * n, [] {
    return [w = noise({n}), g = noise({n}), m = zeros({n}), v = zeros({n}), r = zeros({n})]() mutable {
      kernels().adam_direction(n, step, w.data(), g.data(), m.mutable_data(), v.mutable_data(), r.mutable_data());
    };
  }));
}

}  // namespace qd::bench
