// Causal convolution with kernels as long as the signal, and its gradients. Roof: that of the transforms; a block (two items of W channels)
// makes one trip through memory there and one back, between which each piece is transformed, multiplied and transformed back in L2 and L1.
// The transform of u_1 + i u_2 times that of a real k is the transform of u_1 * k + i u_2 * k: pairs of items need no separation.

// The next run of frequencies, while the butterflies of this one are done.
template <class T>
inline void soon(const Point<T>* x) {
  __builtin_prefetch(&x[64].re);
  __builtin_prefetch(&x[64].im);
}

// K / n of one band of channels, skip included as a part of k_0, for every lane of its blocks.
template <class T>
void kernel_spectrum(const LongConvolution<T>& c, const Lanes<T>& lanes, Point<T>* x) {
  const Vector<T> scale = spread(T(1) / T(c.plan->n));
  spectrum(*c.plan, x, [&](int64_t t) -> Point<T> {
    if (t >= c.taps) return Point<T>{};
    Vector<T> k = lanes.shared(c.k, t);
    if (t == 0 && c.skip) k += lanes.shared(c.skip, 0);
    return {scale * k, Vector<T>{}};
  });
}

// K of a band, as it lies in c.spectrum.
template <class T>
inline Point<T>* kernel_of(const LongConvolution<T>& c, int64_t band) { return reinterpret_cast<Point<T>*>(c.spectrum) + band * c.plan->n; }

template <class T>
void long_convolution(const LongConvolution<T>& c) {
  const FftPlan<T>& plan = *c.plan;
  const Blocks<T> blocks(c.batch, c.channels);
  const bool parallel = worth_threads(plan, blocks.bands * blocks.sets);
  run_tasks(parallel, blocks.bands, [&](int64_t band) { kernel_spectrum(c, blocks.lanes(band, 0), kernel_of(c, band)); });
  run_tasks(parallel, blocks.bands * blocks.sets, [&](int64_t task) {
    const Lanes<T> lanes = blocks.lanes(task / blocks.sets, task % blocks.sets);
    const Point<T>* k = kernel_of(c, task / blocks.sets);
    const int64_t item = c.time * c.channels;
    const Points<T> memory(plan.n);
    Point<T>* const x = memory;
    enter(plan, x, [&](int64_t t) { return t < c.time ? lanes.load(c.u, item, t) : Point<T>{}; });
    pieces_of<true, true>(plan, {x}, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) soon(k + p), x[p] = product(x[p], k[p]);
    });
    leave(plan, x, [&](int64_t t, const Point<T>& z) {
      if (t < c.time) lanes.store(c.y, item, t, z, false);
    });
  });
}

// du = correlation of dy with k: its transform is conj(K) dY.   dk = sum over items of the correlation of dy with u: the real part of that of
// the complex signals is the sum over both items of a pair.   dskip = dk_0.
// The sets of a band are summed in the spectrum, in a few runs of sets that depend on shapes only, and the runs in order.
template <class T>
void long_convolution_gradient(const LongConvolution<T>& c, const LongConvolutionGradient<T>& g) {
  const FftPlan<T>& plan = *c.plan;
  const Blocks<T> blocks(c.batch, c.channels);
  const bool wants_k = g.dk || g.dskip;
  if (!wants_k && !g.du) return;
  const int64_t runs = most(1, least(blocks.sets, pieces(8, most(blocks.bands, 1)))), run_length = pieces(blocks.sets, runs);
  const bool parallel = worth_threads(plan, blocks.bands * blocks.sets);
  const int64_t item = c.time * c.channels;
  const Points<T> sums(wants_k ? blocks.bands * runs * plan.n : 0);
  run_tasks(parallel, blocks.bands * runs, [&](int64_t task) {
    const int64_t band = task / runs, first = task % runs * run_length;
    const Point<T>* k = g.du ? kernel_of(c, band) : nullptr;
    Point<T>* sum = sums + task * plan.n;
    const Points<T> memory_of_x(wants_k ? plan.n : 0), memory_of_dx(plan.n);
    Point<T> *const x = memory_of_x, *const dx = memory_of_dx;
    if (wants_k && first >= blocks.sets) __builtin_memset(static_cast<void*>(sum), 0, size_t(plan.n) * sizeof(Point<T>));
    for (int64_t set = first; set < least(first + run_length, blocks.sets); ++set) {
      const Lanes<T> lanes = blocks.lanes(band, set);
      const auto load = [&](const T* from) {
        return [&, from](int64_t t) { return t < c.time ? lanes.load(from, item, t) : Point<T>{}; };
      };
      if (wants_k) enter(plan, x, load(c.u));
      enter(plan, dx, load(g.dy));
      const auto use = [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; wants_k && p < end; ++p) {
          soon(sum + p);
          const Point<T> z = conjugate_product<T>(x[p], dx[p]);
          sum[p] = set == first ? z : sum[p] + z;
        }
        for (int64_t p = begin; g.du && p < end; ++p) soon(k + p), dx[p] = conjugate_product<T>(k[p], dx[p]);
      };
      if (!g.du) {
        pieces_of<true, false>(plan, {x, dx}, use);
        continue;
      }
      if (wants_k) pieces_of<true, true>(plan, {x, dx}, use);
      else pieces_of<true, true>(plan, {dx}, use);
      leave(plan, dx, [&](int64_t t, const Point<T>& z) {
        if (t < c.time) lanes.store(g.du, item, t, z, g.add_du);
      });
    }
  });
  if (!wants_k) return;
  const Vector<T> scale = spread(T(1) / T(plan.n));
  run_tasks(parallel, blocks.bands, [&](int64_t band) {
    const Lanes<T> lanes = blocks.lanes(band, 0);
    Point<T>* const total = sums + band * runs * plan.n;
    pieces_of<false, true>(plan, {total}, [&](int64_t begin, int64_t end) {
      for (int64_t run = 1; run < runs; ++run)
        for (int64_t p = begin; p < end; ++p) soon(total + run * plan.n + p), total[p] = total[p] + total[run * plan.n + p];
    });
    leave(plan, total, [&](int64_t t, const Point<T>& z) {
      if (t >= c.taps) return;
      if (g.dk) lanes.put_sum(g.dk, t, scale * z.re, g.add_dk);
      if (g.dskip && t == 0) lanes.put_sum(g.dskip, 0, scale * z.re, g.add_dskip);
    });
  });
}
