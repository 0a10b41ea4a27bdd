// Real transforms in natural order, and the kernels of rational transfer functions (Parnichkun et al. 2024; kexue.fm/archives/10180). Roof: that
// of the transforms. Two real signals a, b travel as z = a + i b; their spectra are A_f = (Z_f + conj Z_-f) / 2, B_f = (Z_f - conj Z_-f) / 2i.

template <class T>
struct TwoPoints {
  Point<T> a, b;
};
template <class T>
inline TwoPoints<T> separate(const Point<T>& z, const Point<T>& mate) {
  const Vector<T> half = spread(T(0.5));
  return {{half * (z.re + mate.re), half * (z.im - mate.im)}, {half * (z.im + mate.im), half * (mate.re - z.re)}};
}
template <class T>
inline Point<T> together(const Point<T>& a, const Point<T>& b) { return {a.re - b.im, a.im + b.re}; }   // a + i b

template <class T>
void rfft(const RealTransform<T>& r) {
  const FftPlan<T>& plan = *r.plan;
  const Blocks<T> blocks(r.batch, r.channels);
  const int64_t n = plan.n, spectrum_item = 2 * (n / 2 + 1) * r.channels;
  run_tasks(worth_threads(plan, blocks.bands * blocks.sets), blocks.bands * blocks.sets, [&](int64_t task) {
    const Lanes<T> lanes = blocks.lanes(task / blocks.sets, task % blocks.sets);
    const Points<T> memory(n);
    Point<T>* const x = memory;
    spectrum(plan, x, [&](int64_t t) { return t < r.time ? lanes.load(r.from, r.time * r.channels, t) : Point<T>{}; });
    for (int64_t f = 0; f <= n / 2; ++f) {
      const int64_t p = plan.position[f], q = plan.mate[p];
      const Vector<T> scale = spread(p == q ? r.edge : r.middle);
      const TwoPoints<T> both = separate(x[p], x[q]);
      lanes.store(r.to, spectrum_item, 2 * f, scale * Point<T>{both.a.re, both.b.re}, r.add);
      lanes.store(r.to, spectrum_item, 2 * f + 1, scale * Point<T>{both.a.im, both.b.im}, r.add);
    }
  });
}

template <class T>
void irfft(const RealTransform<T>& r) {
  const FftPlan<T>& plan = *r.plan;
  const Blocks<T> blocks(r.batch, r.channels);
  const int64_t n = plan.n, spectrum_item = 2 * (n / 2 + 1) * r.channels;
  const Vector<T> half = spread(T(0.5));
  run_tasks(worth_threads(plan, blocks.bands * blocks.sets), blocks.bands * blocks.sets, [&](int64_t task) {
    const Lanes<T> lanes = blocks.lanes(task / blocks.sets, task % blocks.sets);
    const Points<T> memory(n);
    Point<T>* const x = memory;
    for (int64_t f = 0; f <= n / 2; ++f) {
      const int64_t p = plan.position[f], q = plan.mate[p];
      const Point<T> re = lanes.load(r.from, spectrum_item, 2 * f), im = lanes.load(r.from, spectrum_item, 2 * f + 1);
      if (p == q) {                          // imaginary parts there meet sin(0) or sin(pi t)
        x[p] = spread(r.edge) * re;
        continue;
      }
      const Vector<T> scale = half * spread(r.middle);   // one half for f, one for -f
      const Point<T> a{scale * re.re, scale * im.re}, b{scale * re.im, scale * im.im};
      x[p] = together(a, b);
      x[q] = together(conjugate(a), conjugate(b));
    }
    signal(plan, x, [&](int64_t t, const Point<T>& z) {
      if (t < r.time) lanes.store(r.to, r.time * r.channels, t, z, r.add);
    });
  });
}

// The coefficients of one band, denominator as real and numerator as imaginary parts, row by row; beyond the length they wrap around (z^n = 1).
template <class T>
struct Coefficients {
  const RationalKernel<T>& r;
  int64_t channel, count, rows;
  Points<T> head;

  Coefficients(const RationalKernel<T>& r, int64_t band)
      : r(r), channel(band * lanes_of<T>), count(least(lanes_of<T>, r.channels - channel)), rows(least(r.order + 1, r.plan->n)), head(rows) {}

