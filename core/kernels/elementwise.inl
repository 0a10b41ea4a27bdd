// Elementwise kernels. Roof: memory, once the arrays leave L2. The functions are given by value and by gradient(saved, dy), where
// `saved` is the output or the input as saves_output() says. NaN passes through all of them.

struct Exp {
  V operator()(V x) const { return exp(x); }
  V gradient(V y, V dy) const { return dy * y; }
};
struct Log {
  V operator()(V x) const { return log(x); }
  V gradient(V x, V dy) const { return dy / x; }
};
struct Sqrt {
  V operator()(V x) const { return square_root(x); }
  V gradient(V y, V dy) const { return set1(0.5f) * dy / y; }
};
struct Square {
  V operator()(V x) const { return x * x; }
  V gradient(V x, V dy) const { return dy * (x + x); }
};
struct Reciprocal {
  V operator()(V x) const { return set1(1) / x; }
  V gradient(V y, V dy) const { return -dy * y * y; }
};
struct Absolute {
  V operator()(V x) const { return absolute(x); }
  V gradient(V x, V dy) const { return x > zero() ? dy : x < zero() ? -dy : x * zero(); }
};
struct Tanh {
  V operator()(V x) const { return tanh(x); }
  V gradient(V y, V dy) const { return dy * (set1(1) - y * y); }
};
struct Sigmoid {
  V operator()(V x) const { return sigmoid(x); }
  V gradient(V y, V dy) const { return dy * y * (set1(1) - y); }
};
struct Relu {
  V operator()(V x) const { return max(zero(), x); }
  V gradient(V y, V dy) const { return y > zero() ? dy : max(zero(), y); }
};
// y = x s(2u), u = sqrt(2 / pi) (x + 0.044715 x^3), s the logistic function:   dy/dx = s + x s (1 - s) 2u'
struct Gelu {
  V operator()(V x) const { return x * sigmoid(argument(x)); }
  V gradient(V x, V dy) const {
    const V c = max(set1(-20), min(set1(20), x)), s = sigmoid(argument(c));   // flat beyond; x^3 must not overflow
    const V slope = set1(1.59576912f) * fma(set1(0.134145f) * c, c, set1(1));
    return dy * fma(c * s * (set1(1) - s), slope, s);
  }
  static V argument(V x) { return set1(1.59576912f) * fma(set1(0.044715f) * x * x, x, x); }
};
// y = x P(x), P the normal distribution:   dy/dx = P + x exp(-x^2 / 2) / sqrt(2 pi)
struct GeluErf {
  V operator()(V x) const { return x * distribution(x); }
  V gradient(V x, V dy) const {
    const V c = max(set1(-20), min(set1(20), x));
    return dy * fma(c * set1(0.39894228f), exp(set1(-0.5f) * c * c), distribution(c));
  }
  static V distribution(V x) { return fma(set1(0.5f), erf(set1(0.70710678f) * x), set1(0.5f)); }
};
// y = x s:   dy/dx = s (1 + x (1 - s))
struct Silu {
  V operator()(V x) const { return x * sigmoid(x); }
  V gradient(V x, V dy) const {
    const V s = sigmoid(x);
    return dy * s * fma(x, set1(1) - s, set1(1));
  }
};

// Calls use(function) with the one that f names.
template <class Use>
void with_function(Unary f, Use&& use) {
  switch (f) {
    case Unary::exp: return use(Exp{});
    case Unary::log: return use(Log{});
    case Unary::sqrt: return use(Sqrt{});
    case Unary::square: return use(Square{});
    case Unary::reciprocal: return use(Reciprocal{});
    case Unary::absolute: return use(Absolute{});
    case Unary::tanh: return use(Tanh{});
    case Unary::sigmoid: return use(Sigmoid{});
    case Unary::relu: return use(Relu{});
    case Unary::gelu: return use(Gelu{});
    case Unary::gelu_erf: return use(GeluErf{});
    case Unary::silu: return use(Silu{});
    case Unary::count: break;
  }
}

void unary(Unary f, int64_t n, const float* x, float* y) {
  with_function(f, [&](auto function) {
    each(n, [=](int64_t i, auto lanes) { lanes.store(y + i, function(lanes.load(x + i))); });
  });
}

void unary_gradient(Unary f, int64_t n, const float* saved, const float* dy, float* dx, bool add) {
  with_function(f, [&](auto function) {
    each(n, [=](int64_t i, auto lanes) {
      const V g = function.gradient(lanes.load(saved + i), lanes.load(dy + i));
      lanes.store(dx + i, add ? lanes.load(dx + i) + g : g);
    });
  });
}

// y = f(a, b) along one run: an operand is a vector per step, or one number for all.
template <class F>
inline void binary_run(int64_t begin, int64_t end, const float* a, bool many_a, const float* b, bool many_b, float* y, bool add, F f) {
  const V one_a = set1(*a), one_b = set1(*b);
  vectors(begin, end, [&](int64_t i, auto lanes) {
    const V z = f(many_a ? lanes.load(a + i) : one_a, many_b ? lanes.load(b + i) : one_b);
    lanes.store(y + i, add ? lanes.load(y + i) + z : z);
  });
}

