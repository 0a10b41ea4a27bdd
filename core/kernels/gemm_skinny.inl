// Products with one side of at most `skinny` rows or columns, as in generation: the large operand is read once, from end to end,
// and nothing is packed. With x (few, k) the small operand and y the large one of length l:
//   rows   y stored (k, l): out[i] += x[i,p] * y[p]; slices of k have sums of their own, which are added in order
//   dots   y stored (l, k): out[i,j] = x[i] . y[j]
// A row of the result has the same bits whatever rows come with it: its sums have one order, fixed by k and l. Texts that are generated
// together are therefore those generated apart.
// Roof: memory. A task is a run of memory where results fit L1, and neighbouring tasks go to one thread. Along a single stream two threads
// read 81 GB/s, along four each 110: the processor looks ahead along each. One row is read so; several rows ask for lines themselves.
constexpr int64_t skinny = 8;
constexpr int64_t skinny_tasks = 16;
constexpr int64_t skinny_block = 1 << 14;   // elements of y at a time for several rows of x: 64 KiB, and least for a task
constexpr int64_t skinny_sums = 1 << 13;    // of all rows of a task
constexpr int64_t skinny_slice = 1 << 17;   // elements of y whose sums of their own are worth it
constexpr int streams = 4;
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

// One row of sums, which stays in L1, += x times `count` rows of y and those `apart`, 2 apart, .. rows further.
template <int S>
inline void stream_rows(int64_t cols, int64_t count, int64_t apart, const Few& f, const float* y, int64_t ld) {
  float* const out = f.out;
  for (int64_t p = 0; p < count; ++p, y += ld) {
    V left[S];
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) left[s] = set1(f.x[(p + s * apart) * f.col]);
    vectors(0, cols, [&](int64_t j, auto lanes) {
      V sum = lanes.load(out + j);
#pragma GCC unroll 4
      for (int s = 0; s < S; ++s) sum = fma(left[s], lanes.load(y + s * apart * ld + j), sum);
      lanes.store(out + j, sum);
    });
  }
}

// The same for R rows of sums, N vectors of columns of them in registers; what lies `next` elements further is asked for (0: nothing).
// x: in the order of use.
template <int R, int N, int S, bool asks, class Lanes>
inline __attribute__((always_inline)) void add_rows(int64_t count, int64_t apart, int64_t next, const float* x, float* out, int64_t step,
                                                    const float* y, int64_t ld, Lanes lanes) {
  V sum[R][N];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) sum[i][j] = lanes.load(out + i * step + j * W);
  for (int64_t p = 0; p < count; ++p)
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
      const float* row = y + (p + s * apart) * ld;
      V right[N];
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) {
        right[j] = lanes.load(row + j * W);
        if constexpr (asks) fetch(row + next + j * W);
      }
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        const V left = set1(*x++);
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) sum[i][j] = fma(left, right[j], sum[i][j]);
      }
    }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) lanes.store(out + i * step + j * W, sum[i][j]);
}
template <int R, int S>
void block_of_rows(int64_t cols, int64_t count, int64_t apart, int64_t next, const Few& f, const float* y, int64_t ld) {
  constexpr int registers = W == 16 ? 24 : 12, N = registers / R < 4 ? registers / R : 4;
  float x[skinny_sums], *to = x;
  for (int64_t p = 0; p < count; ++p)
    for (int s = 0; s < S; ++s)
      for (int i = 0; i < R; ++i) *to++ = f.x[i * f.row + (p + s * apart) * f.col];
  const auto add = [&](auto asks) {
    int64_t j = 0;
    for (; j + N * W <= cols; j += N * W) add_rows<R, N, S, asks.value>(count, apart, next, x, f.out + j, f.step, y + j, ld, Whole{});
    vectors(j, cols, [&](int64_t i, auto lanes) { add_rows<R, 1, S, asks.value>(count, apart, next, x, f.out + i, f.step, y + i, ld, lanes); });
  };
  if constexpr (R > 1 && S > 1) {
    if (next) return add(Constant<1>{});
  }
  add(Constant<0>{});
}

// With several heads a row of y has as many elements for each as one row without heads; they meet x of their own and have results of their own.
struct HeadSteps {
  int64_t count = 1, x = 0, out = 0, y = 0;

  Few of(int64_t h, const Few& f) const { return {f.x + h * x, f.row, f.col, f.out + h * out, f.step}; }
};

// out = the sums over k rows of y: `streams` runs of them side by side, then what is left.
template <int R>
void skinny_rows(int64_t cols, int64_t k, const Few& f, const float* y, int64_t ld, HeadSteps heads = {}) {
  for (int64_t h = 0; h < heads.count; ++h)
    for (int i = 0; i < R; ++i)
      vectors(0, cols, [&](int64_t j, auto lanes) { lanes.store(heads.of(h, f).out + i * f.step + j, zero()); });
  const int64_t run = k / streams, rest = k - streams * run;
  const auto from = [&](int64_t p) { return Few{f.x + p * f.col, f.row, f.col, f.out, f.step}; };
  if (R == 1 && cols > 4 * W && heads.count == 1) {
    stream_rows<streams>(cols, run, run, f, y, ld);
    if (rest > 0) stream_rows<1>(cols, rest, 0, from(k - rest), y + (k - rest) * ld, ld);
    return;
  }
  const int64_t fits = least(skinny_sums / (skinny * streams), most(2, skinny_block / (streams * cols)));
  const int64_t block = heads.count == 1 ? fits : R == 1 ? 1 : 4;   // of several heads each is short: row by row they are streams as well
  const auto add = [&](auto side_by_side, int64_t p, int64_t count, int64_t next) {
    for (int64_t h = 0; h < heads.count; ++h)
      block_of_rows<R, side_by_side.value>(cols, count, run, next, heads.of(h, from(p)), y + p * ld + h * heads.y, ld);
  };
  for (int64_t p = 0; p < run; p += block) add(Constant<streams>{}, p, least(block, run - p), heads.count == 1 && p + block < run ? block * ld : 0);
  if (rest > 0) add(Constant<1>{}, k - rest, rest, 0);
}

