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
// The list is all that tells a masked or dilated convolution, or a phase of a transposed one, from a plain one.
// Roof: L2 and L1 (each value is loaded and stored once per patch; its product then takes `out / W` multiply-adds).

// Neighbouring taps whose values are contiguous: `pixels` * in values from the pixel (dy, dx) on, or a part of the channels of one.
struct Run {
  int64_t dy, dx;      // from the pixel of x that a patch belongs to
  int64_t channel;     // the first one; 0 when there are several pixels
  int64_t count;       // values
  int64_t at;          // where they stand in the patch
  int64_t weight;      // where they stand in a row of the weight (out, kernel_height * kernel_width * in)
};

constexpr int64_t longest_run = 512;

struct Patches {
  const float* x;                // (batch, height, width, channels)
  int64_t height, width, channels;
  int64_t rows, cols;            // patches of one picture: (rows, cols)
  int64_t step_y, step_x;        // patch (i, j) belongs to pixel (i * step_y, j * step_x)
  bool rectify;
  Run* run;                      // sorted by `at`
  int64_t runs = 0, depth = 0;   // values of a patch: rows of B

  // The next tap; `weight` as in Run.
  void add(int64_t dy, int64_t dx, int64_t weight) {
    if (Run* last = runs ? run + runs - 1 : nullptr; last && last->dy == dy && last->channel == 0 && last->count % channels == 0 &&
                                                     last->dx + last->count / channels == dx && last->weight + last->count == weight &&
                                                     last->count + channels <= longest_run) {
      last->count += channels;
      depth += channels;
      return;
    }
    for (int64_t channel = 0; channel < channels; channel += longest_run) {
      const int64_t count = least(longest_run, channels - channel);
      run[runs++] = {dy, dx, channel, count, depth, weight + channel};
      depth += count;
    }
  }
  static int64_t most_runs(int64_t taps, int64_t channels) { return taps * pieces(channels, longest_run); }

  // The run behind the last that fits a block of at most `values` values from run `first` on.
  int64_t block_end(int64_t first, int64_t values) const {
    int64_t last = first + 1;
    while (last < runs && run[last].at + run[last].count - run[first].at <= values) ++last;
    return last;
  }
  int64_t begin(int64_t r) const { return r < runs ? run[r].at : depth; }

  // Values [from, to) of run r for patches i0, i0 + 1, ...: those of the first are written to `out`, of the next to out + step, ...
  template <class Element>
  void copy(int64_t r, int64_t from, int64_t to, int64_t i0, int64_t count, Element* out, int64_t step) const {
    rectify ? copy<true>(run[r], from, to, i0, count, out, step) : copy<false>(run[r], from, to, i0, count, out, step);
  }

 private:
  template <bool positive, class Element>
  void copy(const Run& r, int64_t from, int64_t to, int64_t i0, int64_t count, Element* out, int64_t step) const;
};

// to[i] = from[i], or relu of it. Every element type has these three.
template <bool positive>
inline __attribute__((always_inline)) void copy_run(const float* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + W <= n; i += W) store(to + i, positive ? max(zero(), load(from + i)) : load(from + i));
  if (i == n) return;
  const V rest = load_some(from + i, n - i);
  store_some(to + i, positive ? max(zero(), rest) : rest, n - i);
}
inline void clear_run(float* to, int64_t n) { __builtin_memset(to, 0, size_t(n) * sizeof(float)); }

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

template <bool positive, class Element>
void Patches::copy(const Run& r, int64_t from, int64_t to, int64_t i0, int64_t count, Element* out, int64_t step) const {
  const int64_t length = to - from, line = width * channels;
  picture_rows(i0, count, rows, cols, [&](int64_t picture, int64_t row, int64_t column, int64_t first, int64_t n) {
    Element* target = out + first * step;
    const int64_t y = row * step_y + r.dy;
    if (y < 0 || y >= height) {
      for (int64_t i = 0; i < n; ++i) clear_run(target + i * step, length);
      return;
    }
    const float* source = x + (picture * height + y) * line;
    int64_t at = (column * step_x + r.dx) * channels + r.channel + from;   // where the values begin in the row of pixels
    for (int64_t i = 0; i < n; ++i, at += step_x * channels, target += step) {
      if (at >= 0 && at + length <= line) {
        copy_run<positive>(source + at, length, target);
        continue;
      }
      const int64_t begin = least(most(-at, 0), length), end = most(begin, least(line - at, length));
      clear_run(target, begin);
      copy_run<positive>(source + at + begin, end - begin, target + begin);
      clear_run(target + end, length - end);
    }
  });
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
