// The gradient of a convolution's weight: dW (out, depth) = dy^T (out, pixels) x patches (pixels, depth), where the patches of a strip of
// pixels are packed as panels of B. Tasks are (slice of pixels) x (block of depth); each adds up its strips in a part of its own of the
// slice's sum, and the slices meet in order.
// Roof: arithmetic.

constexpr int64_t gradient_strip = 192;    // pixels: patches, rows of dy and the sums share L2
constexpr int64_t gradient_depth = 384;    // values of a patch
constexpr int64_t gradient_shares = 24;

// Runs [first, last) of patches i0.. as panels of B.
template <class Element>
void pack_patch_panels(const Patches& b, int64_t first, int64_t last, int64_t i0, int64_t count, Element* to) {
  const int64_t p0 = b.begin(first), depth = b.begin(last) - p0;
  for (int64_t r = first; r < last; ++r)
    for (int64_t from = 0, end; from < b.run[r].count; from = end) {
      const int64_t j = b.run[r].at - p0 + from, panel = j / panel_width * panel_width;
      end = least(b.run[r].count, from + panel + panel_width - j);   // runs go on in the next panel
      const int64_t width = least(panel_width, round_up(depth - panel, W));
      b.copy(r, from, end, i0, count, to + panel * count + (j - panel), width);
    }
  const int64_t rest = depth % W, panel = depth / panel_width * panel_width;
  if (!rest) return;
  const int64_t width = least(panel_width, round_up(depth - panel, W));
  for (int64_t i = 0; i < count; ++i) clear_run(to + panel * count + i * width + depth - panel, W - rest);
}

template <class Tile>
void multiply_weight_gradient(const Patches& b, int64_t pixels, const float* dy, int64_t out, int64_t whole, float* dweight, bool add, bool parallel) {
  using Element = typename Tile::Element;
  const int64_t blocks = pieces(b.depth, gradient_depth);   // nearly: blocks end where runs end
  const int64_t strips = pieces(pixels, gradient_strip);
  const int64_t length = pieces(strips, least(strips, pieces(gradient_shares, blocks))) * gradient_strip, slices = pieces(pixels, length);
  const int64_t size = out * b.depth;
  float* sums = scratch_sums.get<float>(slices * size);
  int64_t* starts = scratch_turned.get<int64_t>(b.runs + 1);
  int64_t count = 0;
  for (int64_t first = 0; first < b.runs; first = b.block_end(first, gradient_depth)) starts[count++] = first;
  starts[count] = b.runs;
  run_tasks(parallel, slices * count, [&](int64_t task) {
    const int64_t slice = task / count, first = starts[task % count], last = starts[task % count + 1];
    const int64_t p0 = b.begin(first), depth = b.begin(last) - p0;
    float* sum = sums + slice * size + p0;
    const int64_t begin = slice * length, end = least(pixels, begin + length);
    for (int64_t i0 = begin; i0 < end; i0 += gradient_strip) {
      const int64_t tall = least(gradient_strip, end - i0);
      Element* panels = scratch_b.get<Element>(round_up(depth, W) * tall);
      pack_patch_panels(b, first, last, i0, tall, panels);
      for (int64_t j = 0; j < depth; j += panel_width) {
        const int64_t width = least(panel_width, depth - j);
        typename Tile::Operands t;
        t.depth = tall;
        t.a = dy + i0 * out, t.a_row = 1, t.a_col = out;
        t.b = panels + j * tall, t.b_row = round_up(width, W);
        t.c = sum + j, t.c_row = b.depth;
        t.base = i0 == begin ? nullptr : sum + j, t.base_row = i0 == begin ? 0 : b.depth;
        t.scale = 1;
        Tile::run(t, out, width, false);
      }
    }
  });
  run_tasks(parallel && size > grain, out, [&](int64_t o) {
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
  if (is_dense(c)) return gemm({c.out, c.in, pixels, {dy, c.out, true}, {x, c.in}, dweight, c.in, {.add = add}});
  if (!add && (pixels <= 0 || c.taps)) fill(c.out * whole, 0, dweight);
  if (pixels <= 0) return;
  const Patches patches = forward_patches(c, x, scratch_runs.get<Run>(Patches::most_runs(taps, c.in)));
  if (patches.runs == 0) return;
  multiply_weight_gradient<TileF32>(patches, pixels, dy, c.out, whole, dweight, add, cost(c.out, patches.depth, pixels) > parallel_cost);
}
