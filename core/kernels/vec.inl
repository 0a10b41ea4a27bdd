// The vector type of this instruction set, and everything that differs between them: loads, tails, fused multiply-add, reductions.
// Arithmetic, comparison and selection are the compilers' vector extension (a < b ? x : y works by lane), so that other processors
// build the baseline as it stands. Functions are elementary ones in f32, polynomials from make_polynomials.py, errors in ulp.
#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float V __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef float Unaligned __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t UnalignedI __attribute__((vector_size(4 * W), aligned(4), may_alias));

inline V zero() { return V{}; }
inline V set1(float x) { return x - V{}; }
inline I set1i(int32_t x) { return x - I{}; }
inline V load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, V x) { *reinterpret_cast<Unaligned*>(p) = x; }
inline I bits(V x) { return (I)x; }
inline V from_bits(I x) { return (V)x; }
inline V to_float(I x) { return __builtin_convertvector(x, V); }
inline I lane_numbers() {
  I x{};
  for (int i = 0; i < W; ++i) x[i] = i;
  return x;
}

// The first `count` elements, zeros behind them; nothing beyond is touched. A count of W or more is a whole vector.
#if defined(__AVX512F__)
inline __mmask16 lanes_below(int64_t count) { return count >= W ? __mmask16(0xffff) : __mmask16((1u << count) - 1); }
inline V load_some(const float* p, int64_t count) { return (V)_mm512_maskz_loadu_ps(lanes_below(count), p); }
inline void store_some(float* p, V x, int64_t count) { _mm512_mask_storeu_ps(p, lanes_below(count), (__m512)x); }
inline V fma(V a, V b, V c) { return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
#elif defined(__AVX2__)
inline __m256i lanes_below(int64_t count) { return (__m256i)(lane_numbers() < set1i(count >= W ? W : int32_t(count))); }
inline V load_some(const float* p, int64_t count) { return count >= W ? load(p) : (V)_mm256_maskload_ps(p, lanes_below(count)); }
inline void store_some(float* p, V x, int64_t count) {
  if (count >= W) return store(p, x);
  _mm256_maskstore_ps(p, lanes_below(count), (__m256)x);
}
inline V fma(V a, V b, V c) { return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#else
inline V load_some(const float* p, int64_t count) {
  if (count >= W) return load(p);
  V x{};
  for (int i = 0; i < count; ++i) x[i] = p[i];
  return x;
}
inline void store_some(float* p, V x, int64_t count) {
  if (count >= W) return store(p, x);
  for (int i = 0; i < count; ++i) p[i] = x[i];
}
inline V fma(V a, V b, V c) { return a * b + c; }
#endif

// b where one of them is NaN
#if defined(__AVX512F__)   // for which GCC makes two instructions of a ? :
inline V max(V a, V b) { return (V)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b); }
inline V min(V a, V b) { return (V)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b); }
#else
inline V max(V a, V b) { return a > b ? a : b; }
inline V min(V a, V b) { return a < b ? a : b; }
#endif
inline V absolute(V x) { return from_bits(bits(x) & set1i(0x7fffffff)); }
inline V with_sign(V magnitude, V sign) { return from_bits(bits(magnitude) | (bits(sign) & set1i(int32_t(0x80000000)))); }

#if defined(__AVX512F__)
inline V square_root(V x) { return (V)_mm512_maskz_sqrt_ps(0xffff, (__m512)x); }
#elif defined(__AVX2__)
inline V square_root(V x) { return (V)_mm256_sqrt_ps((__m256)x); }
#else
inline V square_root(V x) {
  for (int i = 0; i < W; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}
#endif

// The lanes as one number: pairs half a vector apart meet first, then quarters, in a fixed order.
template <class Meet>
inline float fold(V x, Meet meet) {
#if defined(__AVX512F__)
  typedef float Eight __attribute__((vector_size(32)));
  const Eight y = meet(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7), __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15));
#else
  const V y = x;
#endif
  typedef float Four __attribute__((vector_size(16)));
#if defined(__AVX2__)
  const Four z = meet(__builtin_shufflevector(y, y, 0, 1, 2, 3), __builtin_shufflevector(y, y, 4, 5, 6, 7));
#else
  const Four z = y;
#endif
  return meet(meet(z[0], z[2]), meet(z[1], z[3]));
}
inline float reduce_add(V x) {
  return fold(x, [](auto a, auto b) { return a + b; });
}
inline float reduce_max(V x) {
  return fold(x, [](auto a, auto b) { return a > b ? a : b; });
}

