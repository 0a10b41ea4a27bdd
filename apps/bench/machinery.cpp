// What an op costs beside its arithmetic: a chain of 1000 ops on 16 numbers, so that memory, the graph and the calls are all there is.
#include "apps/bench/bench.h"
#include "core/ops.h"
#include "core/profile.h"

namespace qd::bench {
namespace {

constexpr int length = 1000;

Tensor chain(Tensor x) {
  for (int i = 0; i < length; ++i) x = relu(x);
  return x;
}

}  // namespace

void machinery(Rows& rows) {
  rows.push_back({.name = "small ops, forward", .unit = "Mop/s", .amount = length / 1e6, .prepare = [] {
                    return [x = noise({16})] {
                      const NoGrad off;
                      chain(x);
                    };
                  }});
  rows.push_back({.name = "small ops, forward and backward", .unit = "Mop/s", .amount = length / 1e6, .prepare = [] {
                    Tensor x = noise({16});
                    x.require_gradient();
                    return [x, dy = noise({16})] { backward(chain(x), dy); };
                  }});
  rows.push_back({.name = "profile scopes that are off", .unit = "Mop/s", .amount = length / 1e6, .prepare = [] {
                    return [] {
                      for (int i = 0; i < length; ++i) {
                        const Profile scope("off", 1, 1);
                        asm volatile("" ::: "memory");
                      }
                    };
                  }});
}

}  // namespace qd::bench
