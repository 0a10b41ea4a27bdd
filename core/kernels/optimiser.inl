// Optimisers: one sweep over all parameters. Roof: memory (AdamW reads four arrays and writes three).

// The moments of Adam, and m^ / (sqrt(v^) + epsilon).
struct AdamMoments {
  V beta1, rest1, beta2, rest2, over_correction1, over_correction2, epsilon, gradient_scale;
  explicit AdamMoments(const AdamW& o)
      : beta1(set1(o.beta1)), rest1(set1(o.rest1)), beta2(set1(o.beta2)), rest2(set1(o.rest2)),
        over_correction1(set1(1 / o.correction1)), over_correction2(set1(1 / __builtin_sqrtf(o.correction2))),
        epsilon(set1(o.epsilon)), gradient_scale(set1(o.gradient_scale)) {}

  template <class Lanes>
  V step(int64_t i, Lanes lanes, const float* g, float* m, float* v) const {
    const V d = gradient_scale * lanes.load(g + i);
    const V first = fma(beta1, lanes.load(m + i), rest1 * d), second = fma(beta2, lanes.load(v + i), rest2 * d * d);
    lanes.store(m + i, first);
    lanes.store(v + i, second);
    return over_correction1 * first / fma(square_root(second), over_correction2, epsilon);
  }
};

void adamw(int64_t n, const AdamW& o, float* w, const float* g, float* m, float* v) {
  const AdamMoments moments(o);
  const V kept = set1(1 - o.rate * o.decay), rate = set1(-o.rate);
  each(n, [=](int64_t i, auto lanes) {
    const V r = moments.step(i, lanes, g, m, v);
    lanes.store(w + i, fma(rate, r, kept * lanes.load(w + i)));
  });
}

void adam_direction(int64_t n, const AdamW& o, const float* w, const float* g, float* m, float* v, float* r) {
  const AdamMoments moments(o);
  const V decay = set1(o.decay);
  each(n, [=](int64_t i, auto lanes) { lanes.store(r + i, fma(decay, lanes.load(w + i), moments.step(i, lanes, g, m, v))); });
}

void momentum(int64_t n, float rate, float momentum, float decay, float gradient_scale, float* w, const float* g, float* m) {
  const V minus_rate = set1(-rate), kept = set1(momentum), pull = set1(decay), scale = set1(gradient_scale);
  each(n, [=](int64_t i, auto lanes) {
    const V before = lanes.load(w + i);
    const V velocity = fma(kept, lanes.load(m + i), fma(pull, before, scale * lanes.load(g + i)));
    lanes.store(m + i, velocity);
    lanes.store(w + i, fma(minus_rate, velocity, before));
  });
}
