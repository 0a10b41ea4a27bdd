// The product engine against its definition in f64: every instruction set, layout, path and epilogue. Nothing is written beside C.
#include <doctest/doctest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "core/kernels/table.h"
#include "core/parallel.h"

namespace {

using namespace qd;

const float nan = std::numeric_limits<float>::quiet_NaN();
std::mt19937 generator(1);

std::vector<const Kernels*> tables() {
  const Kernels* found[4];
  const int count = supported_kernels(found);
  return {found, found + count};
}

// Zeros that end where unreadable memory begins: one element read too much ends the program.
class Fenced {
 public:
  explicit Fenced(int64_t count) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), bytes = static_cast<size_t>(count) * sizeof(float);
    size_ = (bytes + page - 1) / page * page + page;
    memory_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(memory_ != MAP_FAILED);
    REQUIRE(mprotect(memory_ + size_ - page, page, PROT_NONE) == 0);
    data_ = reinterpret_cast<float*>(memory_ + size_ - page - bytes);
  }
  ~Fenced() { munmap(memory_, size_); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  float* data() const { return data_; }

 private:
  char* memory_;
  size_t size_;
  float* data_;
};

// A stored matrix whose memory ends with its last element; what lies between its rows is NaN.
struct Stored {
  Stored(int64_t rows, int64_t cols, bool transposed, int64_t gap)
      : transposed(transposed), lines(transposed ? cols : rows), length(transposed ? rows : cols), ld(length + gap),
        memory(lines > 0 ? (lines - 1) * ld + length : 0) {
    std::uniform_real_distribution<float> values(-1, 1);
    for (int64_t i = 0; i < lines; ++i) {
      for (int64_t j = 0; j < length; ++j) memory.data()[i * ld + j] = values(generator);
      for (int64_t j = length; j < ld && i + 1 < lines; ++j) memory.data()[i * ld + j] = nan;
    }
  }
  double at(int64_t i, int64_t j) const { return memory.data()[transposed ? j * ld + i : i * ld + j]; }
  Matrix matrix() const { return {memory.data(), ld, transposed}; }
  bool transposed;
  int64_t lines, length, ld;
  Fenced memory;
};

// (m, n) values with leading dimension ld between guards; `whole()` says whether everything outside is untouched.
struct Guarded {
  static constexpr int64_t margin = 80;
  Guarded(int64_t m, int64_t n, int64_t ld) : m(m), n(n), ld(ld), memory(static_cast<size_t>(m * ld + 2 * margin), nan) {
    std::uniform_real_distribution<float> values(-1, 1);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) data()[i * ld + j] = values(generator);
  }
  float* data() { return memory.data() + margin; }
  float at(int64_t i, int64_t j) const { return memory[static_cast<size_t>(margin + i * ld + j)]; }
  bool whole() const {
    for (int64_t at = 0; at < static_cast<int64_t>(memory.size()); ++at) {
      const int64_t i = (at - margin) / ld, j = (at - margin) % ld;
      const bool inside = at >= margin && i < m && j < n;
      if (!inside && !std::isnan(memory[static_cast<size_t>(at)])) return false;
    }
    return true;
  }
  int64_t m, n, ld;
  std::vector<float> memory;
};

double activate(Activation f, double x) {
  switch (f) {
    case Activation::none: return x;
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::gelu: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::silu: return x / (1 + std::exp(-x));
  }
  return nan;
}

// Which parts of the epilogue a case uses.
struct Parts {
  float scale = 1;
  bool add = false, bias = false, pre = false, residual = false;
  Activation activation = Activation::none;
};

struct Case {
  int64_t m, n, k;
  bool ta = false, tb = false;
  Parts parts = {};
  int64_t gap_a = 0, gap_b = 0, gap_c = 3;
  Precision precision = Precision::f32;
};

// To the nearest bf16, ties to even; denormals become zero.
double to_bf16(double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  int exponent;
  const double fraction = std::frexp(x, &exponent);   // 8 bits are kept
  return exponent < -125 ? 0 : std::ldexp(std::nearbyint(fraction * 256) / 256, exponent);
}

