// Fourier transforms along time. Roof: arithmetic while a piece is in L1, the bandwidth of L2 beyond. A vector holds one time step of W channels
// (f64, for tests and checks: of one), so that every butterfly is plain vector code; a complex point is a vector of real parts and one of
// imaginary parts. Forward passes are decimation in frequency: natural order in, digits reversed out; backward passes undo them one by one, and
// nothing is ever permuted. Cooley and Tukey 1965; Gentleman and Sande 1966; depth first, so that pieces stay in caches.

inline V spread(float x) { return set1(x); }
inline double spread(double x) { return x; }
inline double fma(double a, double b, double c) { return a * b + c; }
inline V load_lanes(const float* p, int64_t count) { return load_some(p, count); }
inline double load_lanes(const double* p, int64_t) { return *p; }
inline void store_lanes(float* p, V x, int64_t count) { store_some(p, x, count); }
inline void store_lanes(double* p, double x, int64_t) { *p = x; }

template <class T>
using Vector = decltype(spread(T()));                         // V for float, double for double
template <class T>
constexpr int64_t lanes_of = sizeof(Vector<T>) / sizeof(T);

template <class T>
struct Point {
  Vector<T> re, im;
};
template <class T>
inline Point<T> operator+(const Point<T>& a, const Point<T>& b) { return {a.re + b.re, a.im + b.im}; }
template <class T>
inline Point<T> operator-(const Point<T>& a, const Point<T>& b) { return {a.re - b.re, a.im - b.im}; }
template <class T>
inline Point<T> operator*(Vector<T> s, const Point<T>& a) { return {s * a.re, s * a.im}; }
template <class T>
inline Point<T> conjugate(const Point<T>& a) { return {a.re, -a.im}; }
template <class T>
inline Point<T> product(const Point<T>& a, const Point<T>& b) { return {fma(a.re, b.re, -(a.im * b.im)), fma(a.re, b.im, a.im * b.re)}; }
template <class T>
inline Point<T> conjugate_product(const Point<T>& a, const Point<T>& b) {   // conj(a) b
  return {fma(a.re, b.re, a.im * b.im), fma(a.re, b.im, -(a.im * b.re))};
}

// Times exp(-i angle) forward, exp(+i angle) backward: by a twiddle factor (cos, -sin), a quarter turn, an eighth of a turn.
template <bool back, class T>
inline Point<T> turn(const Point<T>& z, const T* w) {
  const Point<T> factor{spread(w[0]), spread(w[1])};
  return back ? conjugate_product(factor, z) : product(factor, z);
}
template <bool back, class T>
inline Point<T> quarter(const Point<T>& z) {
  if constexpr (back) return {-z.im, z.re};
  else return {z.im, -z.re};
}
template <bool back, class T>
inline Point<T> eighth(const Point<T>& z) {
  const Vector<T> h = spread(T(0.70710678118654752));
  if constexpr (back) return {h * (z.re - z.im), h * (z.re + z.im)};
  else return {h * (z.re + z.im), h * (z.im - z.re)};
}

// z_0 .. z_{R-1} -> sum over i of z_i exp(-2 pi i f i / R), in place q the frequency f that FftPlan gives it; `back` is the inverse, times R.
template <class T>
inline void sum_and_difference(Point<T>& a, Point<T>& b) {
  const Point<T> difference = a - b;
  a = a + b;
  b = difference;
}
template <bool back, class T>
inline void four(Point<T>* z) {
  if constexpr (!back) {
    sum_and_difference(z[0], z[2]);
    sum_and_difference(z[1], z[3]);
    z[3] = quarter<back>(z[3]);
  }
  sum_and_difference(z[0], z[1]);
  sum_and_difference(z[2], z[3]);
  if constexpr (back) {
    z[3] = quarter<back>(z[3]);
    sum_and_difference(z[0], z[2]);
    sum_and_difference(z[1], z[3]);
  }
}
template <int R, bool back, class T>
inline void butterfly(Point<T>* z) {
  if constexpr (R == 2) sum_and_difference(z[0], z[1]);
  if constexpr (R == 3) {
    const Point<T> s = z[1] + z[2], d = spread(T(0.86602540378443865)) * quarter<back>(z[1] - z[2]), m = z[0] - spread(T(0.5)) * s;
    z[0] = z[0] + s, z[1] = m + d, z[2] = m - d;
  }
  if constexpr (R == 4) four<back>(z);
  if constexpr (R == 5) {
    const Vector<T> c1 = spread(T(0.30901699437494742)), c2 = spread(T(-0.80901699437494742));   // cos and sin of 72 and 144 degrees
    const Vector<T> s1 = spread(T(0.95105651629515357)), s2 = spread(T(0.58778525229247313));
    const Point<T> a = z[1] + z[4], b = z[2] + z[3], c = quarter<back>(z[1] - z[4]), d = quarter<back>(z[2] - z[3]);
    const Point<T> p = z[0] + (c1 * a + c2 * b), q = z[0] + (c2 * a + c1 * b), r = s1 * c + s2 * d, t = s2 * c - s1 * d;
    z[0] = z[0] + (a + b), z[1] = p + r, z[2] = q + t, z[3] = q - t, z[4] = p - r;
  }
  if constexpr (R == 8) {
    const auto halves = [&] {
      for (int i = 0; i < 4; ++i) sum_and_difference(z[i], z[i + 4]);
    };
    const auto turns = [&] {
      z[5] = eighth<back>(z[5]);
      z[6] = quarter<back>(z[6]);
      z[7] = quarter<back>(eighth<back>(z[7]));
    };
    if constexpr (!back) halves(), turns();
    four<back>(z);
    four<back>(z + 4);
    if constexpr (back) turns(), halves();
  }
}

