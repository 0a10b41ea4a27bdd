// Attention of a few queries, as in generation: here the keys and values are the large operand, and each is read once, where it lies.
//
//   keys   [ K  V ]   a task: a run of keys       for each key/value head and the R queries that read it
//          [ K  V ]   of one sequence,            s (R, run) = scale q . k + bias          dot products (skinny_dots)
//          -------    all heads of a token        m = max s,  p = e^(s - m),  l = sum p
//          [ K  V ]   before the next one         o (R, head_dim) = p V                    sums of rows (skinny_rows)
//
// The runs meet in order: M = max m,  L = sum of l e^(m - M),  y = sum of o e^(m - M) / L,  lse = M + log L.
// Roof: memory, or L3 where a cache of keys and values fits it.

constexpr int64_t few_run = 32 * 1024;   // elements of K in a run, about: long enough for streams, short enough for two threads

inline bool few_queries(const Attention& a) {   // not where some heads must not touch what others see
  return a.queries * (a.heads / a.kv_heads) <= skinny && a.dropout == 0 && a.mask != Mask::mixed;
}

// How the keys of one sequence are cut: a pair of runs or more, of equal length. Nothing else counts, so that a sequence has the same bits
// whatever others come with it.
struct KeyRuns {
  int64_t reach, run, count;   // keys that some query sees lie below reach
  KeyRuns(const Attention& a, int64_t b) : reach(Head(a, b, 0).end(a.queries - 1)) {
    const int64_t longest = most(16, least(512, few_run / (a.kv_heads * a.head_dim))), pairs = most(1, pieces(reach, 2 * longest));
    run = most(16, round_up(pieces(reach, 2 * pairs), streams));
    count = pieces(reach, run);
  }
};

// s = scale s + bias for `count` keys from `first`, -infinity where the query sees none and up to a whole vector; their maximum.
inline float finish_scores(const Head& head, int64_t query, int64_t first, int64_t count, float* s) {
  const Attention& a = head.a;
  const int64_t position = head.position(query);
  if (a.table) {
    const int32_t* bucket = a.bucket + a.bucket_span + first - position;
    for (int64_t j = 0; j < count; ++j) s[j] = a.scale * s[j] + a.table[bucket[j] * a.heads + head.h];
  }
  const V scale = set1(a.table ? 1 : a.scale), slope = set1(a.slopes ? a.slopes[head.h] : 0), here = set1(float(position));
  const V begin = set1(float(head.begin(query))), end = set1(float(least(head.end(query), first + count)));
  V top = set1(-__builtin_inff());
  for (int64_t j = 0; j < count; j += W) {
    const V key = to_float(lane_numbers() + set1i(int32_t(first + j)));
    V x = scale * load(s + j);
    if (a.slopes) x -= slope * absolute(key - here);
    x = key >= begin && key < end ? x : set1(-__builtin_inff());
    store(s + j, x);
    top = max(x, top);
  }
  return reduce_max(top);
}

// s becomes p = e^(s - maximum); their sum.
inline float weigh(int64_t count, float maximum, float* s) {
  const V shift = Running::shift(set1(maximum));
  V total = zero();
  for (int64_t j = 0; j < count; j += W) {
    const V p = exp(load(s + j) - shift);
    store(s + j, p);
    total += p;
  }
  return reduce_add(total);
}