void binary(Binary f, int64_t rows, int64_t cols, Strided a, Strided b, float* y, bool add) {
  if (rows <= 0 || cols <= 0) return;
  const auto run = [&](auto function) {
    if (rows == 1) {
      parallel_for(cols, grain, [=](int64_t begin, int64_t end) {
        binary_run(begin, end, a.data, a.col, b.data, b.col, y, add, function);
      });
    } else {
      each_row(rows, cols, [=](int64_t r) {
        binary_run(0, cols, a.data + r * a.row, a.col, b.data + r * b.row, b.col, y + r * cols, add, function);
      });
    }
  };
  switch (f) {
    case Binary::add: return run([](V p, V q) { return p + q; });
    case Binary::sub: return run([](V p, V q) { return p - q; });
    case Binary::mul: return run([](V p, V q) { return p * q; });
    case Binary::div: return run([](V p, V q) { return p / q; });
    case Binary::count: break;
  }
}

void combine(int64_t n, float alpha, const float* a, float beta, const float* b, float* y) {
  const V s = set1(alpha), t = set1(beta);
  if (b) {
    each(n, [=](int64_t i, auto lanes) { lanes.store(y + i, fma(s, lanes.load(a + i), t * lanes.load(b + i))); });
  } else {
    each(n, [=](int64_t i, auto lanes) { lanes.store(y + i, s * lanes.load(a + i)); });
  }
}

void scale_add(int64_t n, float alpha, const float* x, float* y) {
  const V s = set1(alpha);
  each(n, [=](int64_t i, auto lanes) { lanes.store(y + i, fma(s, lanes.load(x + i), lanes.load(y + i))); });
}

void fill(int64_t n, float value, float* y) {
  const V x = set1(value);
  each(n, [=](int64_t i, auto lanes) { lanes.store(y + i, x); });
}

// The factors of dropout for elements first .. first + count of a stream: 0, or 1 / (1 - p). Element i uses word i % 4 of block i / 4.
struct DropoutMask {
  uint64_t seed, stream;
  uint32_t threshold;   // words below it drop
  float kept;
  DropoutMask(float p, uint64_t seed, uint64_t stream)
      : seed(seed), stream(stream), threshold(uint32_t(double(p) * 4294967296.0)), kept(1 / (1 - p)) {}

  void factors(int64_t first, int64_t count, float* to) const {
    constexpr int blocks = 16;   // at a time: plain loops over them become vector code
    alignas(64) float out[4 * blocks];
    for (int64_t block = first / 4; count > 0; block += blocks) {
      words(uint64_t(block), out);
      const int64_t skip = first - 4 * block, take = least(count, 4 * blocks - skip);
      __builtin_memcpy(to, out + skip, size_t(take) * sizeof(float));
      to += take, first += take, count -= take;
    }
  }

 private:
  void words(uint64_t block, float* out) const {
    constexpr int L = 16;
    uint32_t c0[L], c1[L], c2[L], c3[L], k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int l = 0; l < L; ++l) {
      c0[l] = uint32_t(block + l), c1[l] = uint32_t((block + l) >> 32);
      c2[l] = uint32_t(stream), c3[l] = uint32_t(stream >> 32);
    }
    for (int round = 0; round < 10; ++round) {   // as in core/philox.h
      for (int l = 0; l < L; ++l) {
        const uint64_t a = uint64_t{0xD2511F53} * c0[l], b = uint64_t{0xCD9E8D57} * c2[l];
        c0[l] = uint32_t(b >> 32) ^ c1[l] ^ k0, c1[l] = uint32_t(b);
        c2[l] = uint32_t(a >> 32) ^ c3[l] ^ k1, c3[l] = uint32_t(a);
      }
      k0 += 0x9E3779B9, k1 += 0xBB67AE85;
    }
    for (int l = 0; l < L; ++l) {
      out[4 * l] = c0[l] < threshold ? 0 : kept;
      out[4 * l + 1] = c1[l] < threshold ? 0 : kept;
      out[4 * l + 2] = c2[l] < threshold ? 0 : kept;
      out[4 * l + 3] = c3[l] < threshold ? 0 : kept;
    }
  }
};

void dropout(int64_t n, float p, uint64_t seed, uint64_t stream, const float* x, float* y, bool add) {
  const DropoutMask mask(p, seed, stream);
  parallel_for(n, grain / 4, [=](int64_t begin, int64_t end) {
    constexpr int64_t piece = 1024;
    alignas(64) float factor[piece];
    for (int64_t i = begin; i < end; i += piece) {
      const int64_t count = least(piece, end - i);
      mask.factors(i, count, factor);
      vectors(0, count, [&](int64_t j, auto lanes) {
        const V z = lanes.load(factor + j) * lanes.load(x + i + j);
        lanes.store(y + i + j, add ? lanes.load(y + i + j) + z : z);
      });
    }
  });
}

bool all_finite(int64_t n, const float* x) {
  bool finite = true;
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    V sum = zero();
    vectors(begin, end, [&](int64_t i, auto lanes) { sum = fma(lanes.load(x + i), zero(), sum); });   // 0 * infinity is NaN
    if (!(reduce_add(sum) == 0)) __atomic_store_n(&finite, false, __ATOMIC_RELAXED);
  });
  return finite;
}
