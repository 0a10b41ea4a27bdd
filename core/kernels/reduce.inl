// Sums, softmax and cross-entropy, tables. Roof: memory, or the exponential where the rows stay in L1.
// Long sums are cut into pieces by size alone; the pieces are added in order, in f64.

constexpr int64_t sum_piece = 4096;

// Sum of f(vector at i) over [begin, end); elements beyond the end must contribute 0 for f(0). Four chains hide the latency.
template <class F>
inline float sum_vectors(int64_t begin, int64_t end, F&& f) {
  V a = zero(), b = zero(), c = zero(), d = zero();
  int64_t i = begin;
  for (; i + 4 * W <= end; i += 4 * W) {
    a += f(i, Whole{});
    b += f(i + W, Whole{});
    c += f(i + 2 * W, Whole{});
    d += f(i + 3 * W, Whole{});
  }
  vectors(i, end, [&](int64_t at, auto lanes) { a += f(at, lanes); });
  return reduce_add((a + b) + (c + d));
}

template <class F>
double sum_all(int64_t n, F&& f) {
  const int64_t count = pieces(n, sum_piece);
  if (count <= 1) return sum_vectors(0, n, f);
  float* sums = scratch_sums.get<float>(count);
  parallel_for(count, 4, [=](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) sums[p] = sum_vectors(p * sum_piece, least(n, (p + 1) * sum_piece), f);
  });
  double total = 0;
  for (int64_t p = 0; p < count; ++p) total += sums[p];
  return total;
}

double sum(int64_t n, const float* x) {
  return sum_all(n, [x](int64_t i, auto lanes) { return lanes.load(x + i); });
}

double sum_squares(int64_t n, const float* x) {
  const auto scaled = [n, x](float scale) {
    return sum_all(n, [x, s = set1(scale)](int64_t i, auto lanes) {
      const V v = s * lanes.load(x + i);
      return v * v;
    });
  };
  const double total = scaled(1);
  return total <= 1e36 ? total : scaled(0x1p-80f) * 0x1p160;   // squares beyond f32: once more, smaller (NaN stays)
}

// Sums over rows in chunks of rows: each task adds up the rows of its chunk, add_rows(begin, end, sums), sums holding `width` zeros;
// the chunks meet in order. Their number depends on the shape alone.
template <class F>
void sum_over_rows(int64_t rows, int64_t cols, int64_t width, float* y, bool add, F&& add_rows) {
  const int64_t chunk = most(32, pieces(rows, 32)), chunks = pieces(rows, chunk);
  float* sums = scratch_sums.get<float>(most(chunks, 1) * width);
  parallel_for(chunks, most(1, grain / 2 / most(chunk * cols, 1)), [=](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      for (int64_t j = 0; j < width; ++j) sums[c * width + j] = 0;
      add_rows(c * chunk, least(rows, (c + 1) * chunk), sums + c * width);
    }
  });
  vectors(0, width, [&](int64_t j, auto lanes) {
    V total = add ? lanes.load(y + j) : zero();
    for (int64_t c = 0; c < chunks; ++c) total += lanes.load(sums + c * width + j);
    lanes.store(y + j, total);
  });
}

void sum_rows(int64_t rows, int64_t cols, const float* x, float* y, bool add) {
  sum_over_rows(rows, cols, cols, y, add, [&](int64_t begin, int64_t end, float* sums) {
    int64_t j = 0;
    for (; j + 4 * W <= cols; j += 4 * W) {
      V s[4] = {zero(), zero(), zero(), zero()};
      for (int64_t r = begin; r < end; ++r)
        for (int k = 0; k < 4; ++k) s[k] += load(x + r * cols + j + k * W);
      for (int k = 0; k < 4; ++k) store(sums + j + k * W, s[k]);
    }
    vectors(j, cols, [&](int64_t at, auto lanes) {
      V s = zero();
      for (int64_t r = begin; r < end; ++r) s += lanes.load(x + r * cols + at);
      lanes.store(sums + at, s);
    });
  });
}

void sum_cols(int64_t rows, int64_t cols, const float* x, float* y, bool add) {
  each_row(rows, cols, [=](int64_t r) {
    const float* row = x + r * cols;
    double total = 0;
    for (int64_t i = 0; i < cols; i += sum_piece)
      total += sum_vectors(i, least(cols, i + sum_piece), [row](int64_t at, auto lanes) { return lanes.load(row + at); });
    y[r] = float(total) + (add ? y[r] : 0);
  });
}

