// Attention without the matrix of its weights (Dao et al. 2022, "FlashAttention"). Memory is linear in the sequence length.
//
// A task owns a block of queries of one head and walks over blocks of keys, keeping for each query
//     m_i = the largest score so far,   l_i = sum of p_ij,   o_i = sum of p_ij v_j
// where s_ij = scale q_i . k_j + bias and p_ij = e^(s_ij - m_i). When m_i grows, l_i and o_i shrink by e^(old - new). At last
//     y_i = o_i / l_i,   lse_i = m_i + log l_i   (from which the gradient has the weights again: attention_backward.inl)
//
// Scores are held with keys down and queries across: keys and values are read where they lie, the queries are transposed once for
// all keys, the largest score and the sum of a query are taken lane by lane, and a lane knows the run of keys its query sees:
//
//                 queries                   S = K Q^T       (keys, queries)    K as it lies, Q^T transposed once
//               c0 ....... c1               P = e^(S - m)   down the columns
//      keys   [ P P P P P P P ]             O += P^T V      (queries, head_dim) P^T read by its strides, V as it lies
//               - P P P P P P
//               - - - P P P P   <- causal: nothing is computed left of the first query that sees a key of the block
//
// What a query sees is a run of keys under every mask, and its ends never move back from one query to the next. Roof: the
// multiply-adds of the two products; an exponential is some 20 instructions, as many as 10 columns of head_dim in both products.

constexpr int64_t query_block = 128, key_block = 64;
constexpr int64_t edge_block = 16;   // keys at a time where some queries see them and others do not: less is computed in vain
constexpr int64_t pitch = query_block + 16;   // distance between keys in a block of scores: powers of two would share cache sets

// Cuts memory into arrays, each on a cache line.
struct Arrays {
  float* next;
  static constexpr int64_t room(int64_t count) { return round_up(count, 16); }
  float* take(int64_t count) {
    float* array = next;
    next += room(count);
    return array;
  }
};

inline void clear(int64_t n, float* x) {
  vectors(0, n, [&](int64_t i, auto lanes) { lanes.store(x + i, zero()); });
}

// Rows of head_dim values.
struct Rows {
  const float* data;
  int64_t step;
};

// to (+)= from, row t turned by the rotary angles of position first + t, or back by them (sign -1); copied when there are none.
inline void turn(const Attention& a, int64_t count, Rows from, int64_t first, float sign, float* to, int64_t step, bool add) {
  const int64_t half = a.rotary ? a.rotary_dim / 2 : 0;
  const auto put = [&](auto lanes, float* at, V x) { lanes.store(at, add ? lanes.load(at) + x : x); };
  for (int64_t t = 0; t < count; ++t) {
    const float *x = from.data + t * from.step, *angles = half ? a.rotary + (first + t) * a.rotary_dim : nullptr;
    float* y = to + t * step;
    vectors(0, half, [&](int64_t i, auto lanes) {
      const V cosine = lanes.load(angles + i), sine = set1(sign) * lanes.load(angles + half + i);
      const V left = lanes.load(x + i), right = lanes.load(x + half + i);
      put(lanes, y + i, left * cosine - right * sine);
      put(lanes, y + half + i, left * sine + right * cosine);
    });
    vectors(2 * half, a.head_dim, [&](int64_t i, auto lanes) { put(lanes, y + i, lanes.load(x + i)); });
  }
}

// One head of one sequence. Query i sees the keys begin(i) <= j < end(i); neither ever decreases with i.
struct Head {
  const Attention& a;
  int64_t b, h;
  int64_t length, shared;   // keys that exist; keys that every query sees
  bool before, after;       // are keys before and after the query seen?
  Rows q, k, v;

  Head(const Attention& a, int64_t b, int64_t h) : a(a), b(b), h(h) {
    const bool first_half = h < a.heads / 2;
    const int64_t kv = h / (a.heads / a.kv_heads);
    length = a.lengths ? most(0, least(a.keys, a.lengths[b])) : a.keys;
    shared = a.mask == Mask::prefix ? a.prefix[b] : 0;
    before = a.mask != Mask::mixed || first_half;
    after = a.mask == Mask::bidirectional || (a.mask == Mask::mixed && !first_half);
    q = {a.q + b * a.q_batch + h * a.head_dim, a.q_row};
    k = {a.k + b * a.k_batch + kv * a.head_dim, a.k_row};
    v = {a.v ? a.v + b * a.v_batch + kv * a.head_dim : nullptr, a.v_row};
  }
  int64_t position(int64_t i) const { return i + a.query_offset; }
  int64_t begin(int64_t i) const { return before ? 0 : least(position(i), length); }
  int64_t end(int64_t i) const { return after ? length : least(length, most(shared, position(i) + 1)); }
  int64_t row(int64_t i) const { return (b * a.heads + h) * a.queries + i; }                          // of lse, of the weights
  int64_t element(int64_t i) const { return ((b * a.queries + i) * a.heads + h) * a.head_dim; }       // of y and dy
};