// Results for rows 0, apart, .. (S - 1) apart of y, each in N sums.
template <int R, int N, int S, bool asks>
inline void dots(int64_t k, int64_t apart, int64_t ahead, const Few& f, const float* y, int64_t ld) {
  V sum[R][S][N];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s)
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[i][s][n] = zero();
  const auto add = [&](int64_t p, int n, auto lanes) __attribute__((always_inline)) {
    V left[R];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) left[i] = lanes.load(f.x + i * f.row + p);
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      const V right = lanes.load(y + s * apart * ld + p);
      if constexpr (asks) fetch(y + p + ahead);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) sum[i][s][n] = fma(left[i], right, sum[i][s][n]);
    }
  };
  int64_t p = 0;
  for (; p + N * W <= k; p += N * W)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) add(p + n * W, n, Whole{});
  vectors(p, k, [&](int64_t at, auto lanes) { add(at, 0, lanes); });
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
#pragma GCC unroll 8
      for (int n = 1; n < N; ++n) sum[i][s][0] += sum[i][s][n];
      f.out[i * f.step + s * apart] = reduce_add(sum[i][s][0]);
    }
}

// Results for `count` rows of y, in S runs side by side; where registers hold the sums of one alone, what lies `ahead` elements further is asked for
// (0: nothing).
template <int R, int N, int ahead>
void skinny_dots(int64_t count, int64_t k, const Few& f, const float* y, int64_t ld, HeadSteps heads = {}) {
  constexpr int room = (W == 16 ? 16 : 8) / (R * N), S = room >= streams ? streams : room >= 2 ? 2 : 1;   // sums in registers
  const int64_t run = count / S;
  const auto at = [&](int64_t j) { return Few{f.x, f.row, f.col, f.out + j, f.step}; };
  for (int64_t j = 0; j < run; ++j)
    for (int64_t h = 0; h < heads.count; ++h) dots<R, N, S, S == 1 && ahead != 0>(k, run, ahead, heads.of(h, at(j)), y + j * ld + h * heads.y, ld);
  for (int64_t j = S * run; j < count; ++j)
    for (int64_t h = 0; h < heads.count; ++h) dots<R, N, 1, ahead != 0>(k, 0, ahead, heads.of(h, at(j)), y + j * ld + h * heads.y, ld);
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
  constexpr int ahead = 1024;                            // 4 KiB
  constexpr int at_once = W == 16 ? 4 : 3, chains = 4;   // rows of x, and sums for each result: more would not fit the registers
  const int64_t step = round_up(s.length, 16);
  float* sums = scratch_skinny.get<float>(s.few * step);
  const int64_t rows = most(1, skinny_block / s.k), blocks = pieces(s.length, rows), tasks = least(blocks, skinny_tasks);
  run_tasks(parallel, tasks, [=](int64_t task) {
    const int64_t first = task * blocks / tasks * rows, last = least((task + 1) * blocks / tasks * rows, s.length);
    const int64_t block = s.few > at_once ? rows : last - first;
    for (int64_t j = first; j < last; j += block) {
      const int64_t count = least(block, last - j);
      for (int64_t i = 0; i < s.few; i += at_once)
        with_count<at_once>(least(int64_t(at_once), s.few - i), [&](auto n) {
          skinny_dots<n.value, chains, ahead>(count, s.k, {s.x + i * s.x_row, s.x_row, 1, sums + i * step + j, step}, s.y.data + j * s.y.ld, s.y.ld);
        });
      write_skinny(s, out, sums, 1, step, j, count);
    }
  });
}

inline void multiply_skinny_rows(const Skinny& s, const Output& out, bool parallel) {
  const int64_t longest = s.few == 1 ? skinny_sums / 2 : skinny_sums / s.few;   // columns: the sums of one row stay in L1
  const int64_t strips = pieces(s.length, longest), strip = round_up(pieces(s.length, strips), 16);
  const int64_t size = s.length * s.k, most_slices = pieces(skinny_tasks, pieces(s.length, skinny_sums));
  int64_t wanted = size < 2 * skinny_block ? 1 : least(2, most_slices);   // few: their sums are read again, half of them from another core
  while (wanted < most_slices && size / wanted > skinny_slice) wanted = least(most_slices, 2 * wanted);
  const int64_t depth = pieces(s.k, wanted), slices = pieces(s.k, depth), step = strips * strip;
  float* sums = scratch_skinny.get<float>(slices * s.few * step);
  const int64_t tasks = slices * strips;
  run_tasks(parallel, tasks, [=](int64_t task) {
    const int64_t p = task / strips * depth, j = task % strips * strip, cols = least(strip, s.length - j);
    if (cols <= 0) return;
    with_count<skinny>(s.few, [&](auto rows) {
      skinny_rows<rows.value>(cols, least(depth, s.k - p), {s.x + p * s.x_col, s.x_row, s.x_col, sums + task / strips * s.few * step + j, step},
                              s.y.data + p * s.y.ld + j, s.y.ld);
    });
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