// The first largest number of each row; a NaN is larger than all. Each lane keeps its own, then they meet.
void max_cols(int64_t rows, int64_t cols, const float* x, float* y, int32_t* where) {
  each_row(rows, cols, [=](int64_t r) {
    const float* row = x + r * cols;
    const auto larger = [](auto a, auto b) { return !(a <= b) && b == b; };
    V best = set1(row[0]);
    I at = set1i(0);
    int64_t c = 0;
    for (; c + W <= cols; c += W) {
      const V value = load(row + c);
      const I takes = ~(value <= best) & (best == best);
      best = takes ? value : best;
      at = takes ? lane_numbers() + set1i(int32_t(c)) : at;
    }
    float top = best[0];
    int32_t place = at[0];
    for (int l = 1; l < W; ++l)
      if (larger(best[l], top) || (!(best[l] < top) && !(top < best[l]) && (best[l] == best[l]) == (top == top) && at[l] < place))
        top = best[l], place = at[l];
    for (; c < cols; ++c)
      if (larger(row[c], top)) top = row[c], place = int32_t(c);
    y[r] = top;
    where[r] = place;
  });
}

inline float row_max(int64_t cols, const float* x) {
  V a = set1(-__builtin_inff());
  int64_t i = 0;
  for (; i + W <= cols; i += W) a = max(a, load(x + i));
  float best = reduce_max(a);
  for (; i < cols; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

// y = exp(x - m) where m is the row's maximum; gives the sum of y. y may be x, or null for the sum alone.
inline double exponentials(int64_t cols, const float* x, float maximum, float* y) {
  const V shift = set1(maximum == -__builtin_inff() ? 0 : maximum);   // a row of -infinity gives zeros
  double total = 0;
  for (int64_t i = 0; i < cols; i += sum_piece)
    total += sum_vectors(i, least(cols, i + sum_piece), [&](int64_t at, auto lanes) {
      const V e = exp(lanes.load(x + at) - shift);
      if (y) lanes.store(y + at, e);
      return lanes.only(e);
    });
  return total;
}

void softmax(int64_t rows, int64_t cols, const float* x, float* y) {
  each_row(rows, cols, [=](int64_t r) {
    float* row = y + r * cols;
    const double total = exponentials(cols, x + r * cols, row_max(cols, x + r * cols), row);
    const V factor = set1(total == 0 ? 0 : float(1 / total));
    vectors(0, cols, [&](int64_t i, auto lanes) { lanes.store(row + i, factor * lanes.load(row + i)); });
  });
}

void softmax_gradient(int64_t rows, int64_t cols, const float* y, const float* dy, float* dx, bool add) {
  each_row(rows, cols, [=](int64_t r) {
    const float *p = y + r * cols, *g = dy + r * cols;
    float* d = dx + r * cols;
    const V dot = set1(sum_vectors(0, cols, [&](int64_t i, auto lanes) { return lanes.load(p + i) * lanes.load(g + i); }));
    vectors(0, cols, [&](int64_t i, auto lanes) {
      const V v = lanes.load(p + i) * (lanes.load(g + i) - dot);
      lanes.store(d + i, add ? lanes.load(d + i) + v : v);
    });
  });
}

void cross_entropy(int64_t rows, int64_t cols, float* x, const int32_t* target, int32_t ignored, float scale, bool gradient, float* losses) {
  each_row(rows, cols, [=](int64_t r) {
    float* row = x + r * cols;
    if (target[r] == ignored) {
      losses[r] = 0;
      if (gradient) __builtin_memset(row, 0, size_t(cols) * sizeof(float));
      return;
    }
    const float maximum = row_max(cols, row), hit = row[target[r]];
    const double total = exponentials(cols, row, maximum, gradient ? row : nullptr);
    losses[r] = float(__builtin_log(total) + (double(maximum) - double(hit)));
    if (!gradient) return;
    const V factor = set1(float(scale / total));
    vectors(0, cols, [&](int64_t i, auto lanes) { lanes.store(row + i, factor * lanes.load(row + i)); });
    row[target[r]] -= scale;
  });
}

void gather(int64_t rows, int64_t cols, const int32_t* ids, const float* table, float* y) {
  each_row(rows, cols, [=](int64_t r) { __builtin_memcpy(y + r * cols, table + ids[r] * cols, size_t(cols) * sizeof(float)); });
}

// Rows may meet in one id, so that threads share the columns, not the rows.
void scatter_add(int64_t rows, int64_t cols, const int32_t* ids, const float* dy, float* table) {
  parallel_for(cols, most(W, grain / most(rows, 1)), [=](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
      float* to = table + ids[r] * cols;
      vectors(begin, end, [&](int64_t i, auto lanes) { lanes.store(to + i, lanes.load(to + i) + lanes.load(dy + r * cols + i)); });
    }
  });
}
