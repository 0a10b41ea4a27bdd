// Products with one side of at most `skinny` rows or columns, as in generation: the large operand is read once, from end to end,
// and nothing is packed. With x (few, k) the small operand and y the large one of length l:
//   rows   y stored (k, l): out[i] += x[i,p] * y[p]; slices of k have sums of their own, which are added in order
//   dots   y stored (l, k): out[i,j] = x[i] . y[j]
// A row of the result has the same bits whatever rows come with it: its sums have one order, fixed by k and l. Texts that are generated
// together are therefore those generated apart.
// Roof: memory. A task is a run of memory, neighbouring tasks go to one thread, and lines are asked for before they are needed:
// the processor's own guesses end with each page and come late for several rows at a time.
constexpr int64_t skinny = 8;
constexpr int64_t skinny_tasks = 16;
constexpr int64_t skinny_block = 1 << 14;   // elements of y at a time: 64 KiB, and least for a task
constexpr int64_t skinny_slice = 1 << 17;   // elements of y whose sums of their own are worth it
thread_local Scratch scratch_skinny;

template <int n>
struct Constant {
  static constexpr int value = n;
};

// Calls f with the Constant that equals n, 1 <= n <= most.
template <int most, class F>
void with_count(int64_t n, F&& f) {
  if constexpr (most > 1) {
    if (n < most) return with_count<most - 1>(n, f);
  }
  f(Constant<most>{});
}

inline void fetch(const float* p) { __builtin_prefetch(p, 0, 2); }   // into L2

// The small operand, and where its results go: out[i * step + j].
struct Few {
  const float* x;
  int64_t row, col;
  float* out;
  int64_t step;
};

// One row of x, and rows of y without gaps: they are one stream; results stay in L1.
inline void stream_row(int64_t cols, int64_t k, const Few& f, const float* y) {
  constexpr int64_t ahead = 2048;   // two pages
  for (int64_t p = 0; p < k; ++p, y += cols) {
    const V left = set1(f.x[p * f.col]);
    vectors(0, cols, [&](int64_t j, auto lanes) {
      fetch(y + j + ahead);   // the processor's guesses end with each page
      lanes.store(f.out + j, fma(left, lanes.load(y + j), lanes.load(f.out + j)));
    });
  }
}

// `depth` rows of y are added to the sums of R rows of x in registers, N vectors of columns; their successors are asked for.
template <int R, int N, class Lanes>
inline __attribute__((always_inline)) void add_rows(int64_t depth, const Few& f, const float* y, int64_t ld, int64_t next, Lanes lanes) {
  V sum[R][N];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) sum[i][j] = lanes.load(f.out + i * f.step + j * W);
  for (int64_t p = 0; p < depth; ++p) {
    V right[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) right[j] = lanes.load(y + p * ld + j * W), fetch(y + next + p * ld + j * W);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const V left = set1(f.x[i * f.row + p * f.col]);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) sum[i][j] = fma(left, right[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) lanes.store(f.out + i * f.step + j * W, sum[i][j]);
}

// out = the sums over k rows of y, `block` of them at a time, while those `next` elements further are asked for (0: they are in L2).
template <int R>
void skinny_rows(int64_t cols, int64_t k, int64_t block, int64_t next, Few f, const float* y, int64_t ld) {
  constexpr int registers = W == 16 ? 24 : 12, N = registers / R < 4 ? registers / R : 4;
  for (int i = 0; i < R; ++i)
    vectors(0, cols, [&](int64_t j, auto lanes) { lanes.store(f.out + i * f.step + j, zero()); });
  if (R == 1 && ld == cols && cols <= 2048) return stream_row(cols, k, f, y);
  for (int64_t p = 0; p < k; p += block, f.x += block * f.col, y += block * ld) {
    const int64_t depth = least(block, k - p);
    const auto at = [&](int64_t j) { return Few{f.x, f.row, f.col, f.out + j, f.step}; };
    int64_t j = 0;
    for (; j + N * W <= cols; j += N * W) add_rows<R, N>(depth, at(j), y + j, ld, next, Whole{});
    vectors(j, cols, [&](int64_t i, auto lanes) { add_rows<R, 1>(depth, at(i), y + i, ld, next, lanes); });
  }
}

// Results for `count` rows of y, one after another, each in N sums; what lies `ahead` elements further is asked for (0: it is in L2).
template <int R, int N>
void skinny_dots(int64_t count, int64_t k, int64_t ahead, const Few& f, const float* y, int64_t ld) {
  for (int64_t j = 0; j < count; ++j, y += ld) {
    V sum[R][N];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[i][n] = zero();
    int64_t p = 0;
    for (; p + N * W <= k; p += N * W)
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        const V right = load(y + p + n * W);
        fetch(y + p + n * W + ahead);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) sum[i][n] = fma(load(f.x + i * f.row + p + n * W), right, sum[i][n]);
      }
    vectors(p, k, [&](int64_t at, auto lanes) {
      const V right = lanes.load(y + at);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) sum[i][0] = fma(lanes.load(f.x + i * f.row + at), right, sum[i][0]);
    });
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
      for (int n = 1; n < N; ++n) sum[i][0] += sum[i][n];
      f.out[i * f.step + j] = reduce_add(sum[i][0]);
    }
  }
}

