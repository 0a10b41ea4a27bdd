// Packers: functors that fill the panels of the product engine. A packer for another source (image patches) or another element
// (gemm_pack_bf16.inl) is one more struct like these; `packs` is false where the tiles can read the operand where it lies, `turns` is true
// where the memory of A runs across its rows.
//
//   A (rows of depth):   to[i * stride + p] = A[i0 + i, p0 + p]; there is room for W values behind each row
//   B (panels):          columns in panels of panel_width; in each, to[p * width + j] = B[p0 + p, j0 + j], where width is
//                        panel_width or, in the last panel, what is left rounded up to whole vectors; there, columns beyond
//                        `cols` are 0

constexpr int64_t panel_width = max_vectors * W;

#if defined(__AVX512F__)
inline V interleave_low(V a, V b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline V interleave_high(V a, V b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
inline V interleave_low(V a, V b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline V interleave_high(V a, V b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
inline V interleave_low(V a, V b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline V interleave_high(V a, V b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// The vectors x[0] .. x[W - 1] as a matrix of W x W, transposed. Interleaving the first half of the vectors with the second
// rotates the bits of (vector, lane) by one: after log2(W) rounds the two have changed places.
inline __attribute__((always_inline)) void transpose_square(V* x) {
  V y[W];
#pragma GCC unroll 4
  for (int round = 1; round < W; round *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < W / 2; ++i) {
      y[2 * i] = interleave_low(x[i], x[i + W / 2]);
      y[2 * i + 1] = interleave_high(x[i], x[i + W / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) x[i] = y[i];
  }
}

#if !defined(QD_BF16)
// to[j * to_row + i] = from[i * from_row + j] for i < rows, j < cols, both at most W; for i from `rows` to W it becomes 0.
inline void transpose_block(const float* from, int64_t from_row, int64_t rows, int64_t cols, float* to, int64_t to_row) {
  V x[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) x[i] = i < rows ? load_some(from + i * from_row, cols) : zero();
  transpose_square(x);
#pragma GCC unroll 16
  for (int j = 0; j < W; ++j)
    if (j < cols) store(to + j * to_row, x[j]);
}

// A read where it lies, transposed or not.
struct DirectA {
  static constexpr bool packs = false, turns = false;
  const float* data;
  int64_t row, col;
};

// A stored transposed, turned back into rows.
struct PackTransposedA {
  static constexpr bool packs = true, turns = true;
  const float* data;
  int64_t ld;
  void operator()(int64_t i0, int64_t rows, int64_t p0, int64_t depth, float* to, int64_t stride) const {
    for (int64_t p = 0; p < depth; p += W)
      for (int64_t i = 0; i < rows; i += W)
        transpose_block(data + (p0 + p) * ld + i0 + i, ld, least(depth - p, W), least(rows - i, W), to + i * stride + p, stride);
  }
};

// B read where it lies.
struct DirectB {
  static constexpr bool packs = false;
  const float* data;
  int64_t ld;
};

// B as it lies, cut into panels. The rows of a panel are no stream that a processor foresees: they are asked for some steps ahead.
struct PackB {
  static constexpr bool packs = true;
  const float* data;
  int64_t ld;
  void operator()(int64_t p0, int64_t depth, int64_t j0, int64_t cols, float* to) const {
    constexpr int64_t ahead = 8;
    for (int64_t j = 0; j < cols; j += panel_width) {
      const int64_t width = least(panel_width, round_up(cols - j, W));
      for (int64_t p = 0; p < depth; ++p) {
        const float* from = data + (p0 + p) * ld + j0 + j;
        for (int64_t v = 0; v < width; v += W) {
          __builtin_prefetch(from + ahead * ld + v);
          store(to + j * depth + p * width + v, load_some(from + v, cols - j - v));
        }
      }
    }
  }
};

// B stored transposed: every column is contiguous.
struct PackTransposedB {
  static constexpr bool packs = true;
  const float* data;
  int64_t ld;
  void operator()(int64_t p0, int64_t depth, int64_t j0, int64_t cols, float* to) const {
    for (int64_t j = 0; j < cols; j += panel_width) {
      const int64_t width = least(panel_width, round_up(cols - j, W));
      for (int64_t v = 0; v < width; v += W)
        for (int64_t p = 0; p < depth; p += W)
          transpose_block(data + (j0 + j + v) * ld + p0 + p, ld, least(cols - j - v, W), least(depth - p, W),
                                to + j * depth + p * width + v, width);
    }
  }
};
#endif