// `count` butterflies of one level: butterfly j takes its points from from[j + i from_step] and leaves its results at to[j + i to_step].
template <int R, bool back, class T>
[[gnu::noinline]] void butterflies(int64_t count, const T* twiddles, const Point<T>* from, int64_t from_step, Point<T>* to, int64_t to_step) {
  for (int64_t j = 0; j < count; ++j, twiddles += 2 * (R - 1)) {
    Point<T> z[R];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) z[i] = from[j + i * from_step];
    if constexpr (back) {
#pragma GCC unroll 8
      for (int i = 1; i < R; ++i) z[i] = turn<back>(z[i], twiddles + 2 * (i - 1));
    }
    butterfly<R, back>(z);
    if constexpr (!back) {
#pragma GCC unroll 8
      for (int i = 1; i < R; ++i) z[i] = turn<back>(z[i], twiddles + 2 * (i - 1));
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) to[j + i * to_step] = z[i];
  }
}
// Those of the last level: transforms of R points, one behind the other.
template <int R, bool back, class T>
[[gnu::noinline]] void last_butterflies(int64_t count, Point<T>* x) {
  for (int64_t j = 0; j < count; ++j, x += R) {
    Point<T> z[R];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) z[i] = x[i];
    butterfly<R, back>(z);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) x[i] = z[i];
  }
}

template <int R>
struct Radix {
  static constexpr int value = R;
};
template <class F>
inline void with_radix(int radix, F f) {
  switch (radix) {
    case 2: return f(Radix<2>{});
    case 3: return f(Radix<3>{});
    case 4: return f(Radix<4>{});
    case 5: return f(Radix<5>{});
    case 8: return f(Radix<8>{});
    default: return f(Radix<1>{});
  }
}

// Level `level` of `count` transforms that lie one behind the other.
template <bool back, class T>
void pass(const FftPlan<T>& plan, int level, Point<T>* x, int64_t count) {
  with_radix(plan.radix[level], [&](auto radix) {
    constexpr int R = radix.value;
    const int64_t m = plan.size[level + 1];
    if (m == 1) return last_butterflies<R, back>(count, x);
    for (const Point<T>* end = x + count * R * m; x < end; x += R * m) butterflies<R, back>(m, plan.twiddles[level], x, m, x, m);
  });
}

// The first level of a forward transform takes its points from load(t), the last of a backward one hands them to store(t, z). Between there and
// the butterflies they rest in L1, so that a signal is touched in runs of steps.
constexpr int64_t steps = 16;
template <class T, class Load>
void enter(const FftPlan<T>& plan, Point<T>* x, Load load) {
  const int64_t m = plan.size[1], radix = plan.radix[0];
  Point<T> rows[8 * steps];
  for (int64_t j = 0; j < m; j += steps) {
    const int64_t count = least(steps, m - j);
    for (int64_t i = 0; i < radix; ++i)
      for (int64_t r = 0; r < count; ++r) rows[i * steps + r] = load(j + i * m + r);
    with_radix(plan.radix[0], [&](auto r) {
      butterflies<r.value, false>(count, plan.twiddles[0] + 2 * (r.value - 1) * j, rows, steps, x + j, m);
    });
  }
}
template <class T, class Store>
void leave(const FftPlan<T>& plan, const Point<T>* x, Store store) {
  const int64_t m = plan.size[1], radix = plan.radix[0];
  Point<T> rows[8 * steps];
  for (int64_t j = 0; j < m; j += steps) {
    const int64_t count = least(steps, m - j);
    with_radix(plan.radix[0], [&](auto r) {
      butterflies<r.value, true>(count, plan.twiddles[0] + 2 * (r.value - 1) * j, x + j, m, rows, steps);
    });
    for (int64_t i = 0; i < radix; ++i)
      for (int64_t r = 0; r < count; ++r) store(j + i * m + r, rows[i * steps + r]);
  }
}