// C (few, l) = x y, or its transpose (l, few).
struct Skinny {
  int64_t few, length, k;
  const float* x;
  int64_t x_row, x_col;
  Matrix y;            // (k, length); transposed: stored (length, k)
  bool transposed;     // of the result
};

// Columns j0 .. j0 + cols of the result, from `slices` sums (few, step) that follow one another.
inline void write_skinny(const Skinny& s, const Output& out, float* sums, int64_t slices, int64_t step, int64_t j0, int64_t cols) {
  for (int64_t slice = 1; slice < slices; ++slice)
    for (int64_t i = 0; i < s.few; ++i) {
      float* to = sums + i * step;
      const float* from = to + slice * s.few * step;
      vectors(j0, j0 + cols, [&](int64_t j, auto lanes) { lanes.store(to + j, lanes.load(to + j) + lanes.load(from + j)); });
    }
  if (!s.transposed) return out.write(sums + j0, step, 0, s.few, j0, cols);
  constexpr int64_t run = 64;
  float turned[run * skinny];
  for (int64_t j = j0; j < j0 + cols; j += run) {
    const int64_t count = least(run, j0 + cols - j);
    for (int64_t c = 0; c < count; ++c)
      for (int64_t i = 0; i < s.few; ++i) turned[c * skinny + i] = sums[i * step + j + c];
    out.write(turned, skinny, j, count, 0, s.few);
  }
}

inline void multiply_skinny_dots(Skinny s, const Output& out, bool parallel) {
  if (s.x_col != 1) {   // dots need contiguous rows of x
    float* gathered = scratch_a.get<float>(s.few * s.k);
    for (int64_t i = 0; i < s.few; ++i)
      for (int64_t p = 0; p < s.k; ++p) gathered[i * s.k + p] = s.x[i * s.x_row + p * s.x_col];
    s.x = gathered, s.x_row = s.k, s.x_col = 1;
  }
  constexpr int64_t ahead = 1024;   // 4 KiB
  constexpr int together = W == 16 ? 4 : 3, chains = 4;   // rows of x at once, sums for each result: more would not fit the registers
  const int64_t step = round_up(s.length, 16);
  float* sums = scratch_skinny.get<float>(s.few * step);
  const int64_t block = most(1, skinny_block / s.k), blocks = pieces(s.length, block), tasks = least(blocks, skinny_tasks);
  parallel_for(tasks, parallel ? 1 : tasks, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin * blocks / tasks; b < end * blocks / tasks; ++b) {
      const int64_t j = b * block, count = least(block, s.length - j);
      for (int64_t i = 0; i < s.few; i += together)
        with_count<together>(least(int64_t(together), s.few - i), [&](auto rows) {
          skinny_dots<rows.value, chains>(count, s.k, ahead, {s.x + i * s.x_row, s.x_row, 1, sums + i * step + j, step}, s.y.data + j * s.y.ld, s.y.ld);
        });
      write_skinny(s, out, sums, 1, step, j, count);
    }
  });
}

inline void multiply_skinny_rows(const Skinny& s, const Output& out, bool parallel) {
  constexpr int64_t longest = 8192;   // sums of a task, which stay in L1
  const int64_t strips = pieces(s.length, longest / s.few), strip = round_up(pieces(s.length, strips), 16);
  const int64_t size = s.length * s.k, most_slices = pieces(skinny_tasks, pieces(s.length, longest));
  int64_t wanted = size < 2 * skinny_block ? 1 : least(2, most_slices);   // few: their sums are read again, half of them from another core
  while (wanted < most_slices && size / wanted > skinny_slice) wanted = least(most_slices, 2 * wanted);
  const int64_t depth = pieces(s.k, wanted), slices = pieces(s.k, depth), step = strips * strip;
  float* sums = scratch_skinny.get<float>(slices * s.few * step);
  const int64_t tasks = slices * strips;
  parallel_for(tasks, parallel ? 1 : tasks, [=](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t p = task / strips * depth, j = task % strips * strip, cols = least(strip, s.length - j);
      if (cols <= 0) continue;
      const int64_t block = most(8, skinny_block / cols);
      with_count<skinny>(s.few, [&](auto rows) {
        skinny_rows<rows.value>(cols, least(depth, s.k - p), block, block * s.y.ld,
                                {s.x + p * s.x_col, s.x_row, s.x_col, sums + task / strips * s.few * step + j, step},
                                s.y.data + p * s.y.ld + j, s.y.ld);
      });
    }
  });
  constexpr int64_t run = 512, least_runs = 16;   // for a thread; of one row
  parallel_for(pieces(s.length, run), parallel ? pieces(least_runs, s.few) : s.length, [=](int64_t begin, int64_t end) {
    const int64_t j = begin * run;
    write_skinny(s, out, sums, slices, step, j, least(end * run, s.length) - j);
  });
}

inline void multiply_skinny(const Skinny& s, const Output& out, bool parallel) {
  if (s.y.transposed) return multiply_skinny_dots(s, out, parallel);
  multiply_skinny_rows(s, out, parallel);
}