// A block of keys against those queries of a block that see any of them: queries left .. right. Vectors cover columns c0 .. c1.
struct Span {
  int64_t key, keys, left, right;
  int64_t c0, c1;
};

// A block of queries of one head: their transpose, and scores against blocks of keys.
class QueryBlock {
 public:
  const Head head;
  const int64_t first, rows;
  Rows q;   // the queries, turned

  static int64_t room(const Attention& a) {
    const int64_t d = a.head_dim;
    return Arrays::room(d * pitch) + 2 * pitch + (a.rotary ? Arrays::room(query_block * d) + Arrays::room(key_block * d) : 0) +
           Arrays::room(key_block + pitch) + (a.dropout > 0 ? key_block * pitch + W * factors_step : 0);
  }

  QueryBlock(const Head& head, int64_t first, int64_t rows, Arrays& memory)
      : head(head), first(first), rows(rows), mask_(head.a.dropout, head.a.seed, head.a.stream) {
    const Attention& a = head.a;
    const int64_t d = a.head_dim;
    turned_ = memory.take(d * pitch);
    begin_ = memory.take(pitch);
    end_ = memory.take(pitch);
    bias_ = memory.take(key_block + pitch);
    q = {head.q.data + first * head.q.step, head.q.step};
    if (a.rotary) {
      float* to = memory.take(query_block * d);
      turn(a, rows, q, head.position(first), 1, to, d, false);
      q = {to, d};
      k_ = memory.take(key_block * d);
    }
    if (a.dropout > 0) {
      factors_ = memory.take(key_block * pitch);
      drawn_ = memory.take(W * factors_step);
    }
    transpose(q, turned_);
    for (int64_t i = 0; i < round_up(rows, W); ++i) {
      begin_[i] = i < rows ? float(head.begin(first + i)) : 0;
      end_[i] = i < rows ? float(head.end(first + i)) : 0;
    }
  }

  // to (head_dim, pitch) = the transpose of one row for each query; zeros up to a whole vector of queries
  void transpose(Rows from, float* to) const {
    for (int64_t i = 0; i < rows; i += W)
      for (int64_t p = 0; p < head.a.head_dim; p += W)
        transpose_block(from.data + i * from.step + p, from.step, least(rows - i, W), least(head.a.head_dim - p, W),
                        to + p * pitch + i, pitch);
  }

  // f(span) for all blocks of keys that some query of this block sees
  template <class F>
  void each_span(F&& f) const {
    const int64_t last = first + rows - 1, end = head.end(last);
    const int64_t edge = head.a.dropout > 0 ? key_block : edge_block;   // factors of dropout come 64 at a time
    for (int64_t key = head.begin(first), keys; key < end; key += keys) {
      const int64_t whole = head.begin(last) <= key ? head.end(first) - key : 0;   // keys from here on that all queries see
      keys = whole >= edge ? least(whole, key_block) : least(edge, end - key);
      int64_t left = 0, right = rows;
      while (left < right && head.end(first + left) <= key) ++left;
      while (left < right && head.begin(first + right - 1) >= key + keys) --right;
      if (left < right) f(Span{key, keys, left, right, left / W * W, round_up(right, W)});
    }
  }

  // The keys of a span, turned if they are not yet; valid until the next call.
  Rows keys(const Span& t) const {
    const Rows k{head.k.data + t.key * head.k.step, head.k.step};
    if (!head.a.rotary || head.a.keys_turned) return k;
    turn(head.a, t.keys, k, t.key, 1, k_, head.a.head_dim, false);
    return {k_, head.a.head_dim};
  }

  // s (keys, pitch) = scale * k.q + bias, -infinity where a query does not see the key
  void scores(const Span& t, Rows k, float* s) const {
    const Attention& a = head.a;
    gemm_block(t.keys, t.c1 - t.c0, a.head_dim, k.data, k.step, 1, turned_ + t.c0, pitch, s + t.c0, pitch, a.scale, false);
    if (a.table || a.slopes) add_bias(t, s);
    const bool all_seen = head.begin(first + least(t.c1, rows) - 1) <= t.key && head.end(first + t.c0) >= t.key + t.keys;
    if (!all_seen) hide(t, s);
  }

