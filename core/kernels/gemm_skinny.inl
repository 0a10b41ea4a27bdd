// Products with one side of at most `skinny` rows or columns, as in generation: the large operand is read once, from end to end,
// at the speed of memory, and nothing is packed. With x (few, k) the small operand and y the large one of length l:
//   rows   y stored (k, l): out[i] += x[i,p] * y[p], eight rows of y at a time
//   dots   y stored (l, k): out[i,j] = x[i] . y[j], a few rows of y at a time
constexpr int64_t skinny = 8;
constexpr int64_t skinny_strip = 512;   // most results a task keeps in L1 for each row of x; the distance between these rows

template <int n>
struct Constant {
  static constexpr int value = n;
};

// S rows of y are added to the sums of R rows of x, N vectors of columns; `tail`: the last of them in part.
template <int R, int S, int N, bool tail>
inline __attribute__((always_inline)) void skinny_step(int64_t cols, const float* x, int64_t x_row, int64_t x_col, const float* y,
                                                       int64_t ld, float* out) {
  V right[S][N];
#pragma GCC unroll 8
  for (int p = 0; p < S; ++p)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) right[p][j] = tail ? load_some(y + p * ld + j * W, cols - j * W) : load(y + p * ld + j * W);
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
    V sum[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) sum[j] = load(out + i * skinny_strip + j * W);
#pragma GCC unroll 8
    for (int p = 0; p < S; ++p) {
      const V left = set1(x[i * x_row + p * x_col]);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) sum[j] = fma(left, right[p][j], sum[j]);
    }
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) store(out + i * skinny_strip + j * W, sum[j]);
  }
}

template <int R>
void skinny_rows(int64_t cols, int64_t k, const float* x, int64_t x_row, int64_t x_col, const float* y, int64_t ld, float* out) {
  constexpr int S = W == 16 ? 8 : 4, N = 2;
  for (int i = 0; i < R; ++i)
    for (int64_t j = 0; j < cols; j += W) store(out + i * skinny_strip + j, zero());
  const auto add = [&](auto rows) {
    int64_t j = 0;
    for (; j + N * W <= cols; j += N * W) skinny_step<R, rows.value, N, false>(0, x, x_row, x_col, y + j, ld, out + j);
    for (; j < cols; j += W) skinny_step<R, rows.value, 1, true>(cols - j, x, x_row, x_col, y + j, ld, out + j);
    x += rows.value * x_col;
    y += rows.value * ld;
  };
  int64_t p = 0;
  for (; p + S <= k; p += S) add(Constant<S>{});
  for (; p < k; ++p) add(Constant<1>{});
}

// out[i, j] for R rows of x and C rows of y, all contiguous.
template <int R, int C>
void dots(int64_t k, const float* x, int64_t x_row, const float* y, int64_t ld, float* out) {
  V sum[R][C];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) sum[i][j] = zero();
  for (int64_t p = 0; p < k; p += W) {
    V right[C];
    const bool whole = k - p >= W;
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) right[j] = whole ? load(y + j * ld + p) : load_some(y + j * ld + p, k - p);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const V left = whole ? load(x + i * x_row + p) : load_some(x + i * x_row + p, k - p);
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) sum[i][j] = fma(left, right[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) out[i * skinny_strip + j] = reduce_add(sum[i][j]);
}

template <int R>
void skinny_dots(int64_t cols, int64_t k, const float* x, int64_t x_row, const float* y, int64_t ld, float* out) {
  constexpr int C = W == 16 ? 4 : 2;
  int64_t j = 0;
  for (; j + C <= cols; j += C) dots<R, C>(k, x, x_row, y + j * ld, ld, out + j);
  for (; j < cols; ++j) dots<R, 1>(k, x, x_row, y + j * ld, ld, out + j);
}

// C (few, l) = x y, or its transpose (l, few).
struct Skinny {
  int64_t few, length, k;
  const float* x;
  int64_t x_row, x_col;
  Matrix y;            // (k, length); transposed: stored (length, k)
  bool transposed;     // of the result
};

// Calls f with the Constant that equals n, 1 <= n <= most.
template <int most, class F>
void with_count(int64_t n, F&& f) {
  if constexpr (most > 1) {
    if (n < most) return with_count<most - 1>(n, f);
  }
  f(Constant<most>{});
}

inline void multiply_skinny(Skinny s, const Output& out, bool parallel) {
  float* gathered = nullptr;
  if (s.y.transposed && s.x_col != 1) {   // dots need contiguous rows of x
    gathered = scratch_a.get<float>(s.few * s.k);
    for (int64_t i = 0; i < s.few; ++i)
      for (int64_t p = 0; p < s.k; ++p) gathered[i * s.k + p] = s.x[i * s.x_row + p * s.x_col];
    s.x = gathered, s.x_row = s.k, s.x_col = 1;
  }
  const int64_t wanted = least(skinny_strip, most(192, pieces(s.length, 8)));   // long runs, yet enough tasks
  const int64_t strip = round_up(pieces(s.length, pieces(s.length, wanted)), W);
  run_tasks(parallel, pieces(s.length, strip), [&](int64_t task) {
    const int64_t j0 = task * strip, cols = least(strip, s.length - j0);
    alignas(64) float raw[skinny * skinny_strip];
    if (s.y.transposed) {
      constexpr int together = 4;   // rows of x at once: more would not fit the registers
      for (int64_t i = 0; i < s.few; i += together)
        with_count<together>(least(together, s.few - i), [&](auto n) {
          skinny_dots<n.value>(cols, s.k, s.x + i * s.x_row, s.x_row, s.y.data + j0 * s.y.ld, s.y.ld, raw + i * skinny_strip);
        });
    } else {
      with_count<skinny>(s.few, [&](auto n) {
        skinny_rows<n.value>(cols, s.k, s.x, s.x_row, s.x_col, s.y.data + j0, s.y.ld, raw);
      });
    }
    if (!s.transposed) return out.write(raw, skinny_strip, 0, s.few, j0, cols);
    alignas(64) float turned[skinny * skinny_strip];
    for (int64_t j = 0; j < cols; ++j)
      for (int64_t i = 0; i < s.few; ++i) turned[j * skinny + i] = raw[i * skinny_strip + j];
    out.write(turned, skinny, j0, cols, 0, s.few);
  });
}
