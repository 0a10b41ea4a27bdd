// Convolution as a product whose left operand is packed from image patches, strip by strip: C (pixels, out) = patches (pixels, depth) x
// weight^T. The weight is packed once for all threads; a task is a strip of pixels, whose patches and results stay in its core's L2.
// The gradient of the input is again such a product, dy with the weight turned round; with a stride, one for each phase: the input
// pixels (q * stride + phase) see the same few taps, and no other taps. So nothing is added by two tasks.
// Roof: arithmetic.

thread_local Scratch scratch_runs, scratch_turned;

// f(picture, row, column, first, count): patches i0 + first .. i0 + first + count lie side by side from (row, column) on.
template <class F>
inline void picture_rows(int64_t i0, int64_t count, int64_t rows, int64_t cols, F&& f) {
  int64_t column = i0 % cols, row = i0 / cols % rows, picture = i0 / cols / rows;
  for (int64_t first = 0, n; first < count; first += n) {
    n = least(count - first, cols - column);
    f(picture, row, column, first, n);
    column = 0;
    if (++row == rows) row = 0, ++picture;
  }
}

// Where the results of patch (picture, i, j) go: pixel (first_y + i * step_y, first_x + j * step_x) of a picture, on the way out through
// `out`, which describes all pixels.
struct Placement {
  Output out;
  int64_t height, width;
  int64_t first_y = 0, first_x = 0, step_y = 1, step_x = 1;
  const float* gate = nullptr;   // laid out as C: where it is not positive, results become zero

  bool direct() const { return step_y == 1 && step_x == 1 && !gate; }

