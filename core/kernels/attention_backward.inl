// The gradient of attention. The weights are computed again, block by block, from the scores and the forward pass's log-sum-exp.
//
//     p_ij  = e^(s_ij - lse_i)             f_ij: the factor of dropout, 0 or 1 / (1 - dropout); 1 without
//     D_i   = dy_i . y_i                   (= sum over j of p_ij f_ij dp_ij, so that the softmax needs no sum over the keys)
//     dp_ij = dy_i . v_j                   ds_ij = p_ij (f_ij dp_ij - D_i)
//     dv_j  = sum over i of f_ij p_ij dy_i,   dk_j = scale * sum over i of ds_ij q_i,   dq_i = scale * sum over j of ds_ij k_j
//     dtable[bucket(j - i)] = sum of ds_ij
//
//                 queries
//      keys   [ P, dS          ]  dV += P dY   (keys, head_dim)      five products for the two of the forward pass,
//             [ blocks as in   ]  dK += dS Q   (keys, head_dim)      all on the tiles of gemm_block
//             [ attention.inl  ]  dQ += dS^T K (queries, head_dim)
//
// A task owns a key/value head of a sequence with every query head that reads it, goes over their blocks of queries in order and
// keeps dK and dV. Where that gives few tasks, it owns every n-th block of queries instead; its dK and dV are partial sums then,
// added up in order at the end. The shape alone decides, so that the result does not depend on the number of threads.

constexpr int64_t gradient_tasks = 16;   // wanted at least; memory for partial sums grows with them

// What one task works with.
struct GradientTask {
  const Attention& a;
  const AttentionGradient& g;
  float *dk, *dv;          // (keys, head_dim) sums, null where not wanted
  double* dtable;          // (query heads of this key/value head, buckets) sums, or null

  static int64_t room(const Attention& a) {
    const int64_t d = a.head_dim;
    return QueryBlock::room(a) + Arrays::room(d * pitch) + Arrays::room(query_block * d) + 2 * pitch + 2 * key_block * pitch +
           Arrays::room(key_block + pitch);
  }

  // Adds the gradients of one block of queries to dk, dv and dtable, and writes its dq.
  void add(const Head& head, int64_t first, int64_t rows, Arrays memory) const {
    const int64_t d = a.head_dim, y_row = a.heads * d;
    const QueryBlock block(head, first, rows, memory);
    const Rows dy{g.dy + head.element(first), y_row};
    float *dy_turned = memory.take(d * pitch), *dq = memory.take(query_block * d);
    float *lse = memory.take(pitch), *dot = memory.take(pitch);   // dot: D
    float *p = memory.take(key_block * pitch), *ds = memory.take(key_block * pitch), *line = memory.take(key_block + pitch);

    block.transpose(dy, dy_turned);
    for (int64_t i = 0; i < round_up(rows, W); ++i) lse[i] = __builtin_inff(), dot[i] = 0;   // beyond `rows`: p = ds = 0
    for (int64_t i = 0; i < rows; ++i) {
      const float *dy_i = dy.data + i * y_row, *y_i = g.y + head.element(first + i);
      lse[i] = g.lse[head.row(first + i)];
      dot[i] = sum_vectors(0, d, [&](int64_t c, auto lanes) { return lanes.load(dy_i + c) * lanes.load(y_i + c); });
    }
    clear(rows * d, dq);

    block.each_span([&](const Span& t) {
      const int64_t count = t.right - t.left;
      const Rows k = block.keys(t);
      block.scores(t, k, p);
      gemm_block(t.keys, t.c1 - t.c0, d, head.v.data + t.key * head.v.step, head.v.step, 1, dy_turned + t.c0, pitch,
                 ds + t.c0, pitch, 1, false);
      softmax_gradient(t, lse, dot, a.dropout > 0 ? block.dropout_factors(t) : nullptr, p, ds);
      if (dv) gemm_block(t.keys, d, count, p + t.left, pitch, 1, dy.data + t.left * y_row, y_row, dv + t.key * d, d, 1, true);
      if (dk) gemm_block(t.keys, d, count, ds + t.left, pitch, 1, block.q.data + t.left * block.q.step, block.q.step,
                         dk + t.key * d, d, a.scale, true);
      if (g.dq) gemm_block(count, d, t.keys, ds + t.left, 1, pitch, k.data, k.step, dq + t.left * d, d, a.scale, true);
      if (dtable) add_bias(block, t, ds, line);
    });
    if (g.dq) {
      float* to = g.dq + (head.q.data - a.q) + first * a.q_row;
      turn(a, rows, {dq, d}, head.position(first), -1, to, a.q_row, g.add_dq);
    }
  }

