// Convolutions as in the VQ-VAE, each with its two gradients, and the training step of that model.
#include <memory>

#include "apps/bench/bench.h"
#include "core/error.h"
#include "core/kernels/table.h"
#include "models/vqvae.h"
#include "nn/optimizer.h"

namespace qd::bench {
namespace {

constexpr int64_t batch = 32;

struct Case {
  const char* name;
  int64_t side, in, out, kernel, stride, padding;
};

struct Data {
  explicit Data(const Case& c) : side(c.side / c.stride), x(noise({batch, c.side, c.side, c.in})), w(noise({c.out, c.kernel, c.kernel, c.in})),
                                 dy(noise({batch, side, side, c.out})) {
    shape = {.batch = batch, .height = c.side, .width = c.side, .in = c.in, .out_height = side, .out_width = side, .out = c.out,
             .kernel_height = c.kernel, .kernel_width = c.kernel, .stride_y = c.stride, .stride_x = c.stride,
             .padding_y = c.padding, .padding_x = c.padding};
  }
  int64_t side;
  Tensor x, w, dy;
  Tensor y = empty_like(dy), dx = empty_like(x), dw = empty_like(w);
  kernel::Convolution shape;
};

// Each row has data of its own: rows live apart.
Row row(const Case& c, const char* part, void (*run)(Data&)) {
  const int64_t side = c.side / c.stride;
  return arithmetic(str("conv ", c.name, ", ", part), 2.0 * static_cast<double>(batch * side * side * c.out * c.kernel * c.kernel * c.in),
                    [c, run] { return [run, data = std::make_shared<Data>(c)] { run(*data); }; });
}

}  // namespace

void convolutions(Rows& rows) {
  for (const Case& c : {Case{"4x4/2 3 -> 64 at 64", 64, 3, 64, 4, 2, 1}, Case{"4x4/2 64 -> 128 at 32", 32, 64, 128, 4, 2, 1},
                        Case{"3x3 128 -> 128 at 16", 16, 128, 128, 3, 1, 1}, Case{"3x3 128 -> 32 at 16", 16, 128, 32, 3, 1, 1}}) {
    rows.push_back(row(c, "forward", [](Data& d) {
      kernels().convolution(d.shape, d.x.data(), d.w.data(), d.y.mutable_data(), {});
    }));
    rows.push_back(row(c, "weight gradient", [](Data& d) {
      kernels().convolution_weight_gradient(d.shape, d.x.data(), d.dy.data(), d.dw.mutable_data(), false);
    }));
    rows.push_back(row(c, "input gradient", [](Data& d) {
      kernels().convolution_input_gradient(d.shape, nullptr, d.dy.data(), d.w.data(), d.dx.mutable_data(), {});
    }));
  }
  struct Step {
    Step() { network.initialize(1); }
    VQVAE network{VQVAEConfig{}};
    AdamW optimizer{network, {.decay = 0}};
    Tensor x = noise({batch, 64, 64, 3});
    void operator()() {
      network.losses(x).total.backward();
      optimizer.step(1e-3);
    }
  };
  rows.push_back(model("vq-vae 64x64 (B32)", "images/s", batch, 0, [] { return [step = std::make_shared<Step>()] { (*step)(); }; }, false));
}

}  // namespace qd::bench