  // The factors of dropout, laid out like scores.
  const float* dropout_factors(const Span& t) const {
    for (int64_t c = t.c0; c < t.c1; c += W) {
      const int64_t count = least(rows - c, W);
      for (int64_t i = 0; i < count; ++i)
        mask_.factors(head.row(first + c + i) * head.a.keys + t.key, t.keys, drawn_ + i * factors_step);
      for (int64_t j = 0; j < t.keys; j += W)
        transpose_block(drawn_ + j, factors_step, count, least(t.keys - j, W), factors_ + j * pitch + c, pitch);
    }
    return factors_;
  }

  // Biases depend on key - query alone: a span has one line of them, in which key j and query c meet at n = c - j + keys - 1.
  // The distance of entry n, and how many entries there are for queries that exist:
  int64_t distance(const Span& t, int64_t n) const { return t.key - head.position(first) - (n - (t.keys - 1)); }
  int64_t distances(const Span& t) const { return least(t.right, rows) + t.keys - 1; }

 private:
  static constexpr int64_t factors_step = key_block + W;
  DropoutMask mask_;
  float *turned_, *begin_, *end_, *bias_, *k_ = nullptr, *factors_ = nullptr, *drawn_ = nullptr;

  void add_bias(const Span& t, float* s) const {
    const Attention& a = head.a;
    const int64_t known = distances(t);
    for (int64_t n = 0; n < t.c1 + t.keys - 1; ++n) {
      float x = 0;
      if (n < known) {
        const int64_t at = distance(t, n);
        if (a.table) x += a.table[a.bucket[at + a.bucket_span] * a.heads + head.h];
        if (a.slopes) x -= a.slopes[head.h] * float(at < 0 ? -at : at);
      }
      bias_[n] = x;
    }
    for (int64_t j = 0; j < t.keys; ++j)
      for (int64_t c = t.c0; c < t.c1; c += W)
        store(s + j * pitch + c, load(s + j * pitch + c) + load(bias_ + t.keys - 1 - j + c));
  }

  void hide(const Span& t, float* s) const {
    const V hidden = set1(-__builtin_inff());
    for (int64_t c = t.c0; c < t.c1; c += W) {
      const V begin = load(begin_ + c), end = load(end_ + c);
      for (int64_t j = 0; j < t.keys; ++j) {
        const V key = set1(float(t.key + j)), x = load(s + j * pitch + c);
        store(s + j * pitch + c, key >= begin && key < end ? x : hidden);
      }
    }
  }
};

// The softmax so far: the largest score and the sum of each query, and what the last step shrank earlier sums by.
struct Running {
  float *maximum, *sum, *shrink;

  static constexpr int64_t room = 3 * pitch;
  explicit Running(Arrays& memory) : maximum(memory.take(pitch)), sum(memory.take(pitch)), shrink(memory.take(pitch)) {
    for (int64_t i = 0; i < query_block; ++i) maximum[i] = -__builtin_inff(), sum[i] = 0, shrink[i] = 1;
  }

  static V shift(V maximum) { return maximum == set1(-__builtin_inff()) ? zero() : maximum; }   // where no key has been seen

  // s becomes e^(s - maximum)
  void add(const Span& t, float* s) const {
    for (int64_t c = t.c0; c < t.c1; c += W) {
      const V old = load(maximum + c);
      V top = old, total = zero();
      for (int64_t j = 0; j < t.keys; ++j) top = max(load(s + j * pitch + c), top);
      const V by = shift(top), factor = exp(old - by);
      for (int64_t j = 0; j < t.keys; ++j) {
        const V p = exp(load(s + j * pitch + c) - by);
        total += p;
        store(s + j * pitch + c, p);
      }
      store(maximum + c, top);
      store(sum + c, fma(load(sum + c), factor, total));
      store(shrink + c, factor);
    }
  }
};

// Queries are cut evenly into blocks of whole vectors.
inline int64_t query_block_rows(int64_t queries) { return round_up(pieces(queries, most(1, pieces(queries, query_block))), W); }
inline int64_t query_blocks(int64_t queries) { return queries > 0 ? pieces(queries, query_block_rows(queries)) : 0; }