 private:
  // p: scores -> f p;  ds: dp -> p (f dp - D)
  static void softmax_gradient(const Span& t, const float* lse, const float* dot, const float* factors, float* p, float* ds) {
    for (int64_t j = 0; j < t.keys; ++j)
      for (int64_t c = t.c0; c < t.c1; c += W) {
        const int64_t at = j * pitch + c;
        V weight = exp(load(p + at) - load(lse + c)), dp = load(ds + at);
        if (factors) dp *= load(factors + at);
        store(ds + at, weight * (dp - load(dot + c)));
        store(p + at, factors ? weight * load(factors + at) : weight);
      }
  }

  // All weights at one distance share one entry of the table: sums along the diagonals first.
  void add_bias(const QueryBlock& block, const Span& t, const float* ds, float* line) const {
    const int64_t known = block.distances(t), all = t.c1 + t.keys - 1;
    clear(all, line);
    for (int64_t j = 0; j < t.keys; ++j)
      for (int64_t c = t.c0; c < t.c1; c += W) {
        float* to = line + t.keys - 1 - j + c;
        store(to, load(to) + load(ds + j * pitch + c));
      }
    double* sums = dtable + block.head.h % (a.heads / a.kv_heads) * a.buckets;
    for (int64_t n = t.c0; n < known; ++n) sums[a.bucket[block.distance(t, n) + a.bucket_span]] += double(line[n]);
  }
};

void attention_gradient(const Attention& a, const AttentionGradient& g) {
  const int64_t d = a.head_dim, group = a.heads / a.kv_heads, owners = a.batch * a.kv_heads;
  const int64_t blocks = query_blocks(a.queries), height = query_block_rows(a.queries), items = group * blocks;
  const int64_t shares = most(1, least(items, pieces(gradient_tasks, most(owners, 1))));
  const int64_t size = a.keys * d, tasks = owners * shares, sums_size = g.dtable ? group * a.buckets : 0;
  const bool parallel = 5 * a.batch * a.heads * cost(a.queries, a.keys, d) > parallel_cost;

  float* partial = shares > 1 ? scratch_sums.get<float>(tasks * 2 * size) : nullptr;   // dk and dv of each task
  double* sums = scratch_b.get<double>(most(1, tasks * sums_size));
  const auto write = [&](int64_t owner, int64_t first, int64_t count, const float* dk, const float* dv) {
    const int64_t b = owner / a.kv_heads, column = owner % a.kv_heads * d;
    if (g.dk) turn(a, count, {dk, d}, first, -1, g.dk + b * a.k_batch + first * a.k_row + column, a.k_row, g.add_dk);
    Attention plain = a;   // values are not turned
    plain.rotary = nullptr;
    if (g.dv) turn(plain, count, {dv, d}, first, -1, g.dv + b * a.v_batch + first * a.v_row + column, a.v_row, g.add_dv);
  };

  run_tasks(parallel, tasks, [=](int64_t task) {
    const int64_t owner = task / shares, b = owner / a.kv_heads, kv = owner % a.kv_heads;
    Arrays memory{scratch_a.get<float>(GradientTask::room(a) + (partial ? 0 : Arrays::room(2 * size)))};
    float* keys = partial ? partial + task * 2 * size : memory.take(2 * size);
    double* table = g.dtable ? sums + task * sums_size : nullptr;
    clear(2 * size, keys);
    for (int64_t n = 0; n < sums_size; ++n) table[n] = 0;
    const GradientTask one{a, g, g.dk ? keys : nullptr, g.dv ? keys + size : nullptr, table};
    for (int64_t item = task % shares; item < items; item += shares) {
      const int64_t first = item % blocks * height;
      one.add(Head(a, b, kv * group + item / blocks), first, least(height, a.queries - first), memory);
    }
    if (!partial) write(owner, 0, a.keys, keys, keys + size);
  });

  if (partial) {
    const int64_t parts = pieces(a.keys, key_block);
    run_tasks(parallel, owners * parts, [=](int64_t part) {
      const int64_t owner = part / parts, first = part % parts * key_block, count = least(key_block, a.keys - first);
      float *dk = partial + owner * shares * 2 * size + first * d, *dv = dk + size;
      const auto gather = [&](float* sum) {
        for (int64_t share = 1; share < shares; ++share)
          vectors(0, count * d, [&](int64_t i, auto lanes) {
            lanes.store(sum + i, lanes.load(sum + i) + lanes.load(sum + share * 2 * size + i));
          });
      };
      gather(dk);
      gather(dv);
      write(owner, first, count, dk, dv);
    });
  }
  if (g.dtable) {
    for (int64_t h = 0; h < a.heads; ++h)
      for (int64_t n = 0; n < a.buckets; ++n) {
        double total = 0;
        for (int64_t b = 0; b < a.batch; ++b)
          for (int64_t share = 0; share < shares; ++share)
            total += sums[((b * a.kv_heads + h / group) * shares + share) * sums_size + h % group * a.buckets + n];
        float* to = g.dtable + n * a.heads + h;
        *to = float(total) + (g.add_dtable ? *to : 0);
      }
  }
}
