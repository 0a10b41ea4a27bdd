// How results leave a product: C = activation(scale * A B + bias) + residual, or C += scale * A B.
// A tile adds one thing for free, its base: C itself once k has been cut, else the bias, or a residual that nothing comes before.
// The rest (activation, its input `pre`, a residual after it) is a second pass over each task's rows while they are in the cache.
// Bias, `pre` and residual must not overlap C.
struct Output {
  float* c;
  int64_t ldc;
  Epilogue e;

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

  template <class F>
  void pass(int64_t i0, int64_t rows, int64_t j0, int64_t cols, F activation) const {
    for (int64_t i = i0; i < i0 + rows; ++i)
      for (int64_t j = j0; j < j0 + cols; j += W) {
        const int64_t at = i * ldc + j, count = j0 + cols - j;
        V x = load_some(c + at, count);
        if (e.pre) store_some(e.pre + at, x, count);
        x = activation(x);
        if (e.residual) x += load_some(e.residual + at, count);
        store_some(c + at, x, count);
      }
  }
};
