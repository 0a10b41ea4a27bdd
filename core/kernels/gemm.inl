// The product engine: one driver for every product, after Goto and van de Geijn 2008 and Van Zee and van de Geijn 2015.
// C = A B is cut
//
//   by depth    into blocks of k whose products are added to C in order;
//   in panels   of B, which each thread packs for itself (gemm_pack.inl) when it takes up a task of another one; the rows of a transposed A
//               are packed for all, some at a time, as is a B so small that all of it stays near; what the tiles can read where it lies is not;
//   in tasks    a panel wide and some rows tall, which the threads take in turn: both stay in the core's L2 (gemm_block.inl).
//
// Results leave through Output (gemm_out.inl). Cuts in depth depend on the shape and the leading dimensions, so that the bits do not
// depend on the number of threads; in which tile an element lies makes no difference to it.

constexpr int64_t block_depth = 1024;        // deep, because each further block reads and writes C once more
constexpr int64_t deepest_bf16 = 2 * block_depth;
constexpr int64_t block_rows = 192;
constexpr int64_t packed_elements = 1 << 20; // most of A that is packed at a time: a part of L3
constexpr int64_t whole_elements = 1 << 16;  // of A and of a panel of C, which stay in L2 while panel after panel of B passes
constexpr int64_t near_units = 1 << 16;      // of B, which stays in L2 while row after row of A passes
constexpr int64_t most_tasks = 64;           // for which rows are cut, so that no thread waits long at the end
constexpr int64_t task_cost = 32 * 1024;     // cycles, in f32; rows are cut further only for threads that would have nothing: who helps another at
                                             // the end takes lines of C from its caches, which for short tasks costs more than it balances
constexpr int64_t head_start = 256;          // cycles, until another thread has begun
constexpr int64_t parallel_cost = 6 * 1024;  // cycles; below, sharing takes longer than it saves

// A guess in cycles of one core: two vectors of multiply-adds, or four elements read or written.
inline int64_t cost(int64_t m, int64_t n, int64_t k) { return m * n * k / (2 * W) + (m * k + k * n + m * n) / 4; }

// The panel of B that a thread has packed for itself: its next tasks are mostly of the same one. Numbers of calls tell panels apart: those of
// calls that several threads share count up for all, those of calls in place count down in each thread.
struct OwnPanel : Scratch {
  int64_t call = 0, first = 0;
};
thread_local OwnPanel own_panel;
thread_local int64_t serial_calls = 0;
int64_t shared_calls = 0;

