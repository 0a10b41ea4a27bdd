// The packers of gemm_pack.inl for tiles that multiply bf16: they round, and put neighbours along k side by side into 32 bits.
// Rounding is to nearest, ties to even; NaN and infinity stay; denormals become zero. Odd depths are padded with 0.
//
//   A (rows of depth):   to[i * stride + u] = (A[i0 + i, p0 + 2u], A[i0 + i, p0 + 2u + 1])
//   B (panels):          to[u * width + j]  = (B[p0 + 2u, j0 + j], B[p0 + 2u + 1, j0 + j])
// Strides are in units of 32 bits. Roof: memory, reading f32; the transposes come close to the shuffle ports.

// The numbers of `first` two by two, then those of `second`.
inline V round_neighbours(V first, V second) { return (V)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first); }

// Lane by lane (even, odd): rounded side by side, then shuffled like two packs of cards.
inline V round_pairs(V even, V odd) {
  typedef uint16_t Halves __attribute__((vector_size(64)));
  const Halves x = (Halves)round_neighbours(even, odd);
  return (V)__builtin_shufflevector(x, x, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14,
                                    30, 15, 31);
}

// Neighbours in memory: lane u holds (p[2u], p[2u + 1]), zeros from `count` on.
inline V round_run(const float* p, int64_t count) {
  return round_neighbours(load_some(p, count), count > W ? load_some(p + W, count - W) : zero());
}

// A as it lies.
struct PackA {
  static constexpr bool packs = true, turns = false;
  const float* data;
  int64_t ld;
  void operator()(int64_t i0, int64_t rows, int64_t p0, int64_t depth, float* to, int64_t stride) const {
    for (int64_t i = 0; i < rows; ++i) {
      const float* from = data + (i0 + i) * ld + p0;
      for (int64_t p = 0; p < depth; p += 2 * W) {
        __builtin_prefetch(from + ld + p);   // the row that comes next
        __builtin_prefetch(from + ld + p + W);
        store(to + i * stride + p / 2, round_run(from + p, depth - p));
      }
    }
  }
};

// A stored transposed: pairs of its stored rows, turned into rows of pairs.
struct PackTransposedA {
  static constexpr bool packs = true, turns = true;
  const float* data;
  int64_t ld;
  void operator()(int64_t i0, int64_t rows, int64_t p0, int64_t depth, float* to, int64_t stride) const {
    for (int64_t p = 0; p < depth; p += 2 * W)
      for (int64_t i = 0; i < rows; i += W) {
        const float* from = data + (p0 + p) * ld + i0 + i;
        V x[W];
#pragma GCC unroll 16
        for (int u = 0; u < W; ++u)
          x[u] = round_pairs(p + 2 * u < depth ? load_some(from + 2 * u * ld, rows - i) : zero(),
                             p + 2 * u + 1 < depth ? load_some(from + (2 * u + 1) * ld, rows - i) : zero());
        transpose_square(x);
#pragma GCC unroll 16
        for (int r = 0; r < W; ++r)
          if (i + r < rows) store(to + (i + r) * stride + p / 2, x[r]);
      }
  }
};

// B as it lies: its rows two by two, asked for some steps ahead as in f32.
struct PackB {
  static constexpr bool packs = true;
  const float* data;
  int64_t ld;
  void operator()(int64_t p0, int64_t depth, int64_t j0, int64_t cols, float* to) const {
    constexpr int64_t ahead = 8;
    const int64_t units = pieces(depth, 2);
    for (int64_t j = 0; j < cols; j += panel_width) {
      const int64_t width = least(panel_width, round_up(cols - j, W));
      for (int64_t u = 0; u < units; ++u) {
        const float* from = data + (p0 + 2 * u) * ld + j0 + j;
        for (int64_t v = 0; v < width; v += W) {
          __builtin_prefetch(from + ahead * ld + v);
          __builtin_prefetch(from + (ahead + 1) * ld + v);
          store(to + j * units + u * width + v,
                round_pairs(load_some(from + v, cols - j - v), 2 * u + 1 < depth ? load_some(from + ld + v, cols - j - v) : zero()));
        }
      }
    }
  }
};

// B stored transposed: every column is contiguous, and so are its pairs.
struct PackTransposedB {
  static constexpr bool packs = true;
  const float* data;
  int64_t ld;
  void operator()(int64_t p0, int64_t depth, int64_t j0, int64_t cols, float* to) const {
    const int64_t units = pieces(depth, 2);
    for (int64_t j = 0; j < cols; j += panel_width) {
      const int64_t width = least(panel_width, round_up(cols - j, W));
      for (int64_t v = 0; v < width; v += W)
        for (int64_t u = 0; u < units; u += W) {
          const float* from = data + (j0 + j + v) * ld + p0 + 2 * u;
          V x[W];
#pragma GCC unroll 16
          for (int c = W; c < 2 * W; ++c) {   // columns that come next
            __builtin_prefetch(from + c * ld);
            __builtin_prefetch(from + c * ld + W);
          }
#pragma GCC unroll 16
          for (int c = 0; c < W; ++c) x[c] = j + v + c < cols ? round_run(from + c * ld, depth - 2 * u) : zero();
          transpose_square(x);
#pragma GCC unroll 16
          for (int r = 0; r < W; ++r)
            if (u + r < units) store(to + j * units + (u + r) * width + v, x[r]);
        }
    }
  }
};
