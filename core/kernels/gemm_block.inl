// Register tiles, and the serial product of small blocks that needs nothing else. Everything that multiplies matrices ends here.
// A tile keeps R x N vectors of C in registers; for each p it loads N vectors of row p of B and multiplies each with R broadcast
// elements of column p of A:
//                      b b b b        N vectors of one row of B
//                 a    C C C C
//       R scalars a    C C C C        loads per step: N + R, fused multiply-adds: N * R
//                 a    C C C C

// What lies along k is counted in units of 32 bits: one f32, or two neighbours in bf16, of which a multiply-add takes both:
// c + a[0] b[0] + a[1] b[1]. Everything else is the same for both.
#if defined(QD_BF16)
constexpr int64_t unit = 2;
inline V multiply_add(V a, V b, V c) { return (V)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b); }
#else
constexpr int64_t unit = 1;
inline V multiply_add(V a, V b, V c) { return fma(a, b, c); }
#endif
typedef int32_t UnitBits __attribute__((may_alias));
inline V broadcast(const float* p) { return from_bits(set1i(*reinterpret_cast<const UnitBits*>(p))); }

// The value is needed here and may be another afterwards: the compiler can neither drop nor merge what computes it.
inline void keep(V& x) {
#if defined(__x86_64__)
  asm volatile("" : "+x"(x));
#else
  asm volatile("" : "+w"(x));
#endif
}

float multiply_adds(int64_t steps) {
  constexpr int chains = 12;
  V sum[chains];
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) sum[i] = set1(float(i));
  const V factor = set1(0.999f);   // its two halves, read as bf16, are harmless numbers as well
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) {
      sum[i] = multiply_add(sum[i], factor, set1(0.001f));
      keep(sum[i]);
    }
  }
  V total = zero();
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) total += sum[i];
  return reduce_add(total);
}

// C[i,j] = scale * sum over p of A[i,p] * B[p,j] + base[i,j].   A has any two strides, so that A and its transpose look alike.
struct Block {
  int64_t depth;       // in units, as are a_col and b_row
  const float* a;
  int64_t a_row, a_col;
  const float* b;
  int64_t b_row;
  float* c = nullptr;
  int64_t c_row = 0;
  const float* base = nullptr;   // C itself, a bias (base_row 0), a residual, or null for nothing (base_row 0)
  int64_t base_row = 0;
  float scale = 1;
  int64_t beside = 0;            // how far from C another array lies that will be written after it (0: none)
  const float* soon = nullptr;   // rows of a panel of B that comes later: they are fetched into L2 meanwhile, one every few steps
  int64_t soon_rows = 0;
};

constexpr int max_vectors = W == 8 ? 3 : 4;

// The most rows of a tile N vectors wide: as many as the registers hold, 32 of them with AVX-512 and 16 otherwise.
constexpr int tile_rows(int n) {
  constexpr int avx512[] = {12, 12, 8, 6}, avx2[] = {8, 6, 4, 3}, baseline[] = {6, 5, 3, 3};
  return (W == 16 ? avx512 : W == 8 ? avx2 : baseline)[n - 1];
}

// `cols` of the N * W columns exist. `tail`: memory of B ends there as well, so that the last vector is loaded in part.
template <int R, int N, bool tail>
__attribute__((noinline)) void tile(Block& t, int64_t cols) {
  constexpr int groups = (R + 2) / 3;   // one pointer for three rows: the processor adds 0, 1 or 2 strides by itself
  constexpr int64_t run = 16;           // steps: a cache line of each row of A
  constexpr int64_t notice = 128;       // C is fetched so many steps before it is needed: earlier, panels would push it out of L1
  const int64_t last = cols - (N - 1) * W, a_row = t.a_row, a_col = t.a_col, b_row = t.b_row;
  V sum[R][N];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j) sum[i][j] = zero();
  const float* b = t.b;
  const float* a[groups];