// e^x = 2^n e^r, |r| <= ln 2 / 2. Below -87.3 zero (no denormals), above 88.7 infinity. 1 ulp.
inline V exp(V x) {
  const V magic = set1(12582912);   // 1.5 * 2^23: adding it rounds to a whole number, which then stands in the low bits
  x = min(set1(89), max(set1(-104), x));
  const V t = fma(x, set1(1.44269504f), magic), n = t - magic;
  const V r = fma(n, set1(2.12194440e-4f), fma(n, set1(-0.693359375f), x));   // ln 2 = 0.693359375 - 2.1219444e-4
  V p = set1(0.0013950479f);
  p = fma(p, r, set1(0.008368882f));
  p = fma(p, r, set1(0.041666206f));
  p = fma(p, r, set1(0.1666652f));
  p = fma(p, r, set1(0.5f));
  p = fma(r * r, p, r) + set1(1);
#if defined(__AVX512F__)
  return (V)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)n);
#else
  const I exponent = bits(t) - bits(magic), half = exponent >> 1;   // in two steps: 2^128 is no float
  return p * from_bits((half + 127) << 23) * from_bits((exponent - half + 127) << 23);
#endif
}

// log x = e ln 2 + log(1 + m), 1 + m in [sqrt(1/2), sqrt 2). Zero gives -infinity, negative numbers NaN. 1 ulp.
inline V log(V x) {
  const U b = (U)x, one_half = (U)set1i(0x3f3504f3);   // sqrt(1/2); unsigned, because negative numbers would overflow
  const I e = (I)(b - one_half) >> 23;
  const V m = (V)(b - (U)(e << 23)) - set1(1), scale = to_float(e);
  V p = set1(0.0674664f);
  p = fma(p, m, set1(-0.11675652f));
  p = fma(p, m, set1(0.11888162f));
  p = fma(p, m, set1(-0.12405589f));
  p = fma(p, m, set1(0.14219552f));
  p = fma(p, m, set1(-0.16667996f));
  p = fma(p, m, set1(0.20002119f));
  p = fma(p, m, set1(-0.2500001f));
  p = fma(p, m, set1(0.33333313f));
  const V s = m * m;
  V y = fma(scale, set1(-2.12194440e-4f), s * m * p);
  y = fma(s, set1(-0.5f), y) + m;
  y = fma(scale, set1(0.693359375f), y);
  const V infinity = set1(__builtin_inff());
  y = x < infinity ? y : x;   // infinity and NaN stay
  y = x > zero() ? y : (x == zero() ? -infinity : set1(__builtin_nanf("")));
  return x == x ? y : x;
}

inline V sigmoid(V x) { return set1(1) / (set1(1) + exp(-x)); }

// A polynomial in x^2 near zero, where 1 - 2 / (e^2x + 1) would cancel. 2 ulp.
inline V tanh(V x) {
  const V s = x * x;
  V p = set1(-0.005660789f);
  p = fma(p, s, set1(0.020602008f));
  p = fma(p, s, set1(-0.05372923f));
  p = fma(p, s, set1(0.13331328f));
  p = fma(p, s, set1(-0.33333278f));
  const V small = fma(p * s, x, x), large = set1(1) - set1(2) / (exp(absolute(x) * set1(2)) + set1(1));
  return s < set1(0.4f) ? small : with_sign(large, x);
}

// 2 ulp.
inline V erf(V x) {
  const V s = x * x, t = min(absolute(x), set1(4));
  V p = set1(-0.0005964579f);
  p = fma(p, s, set1(0.0049885837f));
  p = fma(p, s, set1(-0.026763957f));
  p = fma(p, s, set1(0.11281759f));
  p = fma(p, s, set1(-0.3761249f));
  p = fma(p, s, set1(0.12837915f));
  V q = set1(4.806523e-06f);
  q = fma(q, t, set1(-4.4000535e-05f));
  q = fma(q, t, set1(-5.7510184e-05f));
  q = fma(q, t, set1(0.002951664f));
  q = fma(q, t, set1(-0.022708286f));
  q = fma(q, t, set1(0.105294436f));
  q = fma(q, t, set1(0.63560927f));
  q = fma(q, t, set1(1.1285552f));
  const V y = s < set1(0.86f) ? fma(p, x, x) : with_sign(set1(1) - exp(-t * q), x);
  return x == x ? y : x;
}
