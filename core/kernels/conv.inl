// Convolution as a product whose left operand is packed from image patches, strip by strip: C (pixels, out) = patches (pixels, depth) x
// weight^T. The weight is packed once for all threads; a task is a strip of pixels, whose patches and results stay in its core's L2.
// The gradient of the input is again such a product, dy with the weight turned round; with a stride, one for each phase: the input
// pixels (q * stride + phase) see the same few taps, and no other taps. So nothing is added by two tasks.
// Roof: arithmetic.

thread_local Scratch scratch_runs, scratch_turned;

// Where the results of patch (picture, i, j) go: pixel (first_y + i * step_y, first_x + j * step_x) of a picture, on the way out through
// `out`, which describes all pixels.
struct Placement {
  Output out;
  int64_t height, width;
  int64_t first_y = 0, first_x = 0, step_y = 1, step_x = 1;
  const float* gate = nullptr;   // laid out as C: where it is not positive, results become zero

  bool direct() const { return step_y == 1 && step_x == 1 && !gate; }

  // Results i0.. of patches (rows, cols), held in raw (count, n).
  void write(float* raw, int64_t i0, int64_t count, int64_t rows, int64_t cols, int64_t n) const {
    picture_rows(i0, count, rows, cols, [&](int64_t picture, int64_t row, int64_t column, int64_t first, int64_t length) {
      const int64_t pixel = (picture * height + first_y + row * step_y) * width + first_x + column * step_x, at = pixel * out.ldc;
      Output line{out.c + at, step_x * out.ldc, out.e};
      if (line.e.residual) line.e.residual += at;
      if (line.e.pre) line.e.pre += at;
      float* from = raw ? raw + first * n : nullptr;
      if (gate && raw) {
        for (int64_t i = 0; i < length; ++i)
          vectors(0, n, [&](int64_t j, auto lanes) {
            const V open = lanes.load(gate + at + i * line.ldc + j), value = lanes.load(from + i * n + j);
            lanes.store(from + i * n + j, open > zero() ? value : zero());
          });
      }
      line.write(from, n, 0, length, 0, n);
    });
  }
};

constexpr int64_t patch_depth = 1280;           // deepest block: a panel of B and some rows of A fit L2 ...
constexpr int64_t patch_values = 48 * 1280;     // ... with so many values of A

// `weight` is packed (depth, n): block after block of runs, in each panel after panel.
template <class Tile>
void multiply_patches(const Patches& a, int64_t pixels, const typename Tile::Element* weight, int64_t n, const Placement& to, bool parallel) {
  using Element = typename Tile::Element;
  const int64_t deepest = most(1, least(a.depth, patch_depth)), stride = round_up(deepest, W) + 16;
  int64_t tall = least(192, round_up(most(patch_values / deepest, 1), 12));
  while (tall > 12 && pieces(pixels, tall) < 32) tall -= 12;
  tall = round_up(pieces(pixels, pieces(pixels, tall)), 6);
  run_tasks(parallel, pieces(pixels, tall), [&](int64_t task) {
    const int64_t i0 = task * tall, height = least(tall, pixels - i0);
    Element* rows = scratch_a.get<Element>(height * stride);
    float* raw = to.direct() ? nullptr : scratch_sums.get<float>(height * n);
    for (int64_t first = 0, last; first < a.runs; first = last) {
      last = a.block_end(first, patch_depth);
      const int64_t p0 = a.begin(first), depth = a.begin(last) - p0;
      for (int64_t r = first; r < last; ++r) a.copy(r, 0, a.run[r].count, i0, height, rows + a.run[r].at - p0, stride);
      for (int64_t j = 0; j < n; j += panel_width) {
        const int64_t width = least(panel_width, n - j);
        typename Tile::Operands t;
        t.depth = depth;
        t.a = rows, t.a_row = stride, t.a_col = 1;
        t.b = weight + p0 * round_up(n, W) + j * depth, t.b_row = round_up(width, W);
        Output::Base base = raw ? Output::Base{first ? raw + j : nullptr, first ? n : 0} : to.out.base(i0, j, first == 0);
        t.base = base.data, t.base_row = base.row;
        t.c = raw ? raw + j : to.out.c + i0 * to.out.ldc + j, t.c_row = raw ? n : to.out.ldc;
        t.scale = 1;
        Tile::run(t, height, width, false);
        if (!raw && last == a.runs) to.out.finish(i0, height, j, width);
      }
    }
    if (raw || a.runs == 0) to.write(raw && a.runs ? raw : nullptr, i0, height, a.rows, a.cols, n);
  });
}

