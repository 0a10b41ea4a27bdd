// How fast the kernels and training steps are, beside the peak that is measured in the same run.   bin/bench gemm --threads 1
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>

#include "apps/options.h"
#include "core/error.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "core/random.h"
#include "models/gpt.h"

using namespace qd;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Bench {
  std::vector<std::string> names;   // empty: all
  bool quick = false, json = false;
  double peak = 0, bandwidth = 0;   // GFLOP/s, GB/s, on all threads
  Result result;

  bool wanted(const std::string& name) const {
    return names.empty() || std::any_of(names.begin(), names.end(), [&](const std::string& n) { return name.find(n) != std::string::npos; });
  }

  // Median seconds of f over about `budget` seconds, after one run that is not counted.
  double seconds(const std::function<void()>& f, double budget = 0.4) const {
    f();
    std::vector<double> times;
    for (const double start = now(); times.size() < 3 || (now() - start < (quick ? 0.05 : budget) && times.size() < 2000);) {
      const double t = now();
      f();
      times.push_back(now() - t);
    }
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
  }

  void report(const std::string& name, double rate, const char* unit, double share) {
    if (!json) print(str(name, std::string(std::max<size_t>(1, 44 - name.size()), ' '), format(rate), " ", unit, share > 0 ? "  " + format(100 * share) + " %" : "", "\n"));
    result.emplace_back(name, rate);
  }
  void arithmetic(const std::string& name, double operations, const std::function<void()>& f) {
    if (!wanted(name)) return;
    const double rate = operations / seconds(f) / 1e9;
    report(name, rate, "GFLOP/s", rate / peak);
  }
  void traffic(const std::string& name, double bytes, const std::function<void()>& f) {
    if (!wanted(name)) return;
    const double rate = bytes / seconds(f) / 1e9;
    report(name, rate, "GB/s   ", rate / bandwidth);
  }

  static std::string format(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%8.1f", x);
    return text;
  }
};

Tensor noise(const Shape& shape) {
  Tensor x = empty(shape);
  Random random(1, static_cast<uint64_t>(shape.size()));
  float* p = x.mutable_data();
  for (int64_t i = 0; i < x.size(); ++i) p[i] = static_cast<float>(random.uniform() - 0.5);
  return x;
}

void roofs(Bench& b) {
  constexpr int64_t steps = 2'000'000;
  const double t = b.seconds([] { parallel_tasks(threads(), [](int64_t) { kernels().multiply_adds(steps); }); });
  b.peak = 24.0 * steps * kernels().lanes * threads() / t / 1e9;
  b.report("peak of multiply-adds", b.peak, "GFLOP/s", 0);
  const int64_t n = b.quick ? 4'000'000 : 32'000'000;
  Tensor x = noise({n}), y = noise({n});
  float* to = y.mutable_data();
  b.bandwidth = 12.0 * static_cast<double>(n) / b.seconds([&] { kernels().scale_add(n, 0.5f, x.data(), to); }) / 1e9;
  b.report("memory (y += a x)", b.bandwidth, "GB/s   ", 0);
}

void products(Bench& b) {
  struct Case {
    const char* name;
    int64_t m, n, k;
    bool ta, tb;
  };
  const Case cases[] = {{"gemm NN 64", 64, 64, 64, false, false},           {"gemm NN 256", 256, 256, 256, false, false},
                        {"gemm NN 512", 512, 512, 512, false, false},       {"gemm NN 1024", 1024, 1024, 1024, false, false},
                        {"gemm NN 2048", 2048, 2048, 2048, false, false},   {"gemm NT qkv", 1024, 1152, 384, false, true},
                        {"gemm NT mlp up", 1024, 1536, 384, false, true},   {"gemm NT mlp down", 1024, 384, 1536, false, true},
                        {"gemm NT vocabulary", 1024, 8192, 384, false, true}, {"gemm TN weight gradient", 384, 1536, 1024, true, false},
                        {"gemm NN one row", 1, 1536, 384, false, false}};
  for (const Case& c : cases) {
    if (b.quick && c.m > 1024) continue;
    const Tensor x = noise({c.m, c.k}), y = noise({c.k, c.n});
    Tensor z = empty({c.m, c.n});
    const Gemm g{.m = c.m, .n = c.n, .k = c.k, .a = {x.data(), c.ta ? c.m : c.k, c.ta}, .b = {y.data(), c.tb ? c.k : c.n, c.tb},
                 .c = z.mutable_data(), .ldc = c.n};
    b.arithmetic(c.name, 2.0 * static_cast<double>(c.m * c.n * c.k), [&] { kernels().gemm(g); });
  }
}

void attentions(Bench& b) {
  for (const int64_t t : {64, 256, 1024, 4096}) {
    if (b.quick && t > 1024) continue;
    const int64_t heads = 6, d = 64, batch = std::max<int64_t>(1, 1024 / t), width = heads * d;
    Tensor qkv = noise({batch, t, 3 * width});
    qkv.require_gradient();
    const Tensor dy = noise({batch, t, width});
    const auto run = [&] { return attention({qkv}, {qkv, width}, {qkv, 2 * width}, {.heads = heads, .head_dim = d}); };
    const double products = static_cast<double>(batch * heads * t * t * d);   // one product under the causal mask, in operations
    b.arithmetic(str("attention forward ", t), 2 * products, [&] {
      NoGrad off;
      run();
    });
    b.arithmetic(str("attention forward, backward ", t), 7 * products, [&] {
      backward(run(), dy);
      qkv.clear_gradient();
    });
  }
}

