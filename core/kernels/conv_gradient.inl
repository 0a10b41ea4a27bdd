// The gradient of a convolution's weight: dW (out, depth) = dy^T (out, pixels) x patches (pixels, depth), where the patches of a strip of
// pixels are packed as panels of B. Tasks are (slice of pixels) x (block of depth); each adds up its strips in a part of its own of the
// slice's sum, and the slices meet in order.
// Roof: arithmetic.

constexpr int64_t gradient_strip = 192;    // pixels: patches, rows of dy and the sums share L2
constexpr int64_t gradient_depth = 384;    // values of a patch
constexpr int64_t gradient_shares = 24;

inline void multiply_weight_gradient(const Patches& b, int64_t pixels, const float* dy, int64_t out, int64_t whole, float* dweight, bool add,
                                     bool parallel) {
  const int64_t blocks = pieces(b.depth, gradient_depth);   // nearly: blocks end where runs end
  const int64_t strips = pieces(pixels, gradient_strip);
  const int64_t length = pieces(strips, least(strips, pieces(gradient_shares, blocks))) * gradient_strip, slices = pieces(pixels, length);
  const int64_t size = out * b.depth;
  float* sums = scratch_sums.get<float>(slices * size);
  int64_t* starts = scratch_turned.get<int64_t>(b.runs + 1);
  int64_t count = 0;
  for (int64_t first = 0; first < b.runs; first = b.block_end(first, gradient_depth)) starts[count++] = first;
  starts[count] = b.runs;
#if defined(QD_BF16)   // dy^T is rounded once for all blocks of depth, strip by strip
  const int64_t stride = gradient_strip / unit + 16;
  float* turned = scratch_a.get<float>(strips * out * stride);
  run_tasks(parallel, strips, [=](int64_t s) {
    PackTransposedA{dy, out}(0, out, s * gradient_strip, least(gradient_strip, pixels - s * gradient_strip), turned + s * out * stride, stride);
  });
#endif
  run_tasks(parallel, slices * count, [=](int64_t task) {
    const int64_t slice = task / count, first = starts[task % count], last = starts[task % count + 1];
    const int64_t p0 = b.begin(first), depth = b.begin(last) - p0;
    float* sum = sums + slice * size + p0;
    const int64_t begin = slice * length, end = least(pixels, begin + length);
    for (int64_t i0 = begin; i0 < end; i0 += gradient_strip) {
      const int64_t tall = least(gradient_strip, end - i0), units = pieces(tall, unit);
      float* panels = scratch_b.get<float>(round_up(depth, W) * units);
      b.rectify ? pack_patch_panels<true>(b, first, last, i0, tall, panels) : pack_patch_panels<false>(b, first, last, i0, tall, panels);
      for (int64_t j = 0; j < depth; j += panel_width) {
        const int64_t width = least(panel_width, depth - j);
        Block t{units, dy + i0 * out, 1, out, panels + j * units, round_up(width, W), sum + j, b.depth, sum + j, b.depth, 1};
#if defined(QD_BF16)
        t.a = turned + i0 / gradient_strip * out * stride, t.a_row = stride, t.a_col = 1;
#endif
        if (i0 == begin) t.base = nullptr, t.base_row = 0;
        strip(t, out, width, false);
      }
    }
  });
  run_tasks(parallel && size > grain, out, [=](int64_t o) {
    for (int64_t r = 0; r < b.runs; ++r) {
      const Run& run = b.run[r];
      const float* from = sums + o * b.depth + run.at;
      float* to = dweight + o * whole + run.weight;
      vectors(0, run.count, [&](int64_t j, auto lanes) {
        V total = lanes.load(from + j);
        for (int64_t slice = 1; slice < slices; ++slice) total += lanes.load(from + slice * size + j);
        lanes.store(to + j, add ? lanes.load(to + j) + total : total);
      });
    }
  });
}

void convolution_weight_gradient(const Convolution& c, const float* x, const float* dy, float* dweight, bool add) {
  const int64_t pixels = c.batch * c.out_height * c.out_width, taps = c.kernel_height * c.kernel_width, whole = taps * c.in;
  if (c.out * whole <= 0) return;
#if defined(QD_HAS_BF16)
  if (goes_to_bf16(c)) return bf16->convolution_weight_gradient(c, x, dy, dweight, add);
#endif
  if (is_dense(c)) return gemm({c.out, c.in, pixels, {dy, c.out, true}, {x, c.in}, dweight, c.in, {.add = add}, 1, 0, 0, 0, c.precision});
  if (!add && (pixels <= 0 || c.taps)) clear_values(dweight, c.out * whole);
  if (pixels <= 0) return;
  const Patches patches = forward_patches(c, x, scratch_runs.get<Run>(Patches::most_runs(taps, c.in)));
  if (patches.runs == 0) return;
  multiply_weight_gradient(patches, pixels, dy, c.out, whole, dweight, add, cost(c.out, patches.depth, pixels) > parallel_cost);
}
