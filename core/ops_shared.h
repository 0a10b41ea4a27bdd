// What the gradients of dense layers and of convolutions have in common. For ops_*.cpp alone.
#pragma once

#include "core/ops.h"

namespace qd {

inline const float* data_of(const Tensor& x) { return x.defined() ? x.data() : nullptr; }

// y = f(p):   dp = dy f'(p). `saved` is p, or y where f is relu.
inline Tensor before_activation(Activation f, const Tensor& saved, const Tensor& dy) {
  if (f == Activation::none) return dy;
  Tensor dp = empty_like(dy);
  kernels().unary_gradient(unary_of(f), dy.size(), saved.data(), dy.data(), dp.mutable_data(), false);
  return dp;
}

// p = ... + bias for each row:   dbias = column sums of dp, to input `i`.
inline void send_bias(Sink& to, int i, const Tensor& dp) {
  if (!to.wants(i)) return;
  const auto [db, add] = to.into(i);
  kernels().sum_rows(dp.rows(), dp.cols(), dp.data(), db, add);
}

}  // namespace qd
