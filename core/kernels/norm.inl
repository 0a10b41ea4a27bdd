// Layer norm and RMS norm, row by row; sums and sweeps by channel, of which batch and group norm are made. Roof: memory; a row is read again
// from L1. Variance in a second pass: no cancellation.

void norm(const Norm& n) {
  const float over_cols = 1 / float(n.cols);
  each_row(n.rows, 2 * n.cols, [=](int64_t r) {
    const int64_t at = r * n.cols;
    const float* s = n.x + at;
    if (n.residual) {   // s = alpha * residual + x
      const V alpha = set1(n.alpha);
      vectors(0, n.cols, [&](int64_t i, auto lanes) {
        lanes.store(n.sum + at + i, fma(alpha, lanes.load(n.residual + at + i), lanes.load(n.x + at + i)));
      });
      s = n.sum + at;
    }
    const float mean = n.rms ? 0 : over_cols * sum_vectors(0, n.cols, [s](int64_t i, auto lanes) { return lanes.load(s + i); });
    const V m = set1(mean);
    float squares = sum_vectors(0, n.cols, [s, m](int64_t i, auto lanes) {
      const V d = lanes.only(lanes.load(s + i) - m);
      return d * d;
    });
    const float rstd = 1 / __builtin_sqrtf(squares * over_cols + n.epsilon);
    n.mean[r] = mean;
    n.rstd[r] = rstd;
    const V factor = set1(rstd);
    float* y = n.y + at;
    vectors(0, n.cols, [&](int64_t i, auto lanes) {
      V v = (lanes.load(s + i) - m) * factor;
      if (n.weight) v *= lanes.load(n.weight + i);
      if (n.bias) v += lanes.load(n.bias + i);
      lanes.store(y + i, v);
    });
  });
}

// ds = rstd (g - mean(g) - n mean(g n)),  g = dy w,  n = (s - mean) rstd;  RMS norm has no mean(g).
inline void norm_gradient_row(const NormGradient& a, int64_t r, float* dweight, float* dbias) {
  const int64_t at = r * a.cols;
  const float *s = a.s + at, *dy = a.dy + at;
  const V m = set1(a.rms ? 0 : a.mean[r]), rstd = set1(a.rstd[r]);
  V sum_g = zero(), sum_gn = zero();
  vectors(0, a.cols, [&](int64_t i, auto lanes) {
    const V d = lanes.load(dy + i), n = (lanes.load(s + i) - m) * rstd, g = a.weight ? d * lanes.load(a.weight + i) : d;
    sum_g += g;
    sum_gn = fma(g, n, sum_gn);
    if (dweight) lanes.store(dweight + i, fma(d, n, lanes.load(dweight + i)));
    if (dbias) lanes.store(dbias + i, d + lanes.load(dbias + i));
  });
  if (!a.dx) return;
  const V mean_g = set1(a.rms ? 0 : reduce_add(sum_g) / float(a.cols)), mean_gn = set1(reduce_add(sum_gn) / float(a.cols));
  float* dx = a.dx + at;
  vectors(0, a.cols, [&](int64_t i, auto lanes) {
    const V d = lanes.load(dy + i), n = (lanes.load(s + i) - m) * rstd, g = a.weight ? d * lanes.load(a.weight + i) : d;
    const V v = rstd * (g - mean_g - n * mean_gn);
    lanes.store(dx + i, a.add_dx ? lanes.load(dx + i) + v : v);
  });
}

void norm_gradient(const NormGradient& a) {
  if (!a.dweight && !a.dbias) return each_row(a.rows, 2 * a.cols, [=](int64_t r) { norm_gradient_row(a, r, nullptr, nullptr); });
  // Both sums over rows in one sweep, side by side; then each goes to its place.
  float* both = scratch_a.get<float>(2 * a.cols);
  sum_over_rows(a.rows, 2 * a.cols, 2 * a.cols, both, false, [&](int64_t begin, int64_t end, float* sums) {
    for (int64_t r = begin; r < end; ++r) norm_gradient_row(a, r, a.dweight ? sums : nullptr, a.dbias ? sums + a.cols : nullptr);
  });
  const auto deliver = [&](const float* from, float* to, bool add) {
    if (to) vectors(0, a.cols, [&](int64_t i, auto lanes) { lanes.store(to + i, add ? lanes.load(to + i) + lanes.load(from + i) : lanes.load(from + i)); });
  };
  deliver(both, a.dweight, a.add_dweight);
  deliver(both + a.cols, a.dbias, a.add_dbias);
}

void channel_sums(int64_t rows, int64_t cols, const float* x, const float* centre, const float* dy, float* sums) {
  sum_over_rows(rows, cols, 2 * cols, sums, false, [&](int64_t begin, int64_t end, float* both) {
    for (int64_t r = begin; r < end; ++r)
      vectors(0, cols, [&](int64_t j, auto lanes) {
        const V d = lanes.load(x + r * cols + j) - lanes.load(centre + j), g = dy ? lanes.load(dy + r * cols + j) : d;
        lanes.store(both + j, lanes.load(both + j) + g);
        lanes.store(both + cols + j, fma(g, d, lanes.load(both + cols + j)));
      });
  });
}

void channel_affine(int64_t rows, int64_t cols, const float* x, const float* centre, const float* a, const float* z, const float* b, const float* c, float* y, bool add) {
  each_row(rows, cols, [=](int64_t r) {
    const int64_t at = r * cols;
    vectors(0, cols, [&](int64_t j, auto lanes) {
      V v = fma(lanes.load(x + at + j) - lanes.load(centre + j), lanes.load(a + j), lanes.load(c + j));
      if (z) v = fma(lanes.load(z + at + j), lanes.load(b + j), v);
      lanes.store(y + at + j, add ? lanes.load(y + at + j) + v : v);
    });
  });
}