// The levels from `level` on of the transforms in x[0][begin ..], x[1][begin ..], ...: there, then use(begin, end) on what is finished, then the last
// of them back. Where a transform does not fit L1, one level is done and each of its pieces goes all the way there and back before the next one.
template <bool there, bool back, size_t count, class T, class Use>
void transform(const FftPlan<T>& plan, int level, Point<T>* const (&x)[count], int64_t begin, Use& use) {
  constexpr int64_t fits = 16384 / int64_t(sizeof(Point<T>));
  const int64_t n = plan.size[level];
  const auto pass_there = [&](int l) {
    for (Point<T>* const one : x) pass<false>(plan, l, one + begin, n / plan.size[l]);
  };
  const auto pass_back = [&](int l) { pass<true>(plan, l, x[count - 1] + begin, n / plan.size[l]); };
  if (n > fits) {
    if (there) pass_there(level);
    const int64_t m = plan.size[level + 1];
    for (int64_t i = begin; i < begin + n; i += m) transform<there, back>(plan, level + 1, x, i, use);
    if (back) pass_back(level);
    return;
  }
  for (int l = level; there && l < plan.levels; ++l) pass_there(l);
  use(begin, begin + n);
  for (int l = plan.levels - 1; back && l >= level; --l) pass_back(l);
}
template <bool there, bool back, size_t count, class T, class Use>
void pieces_of(const FftPlan<T>& plan, Point<T>* const (&x)[count], Use use) {   // all that lies between enter() and leave()
  for (int64_t i = 0; i < plan.n; i += plan.size[1]) transform<there, back>(plan, 1, x, i, use);
}
struct Nothing {
  void operator()(int64_t, int64_t) const {}
};

// Memory for n points that no other thread uses.
template <class T>
class Points {
 public:
  explicit Points(int64_t n) : bytes_(size_t(n) * sizeof(Point<T>)), data_(static_cast<Point<T>*>(allocate(bytes_))) {}
  Points(const Points&) = delete;
  ~Points() { deallocate(data_, bytes_); }
  operator Point<T>*() const { return data_; }

 private:
  size_t bytes_;
  Point<T>* data_;
};

// A transform whose length has other factors than 2, 3 and 5, from load(t) to store(f, X_f), by a convolution (Bluestein 1970):
// X_f = c_f sum over t of conj(c_{f-t}) c_t x_t, c_j = exp(-i pi j^2 / n).
template <class T, class Load, class Store>
void through_convolution(const FftPlan<T>& plan, Load load, Store store) {
  const FftPlan<T>& inner = *plan.inner;
  const Points<T> memory(inner.n);
  Point<T>* const x = memory;
  enter(inner, x, [&](int64_t t) { return t < plan.n ? turn<false>(load(t), plan.chirp + 2 * t) : Point<T>{}; });
  pieces_of<true, true>(inner, {x}, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) x[p] = turn<false>(x[p], plan.chirp_spectrum + 2 * p);
  });
  leave(inner, x, [&](int64_t f, const Point<T>& z) {
    if (f < plan.n) store(f, turn<false>(z, plan.chirp + 2 * f));
  });
}

// Whole transforms of any length: x (plan.n) = the spectrum of load(t), its frequencies where plan.position says; and back, not divided by n.
template <class T, class Load>
void spectrum(const FftPlan<T>& plan, Point<T>* x, Load load) {
  if (plan.inner) return through_convolution(plan, load, [x](int64_t f, const Point<T>& z) { x[f] = z; });
  enter(plan, x, load);
  pieces_of<true, false>(plan, {x}, Nothing{});
}
template <class T, class Store>
void signal(const FftPlan<T>& plan, Point<T>* x, Store store) {
  if (plan.inner) {
    return through_convolution(plan, [x](int64_t f) { return conjugate(x[f]); }, [&](int64_t t, const Point<T>& z) { store(t, conjugate(z)); });
  }
  pieces_of<false, true>(plan, {x}, Nothing{});
  leave(plan, x, store);
}

