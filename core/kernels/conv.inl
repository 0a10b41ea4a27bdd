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

// With a few channels of x, phases would leave most lanes of their results empty. Then all taps of a pixel of dy make one product,
// columns (pixels, taps * in) = dy (pixels, out) x weight (out, taps * in), and each column is added where its tap lies. A task is a
// band of rows of dx, and computes what it needs for itself, so that its sums are its own.
inline bool by_columns(const Convolution& c) {
  const int64_t taps = c.kernel_height * c.kernel_width;
  return 2 * round_up(taps * c.in, W) <= taps * round_up(c.in, W);
}

void input_gradient_by_columns(const Convolution& c, const float* dy, const float* weight, const Placement& to) {
  const int64_t n = c.kernel_height * c.kernel_width * c.in, line = c.width * c.in;
  const Patches patches = forward_patches(c, nullptr, scratch_runs.get<Run>(Patches::most_runs(c.kernel_height * c.kernel_width, c.in)));
  const int64_t reach = c.dilation_y * (c.kernel_height - 1);                       // a row of dy touches reach + 1 rows of dx
  const int64_t lines = most(1, (1 << 15) / most(1, n * c.out_width));              // of dy, so that their columns fit L2 ...
  const int64_t wanted = most(lines * c.stride_y - reach, most(reach, c.stride_y)); // ... yet bands share few of them
  const int64_t bands = pieces(c.height, least(wanted, c.height)), band = pieces(c.height, bands);
  run_tasks(cost(c.batch * c.out_height * c.out_width, n, c.out) > parallel_cost, c.batch * bands, [&](int64_t task) {
    const int64_t picture = task / bands, y0 = task % bands * band, y1 = least(c.height, y0 + band);
    if (y0 >= y1) return;
    const int64_t i0 = most(0, pieces(most(0, y0 + c.padding_y - reach), c.stride_y));
    const int64_t i1 = least(c.out_height, (y1 - 1 + c.padding_y) / c.stride_y + 1), rows = most(0, i1 - i0) * c.out_width;
    float* sums = scratch_sums.get<float>((y1 - y0) * line + rows * n);
    float* columns = sums + (y1 - y0) * line;
    clear_run(sums, (y1 - y0) * line);
    if (rows > 0)
      gemm_one({rows, n, c.out, {dy + (picture * c.out_height + i0) * c.out_width * c.out, c.out}, {weight, n}, columns, n}, {columns, n, {}}, false);
    for (int64_t r = 0; r < patches.runs; ++r) {
      const Run& run = patches.run[r];
      for (int64_t i = i0; i < i1; ++i) {
        const int64_t y = i * c.stride_y + run.dy;
        if (y < y0 || y >= y1) continue;
        float* row = sums + (y - y0) * line;
        const float* from = columns + (i - i0) * c.out_width * n + run.weight;
        int64_t at = run.dx * c.in + run.channel;
        for (int64_t j = 0; j < c.out_width; ++j, at += c.stride_x * c.in, from += n) {
          const int64_t begin = least(most(-at, 0), run.count), end = most(begin, least(line - at, run.count));
          vectors(begin, end, [&](int64_t k, auto lanes) { lanes.store(row + at + k, lanes.load(row + at + k) + lanes.load(from + k)); });
        }
      }
    }
    to.write(sums, (picture * c.height + y0) * c.width, (y1 - y0) * c.width, c.height, c.width, c.in);
  });
}

// dx[b, s q + phase] = sum over the taps u with (phase + padding - u * dilation) divisible by s, and over o, of
//   dy[b, q + (phase + padding - u * dilation) / s, o] * weight[o, u]
void convolution_input_gradient(const Convolution& c, const float* x, const float* dy, const float* weight, float* dx, const Epilogue& e) {
  if (c.batch * c.height * c.width * c.in <= 0) return;
  if (is_dense(c)) return gemm({c.batch * c.height * c.width, c.in, c.out, {dy, c.out}, {weight, c.in}, dx, c.in, e});
  Placement to{{dx, c.in, e}, c.height, c.width};
  if (c.rectify) to.gate = x;
  if (c.out > 0 && by_columns(c)) return input_gradient_by_columns(c, dy, weight, to);
  to.step_y = c.stride_y, to.step_x = c.stride_x;
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
      to.first_y = phase_y, to.first_x = phase_x;
      multiply_patches<TileF32>(patches, pixels, packed, c.in, to, parallel);
    }
}
