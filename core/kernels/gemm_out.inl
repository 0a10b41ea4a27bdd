thread_local Scratch scratch_block;   // of a product that is turned

// How results leave a product: C = activation(scale * A B + bias) + residual, or C += scale * A B.
// A tile adds one thing for free, its base: C itself once k has been cut, else the bias, or a residual that nothing comes before.
// The rest (activation, its input `pre`, a residual after it) is a second pass over each task's rows while they are in the cache.
// Bias, `pre` and residual must not overlap C.
struct Output {
  float* c;
  int64_t ldc;
  Epilogue e;
  bool turned = false;   // the product is C transposed: only `scale` and `add` are taken from e

  struct Base {
    const float* data;
    int64_t row;
  };
  // What the product of the first (or a later) block of k is added to, from row i and column j.
  Base base(int64_t i, int64_t j, bool first) const {
    if (!first || e.add) return {c + i * ldc + j, ldc};
    if (e.bias) return {e.bias + j, 0};
    if (e.residual && !finishes()) return {e.residual + i * ldc + j, ldc};
    return {nullptr, 0};
  }

  bool finishes() const { return e.activation != Activation::none || e.pre || (e.residual && e.bias); }

  // The second pass, once, after the last block of k.
  void finish(int64_t i0, int64_t rows, int64_t j0, int64_t cols) const {
    if (!finishes()) return;
    switch (e.activation) {
      case Activation::none: return pass(i0, rows, j0, cols, [](V x) { return x; });
      case Activation::relu: return pass(i0, rows, j0, cols, [](V x) { return max(zero(), x); });
      case Activation::gelu:   // x / 2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
        return pass(i0, rows, j0, cols, [](V x) { return x * sigmoid(set1(1.59576912f) * fma(set1(0.044715f) * x * x, x, x)); });
      case Activation::gelu_erf:
        return pass(i0, rows, j0, cols, [](V x) { return set1(0.5f) * x * (set1(1) + erf(set1(0.70710678f) * x)); });
      case Activation::silu: return pass(i0, rows, j0, cols, [](V x) { return x * sigmoid(x); });
    }
  }

  // For products that lie elsewhere: C from raw[i * row + j] (null: zeros), rows and columns from i0 and j0.
  void write(const float* raw, int64_t row, int64_t i0, int64_t rows, int64_t j0, int64_t cols) const {
    const Base from = base(i0, j0, true);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; j += W) {
        V x = raw ? set1(e.scale) * load_some(raw + i * row + j, cols - j) : zero();
        if (from.data) x += load_some(from.data + i * from.row + j, cols - j);
        store_some(c + (i0 + i) * ldc + j0 + j, x, cols - j);
      }
    finish(i0, rows, j0, cols);
  }

  bool can_turn() const { return !turned && !finishes() && !e.bias && !e.residual; }

  // Where the tiles of a task write, `rows` of them from row i and column j, and what they add to.
  void aim(Block& t, int64_t i, int64_t rows, int64_t j, bool first) const {
    t.scale = e.scale;
    if (turned) {
      t.c = scratch_block.get<float>(rows * panel_width), t.c_row = panel_width;
      return;
    }
    const Base from = base(i, j, first);
    t.base = from.data, t.base_row = from.row;
    t.c = c + i * ldc + j, t.c_row = ldc;
    if (e.pre) t.beside = e.pre - c;
  }

  // After they have written a block of k, the `first` or the `last`.
  void settle(const Block& t, int64_t i, int64_t rows, int64_t j, int64_t cols, bool first, bool last) const {
    if (turned) return turn(t.c, i, rows, j, cols, first);
    if (last) finish(i, rows, j, cols);
  }

  // A block of the product, into C transposed.
  void turn(const float* block, int64_t i0, int64_t rows, int64_t j0, int64_t cols, bool first) const {
    for (int64_t i = 0; i < rows; i += W)
      for (int64_t j = 0; j < cols; j += W) {
        V x[W];
        const int64_t count = rows - i;
#pragma GCC unroll 16
        for (int r = 0; r < W; ++r) x[r] = r < count ? load(block + (i + r) * panel_width + j) : zero();
        transpose_square(x);
        for (int64_t r = 0; r < least(W, cols - j); ++r) {
          float* to = c + (j0 + j + r) * ldc + i0 + i;
          store_some(to, first && !e.add ? x[r] : load_some(to, count) + x[r], count);
        }
      }
  }

  template <class F>
  void pass(int64_t i0, int64_t rows, int64_t j0, int64_t cols, F activation) const {
    for (int64_t i = i0; i < i0 + rows; ++i)
      vectors(i * ldc + j0, i * ldc + j0 + cols, [&](int64_t at, auto lanes) {
        V x = lanes.load(c + at);
        if (e.pre) lanes.store(e.pre + at, x);
        x = activation(x);
        if (e.residual) x += lanes.load(e.residual + at);
        lanes.store(c + at, x);
      });
  }
};