// The tables that a precision is for.
std::vector<const Kernels*> tables(Precision precision) {
  std::vector<const Kernels*> all = tables();
  if (precision == Precision::f32) return all;
  const Kernels& best = *all.back();
  use_kernels(best);
  return bf16_products() ? std::vector{&best} : std::vector<const Kernels*>{};
}

// Runs a case on every table and with 1, 2 and 3 threads: all within rounding of the definition, threads equal in bits.
// Of large results a sample is compared. Returns the number of disagreements: one CHECK for all keeps thousands of cases fast.
int disagreements(const Case& c) {
  const Stored a(c.m, c.k, c.ta, c.gap_a), b(c.k, c.n, c.tb, c.gap_b);
  const Guarded start(c.m, c.n, c.n + c.gap_c), residual(c.m, c.n, c.n + c.gap_c);
  const Stored bias(1, c.n, false, 0);
  const Parts& parts = c.parts;

  const int64_t size = c.m * c.n, step = size * c.k > 2'000'000 ? size / 500 | 1 : 1;
  std::vector<double> expected, expected_pre, tolerance;
  for (int64_t at = 0; at < size; at += step) {
    const int64_t i = at / c.n, j = at % c.n;
    double sum = 0, magnitude = 0;
    for (int64_t p = 0; p < c.k; ++p) {
      const double term = c.precision == Precision::bf16 ? to_bf16(a.at(i, p)) * to_bf16(b.at(p, j)) : a.at(i, p) * b.at(p, j);
      sum += term;
      magnitude += std::abs(term);
    }
    sum = parts.scale * sum + (parts.add ? start.at(i, j) : 0) + (parts.bias ? bias.at(0, j) : 0);
    expected_pre.push_back(sum);
    expected.push_back(activate(parts.activation, sum) + (parts.residual ? residual.at(i, j) : 0));
    tolerance.push_back(1e-6 * (2 + std::abs(parts.scale) * magnitude));
  }

  int wrong = 0;
  for (const Kernels* table : tables(c.precision)) {
    std::vector<float> first;
    for (int threads : {1, 2, 3}) {
      if (threads > 1 && size * c.k < 7'000) break;   // never parallel: its cost is at most 7/8 of that
      set_threads(threads);
      Guarded y = start, pre(c.m, c.n, c.n + c.gap_c), r = residual;
      Gemm g{.m = c.m, .n = c.n, .k = c.k, .a = a.matrix(), .b = b.matrix(), .c = y.data(), .ldc = y.ld};
      g.precision = c.precision;
      g.out = {.scale = parts.scale, .add = parts.add, .bias = parts.bias ? bias.memory.data() : nullptr,
               .activation = parts.activation, .pre = parts.pre ? pre.data() : nullptr, .residual = parts.residual ? r.data() : nullptr};
      table->gemm(g);
      wrong += !y.whole() + !pre.whole();
      if (threads == 1) {
        first = y.memory;
        for (size_t e = 0; e < expected.size(); ++e) {
          const int64_t at = static_cast<int64_t>(e) * step, i = at / c.n, j = at % c.n;
          wrong += !(std::abs(y.at(i, j) - expected[e]) <= tolerance[e]);
          wrong += parts.pre && !(std::abs(pre.at(i, j) - expected_pre[e]) <= tolerance[e]);
        }
      } else {
        wrong += std::memcmp(first.data(), y.memory.data(), first.size() * sizeof(float)) != 0;
      }
    }
  }
  set_threads(default_threads());
  if (wrong) MESSAGE("m ", c.m, " n ", c.n, " k ", c.k, " transposed ", c.ta, c.tb, ": ", wrong, " wrong");
  return wrong;
}

}  // namespace

