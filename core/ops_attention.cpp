// Attention: the description of one call, its gradient, and the tables of positions. The arithmetic is in kernels/attention.inl.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "core/ops_shared.h"
#include "core/random.h"

namespace qd {
namespace {

// The kernel's description with everything it points to.
struct Call {
  AttentionOptions options;
  std::shared_ptr<const std::vector<int32_t>> bucket;
  kernel::Attention kernel{};
};

template <class T>
const T* data_of(const std::vector<T>& x) { return x.empty() ? nullptr : x.data(); }

void expect_heads(const char* name, const Heads& h, int64_t batch, int64_t width) {
  QD_CHECK(h.x.rank() == 3 && h.x.dim(0) == batch && h.column >= 0 && h.column + width <= h.x.cols(), "attention",
           str("expected ", name, " in columns ", h.column, " to ", h.column + width, " of a tensor (", batch, ", T, row), got ", h.x.shape().str()));
}

template <class T>
void expect_each(const char* what, const std::vector<T>& values, int64_t count) {
  QD_CHECK(values.empty() || static_cast<int64_t>(values.size()) == count, "attention",
           str("expected ", count, " ", what, ", got ", values.size()));
}

// The T5 buckets of -reach .. reach. All blocks of a model ask for the same ones, and so do all tokens that it generates.
std::shared_ptr<const std::vector<int32_t>> buckets_of(int64_t reach, bool both_directions, int64_t buckets, int64_t max_distance) {
  struct Made {
    int64_t reach = -1, buckets = 0, max_distance = 0;
    bool both_directions = false;
    std::shared_ptr<const std::vector<int32_t>> line;
  };
  thread_local Made last;
  if (last.reach != reach || last.both_directions != both_directions || last.buckets != buckets || last.max_distance != max_distance) {
    std::vector<int32_t> line;
    for (int64_t distance = -reach; distance <= reach; ++distance)
      line.push_back(t5_bucket(distance, both_directions, buckets, max_distance));
    last = {reach, buckets, max_distance, both_directions, std::make_shared<const std::vector<int32_t>>(std::move(line))};
  }
  return last.line;
}

// Everything but the pointers to q, k, v, y and lse.
std::shared_ptr<Call> describe(const Heads& q, const Heads& k, AttentionOptions options) {
  auto call = std::make_shared<Call>();
  AttentionOptions& o = call->options = std::move(options);
  if (o.kv_heads == 0) o.kv_heads = o.heads;
  QD_CHECK(o.heads > 0 && o.kv_heads > 0 && o.heads % o.kv_heads == 0 && o.head_dim > 0, "attention",
           str("expected heads that are a multiple of kv_heads, got ", o.heads, " and ", o.kv_heads, " of size ", o.head_dim));
  QD_CHECK(q.x.rank() == 3, "attention", str("expected q in a tensor (B, T, row), got ", q.x.shape().str()));
  QD_CHECK(o.heads <= q.x.cols() && o.head_dim <= q.x.cols(), "attention",
           str("expected heads of a size that fits rows of ", q.x.cols(), ", got ", o.heads, " of size ", o.head_dim));
  const int64_t batch = q.x.dim(0), queries = q.x.dim(1);
  expect_heads("q", q, batch, o.heads * o.head_dim);
  expect_heads("k", k, batch, o.kv_heads * o.head_dim);
  const int64_t keys = k.x.dim(1), reach = std::max(queries + o.query_offset, keys);
  QD_CHECK(o.query_offset >= 0, "attention", str("expected query_offset >= 0, got ", o.query_offset));
  QD_CHECK(o.dropout >= 0 && o.dropout < 1, "attention", str("expected a dropout probability in [0, 1), got ", o.dropout));
  expect_each("prefix lengths", o.prefix, batch);
  expect_each("lengths", o.lengths, batch);
  expect_each("slopes", o.slopes, o.heads);
  QD_CHECK(o.mask != Mask::prefix || !o.prefix.empty() || batch == 0, "attention", "expected prefix lengths for the prefix mask, got none");
  if (o.table.defined()) {
    QD_CHECK(o.table.rank() == 2 && o.table.cols() == o.heads && o.table.dim(0) >= 2, "attention",
             str("expected a bias table (buckets, ", o.heads, "), got ", o.table.shape().str()));
    const bool both = o.mask != Mask::causal;
    const int64_t exact = o.table.dim(0) / (both ? 4 : 2);
    QD_CHECK(o.max_distance > exact, "attention", str("expected max_distance above the ", exact, " exact buckets, got ", o.max_distance));
    call->bucket = buckets_of(reach, both, o.table.dim(0), o.max_distance);
  }
  QD_CHECK(!o.rotary.needs_gradient(), "attention", "expected a rotary table without gradient: it is not differentiated", "detach() it");
  if (o.rotary.defined())
    QD_CHECK(o.rotary.rank() == 2 && o.rotary.dim(0) >= reach && o.rotary.cols() % 2 == 0 && o.rotary.cols() <= o.head_dim, "attention",
             str("expected a rotary table of at least ", reach, " positions and at most ", o.head_dim, " dimensions, got ", o.rotary.shape().str()));
  call->kernel = {.batch = batch, .queries = queries, .keys = keys, .heads = o.heads, .kv_heads = o.kv_heads, .head_dim = o.head_dim,
                  .q = q.x.data() + q.column, .k = k.x.data() + k.column, .v = nullptr, .q_row = q.x.cols(), .k_row = k.x.cols(), .v_row = 0,
                  .q_batch = queries * q.x.cols(), .k_batch = keys * k.x.cols(), .v_batch = 0, .y = nullptr, .lse = nullptr,
                  .scale = o.scale != 0 ? o.scale : 1 / std::sqrt(static_cast<float>(o.head_dim)), .mask = o.mask,
                  .query_offset = o.query_offset, .prefix = data_of(o.prefix), .lengths = data_of(o.lengths), .slopes = data_of(o.slopes),
                  .table = data_of(o.table), .bucket = call->bucket ? call->bucket->data() : nullptr, .bucket_span = reach,
                  .buckets = o.table.defined() ? o.table.dim(0) : 0, .rotary = data_of(o.rotary),
                  .rotary_dim = o.rotary.defined() ? o.rotary.cols() : 0, .keys_turned = o.keys_turned, .dropout = o.dropout};
  return call;
}

// The gradients of q, k and v may be column ranges of one tensor: its memory is asked for once. Where the ranges do not fill its rows
// exactly, the rest has to be zero before they are added.
struct Slice {
  int input;
  const Node* node;
  int64_t column, width, row, size;
};

void destinations(Sink& to, const Slice (&slices)[3], float* (&d)[3], bool (&add)[3]) {
  for (int i = 0; i < 3; ++i) {
    const Slice& s = slices[i];
    d[i] = nullptr;
    if (!to.wants(s.input)) continue;
    int twin = 0;
    while (slices[twin].node != s.node) ++twin;
    if (twin < i) {
      d[i] = d[twin] - slices[twin].column + s.column;
      add[i] = add[twin];
      continue;
    }
    int64_t covered = 0;
    for (const Slice& other : slices)
      if (other.node == s.node) covered += other.width;
    bool disjoint = true;
    for (const Slice& a : slices)
      for (const Slice& b : slices)
        if (&a != &b && a.node == s.node && b.node == s.node && a.column < b.column + b.width && b.column < a.column + a.width) disjoint = false;
    auto [data, adding] = to.into(s.input);
    if (!adding && (!disjoint || covered != s.row)) {
      kernels().fill(s.size, 0, data);
      adding = true;
    }
    d[i] = data + s.column;
    add[i] = adding;
  }
}

}  // namespace

Tensor attention(Heads q, Heads k, Heads v, const AttentionOptions& options) {
  auto call = describe(q, k, options);
  const AttentionOptions& o = call->options;
  kernel::Attention& a = call->kernel;
  expect_heads("v", v, a.batch, a.kv_heads * a.head_dim);
  QD_CHECK(v.x.dim(1) == a.keys, "attention", str("expected as many values as keys, got ", v.x.dim(1), " and ", a.keys));
  a.v = v.x.data() + v.column;
  a.v_row = v.x.cols();
  a.v_batch = a.keys * a.v_row;
  if (o.dropout > 0) a.seed = random_state().seed, a.stream = next_stream();
  const bool recorded = records({q.x, k.x, v.x, o.table});
  QD_CHECK(!recorded || !o.keys_turned, "attention", "expected keys that are not turned yet where a gradient is wanted", "use NoGrad");
  Tensor y = empty({a.batch, a.queries, a.heads * a.head_dim}), lse = recorded ? empty({a.batch, a.heads, a.queries}) : Tensor();
  a.y = y.mutable_data();
  a.lse = recorded ? lse.mutable_data() : nullptr;
  kernels().attention(a);

  const int64_t width = o.heads * o.head_dim, kv_width = o.kv_heads * o.head_dim;
  const Slice sq{0, q.x.node().get(), q.column, width, q.x.cols(), q.x.size()};
  const Slice sk{1, k.x.node().get(), k.column, kv_width, k.x.cols(), k.x.size()};
  const Slice sv{2, v.x.node().get(), v.column, kv_width, v.x.cols(), v.x.size()};
  for (const auto& [a, b] : {std::pair{&sq, &sk}, {&sq, &sv}, {&sk, &sv}})   // heads that share columns in part would share gradients in part
    QD_CHECK(!a->node || a->node != b->node || a->column >= b->column + b->width || b->column >= a->column + a->width ||
                 (a->column == b->column && a->width == b->width),
             "attention", "expected q, k and v in the same columns of a tensor or in separate ones, got ranges that overlap in part");
  auto gradient = [call, sq, sk, sv, q = Saved(q.x), k = Saved(k.x), v = Saved(v.x), table = Saved(o.table), y = Saved(y), lse = Saved(lse)](
                      const Tensor& dy, Sink& to) {
    for (const Saved* saved : {&q, &k, &v, &table}) saved->get();   // the description points into them: have they been written?
    kernel::AttentionGradient g{.dy = dy.data(), .y = y->data(), .lse = lse->data(), .dq = nullptr, .dk = nullptr, .dv = nullptr, .add_dq = false,
                        .add_dk = false, .add_dv = false, .dtable = nullptr, .add_dtable = false};
    float* d[3];
    bool add[3] = {};
    destinations(to, {sq, sk, sv}, d, add);
    g.dq = d[0], g.dk = d[1], g.dv = d[2];
    g.add_dq = add[0], g.add_dk = add[1], g.add_dv = add[2];
    if (to.wants(3)) {
      const auto [dtable, adding] = to.into(3);
      g.dtable = dtable, g.add_dtable = adding;
    }
    kernels().attention_gradient(call->kernel, g);
  };
  const Tensor table = o.table;
  call->options.table = table.detach();   // a handle with its node would keep the graph alive
  return record("attention", y, {q.x, k.x, v.x, table}, std::move(gradient));
}

Tensor attention_probabilities(Heads q, Heads k, const AttentionOptions& options) {
  const auto call = describe(q, k, options);
  const kernel::Attention& a = call->kernel;
  Tensor p = empty({a.batch, a.heads, a.queries, a.keys});
  kernels().attention_probabilities(a, p.mutable_data());
  return no_gradient("attention_probabilities", p, {q.x, k.x, options.table});
}

void store_heads(const Heads& x, int64_t head_dim, const Tensor& rotary, int64_t first, Tensor& cache) {
  QD_CHECK(!records({x.x}), "store_heads", "expected that no gradient is wanted: a cache passes none on", "use NoGrad");
  QD_CHECK(cache.rank() == 3 && x.x.rank() == 3 && x.x.dim(0) == cache.dim(0) && head_dim > 0 && cache.cols() % head_dim == 0 && x.column >= 0 &&
               x.column + cache.cols() <= x.x.cols(),
           "store_heads", str("expected columns from ", x.column, " of (B, T, row) and a cache (B, capacity, heads of ", head_dim, "), got ", x.x.shape().str(), " and ",
                              cache.shape().str()));
  const int64_t tokens = x.x.dim(1), capacity = cache.dim(1), width = cache.cols(), row = x.x.cols();
  QD_CHECK(first >= 0 && first + tokens <= capacity, "store_heads", str("expected at most ", capacity, " tokens, the capacity of the cache, got ", first, " + ", tokens));
  const int64_t half = rotary.defined() ? rotary.cols() / 2 : 0;
  QD_CHECK(half == 0 || (rotary.dim(0) >= first + tokens && 2 * half <= head_dim), "store_heads",
           str("expected a rotary table of at least ", first + tokens, " positions and at most ", head_dim, " dimensions, got ", rotary.shape().str()));
  float* to = cache.mutable_data();
  for (int64_t b = 0; b < cache.dim(0); ++b)
    for (int64_t t = 0; t < tokens; ++t) {
      const float* from = x.x.data() + (b * tokens + t) * row + x.column;
      float* y = to + (b * capacity + first + t) * width;
      std::copy_n(from, width, y);
      const float *cosine = half ? rotary.data() + (first + t) * 2 * half : nullptr, *sine = cosine + half;
      for (int64_t h = 0; half && h < width; h += head_dim)
        for (int64_t i = 0; i < half; ++i) {
          const float left = from[h + i], right = from[h + half + i];
          y[h + i] = left * cosine[i] - right * sine[i];
          y[h + half + i] = left * sine[i] + right * cosine[i];
        }
    }
}

Tensor rotary_table(int64_t positions, int64_t dim, double base) {
  QD_CHECK(dim > 0 && dim % 2 == 0, "rotary_table", str("expected an even number of dimensions, got ", dim));
  Tensor out = empty({positions, dim});
  float* row = out.mutable_data();
  for (int64_t t = 0; t < positions; ++t, row += dim)
    for (int64_t i = 0; i < dim / 2; ++i) {
      const double angle = static_cast<double>(t) * std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
      row[i] = static_cast<float>(std::cos(angle));
      row[dim / 2 + i] = static_cast<float>(std::sin(angle));
    }
  return out;
}

std::vector<float> alibi_slopes(int64_t heads) {
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<float> out;
  for (int64_t h = 1; h <= power; ++h) out.push_back(static_cast<float>(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(power))));
  for (int64_t h = 1; static_cast<int64_t>(out.size()) < heads; h += 2)
    out.push_back(static_cast<float>(std::exp2(-4.0 * static_cast<double>(h) / static_cast<double>(power))));
  return out;
}

int32_t t5_bucket(int64_t key_minus_query, bool both_directions, int64_t buckets, int64_t max_distance) {
  int64_t distance = -key_minus_query, first = 0;
  if (both_directions) {
    buckets /= 2;
    if (key_minus_query > 0) first = buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max<int64_t>(distance, 0);   // keys ahead of the query share bucket 0; a causal mask hides them
  }
  const int64_t exact = std::max<int64_t>(buckets / 2, 1);
  if (distance < exact) return static_cast<int32_t>(first + distance);
  const double steps = std::log(static_cast<double>(distance) / static_cast<double>(exact)) /
                       std::log(static_cast<double>(max_distance) / static_cast<double>(exact)) * static_cast<double>(buckets - exact);
  return static_cast<int32_t>(first + std::min<int64_t>(buckets - 1, exact + static_cast<int64_t>(steps)));
}

}  // namespace qd
