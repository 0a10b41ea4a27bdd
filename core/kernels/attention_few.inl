// Attention of a few queries, as in generation: here the keys and values are the large operand, and each is read once, where it lies.
//
//                     task: a run of keys of one sequence, all heads         for each key/value head and the R queries that read it
//   keys   [ K  V ]   ------------------------------------------------       s (R, run) = scale q . k + bias   dot products (skinny_dots)
//          [ K  V ]   m, l, o of this run                                    m = max s,  p = e^(s - m),  l = sum p
//          [ K  V ]   ------------------------------------------------       o (R, head_dim) = p V             sums of rows (skinny_rows)
//
// The runs meet in order: M = max m,  L = sum of l e^(m - M),  y = sum of o e^(m - M) / L,  lse = M + log L.
// Roof: memory, or L3 where a cache of keys and values fits it.

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

void attention_few(const Attention& a) {
  const int64_t d = a.head_dim, group = a.heads / a.kv_heads, rows = group * a.queries, all = a.batch * a.kv_heads * rows;
  if (all == 0) return;
  int64_t reach = 0;   // keys that some query sees lie below
  for (int64_t b = 0; b < a.batch; ++b)
    for (int64_t h = 0; h < a.heads; ++h) reach = most(reach, Head(a, b, h).end(a.queries - 1));
  const int64_t run = round_up(most(pieces(reach, 16), most(64, (1 << 13) / (a.kv_heads * d))), 16), runs = pieces(reach, run);
  const int64_t width = round_up(d, 16), part = width + 16;   // of a run and query: o, m, l
  float* parts = scratch_sums.get<float>(all * runs * part);

  const bool parallel = 2 * a.batch * a.heads * cost(a.queries, reach, d) > parallel_cost;
  parallel_for(a.batch * runs, parallel ? 1 : a.batch * runs, [&](int64_t begin, int64_t end) {
    const int64_t step = round_up(run, 16);
    Arrays memory{scratch_a.get<float>(rows * (width + step) + (a.rotary ? run * width : 0))};
    float *q = memory.take(rows * width), *s = memory.take(rows * step), *turned = memory.take(a.rotary ? run * width : 0);
    for (int64_t task = begin; task < end; ++task)
      for (int64_t kv = 0; kv < a.kv_heads; ++kv) {
        const int64_t b = task / runs, key = task % runs * run, first = kv * group;
        int64_t low = reach, high = 0;   // the keys of this run that some row sees
        for (int64_t h = first; h < first + group; ++h) {
          const Head head(a, b, h);
          low = least(low, head.begin(0)), high = most(high, head.end(a.queries - 1));
        }
        low = most(low, key), high = least(high, key + run);
        const int64_t count = high - low;
        float* to = parts + (b * a.kv_heads + kv) * rows * runs * part + task % runs * part;   // row r: r * runs * part further
        if (count <= 0) {
          for (int64_t r = 0; r < rows; ++r, to += runs * part) clear(width, to), to[width] = -__builtin_inff(), to[width + 1] = 0;
          continue;
        }
        for (int64_t r = 0; r < rows; ++r) {
          const Head head(a, b, first + r / a.queries);
          const int64_t i = r % a.queries;
          turn(a, 1, {head.q.data + i * head.q.step, 0}, head.position(i), 1, q + r * width, 0, false);
        }
        const Head head(a, b, first);
        Rows k{head.k.data + low * head.k.step, head.k.step};
        if (a.rotary && !a.keys_turned) {
          turn(a, count, k, low, 1, turned, width, false);
          k = {turned, width};
        }
        with_count<skinny>(rows, [&](auto n) {
          skinny_dots<n.value>(count, d, {q, width, 1, s, step}, k.data, k.step);
          for (int64_t r = 0; r < rows; ++r) {
            float* end_of_row = to + r * runs * part + width;
            end_of_row[0] = finish_scores(Head(a, b, first + r / a.queries), r % a.queries, low, count, s + r * step);
            end_of_row[1] = weigh(count, end_of_row[0], s + r * step);
          }
          skinny_rows<n.value>(d, count, 8, {s, step, 1, to, runs * part}, head.v.data + low * head.v.step, head.v.step);
        });
      }
  });

  parallel_for(all, most(1, grain / (width * most(runs, 1))), [&](int64_t begin, int64_t end) {
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