#pragma GCC unroll 16
  for (int g = 0; g < groups; ++g) a[g] = t.a + 3 * g * a_row;
  bool noticed = false;
  for (int64_t left = t.depth, steps; left > 0; left -= steps) {
    steps = left < run ? left : run;
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) __builtin_prefetch(a[i / 3] + (R + i % 3) * a_row);   // of the next tile
    if (t.soon_rows > 0) {
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) __builtin_prefetch(t.soon + j * W, 0, 2);
      t.soon += b_row, --t.soon_rows;
    }
    if (left <= notice && !noticed) {
      noticed = true;
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) __builtin_prefetch(t.c + i * t.c_row + j * W, 1);
      if (t.beside) {
#pragma GCC unroll 16
        for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
          for (int j = 0; j < N; ++j) __builtin_prefetch(t.c + t.beside + i * t.c_row + j * W, 1);
      }
    }
    for (int64_t p = steps; p > 0; --p) {
      V right[N];
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) right[j] = tail && j == N - 1 ? load_some(b + j * W, last) : load(b + j * W);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const V left = broadcast(a[i / 3] + i % 3 * a_row);
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) sum[i][j] = multiply_add(left, right[j], sum[i][j]);
      }
      b += b_row;
#pragma GCC unroll 16
      for (int g = 0; g < groups; ++g) a[g] += a_col;
    }
  }
  const V scale = set1(t.scale);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j) sum[i][j] = scale * sum[i][j];
  if (t.base) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) {
        const float* base = t.base + i * t.base_row + j * W;
        sum[i][j] += j == N - 1 ? load_some(base, last) : load(base);
      }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j) {
      float* c = t.c + i * t.c_row + j * W;
      if (j == N - 1 && last < W) {
        store_some(c, sum[i][j], last);
      } else {
        store(c, sum[i][j]);
      }
    }
}

using TileFunction = void (*)(Block&, int64_t cols);

// The tiles of N vectors by their number of rows.
template <int N, bool tail>
struct TileTable {
  TileFunction rows[tile_rows(N) + 1] = {};
  constexpr TileTable() { fill<tile_rows(N)>(); }
  template <int R>
  constexpr void fill() {
    rows[R] = tile<R, N, tail>;
    if constexpr (R > 1) fill<R - 1>();
  }
};
template <int N, bool tail>
constexpr TileTable<N, tail> tile_table{};

// One strip of C at most max_vectors * W columns wide. Its rows are shared out evenly, so that no tile is left with one row.
template <int N = max_vectors>
void strip(Block t, int64_t m, int64_t cols, bool tail) {
  if constexpr (N > 1) {
    if (cols <= (N - 1) * W) return strip<N - 1>(t, m, cols, tail);
  }
  // Where a masked load costs nothing, one kind of tile does.
  const TileFunction* tiles = tail || W == 16 ? tile_table<N, true>.rows : tile_table<N, W == 16>.rows;
  const int64_t most = tile_rows(N) - (tail && W == 8 && N > 1), panels = (m + most - 1) / most;
  for (int64_t i = 0; i < panels; ++i) {
    const int64_t rows = m / panels + (i < m % panels);
    tiles[rows](t, cols);
    t.a += rows * t.a_row;
    t.c += rows * t.c_row;
    t.base += rows * t.base_row;
  }
}

#if !defined(QD_BF16)
// C[i,j] (+)= scale * sum over p of A[i * a_row + p * a_col] * B[p * b_row + j]: serial, nothing is packed, for blocks that lie
// in the caches.
inline void gemm_block(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_row, int64_t a_col, const float* b,
                       int64_t b_row, float* c, int64_t c_row, float scale, bool add) {
  for (int64_t j = 0; j < n; j += max_vectors * W) {
    const int64_t cols = n - j < max_vectors * W ? n - j : max_vectors * W;
    const Block block{k, a, a_row, a_col, b + j, b_row, c + j, c_row, add ? c + j : nullptr, add ? c_row : 0, scale};
    strip(block, m, cols, cols % W != 0);
  }
}
#endif