TEST_CASE("gemm: sizes around the edges of tiles and vectors, all layouts") {
  int wrong = 0, count = 0;
  for (int64_t m : {1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 25})
    for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 47, 49, 63, 64, 65, 97})
      for (int64_t k : {1, 2, 7, 9, 16, 17, 50}) {
        const bool ta = count & 1, tb = count & 2;
        const Parts parts{.scale = count % 3 ? 1.f : -0.5f, .add = count % 5 == 0};
        wrong += disagreements({m, n, k, ta, tb, parts, count % 4, count % 3, count % 2 * 5});
        ++count;
      }
  CHECK(wrong == 0);
}

TEST_CASE("gemm: every path, in every layout") {
  const int64_t shapes[][3] = {
      {100, 200, 70},    // tiles in parallel
      {70, 96, 1100},    // two blocks of k
      {300, 130, 300},   // transposed A packed
      {1, 700, 300},  {2, 1030, 133}, {4, 600, 200}, {8, 530, 150},      // few rows
      {700, 1, 300},  {530, 2, 150},  {601, 4, 200}, {300, 8, 130},      // few columns
      {8, 70, 20},    {9, 40, 8200},  {24, 64, 9001}, {1, 1, 20000},     // long sums of few results
      {20, 300, 400},
  };
  int wrong = 0;
  for (const auto& s : shapes)
    for (bool ta : {false, true})
      for (bool tb : {false, true})
        for (bool add : {false, true}) wrong += disagreements({s[0], s[1], s[2], ta, tb, {.scale = 0.5f, .add = add}, 1, 2});
  CHECK(wrong == 0);
}

TEST_CASE("gemm: more than fits one packing, and rows a power of two apart") {
  CHECK(disagreements({1300, 70, 1030, true, true, {}}) == 0);
  CHECK(disagreements({1200, 200, 1024, true, true}) == 0);   // panels of B are packed again for the rows of A that come later
  CHECK(disagreements({100, 16, 2100, false, true}) == 0);    // one panel, three blocks of k
  CHECK(disagreements({70, 1300, 1030, false, false, {}, 0, 2048 - 1300}) == 0);
  CHECK(disagreements({200, 1100, 1030, true, true, {.add = true}, 2048 - 200, 2048 - 1030}) == 0);
  CHECK(disagreements({40, 512, 700, false, false, {}, 1024 - 700, 512}) == 0);
  CHECK(disagreements({4, 512, 700, false, false, {}, 1024 - 700, 512}) == 0);
  for (const bool add : {false, true}) {   // A^T B with a tall A is made as its transpose; so are the blocks of k after the first
    CHECK(disagreements({301, 130, 300, true, false, {.scale = 0.5f, .add = add}}) == 0);
    CHECK(disagreements({230, 97, 1100, true, false, {.add = add}, 512 - 230, 31}) == 0);
    CHECK(disagreements({230, 97, 1100, true, false, {.add = add}, 2048 - 230}) == 0);   // packed: few of its rows fit the sets of L2
    CHECK(disagreements({1300, 97, 1030, true, false, {.add = add}, 2048 - 1300}) == 0);
  }
  CHECK(disagreements({300, 130, 101, true, false, {}, 8200}) == 0);
  CHECK(disagreements({300, 160, 101, true, false, {}, 8200}) == 0);   // a transposed A whose lines are far apart
}

TEST_CASE("gemm: every epilogue on every path") {
  const int64_t shapes[][3] = {{7, 33, 20},   {70, 130, 100}, {30, 70, 1100}, {3, 100, 300},
                               {100, 3, 300}, {8, 9, 9000},   {5, 6, 0}};
  int wrong = 0;
  for (const auto& s : shapes)
    for (Activation f : {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_erf, Activation::silu})
      for (int bits = 0; bits < 8; ++bits) {
        const bool bias = bits & 1, pre = bits & 2, residual = bits & 4;
        const Parts parts{.scale = 0.25f, .bias = bias, .pre = pre, .residual = residual, .activation = f};
        wrong += disagreements({s[0], s[1], s[2], false, true, parts});
      }
  CHECK(wrong == 0);
}