void attention_few(const Attention& a) {
  const int64_t d = a.head_dim, group = a.heads / a.kv_heads, rows = group * a.queries, all = a.batch * a.kv_heads * rows;
  if (all == 0) return;
  int64_t runs = 0, longest = 0, reach = 0;   // the most of any sequence
  for (int64_t b = 0; b < a.batch; ++b) {
    const KeyRuns keys(a, b);
    runs = most(runs, keys.count), longest = most(longest, keys.run), reach = most(reach, keys.reach);
  }
  const int64_t width = round_up(d, 16), part = width + 16;   // of a run and query: o, m, l
  float* parts = scratch_sums.get<float>(all * runs * part);

  const bool parallel = 2 * a.batch * a.heads * cost(a.queries, reach, d) > parallel_cost, turns = a.rotary && !a.keys_turned;
  run_tasks(parallel, a.batch * runs, [=](int64_t task) {
    const int64_t b = task / runs;
    const KeyRuns keys(a, b);
    if (task % runs >= keys.count) return;
    const int64_t key = task % runs * keys.run, count = least(keys.run, keys.reach - key), step = round_up(longest, 16);
    const int64_t q_head = rows * width, s_head = rows * step, k_head = turns ? longest * width : d, k_row = turns ? width : a.k_row;
    Arrays memory{scratch_a.get<float>(Arrays::room(a.kv_heads * q_head) + Arrays::room(a.kv_heads * s_head) + (turns ? a.kv_heads * k_head : 0))};
    float *q = memory.take(a.kv_heads * q_head), *s = memory.take(a.kv_heads * s_head), *turned = memory.take(turns ? a.kv_heads * k_head : 0);
    const float *k = a.k + b * a.k_batch + key * a.k_row, *v = a.v + b * a.v_batch + key * a.v_row;
    const auto part_of = [&](int64_t kv, int64_t r) { return parts + (((b * a.kv_heads + kv) * rows + r) * runs + task % runs) * part; };
    const auto each_row = [&](auto f) {
      for (int64_t kv = 0; kv < a.kv_heads; ++kv)
        for (int64_t r = 0; r < rows; ++r) f(Head(a, b, kv * group + r / a.queries), kv, r, r % a.queries);
    };

    each_row([&](const Head& head, int64_t kv, int64_t r, int64_t i) {
      turn(a, 1, {head.q.data + i * head.q.step, 0}, head.position(i), 1, q + kv * q_head + r * width, 0, false);
    });
    for (int64_t kv = 0; turns && kv < a.kv_heads; ++kv) turn(a, count, {k + kv * d, a.k_row}, key, 1, turned + kv * k_head, width, false);
    with_count<skinny>(rows, [&](auto n) {
      constexpr int chains = n.value == 1 ? 4 : n.value == 2 ? 2 : 1;   // enough to hide the latency
      skinny_dots<n.value, chains, 0>(count, d, {q, width, 1, s, step}, turns ? turned : k, k_row, {a.kv_heads, q_head, s_head, k_head});
    });
    each_row([&](const Head& head, int64_t kv, int64_t r, int64_t i) {
      float *x = s + kv * s_head + r * step, *to = part_of(kv, r);
      to[width] = finish_scores(head, i, key, count, x);
      to[width + 1] = weigh(count, to[width], x);
    });
    with_count<skinny>(rows, [&](auto n) {
      skinny_rows<n.value>(d, count, {s, step, 1, part_of(0, 0), runs * part}, v, a.v_row, {a.kv_heads, s_head, rows * runs * part, d});
    });
  });

  parallel_for(all, most(1, grain / (width * most(runs, 1))), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t r = row % rows, i = r % a.queries;
      const Head head(a, row / rows / a.kv_heads, row / rows % a.kv_heads * group + r / a.queries);
      const int64_t count = KeyRuns(a, head.b).count;
      float *from = parts + row * runs * part, *y = a.y + head.element(i), maximum = -__builtin_inff(), sum = 0;
      for (int64_t t = 0; t < count; ++t) maximum = from[t * part + width] > maximum ? from[t * part + width] : maximum;
      const V shift = Running::shift(set1(maximum));
      for (int64_t t = 0; t < count; ++t) {
        float* end_of_row = from + t * part + width;
        end_of_row[0] = exp(set1(end_of_row[0]) - shift)[0];
        sum += end_of_row[1] * end_of_row[0];
      }
      const V share = set1(sum == 0 ? 0 : 1 / sum);
      vectors(0, d, [&](int64_t c, auto lanes) {
        V x = zero();
        for (int64_t t = 0; t < count; ++t) x = fma(set1(from[t * part + width]), load(from + t * part + c), x);
        lanes.store(y + c, x * share);
      });
      if (a.lse) a.lse[head.row(i)] = sum == 0 ? __builtin_inff() : maximum + log(set1(sum))[0];
    }
  });
}
