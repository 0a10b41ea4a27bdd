// Attention of a few queries, as in generation: here the keys and values are the large operand, and each is read once, where it lies.
//
//   keys   [ K  V ]   a task: a run of keys       for each key/value head and the R queries that read it
//          [ K  V ]   of one sequence,            s (R, run) = scale q . k + bias          dot products (skinny_dots)
//          -------    all heads                   m = max s,  p = e^(s - m),  l = sum p
//          [ K  V ]                               o (R, head_dim) = p V                    sums of rows (skinny_rows)
//
// The runs meet in order: M = max m,  L = sum of l e^(m - M),  y = sum of o e^(m - M) / L,  lse = M + log L.
// Roof: memory, or L3 where a cache of keys and values fits it.

constexpr int64_t few_run = 24 * 1024;   // elements of K in a run: with as many of V, and the next run, a part of L2

inline bool few_queries(const Attention& a) { return a.queries * (a.heads / a.kv_heads) <= skinny && a.dropout == 0; }

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

// Asks for tokens from .. to of one sequence, all heads: a share of a run, while another is computed.
inline void fetch_tokens(const float* first, int64_t step, int64_t width, int64_t from, int64_t to) {
  for (int64_t t = from; t < to; ++t)
    for (int64_t i = 0; i < width; i += 16) fetch(first + t * step + i);
}

void attention_few(const Attention& a) {
  const int64_t d = a.head_dim, group = a.heads / a.kv_heads, rows = group * a.queries, all = a.batch * a.kv_heads * rows;
  if (all == 0) return;
  int64_t reach = 0;   // keys that some query sees lie below
  for (int64_t b = 0; b < a.batch; ++b)
    for (int64_t h = 0; h < a.heads; ++h) reach = most(reach, Head(a, b, h).end(a.queries - 1));
  const int64_t kv_width = a.kv_heads * d, run = round_up(most(16, least(512, few_run / kv_width)), 16), runs = pieces(reach, run);
  const int64_t width = round_up(d, 16), part = width + 16;   // of a run and query: o, m, l
  float* parts = scratch_sums.get<float>(all * runs * part);

  struct Seen {
    int64_t low, high;
  };
  const auto seen = [&](int64_t b, int64_t kv, int64_t key) {   // the keys of a run that some row of a key/value head sees
    Seen s{reach, 0};
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      const Head head(a, b, h);
      s = {least(s.low, head.begin(0)), most(s.high, head.end(a.queries - 1))};
    }
    return Seen{most(s.low, key), least(s.high, key + run)};
  };

  const bool parallel = 2 * a.batch * a.heads * cost(a.queries, reach, d) > parallel_cost;
  parallel_for(a.batch * runs, parallel ? 1 : a.batch * runs, [=](int64_t begin, int64_t end) {
    const int64_t scores = rows * run;   // of one key/value head
    Arrays memory{scratch_a.get<float>(Arrays::room(rows * width) + Arrays::room(a.kv_heads * scores) + (a.rotary ? run * width : 0))};
    float *q = memory.take(rows * width), *s = memory.take(a.kv_heads * scores), *turned = memory.take(a.rotary ? run * width : 0);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / runs, key = task % runs * run, last = least(key + run, reach);
      const float *k0 = a.k + b * a.k_batch, *v0 = a.v + b * a.v_batch;
      const auto share = [&](int64_t from, int64_t to, int64_t kv) { return from + most(0, to - from) * kv / a.kv_heads; };
      const auto part_of = [&](int64_t kv) { return parts + ((b * a.kv_heads + kv) * rows * runs + task % runs) * part; };   // row r: r * runs * part further
      if (task == begin) fetch_tokens(k0, a.k_row, kv_width, key, last);
      for (int64_t kv = 0; kv < a.kv_heads; ++kv) {
        fetch_tokens(v0, a.v_row, kv_width, share(key, last, kv), share(key, last, kv + 1));
        const auto [low, high] = seen(b, kv, key);
        float* to = part_of(kv) + width;
        for (int64_t r = 0; r < rows; ++r) to[r * runs * part] = -__builtin_inff(), to[r * runs * part + 1] = 0;
        if (low >= high) continue;
        for (int64_t r = 0; r < rows; ++r) {
          const Head head(a, b, kv * group + r / a.queries);
          const int64_t i = r % a.queries;
          turn(a, 1, {head.q.data + i * head.q.step, 0}, head.position(i), 1, q + r * width, 0, false);
        }
        Rows k{k0 + low * a.k_row + kv * d, a.k_row};
        if (a.rotary && !a.keys_turned) {
          turn(a, high - low, k, low, 1, turned, width, false);
          k = {turned, width};
        }
        float* x = s + kv * scores;
        with_count<skinny>(rows, [&, low = low, high = high](auto n) {
          constexpr int chains = n.value == 1 ? 4 : n.value == 2 ? 2 : 1;   // enough to hide the latency
          skinny_dots<n.value, chains>(high - low, d, 0, {q, width, 1, x, run}, k.data, k.step);
        });
        for (int64_t r = 0; r < rows; ++r) {
          const Head head(a, b, kv * group + r / a.queries);
          const float maximum = finish_scores(head, r % a.queries, low, high - low, x + r * run);
          to[r * runs * part] = maximum;
          to[r * runs * part + 1] = weigh(high - low, maximum, x + r * run);
        }
      }
      const int64_t next_last = least(last + run, reach);   // of the next run: its keys are asked for while values are added
      for (int64_t kv = 0; kv < a.kv_heads; ++kv) {
        if (task + 1 < end) fetch_tokens(k0, a.k_row, kv_width, share(last, next_last, kv), share(last, next_last, kv + 1));
        const auto [low, high] = seen(b, kv, key);
        with_count<skinny>(rows, [&, low = low, high = high](auto n) {   // zeros where no key is seen
          skinny_rows<n.value>(d, most(0, high - low), 8, 0, {s + kv * scores, run, 1, part_of(kv), runs * part}, v0 + low * a.v_row + kv * d, a.v_row);
        });
      }
    }
  });

  parallel_for(all, most(1, grain / (width * most(runs, 1))), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t r = row % rows, i = r % a.queries;
      const Head head(a, row / rows / a.kv_heads, row / rows % a.kv_heads * group + r / a.queries);
      float *from = parts + row * runs * part, *y = a.y + head.element(i), maximum = -__builtin_inff(), sum = 0;
      for (int64_t t = 0; t < runs; ++t) maximum = from[t * part + width] > maximum ? from[t * part + width] : maximum;
      const V shift = Running::shift(set1(maximum));
      for (int64_t t = 0; t < runs; ++t) {
        float* end_of_row = from + t * part + width;
        end_of_row[0] = exp(set1(end_of_row[0]) - shift)[0];
        sum += end_of_row[1] * end_of_row[0];
      }
      const V share = set1(sum == 0 ? 0 : 1 / sum);
      vectors(0, d, [&](int64_t c, auto lanes) {
        V x = zero();
        for (int64_t t = 0; t < runs; ++t) x = fma(set1(from[t * part + width]), load(from + t * part + c), x);
        lanes.store(y + c, x * share);
      });
      if (a.lse) a.lse[head.row(i)] = sum == 0 ? __builtin_inff() : maximum + log(set1(sum))[0];
    }
  });
}