template <class A, class B>
void multiply(int64_t m, int64_t n, int64_t k, int64_t deepest, const A& a, const B& b, const Output& out, bool parallel) {
  const int64_t panels = pieces(n, panel_width), team = parallel ? threads() : 1;
  const bool even = (panels % team == 0 && n % panel_width == 0) || panels >= 8 * team;
  const bool whole = B::packs && even && (m <= block_rows || m * most(k, panel_width) <= whole_elements);   // a task has all rows
  const int64_t depth_step = round_up(pieces(k, pieces(k, deepest)), W);
  const int64_t rows_step = A::packs ? round_up(packed_elements / depth_step, block_rows) : m;
  for (int64_t p0 = 0; p0 < k; p0 += depth_step) {
    const int64_t call = !B::packs ? 0 : parallel ? __atomic_add_fetch(&shared_calls, 1, __ATOMIC_RELAXED) : --serial_calls;
    for (int64_t i0 = 0; i0 < m; i0 += rows_step) {
      const int64_t rows = least(rows_step, m - i0), depth = least(depth_step, k - p0);
      const int64_t units = pieces(depth, unit);
      const int64_t stride = units + 16;   // rows of A a power of two apart would share cache sets
      const bool by_rows = units * n <= near_units;
      const bool together = B::packs && by_rows && !whole && panels > 1;
      float* packed_a = A::packs ? scratch_a.get<float>(rows * stride) : nullptr;
      float* packed_b = together ? scratch_b.get<float>(round_up(n, W) * units) : nullptr;

      const bool pack_b = together && i0 == 0;
      if (packed_a || pack_b) {
        constexpr int64_t shares = 16;   // each packs neighbouring parts
        run_tasks(parallel, shares, [=](int64_t share) {
          const auto from = [](int64_t s, int64_t size, int64_t unit) {
            return least(size, pieces(size, unit) * s / shares * unit);
          };
          if constexpr (A::packs) {
            if (A::turns && units >= shares * W) {   // its memory runs across the rows of A: parts of k are long runs of it
              const int64_t u = from(share, units, W), p = u * unit, count = from(share + 1, units, W) * unit - p;
              if (count > 0) a(i0, rows, p0 + p, least(count, depth - p), packed_a + u, stride);
            } else {
              const int64_t i = from(share, rows, W), count = from(share + 1, rows, W) - i;
              if (count > 0) a(i0 + i, count, p0, depth, packed_a + i * stride, stride);
            }
          }
          if constexpr (B::packs) {
            const int64_t j = from(share, n, panel_width), count = from(share + 1, n, panel_width) - j;
            if (pack_b && count > 0) b(p0, depth, j, count, packed_b + j * units);
          }
        });
      }

      const int64_t work = cost(rows, n, depth);
      const int64_t wanted = most(least(team, pieces(work, parallel_cost)), least(most_tasks, work / task_cost));
      int64_t tall = whole ? rows : least(block_rows, most(12, pieces(rows, pieces(wanted, panels))));
      if (panels == 1 && pieces(rows, tall) == team) {   // one task for each thread: the caller, who begins first, has a little more
        tall = pieces(rows, team) + head_start * 2 * W / (n * units);
      } else {
        tall = round_up(pieces(rows, pieces(rows, tall)), tile_rows(max_vectors));   // even
      }
      const int64_t blocks = pieces(rows, tall);
      run_tasks(parallel, blocks * panels, [=](int64_t task) {
        const int64_t row = by_rows ? task / panels : task % blocks, panel = by_rows ? task % panels : task / blocks;
        const int64_t i = row * tall, height = least(tall, rows - i);
        const int64_t j = panel * panel_width, width = least(panel_width, n - j);
        Block t;
        t.depth = units;
        if constexpr (A::packs) {
          t.a = packed_a + i * stride, t.a_row = stride, t.a_col = 1;
        } else {
          t.a = a.data + (i0 + i) * a.row + p0 * a.col, t.a_row = a.row, t.a_col = a.col;
        }
        if constexpr (B::packs) {
          t.b_row = round_up(width, W);
          if (together) {
            t.b = packed_b + j * units;
          } else {
            OwnPanel& mine = own_panel;
            float* to = mine.get<float>(units * t.b_row);
            if (mine.call != call || mine.first != j) b(p0, depth, j, width, to);
            mine.call = call, mine.first = j;
            t.b = to;
          }
        } else {
          t.b = b.data + p0 * b.ld + j, t.b_row = b.ld;
          if (!by_rows && panel + 1 < panels) {   // the tasks of a panel ask for the next one, each for its part
            const int64_t first = units * row / blocks;
            t.soon = t.b + panel_width + first * b.ld, t.soon_rows = units * (row + 1) / blocks - first;
          }
        }
        out.aim(t, i0 + i, height, j, p0 == 0);
        strip(t, height, width, !B::packs && width % W != 0);
        out.settle(t, i0 + i, height, j, width, p0 == 0, p0 + depth == k);
      });
    }
  }
}

#if defined(QD_BF16)
// Both operands are packed, for packing is where they are rounded.
inline void gemm_one(const Gemm& g, const Output& out, bool shared) {
  const bool parallel = shared && cost(g.m, g.n, g.k) > 4 * parallel_cost;   // packing A is one loop more
  const auto with = [&](const auto& left) {
    if (g.b.transposed) return multiply(g.m, g.n, g.k, deepest_bf16, left, PackTransposedB{g.b.data, g.b.ld}, out, parallel);
    multiply(g.m, g.n, g.k, deepest_bf16, left, PackB{g.b.data, g.b.ld}, out, parallel);
  };
  if (g.a.transposed) return with(PackTransposedA{g.a.data, g.a.ld});
  with(PackA{g.a.data, g.a.ld});
}
#else
// How many rows of a panel that is not packed fit the sets of L2: the larger the power of two in their distance, the fewer sets.
inline int64_t fitting_rows(int64_t ld) { return ld ? least(block_depth, most(64, (1 << 18) / (ld & -ld))) : block_depth; }