TEST_CASE("gemm: nothing to add up or nothing to write") {
  CHECK(disagreements({4, 70, 0}) == 0);
  CHECK(disagreements({4, 70, 0, true, true, {.scale = 2, .add = true}}) == 0);
  for (const Kernels* table : tables()) {
    float untouched = 7;
    table->gemm({.m = 0, .n = 4, .k = 4, .a = {nullptr, 4}, .b = {nullptr, 4}, .c = &untouched, .ldc = 4});
    table->gemm({.m = 4, .n = 0, .k = 4, .a = {nullptr, 4}, .b = {nullptr, 0}, .c = &untouched, .ldc = 0});
    table->gemm({.m = 1, .n = 1, .k = 1, .a = {nullptr, 1}, .b = {nullptr, 1}, .c = &untouched, .ldc = 1, .batch = 0});
    CHECK(untouched == 7);
  }
}

TEST_CASE("gemm: a batch equals its products one by one, in bits") {
  struct Batch {
    int64_t m, n, k, batch;
    bool share_a, share_b;
  };
  const Batch batches[] = {{9, 20, 11, 40, false, false}, {64, 64, 64, 3, false, false},    {30, 40, 50, 5, true, false},
                           {30, 40, 50, 5, false, true},  {150, 160, 170, 3, false, false}, {1, 33, 64, 20, false, false}};
  for (const Batch& s : batches)
    for (int layout = 0; layout < 4; ++layout)
      for (const Kernels* table : tables()) {
        const bool ta = layout & 1, tb = layout & 2;
        const int64_t gap = s.share_b ? 1 : 0;   // a gap behind each A keeps the rows from being one tall matrix
        const Stored a((s.m + gap) * s.batch, s.k, false, 0), b(s.k * s.batch, s.n, false, 0), bias(1, s.n, false, 0);
        const Guarded residual(s.m * s.batch, s.n, s.n);
        Guarded together(s.m * s.batch, s.n, s.n), pre = together, single = together, single_pre = together;
        Gemm g{.m = s.m, .n = s.n, .k = s.k, .a = {a.memory.data(), ta ? s.m : s.k, ta}, .b = {b.memory.data(), tb ? s.k : s.n, tb},
               .c = together.data(), .ldc = s.n};
        g.out = {.scale = 0.5f, .bias = bias.memory.data(), .activation = Activation::silu, .pre = pre.data(),
                 .residual = residual.memory.data() + Guarded::margin};
        g.batch = s.batch, g.step_c = s.m * s.n;
        g.step_a = s.share_a ? 0 : (s.m + gap) * s.k, g.step_b = s.share_b ? 0 : s.k * s.n;
        set_threads(2);
        table->gemm(g);
        set_threads(1);
        for (int64_t i = 0; i < s.batch; ++i) {
          Gemm one = g;
          one.batch = 1;
          one.a.data += i * g.step_a, one.b.data += i * g.step_b;
          one.c = single.data() + i * g.step_c, one.out.pre = single_pre.data() + i * g.step_c, one.out.residual += i * g.step_c;
          table->gemm(one);
        }
        set_threads(default_threads());
        CHECK(std::memcmp(together.memory.data(), single.memory.data(), single.memory.size() * sizeof(float)) == 0);
        CHECK(std::memcmp(pre.memory.data(), single_pre.memory.data(), single.memory.size() * sizeof(float)) == 0);
      }
}

TEST_CASE("gemm: each of a few rows has the bits that it has alone") {   // texts generated together are those generated apart
  const int64_t shapes[][2] = {{16, 5}, {64, 16}, {70, 64}, {300, 100}, {512, 128}, {9000, 40}, {384, 1536}, {20, 9000}, {5, 300}, {100, 1}, {80, 2}, {70, 3},
                              {90, 7}, {130, 387}, {9, 5000}, {16, 3001}};   // n, k
  int wrong = 0;
  for (const auto& [n, k] : shapes)
    for (int layout = 0; layout < 4; ++layout)
      for (const Kernels* table : tables())
        for (const int threads : {1, 2}) {
          const bool ta = layout & 1, tb = layout & 2;
          const Stored a(8, k, ta, 3), b(k, n, tb, 1), bias(1, n, false, 0);
          set_threads(threads);
          const auto product = [&](int64_t first, int64_t rows) {
            Guarded y(rows, n, n);
            Gemm g{.m = rows, .n = n, .k = k, .a = a.matrix(), .b = b.matrix(), .c = y.data(), .ldc = n};
            g.a.data += first * (ta ? 1 : a.ld);
            g.out = {.bias = bias.memory.data(), .activation = Activation::gelu};
            table->gemm(g);
            return y;
          };
          Guarded all = product(0, 8);
          for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7})
            for (int64_t i = 0; i + rows <= 8; ++i)
              wrong += std::memcmp(product(i, rows).data(), all.data() + i * n, static_cast<size_t>(rows * n) * sizeof(float)) != 0;
        }
  set_threads(default_threads());
  CHECK(wrong == 0);
}