  Lanes<T> lanes() const { return {2, r.channels, 0, channel, count, 1}; }   // of the kernel
  void load() {
    __builtin_memset(static_cast<void*>(head), 0, size_t(rows) * sizeof(Point<T>));
    head[0].re = spread(T(1));
    each([&](int64_t at, T* to) { to[0] += r.a[at]; }, [&](int64_t at, T* to) { to[0] += r.b[at]; });
  }
  void store(const RationalKernelGradient<T>& g) {
    each([&](int64_t at, const T* from) { if (g.da) g.da[at] = g.add_da ? g.da[at] + *from : *from; },
         [&](int64_t at, const T* from) { if (g.db) g.db[at] = g.add_db ? g.db[at] + *from : *from; });
  }

 private:
  template <class A, class B>
  void each(A a, B b) {
    T* lanes = reinterpret_cast<T*>(static_cast<Point<T>*>(head));
    for (int64_t l = 0; l < count; ++l)
      for (int64_t i = 0; i < r.order; ++i) {
        const int64_t at = (channel + l) * r.order + i;
        a(at, lanes + 2 * lanes_of<T> * ((i + 1) % r.plan->n) + l);
        b(at, lanes + 2 * lanes_of<T> * (i % r.plan->n) + lanes_of<T> + l);
      }
  }
};

template <class T>
void coefficient_spectrum(const FftPlan<T>& plan, Coefficients<T>& c, Point<T>* x) {
  c.load();
  spectrum(plan, x, [&](int64_t t) { return t < c.rows ? c.head[t] : Point<T>{}; });
}
template <class T>
inline Point<T> reciprocal(const Point<T>& z) {
  const Vector<T> s = spread(T(1)) / fma(z.re, z.re, z.im * z.im);
  return {s * z.re, -(s * z.im)};
}

// K = B / A. A zero of A on the unit circle gives infinities, as it must.
template <class T>
void rational_kernel(const RationalKernel<T>& r) {
  const FftPlan<T>& plan = *r.plan;
  const int64_t n = plan.n, bands = pieces(r.channels, lanes_of<T>);
  run_tasks(worth_threads(plan, bands), bands, [&](int64_t band) {
    Coefficients<T> c(r, band);
    const Points<T> memory(n);
    Point<T>* const x = memory;
    coefficient_spectrum(plan, c, x);
    const Vector<T> scale = spread(T(1) / T(n));
    for (int64_t p = 0; p < n; ++p) {
      const int64_t q = plan.mate[p];
      if (q < p) continue;
      const TwoPoints<T> z = separate(x[p], x[q]);
      const Point<T> k = product<T>(z.b, scale * reciprocal(z.a));
      x[q] = conjugate(k);                   // before x[p], which may be the same
      x[p] = k;
    }
    signal(plan, x, [&](int64_t t, const Point<T>& z) { c.lanes().put_sum(r.k, t, z.re, false); });
  });
}

// dK = DFT(dk) / n,  dB = conj(1 / A) dK,  dA = -conj(K) dB; of real signals, so that one transform brings both back: da + i db.
template <class T>
void rational_kernel_gradient(const RationalKernel<T>& r, const RationalKernelGradient<T>& g) {
  const FftPlan<T>& plan = *r.plan;
  const int64_t n = plan.n, bands = pieces(r.channels, lanes_of<T>);
  run_tasks(worth_threads(plan, bands), bands, [&](int64_t band) {
    Coefficients<T> c(r, band);
    const Points<T> memory(n), memory_of_dk(n);
    Point<T> *const x = memory, *const dk = memory_of_dk;
    coefficient_spectrum(plan, c, x);
    const Vector<T> scale = spread(T(1) / T(n));
    spectrum(plan, dk, [&](int64_t t) -> Point<T> { return {scale * c.lanes().shared(g.dk, t), Vector<T>{}}; });
    for (int64_t p = 0; p < n; ++p) {
      const int64_t q = plan.mate[p];
      if (q < p) continue;
      const TwoPoints<T> z = separate(x[p], x[q]);
      const Point<T> inverse = reciprocal(z.a), k = product(z.b, inverse);
      const Point<T> db = conjugate_product(inverse, dk[p]), minus_da = conjugate_product(k, db);
      const Point<T> da{-minus_da.re, -minus_da.im};
      x[q] = together(conjugate(da), conjugate(db));
      x[p] = together(da, db);
    }
    signal(plan, x, [&](int64_t t, const Point<T>& z) {
      if (t < c.rows) c.head[t] = z;
    });
    c.store(g);
  });
}

template <class T>
constexpr SpectralKernels<T> spectral_kernels = {rfft<T>,           irfft<T>, long_convolution<T>, long_convolution_gradient<T>, rational_kernel<T>,
                                                 rational_kernel_gradient<T>};