// Two real signals as one complex one, so that no transform works on zeros: lane l holds channel `channel` + l of items `item` (real parts) and
// item + 1 (imaginary parts). With fewer channels than lanes, `groups` pairs of items lie side by side.
template <class T>
struct Lanes {
  int64_t batch, channels, item, channel, count, groups;

  Point<T> load(const T* x, int64_t item_size, int64_t row) const { return {part(x, item_size, row, item), part(x, item_size, row, item + 1)}; }
  void store(T* x, int64_t item_size, int64_t row, const Point<T>& z, bool add) const {
    put(x, item_size, row, item, z.re, add);
    put(x, item_size, row, item + 1, z.im, add);
  }

  // the same numbers for all pairs of items: row `row` of (rows, channels)
  Vector<T> shared(const T* x, int64_t row) const { return Lanes{2 * groups, channels, 0, channel, count, groups}.part(x, 0, row, 0); }
  // the sum over all pairs of items, into row `row` of (rows, channels)
  void put_sum(T* x, int64_t row, Vector<T> z, bool add) const {
    x += row * channels + channel;
    if (groups == 1) return soon(x), store_lanes(x, add ? load_lanes(x, count) + z : z, count);
    alignas(64) T lane[lanes_of<T>];
    __builtin_memcpy(lane, &z, sizeof z);
    for (int64_t g = 1; g < groups; ++g)
      for (int64_t c = 0; c < channels; ++c) lane[c] += lane[g * channels + c];
    for (int64_t c = 0; c < channels; ++c) x[c] = add ? x[c] + lane[c] : lane[c];
  }

 private:
  // Steps that are lines apart are no stream that the processor would foresee: it would wait for each of them.
  void soon(const T* x) const {
    if (channels * int64_t(sizeof(T)) >= 64) __builtin_prefetch(x + 64 * channels);
  }

  Vector<T> part(const T* x, int64_t item_size, int64_t row, int64_t i) const {
    x += row * channels + channel;
    if (groups == 1) {
      if (i >= batch) return Vector<T>{};
      soon(x + i * item_size);
      return load_lanes(x + i * item_size, count);
    }
    alignas(64) T lane[lanes_of<T>] = {};
    for (int64_t g = 0; g < groups && i + 2 * g < batch; ++g)
      for (int64_t c = 0; c < channels; ++c) lane[g * channels + c] = x[(i + 2 * g) * item_size + c];
    return load_lanes(lane, lanes_of<T>);
  }
  void put(T* x, int64_t item_size, int64_t row, int64_t i, Vector<T> z, bool add) const {
    x += row * channels + channel;
    if (groups == 1) {
      if (i >= batch) return;
      soon(x + i * item_size);
      return store_lanes(x + i * item_size, add ? load_lanes(x + i * item_size, count) + z : z, count);
    }
    alignas(64) T lane[lanes_of<T>];
    __builtin_memcpy(lane, &z, sizeof z);
    for (int64_t g = 0; g < groups && i + 2 * g < batch; ++g)
      for (int64_t c = 0; c < channels; ++c) {
        T& to = x[(i + 2 * g) * item_size + c];
        to = add ? to + lane[g * channels + c] : lane[g * channels + c];
      }
  }
};

// How signals of `batch` items and `channels` channels are cut: bands of channels, and in each of them sets of items.
template <class T>
struct Blocks {
  int64_t batch, channels, groups, bands, sets;
  Blocks(int64_t batch, int64_t channels)
      : batch(batch), channels(channels), groups(most(1, least(lanes_of<T> / most(channels, 1), pieces(batch, 2)))),
        bands(pieces(channels, lanes_of<T>)), sets(pieces(batch, 2 * groups)) {}
  Lanes<T> lanes(int64_t band, int64_t set) const {
    const int64_t channel = band * lanes_of<T>;
    return {batch, channels, 2 * groups * set, channel, least(lanes_of<T>, channels - channel), groups};
  }
};
template <class T>
bool worth_threads(const FftPlan<T>& plan, int64_t blocks) { return plan.n * blocks > 4096; }