TEST_CASE("gemm: a batch that shares B is one tall product") {
  const int64_t m = 10, n = 70, k = 40, batch = 6;
  const Stored a(m * batch, k, false, 0), b(k, n, false, 0);
  for (const Kernels* table : tables()) {
    Guarded many(m * batch, n, n), tall = many;
    table->gemm({.m = m, .n = n, .k = k, .a = a.matrix(), .b = b.matrix(), .c = many.data(), .ldc = n, .batch = batch,
                 .step_a = m * k, .step_b = 0, .step_c = m * n});
    table->gemm({.m = m * batch, .n = n, .k = k, .a = a.matrix(), .b = b.matrix(), .c = tall.data(), .ldc = n});
    CHECK(std::memcmp(many.memory.data(), tall.memory.data(), tall.memory.size() * sizeof(float)) == 0);
  }
}

// A product by itself: for comparisons of bits.
std::vector<float> plain_product(const Kernels& table, const Stored& a, const Stored& b, int64_t m, int64_t n, int64_t k, Precision precision) {
  std::vector<float> c(static_cast<size_t>(m * n));
  Gemm g{.m = m, .n = n, .k = k, .a = a.matrix(), .b = b.matrix(), .c = c.data(), .ldc = n};
  g.precision = precision;
  table.gemm(g);
  return c;
}

TEST_CASE("gemm: a panel that a thread has packed serves one call, and rows are cut for any number of threads") {
  // one panel, several of a thread's own, packed for all, whole rows
  const int64_t shapes[][3] = {{70, 60, 300}, {130, 60, 1100}, {300, 200, 1100}, {400, 200, 300}, {150, 128, 300}};
  for (const Precision precision : {Precision::f32, Precision::bf16})
    for (const Kernels* table : tables(precision))
      for (const auto& [m, n, k] : shapes)
        for (const bool tb : {false, true}) {
          const Stored a(m, k, false, 0), before(k, n, tb, 0), after(k, n, tb, 0);
          Stored b(k, n, tb, 0);
          const auto size = static_cast<size_t>(n * k) * sizeof(float);
          set_threads(1);
          const std::vector<float> expected = plain_product(*table, a, after, m, n, k, precision);
          for (const int threads : {1, 2, 7}) {
            set_threads(threads);
            std::memcpy(b.memory.data(), before.memory.data(), size);
            plain_product(*table, a, b, m, n, k, precision);
            std::memcpy(b.memory.data(), after.memory.data(), size);   // at the same place
            CHECK(plain_product(*table, a, b, m, n, k, precision) == expected);
          }
        }
  set_threads(default_threads());
}

TEST_CASE("gemm: two callers at once") {   // one has the team, the other works in place
  set_threads(2);
  for (const Precision precision : {Precision::f32, Precision::bf16})
    for (const Kernels* table : tables(precision)) {
      constexpr int64_t m = 200, n = 130, k = 1100;
      const Stored a[2] = {{m, k, false, 0}, {m, k, false, 0}}, b[2] = {{k, n, true, 0}, {k, n, true, 0}};
      int wrong[2] = {0, 0};
      const auto caller = [&](int who) {
        const std::vector<float> first = plain_product(*table, a[who], b[who], m, n, k, precision);
        for (int round = 0; round < 50; ++round) {
          const int64_t rows = m - 3 * round;   // other sizes, the same rows
          const std::vector<float> c = plain_product(*table, a[who], b[who], rows, n, k, precision);
          wrong[who] += std::memcmp(c.data(), first.data(), c.size() * sizeof(float)) != 0;
        }
      };
      std::thread other([&] { caller(1); });
      caller(0);
      other.join();
      CHECK(wrong[0] + wrong[1] == 0);
    }
  set_threads(default_threads());
}