// Packs the blocks of B that multiply_patches expects.
template <class Element, class B>
Element* pack_weight(const Patches& a, const B& b, int64_t n, bool parallel) {
  Element* packed = scratch_b.get<Element>(round_up(n, W) * a.depth);
  for (int64_t first = 0, last; first < a.runs; first = last) {
    last = a.block_end(first, patch_depth);
    const int64_t p0 = a.begin(first), depth = a.begin(last) - p0;
    run_tasks(parallel, pieces(n, panel_width), [&](int64_t panel) {
      const int64_t j = panel * panel_width;
      b(p0, depth, j, least(panel_width, n - j), packed + p0 * round_up(n, W) + j * depth);
    });
  }
  return packed;
}

// One tap that neither moves nor skips pixels: a dense layer.
inline bool is_dense(const Convolution& c) {
  return c.kernel_height * c.kernel_width == 1 && c.stride_y * c.stride_x == 1 && c.padding_y + c.padding_x == 0 && !c.taps && !c.rectify;
}

void convolution(const Convolution& c, const float* x, const float* weight, float* y, const Epilogue& e) {
  const int64_t pixels = c.batch * c.out_height * c.out_width, whole = c.kernel_height * c.kernel_width * c.in;
  if (pixels <= 0 || c.out <= 0) return;
  if (is_dense(c)) return gemm({pixels, c.out, c.in, {x, c.in}, {weight, c.in, true}, y, c.out, e});
  const Patches patches = forward_patches(c, x, scratch_runs.get<Run>(Patches::most_runs(c.kernel_height * c.kernel_width, c.in)));
  const bool parallel = cost(pixels, c.out, patches.depth) > parallel_cost;
  if (c.taps) {   // the weight without the taps that are left out
    float* kept = scratch_turned.get<float>(c.out * patches.depth);
    for (int64_t o = 0; o < c.out; ++o)
      for (int64_t r = 0; r < patches.runs; ++r) {
        const Run& run = patches.run[r];
        copy_run<false>(weight + o * whole + run.weight, run.count, kept + o * patches.depth + run.at);
      }
    weight = kept;
  }
  const float* packed = pack_weight<float>(patches, PackTransposedB{weight, patches.depth}, c.out, parallel);
  multiply_patches<TileF32>(patches, pixels, packed, c.out, {{y, c.out, e}, c.out_height, c.out_width}, parallel);
}

// dx[b, s q + phase] = sum over the taps u with (phase + padding - u * dilation) divisible by s, and over o, of
//   dy[b, q + (phase + padding - u * dilation) / s, o] * weight[o, u]
void convolution_input_gradient(const Convolution& c, const float* x, const float* dy, const float* weight, float* dx, const Epilogue& e) {
  if (c.batch * c.height * c.width * c.in <= 0) return;
  if (is_dense(c)) return gemm({c.batch * c.height * c.width, c.in, c.out, {dy, c.out}, {weight, c.in}, dx, c.in, e});
  const int64_t taps = c.kernel_height * c.kernel_width;
  Run* run = scratch_runs.get<Run>(Patches::most_runs(taps, c.out));
  for (int64_t phase_y = 0; phase_y < least(c.stride_y, c.height); ++phase_y)
    for (int64_t phase_x = 0; phase_x < least(c.stride_x, c.width); ++phase_x) {
      const int64_t rows = pieces(c.height - phase_y, c.stride_y), cols = pieces(c.width - phase_x, c.stride_x);
      Patches patches{dy, c.out_height, c.out_width, c.out, rows, cols, 1, 1, false, run};
      float* turned = scratch_turned.get<float>(taps * c.out * c.in);   // (depth, in)
      for (int64_t u = c.kernel_height - 1; u >= 0; --u)
        for (int64_t v = c.kernel_width - 1; v >= 0; --v) {
          const int64_t tap = u * c.kernel_width + v;
          const int64_t down = phase_y + c.padding_y - u * c.dilation_y, right = phase_x + c.padding_x - v * c.dilation_x;
          if (down % c.stride_y || right % c.stride_x || (c.taps && !c.taps[tap])) continue;
          for (int64_t o = 0; o < c.out; ++o)
            copy_run<false>(weight + (o * taps + tap) * c.in, c.in, turned + (patches.depth + o) * c.in);
          patches.add(down / c.stride_y, right / c.stride_x, patches.depth);
        }
      const int64_t pixels = c.batch * rows * cols;
      const bool parallel = cost(pixels, c.in, patches.depth) > parallel_cost;
      const float* packed = pack_weight<float>(patches, PackB{turned, c.in}, c.in, parallel);
      const Placement to{{dx, c.in, e}, c.height, c.width, phase_y, phase_x, c.stride_y, c.stride_x, c.rectify ? x : nullptr};
      multiply_patches<TileF32>(patches, pixels, packed, c.in, to, parallel);
    }
}