// One product with k > 0. The thresholds are measured.
inline void gemm_one(const Gemm& g, const Output& out, bool parallel) {
  const int64_t m = g.m, n = g.n, k = g.k;
  const Matrix &a = g.a, &b = g.b;
  const int64_t fit = fitting_rows(b.ld);
  const bool near = a.ld <= 8192;   // farther apart, each step of k would touch a page of its own
  const bool direct = near && k <= least(256, fitting_rows(a.ld));
  if (a.transposed && !direct && !b.transposed && 2 * n <= m && n > panel_width && out.can_turn())   // C^T = B^T A: the smaller one is packed
    return gemm_one({n, m, k, {b.data, b.ld, true}, {a.data, a.ld, false}, nullptr, 0}, {out.c, out.ldc, out.e, true}, parallel);
  if (m <= skinny)
    return multiply_skinny({m, n, k, a.data, a.transposed ? 1 : a.ld, a.transposed ? a.ld : 1, b, false}, out, parallel);
  if (n <= W / 2 && (a.transposed || n == 1 || 16 * n <= k)) {
    const Matrix large{a.data, a.ld, !a.transposed};
    return multiply_skinny({n, m, k, b.data, b.transposed ? b.ld : 1, b.transposed ? 1 : b.ld, large, true}, out, parallel);
  }

  const auto with = [&](const auto& left) {
    if (b.transposed) return multiply(m, n, k, block_depth, left, PackTransposedB{b.data, b.ld}, out, parallel);
    if (m <= 64 || fit >= least(k, 384))
      return multiply(m, n, k, fit, left, DirectB{b.data, b.ld}, out, parallel);
    multiply(m, n, k, block_depth, left, PackB{b.data, b.ld}, out, parallel);
  };
  if (!a.transposed) return with(DirectA{a.data, a.ld, 1});
  if (n <= 2 * panel_width || direct) return with(DirectA{a.data, 1, a.ld});
  with(PackTransposedA{a.data, a.ld});
}
#endif

// Few results that are long sums, as in gradients of small weights: slices of k are tasks, and their results are added in order.
inline void gemm_slices(const Gemm& g, const Output& out, bool parallel) {
  const int64_t length = round_up(most(2048, pieces(g.k, 16)), W), slices = pieces(g.k, length), size = g.m * g.n;
  float* sums = scratch_sums.get<float>(slices * size);
  run_tasks(parallel, slices, [=](int64_t slice) {
    Gemm part = g;
    const int64_t p0 = slice * length;
    part.k = least(length, g.k - p0);
    part.a.data += p0 * (g.a.transposed ? g.a.ld : 1);
    part.b.data += p0 * (g.b.transposed ? 1 : g.b.ld);
    gemm_one(part, {sums + slice * size, g.n, {}}, false);
  });
  for (int64_t slice = 1; slice < slices; ++slice)
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[slice * size + i];
  out.write(sums, g.n, 0, g.m, 0, g.n);
}

// Rounding has its price, and where memory is the limit there is nothing to gain: such products stay f32.
inline bool pays_in_bf16(const Gemm& g) { return g.m > 8 && g.n > 8 && g.k >= 16 && g.m * g.n * g.k >= 32 * 1024; }

void gemm(const Gemm& given) {
  if (given.m <= 0 || given.n <= 0 || given.batch <= 0) return;
  Gemm g = given;
  if (g.batch > 1 && g.step_b == 0 && !g.a.transposed && g.step_a == g.m * g.a.ld && g.step_c == g.m * g.ldc)
    g.m *= g.batch, g.batch = 1;
#if defined(__AVX512F__) && !defined(QD_BF16)
  if (g.precision == Precision::bf16 && bf16 && pays_in_bf16(g)) return bf16->gemm(g);
#endif
  const int64_t each = cost(g.m, g.n, g.k);
  const bool sliced = g.k >= 8192 && pieces(g.m, 24) * pieces(g.n, panel_width) <= 8;
  const auto item = [&](int64_t i, bool parallel) {
    Gemm one = g;
    one.a.data += i * g.step_a;
    one.b.data += i * g.step_b;
    Output out{g.c + i * g.step_c, g.ldc, g.out};
    if (out.e.pre) out.e.pre += i * g.step_c;
    if (out.e.residual) out.e.residual += i * g.step_c;
    if (g.k <= 0) return out.write(nullptr, 0, 0, g.m, 0, g.n);
    if (sliced) return gemm_slices(one, out, parallel);
    gemm_one(one, out, parallel);
  };
  if (g.batch >= 16 || (g.batch > 1 && each < 16 * parallel_cost)) {
    parallel_for(g.batch, pieces(parallel_cost, each + 1), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) item(i, false);
    });
  } else {
    for (int64_t i = 0; i < g.batch; ++i) item(i, each > parallel_cost);
  }
}