// Compared with products of rounded factors: what remains is the rounding of f32 sums.
TEST_CASE("gemm: bf16 is the product of rounded factors, in every layout, path and epilogue") {
  if (tables(Precision::bf16).empty()) {
    MESSAGE("left out: this processor has no AVX512-BF16");
    return;
  }
  int wrong = 0, count = 0;
  for (int64_t m : {9, 12, 13, 31, 48, 97})
    for (int64_t n : {9, 15, 16, 17, 33, 63, 64, 65, 97})
      for (int64_t k : {405, 406, 450}) {   // odd and even, on both sides of whole vectors
        const bool ta = count & 1, tb = count & 2;
        Case c{m, n, k, ta, tb, {.scale = count % 3 ? 1.f : -0.5f, .add = count % 5 == 0}, count % 4, count % 3, count % 2 * 5};
        c.precision = Precision::bf16;
        wrong += disagreements(c);
        ++count;
      }
  const int64_t shapes[][3] = {{100, 200, 70}, {70, 96, 2201}, {300, 130, 300}, {24, 64, 9001}, {1300, 70, 1031}, {40, 512, 17}, {1200, 40, 2101}, {300, 200, 1100}};
  for (const auto& s : shapes)
    for (int layout = 0; layout < 4; ++layout)
      for (int bits = 0; bits < 4; ++bits) {
        const bool add = bits == 3;
        Case c{s[0], s[1], s[2], bool(layout & 1), bool(layout & 2), {.scale = 0.5f, .add = add, .bias = bits == 1, .pre = bits == 1,
               .residual = bits == 2, .activation = bits == 1 ? Activation::gelu : Activation::none}, 1, 2};
        c.precision = Precision::bf16;
        wrong += disagreements(c);
      }
  CHECK(wrong == 0);
}

TEST_CASE("gemm: bf16 stays near f32, and keeps NaN and infinity") {
  for (const Kernels* table : tables(Precision::bf16)) {
    const int64_t m = 64, n = 80, k = 301;
    const Stored a(m, k, false, 0), b(k, n, true, 0);
    const auto product = [&](Precision precision) { return plain_product(*table, a, b, m, n, k, precision); };
    const std::vector<float> exact = product(Precision::f32), rounded = product(Precision::bf16);
    double difference = 0, size = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      difference += std::pow(exact[i] - rounded[i], 2);
      size += std::pow(exact[i], 2);
    }
    const double error = std::sqrt(difference / size);
    CHECK(error < 4e-3);
    CHECK(error > 1e-4);   // it is bf16 that was measured

    const float infinity = std::numeric_limits<float>::infinity(), denormal = 1e-40f, almost_nan = std::bit_cast<float>(0x7f800001);
    float* x = a.memory.data();
    for (int64_t p = 0; p < k; ++p) x[p] = denormal, x[k + p] = 1, x[2 * k + p] = 1, x[3 * k + p] = 1;
    x[k + 300] = std::nanf(""), x[2 * k + 7] = infinity, x[3 * k + 9] = almost_nan;   // a NaN whose upper half alone is infinity
    float* y = b.memory.data();
    for (int64_t p = 0; p < k; ++p) y[p] = 1;
    const std::vector<float> c = product(Precision::bf16);
    CHECK(c[0] == 0);
    for (int64_t j = 0; j < n; ++j) {
      CHECK(std::isnan(c[static_cast<size_t>(n + j)]));
      CHECK(std::isnan(c[static_cast<size_t>(3 * n + j)]));
    }
    CHECK(c[static_cast<size_t>(2 * n)] == infinity);
  }
}
