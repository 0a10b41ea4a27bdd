// Transforms along time and what stands on them. Operations as is customary: 5 n log2 n for a complex transform, half of it for a real one.
#include <cmath>
#include <memory>

#include "apps/bench/bench.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/ops.h"

namespace qd::bench {
namespace {

constexpr int64_t batch = 8, channels = 64, order = 16;

struct Data {
  explicit Data(int64_t time, bool gradients) : u(noise({batch, time, channels})), k(noise({time, channels})), dy(noise({batch, time, channels})) {
    if (!gradients) return;
    for (Tensor* x : {&u, &skip, &numerator, &denominator}) x->require_gradient();
  }
  Tensor u, k, dy, skip = noise({channels}), numerator = noise({channels, order}), denominator = noise({channels, order}) * 0.1f;
};

}  // namespace

void transforms(Rows& rows) {
  for (const int64_t time : {1024, 16'384}) {
    const double signals = batch * channels, n = static_cast<double>(time);
    const auto row = [&](const std::string& name, double operations, void (*run)(Data&)) {
      rows.push_back(arithmetic(name, operations, [time, run] {
        return [run, data = std::make_shared<Data>(time, false)] {
          NoGrad off;
          run(*data);
        };
      }, time > 1024));
    };
    row(str("rfft ", time), 2.5 * signals * n * std::log2(n), [](Data& d) { rfft(d.u, d.u.dim(1)); });
    row(str("long convolution forward ", time), (2 * signals + channels) * 2.5 * 2 * n * std::log2(2 * n), [](Data& d) { long_convolution(d.u, d.k, d.skip); });
    Row layer = model(str("rtf layer (B8 D64 N16 L", time, ")"), "Msample/s", signals * n / 1e6, 0, [time] {
      return [data = std::make_shared<Data>(time, true)] {
        Data& d = *data;
        for (Tensor* x : {&d.u, &d.skip, &d.numerator, &d.denominator}) x->clear_gradient();
        backward(rational_transfer(d.u, d.denominator, d.numerator, d.skip), d.dy);
      };
    }, time > 1024);
    rows.push_back(std::move(layer));
  }
}

}  // namespace qd::bench
