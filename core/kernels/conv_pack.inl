// Image patches as operands of products. Pictures are channel-last, so that the values that a kernel row of taps sees are one run of
// memory; a patch is a list of such runs, and packing is copying runs:
//
//        x (height, width, in)                a row of A: the patch of one pixel
//      +---------------------------+
//      |   [. . .]  <- run 0       |         [run 0      |run 1      |run 2      ]     3 taps * in values each
//      |   [. . .]  <- run 1       |   ==>
//      |   [. . .]  <- run 2       |         runs, or parts of runs, beyond the picture become zeros
//      +---------------------------+
//
// The list is all that tells a masked or dilated convolution, or a phase of a transposed one, from a plain one. Runs begin at whole units
// (gemm_block.inl): in bf16 a run of odd length is followed by one value that counts for nothing.
// Roof: L2 and L1 (each value is loaded and stored once per patch; its product then takes `out / W` multiply-adds).

// Neighbouring taps whose values are contiguous: values of the pixel (dy, dx) and those right of it, or a part of the channels of one.
struct Run {
  int64_t dy, dx;      // from the pixel of x that a patch belongs to
  int64_t channel;     // the first one; 0 when there are several pixels
  int64_t count;       // values
  int64_t at;          // where they stand in the patch
  int64_t weight;      // where they stand in a row of the weight (out, kernel_height * kernel_width * in)
};

constexpr int64_t longest_run = 512;

struct Pixel {
  int64_t picture, row, column;
};

struct Patches {
  const float* x;                // (batch, height, width, channels)
  int64_t height, width, channels;
  int64_t rows, cols;            // patches of one picture: (rows, cols)
  int64_t step_y, step_x;        // patch (i, j) belongs to pixel (i * step_y, j * step_x)
  bool rectify;
  Run* run;                      // sorted by `at`
  int64_t runs = 0, depth = 0;   // values of a patch: rows of B

  static int64_t most_runs(int64_t taps, int64_t channels) { return taps * pieces(channels, longest_run); }

  // The next tap; `weight` as in Run. Gives the place of its values in the patch.
  int64_t add(int64_t dy, int64_t dx, int64_t weight) {
    if (Run* last = runs ? run + runs - 1 : nullptr; last && last->dy == dy && last->channel == 0 && last->count % channels == 0 &&
                                                     last->dx + last->count / channels == dx && last->weight + last->count == weight &&
                                                     last->count + channels <= longest_run) {
      last->count += channels;
      depth = round_up(last->at + last->count, unit);
      return last->at + last->count - channels;
    }
    const int64_t at = depth;
    for (int64_t channel = 0; channel < channels; channel += longest_run) {
      const int64_t count = least(longest_run, channels - channel);
      run[runs++] = {dy, dx, channel, count, depth, weight + channel};
      depth += round_up(count, unit);
    }
    return at;
  }

  // The run behind the last that fits a block of at most `values` values from run `first` on.
  int64_t block_end(int64_t first, int64_t values) const {
    int64_t last = first + 1;
    while (last < runs && run[last].at + run[last].count - run[first].at <= values) ++last;
    return last;
  }
  int64_t begin(int64_t r) const { return r < runs ? run[r].at : depth; }

  Pixel pixel(int64_t i) const { return {i / cols / rows, i / cols % rows, i % cols}; }
  void next(Pixel& p) const {
    if (++p.column < cols) return;
    p.column = 0;
    if (++p.row == rows) p.row = 0, ++p.picture;
  }

  // `length` values of run r of a patch, from value `from` on: where they lie, or in `spare` when some are beyond the picture.
  const float* values(const Run& r, int64_t from, int64_t length, const Pixel& p, float* spare) const {
    const int64_t y = p.row * step_y + r.dy, line = width * channels;
    const int64_t at = (p.column * step_x + r.dx) * channels + r.channel + from;   // in the row of pixels
    const bool inside = y >= 0 && y < height;
    const float* row = x + (p.picture * height + (inside ? y : 0)) * line;
    if (inside && at >= 0 && at + length <= line) return row + at;
    const int64_t begin = inside ? least(most(-at, 0), length) : length, end = most(begin, least(line - at, length));
    for (int64_t i = 0; i < length; ++i) spare[i] = i >= begin && i < end ? row[at + i] : 0;
    return spare;
  }
};