  // Results i0.. of patches (rows, cols), held in raw (count, n).
  __attribute__((noinline)) void write(float* raw, int64_t i0, int64_t count, int64_t rows, int64_t cols, int64_t n) const {
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

constexpr int64_t patch_depth = 1280 * unit;    // deepest block: a panel of B and some rows of A fit L2 ...
constexpr int64_t patch_units = 48 * 1280;      // ... with so many units of A

// `weight` is packed (depth, n): block after block of runs, in each panel after panel.
inline void multiply_patches(const Patches& a, int64_t pixels, const float* weight, int64_t n, const Placement& to, bool parallel) {
  const int64_t deepest = most(1, pieces(least(a.depth, patch_depth), unit)), stride = round_up(deepest, W) + 16;
  int64_t tall = least(192, round_up(most(patch_units / deepest, 1), 12));
  while (tall > 12 && pieces(pixels, tall) < 32) tall -= 12;
  tall = round_up(pieces(pixels, pieces(pixels, tall)), 6);
  run_tasks(parallel, pieces(pixels, tall), [=](int64_t task) {
    const int64_t i0 = task * tall, height = least(tall, pixels - i0);
    if (a.runs == 0) return to.write(nullptr, i0, height, a.rows, a.cols, n);
    float* rows = scratch_a.get<float>(height * stride);
    float* raw = to.direct() ? nullptr : scratch_sums.get<float>(height * n);
    for (int64_t first = 0, last; first < a.runs; first = last) {
      last = a.block_end(first, patch_depth);
      const int64_t p0 = a.begin(first), units = pieces(a.begin(last) - p0, unit);
      a.rectify ? pack_patch_rows<true>(a, first, last, i0, height, rows, stride) : pack_patch_rows<false>(a, first, last, i0, height, rows, stride);
      for (int64_t j = 0; j < n; j += panel_width) {
        const int64_t width = least(panel_width, n - j);
        Block t{units, rows, stride, 1, weight + p0 / unit * round_up(n, W) + j * units, round_up(width, W)};
        if (raw) {
          t.c = raw + j, t.c_row = n;
          if (first) t.base = t.c, t.base_row = n;
        } else {
          to.out.aim(t, i0, height, j, first == 0);
        }
        strip(t, height, width, false);
        if (!raw) to.out.settle(t, i0, height, j, width, first == 0, last == a.runs);
      }
    }
    if (raw) to.write(raw, i0, height, a.rows, a.cols, n);
  });
}

// Packs the blocks of B that multiply_patches expects.
template <class B>
float* pack_weight(const Patches& a, const B& b, int64_t n, bool parallel) {
  float* packed = scratch_b.get<float>(round_up(n, W) * pieces(a.depth, unit));
  for (int64_t first = 0, last; first < a.runs; first = last) {
    last = a.block_end(first, patch_depth);
    const int64_t p0 = a.begin(first), depth = a.begin(last) - p0, units = pieces(depth, unit);
    run_tasks(parallel, pieces(n, panel_width), [=](int64_t panel) {
      const int64_t j = panel * panel_width;
      b(p0, depth, j, least(panel_width, n - j), packed + p0 / unit * round_up(n, W) + j * units);
    });
  }
  return packed;
}

// One tap that neither moves nor skips pixels, and no pixels that it does not reach (output_padding): a dense layer.
inline bool is_dense(const Convolution& c) {
  return c.kernel_height * c.kernel_width == 1 && c.stride_y * c.stride_x == 1 && c.padding_y + c.padding_x == 0 && c.height == c.out_height &&
         c.width == c.out_width && !c.taps && !c.rectify;
}

#if defined(__AVX512F__) && !defined(QD_BF16)
#define QD_HAS_BF16
inline bool goes_to_bf16(const Convolution& c) {
  return c.precision == Precision::bf16 && bf16 &&
         pays_in_bf16({c.batch * c.out_height * c.out_width, c.out, c.kernel_height * c.kernel_width * c.in, {}, {}, nullptr, 0});
}
#endif

inline void copy_values(const float* from, int64_t n, float* to) { __builtin_memcpy(to, from, size_t(n) * sizeof(float)); }
inline void clear_values(float* to, int64_t n) { __builtin_memset(to, 0, size_t(n) * sizeof(float)); }

void convolution(const Convolution& c, const float* x, const float* weight, float* y, const Epilogue& e) {
  const int64_t pixels = c.batch * c.out_height * c.out_width, whole = c.kernel_height * c.kernel_width * c.in;
  if (pixels <= 0 || c.out <= 0) return;
#if defined(QD_HAS_BF16)
  if (goes_to_bf16(c)) return bf16->convolution(c, x, weight, y, e);
#endif
  if (is_dense(c)) return gemm({pixels, c.out, c.in, {x, c.in}, {weight, c.in, true}, y, c.out, e, 1, 0, 0, 0, c.precision});
  const Patches patches = forward_patches(c, x, scratch_runs.get<Run>(Patches::most_runs(c.kernel_height * c.kernel_width, c.in)));
  const bool parallel = cost(pixels, c.out, patches.depth) > parallel_cost;
  if (c.taps || patches.depth != whole) {   // the weight without taps that are left out, and with zeros between runs
    float* kept = scratch_turned.get<float>(c.out * patches.depth);
    clear_values(kept, c.out * patches.depth);
    for (int64_t o = 0; o < c.out; ++o)
      for (int64_t r = 0; r < patches.runs; ++r) {
        const Run& run = patches.run[r];
        copy_values(weight + o * whole + run.weight, run.count, kept + o * patches.depth + run.at);
      }
    weight = kept;
  }
  const float* packed = pack_weight(patches, PackTransposedB{weight, patches.depth}, c.out, parallel);
  multiply_patches(patches, pixels, packed, c.out, {{y, c.out, e}, c.out_height, c.out_width}, parallel);
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
  run_tasks(cost(c.batch * c.out_height * c.out_width, n, c.out) > parallel_cost, c.batch * bands, [=](int64_t task) {
    const int64_t picture = task / bands, y0 = task % bands * band, y1 = least(c.height, y0 + band);
    if (y0 >= y1) return;
    const int64_t i0 = most(0, pieces(most(0, y0 + c.padding_y - reach), c.stride_y));
    const int64_t i1 = least(c.out_height, (y1 - 1 + c.padding_y) / c.stride_y + 1), rows = most(0, i1 - i0) * c.out_width;
    float* sums = scratch_sums.get<float>((y1 - y0) * line + rows * n);
    float* columns = sums + (y1 - y0) * line;
    clear_values(sums, (y1 - y0) * line);
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
#if defined(QD_HAS_BF16)
  if (goes_to_bf16(c)) return bf16->convolution_input_gradient(c, x, dy, weight, dx, e);
#endif
  if (is_dense(c)) return gemm({c.batch * c.height * c.width, c.in, c.out, {dy, c.out}, {weight, c.in}, dx, c.in, e, 1, 0, 0, 0, c.precision});
  Placement to{{dx, c.in, e}, c.height, c.width};
  if (c.rectify) to.gate = x;
  if (c.out > 0 && by_columns(c)) return input_gradient_by_columns(c, dy, weight, to);
  to.step_y = c.stride_y, to.step_x = c.stride_x;
  const int64_t taps = c.kernel_height * c.kernel_width, most_depth = taps * round_up(c.out, unit);
  Run* run = scratch_runs.get<Run>(Patches::most_runs(taps, c.out));
  for (int64_t phase_y = 0; phase_y < least(c.stride_y, c.height); ++phase_y)
    for (int64_t phase_x = 0; phase_x < least(c.stride_x, c.width); ++phase_x) {
      const int64_t rows = pieces(c.height - phase_y, c.stride_y), cols = pieces(c.width - phase_x, c.stride_x);
      Patches patches{dy, c.out_height, c.out_width, c.out, rows, cols, 1, 1, false, run};
      float* turned = scratch_turned.get<float>(most_depth * c.in);   // (depth, in)
      if (c.out % unit) clear_values(turned, most_depth * c.in);
      int64_t count = 0;
      for (int64_t u = c.kernel_height - 1; u >= 0; --u)
        for (int64_t v = c.kernel_width - 1; v >= 0; --v) {
          const int64_t tap = u * c.kernel_width + v;
          const int64_t down = phase_y + c.padding_y - u * c.dilation_y, right = phase_x + c.padding_x - v * c.dilation_x;
          if (down % c.stride_y || right % c.stride_x || (c.taps && !c.taps[tap])) continue;
          float* row = turned + patches.add(down / c.stride_y, right / c.stride_x, count++ * c.out) * c.in;
          for (int64_t o = 0; o < c.out; ++o) copy_values(weight + (o * taps + tap) * c.in, c.in, row + o * c.in);
        }
      const int64_t pixels = c.batch * rows * cols;
      const bool parallel = cost(pixels, c.in, patches.depth) > parallel_cost;
      const float* packed = pack_weight(patches, PackB{turned, c.in}, c.in, parallel);
      to.first_y = phase_y, to.first_x = phase_x;
      multiply_patches(patches, pixels, packed, c.in, to, parallel);
    }
}