// Transforms and what stands on them, along time. Operations as is customary: 5 n log2 n for a complex transform, half of it for a real one.
void transforms(Bench& b) {
  constexpr int64_t batch = 8, channels = 64, order = 16;
  for (const int64_t time : {1024, 16'384}) {
    if (b.quick && time > 1024) continue;
    const double signals = static_cast<double>(batch * channels), n = static_cast<double>(time);
    Tensor u = noise({batch, time, channels}), k = noise({time, channels}), skip = noise({channels});
    Tensor numerator = noise({channels, order}), denominator = noise({channels, order}) * 0.1f;
    const Tensor dy = noise({batch, time, channels});
    b.arithmetic(str("rfft ", time), 2.5 * signals * n * std::log2(n), [&] {
      NoGrad off;
      rfft(u, time);
    });
    b.arithmetic(str("long convolution forward ", time), (2 * signals + static_cast<double>(channels)) * 2.5 * 2 * n * std::log2(2 * n), [&] {
      NoGrad off;
      long_convolution(u, k, skip);
    });
    const std::string name = str("rtf layer (B8 D64 N16 L", time, ")");
    if (!b.wanted(name)) continue;
    for (Tensor* x : {&u, &skip, &numerator, &denominator}) x->require_gradient();
    const double t = b.seconds([&] { backward(rational_transfer(u, denominator, numerator, skip), dy); }, 1);
    b.report(name, signals * n / t / 1e6, "Msamples/s", 0);
  }
}

void sweeps(Bench& b) {
  constexpr int64_t rows = 2048, cols = 1536, n = rows * cols;
  const Tensor x = noise({rows, cols}), w = noise({cols});
  Tensor a = noise({rows, cols}), m = noise({rows, cols}), v = zeros({rows, cols});
  const auto bytes = [](int arrays) { return 4.0 * arrays * static_cast<double>(n); };
  NoGrad off;
  b.traffic("add", bytes(3), [&] { x + a; });
  b.traffic("gelu", bytes(2), [&] { gelu(x); });
  b.traffic("softmax", bytes(2), [&] { softmax(x); });
  b.traffic("layer norm", bytes(2), [&] { norm(x, w, w); });
  b.traffic("dropout", bytes(2), [&] { dropout(x, 0.1f); });
  const kernel::AdamW step{.rate = 1e-3f, .beta1 = 0.9f, .beta2 = 0.99f, .rest1 = 0.1f, .rest2 = 0.01f, .epsilon = 1e-8f, .decay = 0.1f, .correction1 = 1, .correction2 = 1,
                           .gradient_scale = 1};
  float *pa = a.mutable_data(), *pm = m.mutable_data(), *pv = v.mutable_data();
  b.traffic("adamw", bytes(7), [&] { kernels().adamw(n, step, pa, x.data(), pm, pv); });
}

void training_step(Bench& b, const std::string& name, const GPTConfig& c, int64_t batch) {
  if (!b.wanted(name)) return;
  GPT model(c);
  model.initialize(1);
  AdamW optimizer(model);
  Tensor ids = empty({batch, c.context}, DType::i32);
  Random random(1, 0);
  for (int64_t i = 0; i < ids.size(); ++i) ids.mutable_data<int32_t>()[i] = static_cast<int32_t>(random.next() % static_cast<uint32_t>(c.vocab));
  const double t = b.seconds(
      [&] {
        model.loss(ids, ids).backward();
        optimizer.step(1e-4, clip_factor(optimizer.gradient_norm(), 1));
      },
      4);
  const double weights = weight_count(c), tokens = static_cast<double>(batch * c.context);
  const double operations = 6 * weights * tokens + 6 * static_cast<double>(c.layers * c.width * c.context) * tokens;
  b.report(name, tokens / t, "tokens/s", operations / t / 1e9 / b.peak);
}

int run(Bench& b) {
  roofs(b);
  products(b);
  attentions(b);
  transforms(b);
  sweeps(b);
  training_step(b, "gpt 0.8 M (L4 H4 D128 T64 B12)", {.vocab = 256, .context = 64, .width = 128, .layers = 4, .heads = 4}, 12);
  if (!b.quick) {
    training_step(b, "gpt 12.3 M (L6 H6 D384 T256 B8)", {.vocab = 4096, .context = 256, .width = 384, .layers = 6, .heads = 6}, 8);
    training_step(b, "deepnorm 1000 layers (D32 T32 B8)",
                  {.vocab = 64, .context = 32, .width = 32, .layers = 1000, .heads = 2, .norm = NormPlace::deepnorm}, 8);
  }
  if (b.json) print_json(b.result);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Bench b;
  int64_t threads = 0;
  App app("bench", "Speed of kernels and training steps, and the per cent of the peak measured in the same run.");
  app.command("", "", [&] {
       if (threads > 0) set_threads(static_cast<int>(threads));
       return run(b);
     })
      .option("names", b.names, "NAME", "run what has one of these in its name; without names: all")
      .option("--threads", threads, "N", "threads; 0: all processors", at_least(0))
      .flag("--quick", b.quick, "small sizes, short times")
      .flag("--json", b.json, "one JSON object instead of the table");
  return app.run(argc, argv);
}