#if defined(QD_BF16)
template <bool positive>
inline __attribute__((always_inline)) void pack_run(const float* from, int64_t n, float* to) {
  const auto round = [](V first, V second) {
    if (positive) first = max(zero(), first), second = max(zero(), second);
    return round_neighbours(first, second);
  };
  int64_t i = 0;
  for (; i + 2 * W <= n; i += 2 * W) store(to + i / 2, round(load(from + i), load(from + i + W)));
  if (i == n) return;
  const int64_t rest = n - i;
  store_some(to + i / 2, round(load_some(from + i, rest), rest > W ? load_some(from + i + W, rest - W) : zero()), pieces(rest, 2));
}
#else
// Neighbouring values as units.
template <bool positive>
inline __attribute__((always_inline)) void pack_run(const float* from, int64_t n, float* to) {
  vectors(0, n, [&](int64_t i, auto lanes) { lanes.store(to + i, positive ? max(zero(), lanes.load(from + i)) : lanes.load(from + i)); });
}
#endif

// Patches i0.. from run `first` to run `last` as rows of A.
template <bool positive>
__attribute__((noinline)) void pack_patch_rows(const Patches& a, int64_t first, int64_t last, int64_t i0, int64_t count, float* to, int64_t stride) {
  alignas(64) float spare[longest_run];
  for (int64_t r = first; r < last; ++r) {
    const Run& run = a.run[r];
    Pixel p = a.pixel(i0);
    float* out = to + (run.at - a.begin(first)) / unit;
    for (int64_t i = 0; i < count; ++i, out += stride, a.next(p)) pack_run<positive>(a.values(run, 0, run.count, p, spare), run.count, out);
  }
}

// The same as panels of B: units are the values of neighbouring patches. What lies between runs and behind them is arbitrary.
template <bool positive>
__attribute__((noinline)) void pack_patch_panels(const Patches& b, int64_t first, int64_t last, int64_t i0, int64_t count, float* to) {
  alignas(64) float spare[unit][longest_run];
  const int64_t p0 = b.begin(first), depth = b.begin(last) - p0, units = pieces(count, unit);
  for (int64_t r = first; r < last; ++r) {
    const Run& run = b.run[r];
    for (int64_t from = 0, length; from < run.count; from += length) {   // runs go on in the next panel
      const int64_t j = run.at - p0 + from, panel = j / panel_width * panel_width, width = least(panel_width, round_up(depth - panel, W));
      length = least(run.count - from, panel + panel_width - j);
      Pixel p = b.pixel(i0);
      float* out = to + panel * units + (j - panel);
      for (int64_t u = 0; u < units; ++u, out += width) {
        const float* source[unit];
        for (int64_t i = 0; i < unit; ++i) {
          source[i] = unit * u + i < count ? b.values(run, from, length, p, spare[i]) : nullptr;
          b.next(p);
        }
#if defined(QD_BF16)
        vectors(0, length, [&](int64_t k, auto lanes) {
          V even = lanes.load(source[0] + k), odd = source[1] ? lanes.load(source[1] + k) : zero();
          if (positive) even = max(zero(), even), odd = max(zero(), odd);
          lanes.store(out + k, round_pairs(even, odd));
        });
#else
        pack_run<positive>(source[0], length, out);
#endif
      }
    }
  }
}

// The taps of a forward pass: output pixel (i, j) sees x from (i * stride - padding) on.
inline Patches forward_patches(const Convolution& c, const float* x, Run* run) {
  Patches p{x, c.height, c.width, c.in, c.out_height, c.out_width, c.stride_y, c.stride_x, c.rectify, run};
  for (int64_t u = 0; u < c.kernel_height; ++u)
    for (int64_t v = 0; v < c.kernel_width; ++v) {
      const int64_t tap = u * c.kernel_width + v;
      if (!c.taps || c.taps[tap]) p.add(u * c.dilation_y - c.padding_y, v * c.dilation_x - c.padding_x, tap * c.in);
    }
  return p;
}