// f(head, first query, queries, memory) for all blocks, the longest first under a causal mask. The memory is enough for a
// QueryBlock, the Running softmax and a block of scores.
template <class F>
void each_query_block(const Attention& a, F&& f) {
  const int64_t room = QueryBlock::room(a) + Running::room + key_block * pitch;
  const int64_t blocks = query_blocks(a.queries), height = query_block_rows(a.queries);
  const bool parallel = 2 * a.batch * a.heads * cost(a.queries, a.keys, a.head_dim) > parallel_cost;
  run_tasks(parallel, a.batch * a.heads * blocks, [=](int64_t task) {
    const int64_t first = (blocks - 1 - task % blocks) * height, head = task / blocks;
    f(Head(a, head / a.heads, head % a.heads), first, least(height, a.queries - first), Arrays{scratch_a.get<float>(room)});
  });
}

inline void multiply_row(int64_t n, float factor, float* row) {
  vectors(0, n, [&](int64_t i, auto lanes) { lanes.store(row + i, set1(factor) * lanes.load(row + i)); });
}

inline bool few_queries(const Attention& a);   // attention_few.inl
void attention_few(const Attention& a);

void attention(const Attention& a) {
  if (few_queries(a)) return attention_few(a);
  const int64_t d = a.head_dim, y_row = a.heads * d;
  each_query_block(a, [&](const Head& head, int64_t first, int64_t rows, Arrays memory) {
    const QueryBlock block(head, first, rows, memory);
    const Running running(memory);
    float *s = memory.take(key_block * pitch), *y = a.y + head.element(first);
    const auto start = [&] {
      for (int64_t i = 0; i < rows; ++i) clear(d, y + i * y_row);
    };
    bool started = false;
    block.each_span([&](const Span& t) {
      block.scores(t, block.keys(t), s);
      running.add(t, s);
      if (a.dropout > 0) {
        const float* factors = block.dropout_factors(t);
        for (int64_t j = 0; j < t.keys; ++j)
          for (int64_t c = t.c0; c < t.c1; c += W)
            store(s + j * pitch + c, load(s + j * pitch + c) * load(factors + j * pitch + c));
      }
      const bool all = t.left == 0 && t.right == rows;
      if (!started && !all) start();
      if (started)
        for (int64_t i = t.left; i < t.right; ++i)
          if (running.shrink[i] != 1) multiply_row(d, running.shrink[i], y + i * y_row);
      gemm_block(t.right - t.left, d, t.keys, s + t.left, 1, pitch, head.v.data + t.key * head.v.step, head.v.step,
                 y + t.left * y_row, y_row, 1, started || !all);
      started = true;
    });
    if (!started) start();
    for (int64_t i = 0; i < rows; ++i) {
      const float sum = running.sum[i];
      multiply_row(d, sum == 0 ? 0 : 1 / sum, y + i * y_row);
    }
    if (!a.lse) return;
    float* lse = a.lse + head.row(first);   // where no key is seen +infinity, so that e^(s - lse) is 0
    vectors(0, rows, [&](int64_t i, auto lanes) {
      const V sum = load(running.sum + i);
      lanes.store(lse + i, sum == zero() ? set1(__builtin_inff()) : load(running.maximum + i) + log(sum));
    });
  });
}

// The weights themselves, for maps and probes: once over the keys for the sums, once more for the weights.
void attention_probabilities(const Attention& a, float* p) {
  each_query_block(a, [&](const Head& head, int64_t first, int64_t rows, Arrays memory) {
    const QueryBlock block(head, first, rows, memory);
    const Running running(memory);
    float *s = memory.take(key_block * pitch), *to = p + head.row(first) * a.keys;
    clear(rows * a.keys, to);
    block.each_span([&](const Span& t) {
      block.scores(t, block.keys(t), s);
      running.add(t, s);
    });
    block.each_span([&](const Span& t) {
      block.scores(t, block.keys(t), s);
      for (int64_t c = t.c0; c < t.c1; c += W) {
        const V by = Running::shift(load(running.maximum + c)), sum = load(running.sum + c);
        const V factor = sum == zero() ? zero() : set1(1) / sum;
        for (int64_t j = 0; j < t.keys; ++j) store(s + j * pitch + c, exp(load(s + j * pitch + c) - by) * factor);
      }
      for (int64_t i = t.left; i < t.right; ++i)
        for (int64_t j = 0; j < t.keys; ++j) to[i * a.keys + t.key + j] = s[j * pitch + i];
    });
  });
}
