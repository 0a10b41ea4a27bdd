// Matrix products of OpenBLAS and oneDNN on the shapes of bin/bench's gemm rows, timed as bin/bench does: median of the calls over some
// time, after one that is not counted. Prints a line of JSON per shape: GFLOP/s of each library that is linked, of the better of its
// interfaces where there are several.
//   g++ -O2 -std=c++20 -I. tests/peers/gemm_peers.cpp -lopenblas -ldnnl -o gemm_peers && ./gemm_peers 0.4 2      seconds a shape, threads
// -DNO_OPENBLAS and -DNO_ONEDNN leave one out.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#include "apps/bench/shapes.h"
#include "apps/bench/timing.h"

#if !defined(NO_OPENBLAS)
#include <cblas.h>
extern "C" void openblas_set_num_threads(int) __attribute__((weak));
// In OpenBLAS since 0.3.27: (order, transA, transB, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc, strideC, count)
extern "C" void cblas_sgemm_batch_strided(CBLAS_ORDER, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, int, int, int, float, const float*, int, int, const float*, int, int, float,
                                          float*, int, int, int) __attribute__((weak));
#endif
#if !defined(NO_ONEDNN)
#include <dnnl.hpp>
#endif

namespace {

using namespace qd::bench;

double median_seconds(const std::function<void()>& f, double budget) { return median(seconds_of(f, budget)); }

struct Operands {
  std::vector<float> a, b, c;
  explicit Operands(const Product& s)
      : a(static_cast<size_t>(s.batch) * s.m * s.k), b(static_cast<size_t>(s.batch) * s.k * s.n), c(static_cast<size_t>(s.batch) * s.m * s.n) {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-0.5f, 0.5f);
    for (float& x : a) x = uniform(random);
    for (float& x : b) x = uniform(random);
  }
};

#if !defined(NO_OPENBLAS)
double openblas(const Product& s, double budget) {
  Operands o(s);
  const auto ta = s.ta ? CblasTrans : CblasNoTrans, tb = s.tb ? CblasTrans : CblasNoTrans;
  const int lda = s.ta ? s.m : s.k, ldb = s.tb ? s.k : s.n, step_a = s.m * s.k, step_b = s.k * s.n, step_c = s.m * s.n;
  double seconds = median_seconds(
      [&] {
        for (int i = 0; i < s.batch; ++i)
          cblas_sgemm(CblasRowMajor, ta, tb, s.m, s.n, s.k, 1, o.a.data() + static_cast<size_t>(i) * step_a, lda, o.b.data() + static_cast<size_t>(i) * step_b, ldb, 0,
                      o.c.data() + static_cast<size_t>(i) * step_c, s.n);
      },
      budget);
  if (s.batch > 1 && cblas_sgemm_batch_strided)
    seconds = std::min(seconds, median_seconds(
                                    [&] {
                                      cblas_sgemm_batch_strided(CblasRowMajor, ta, tb, s.m, s.n, s.k, 1, o.a.data(), lda, step_a, o.b.data(), ldb, step_b, 0,
                                                                o.c.data(), s.n, step_c, s.batch);
                                    },
                                    budget));
  return seconds;
}
#endif

#if !defined(NO_ONEDNN)
// The matmul primitive, made once and run many times, as a framework does; and dnnl_sgemm where there is no batch.
double onednn(const Product& s, double budget) {
  using namespace dnnl;
  Operands o(s);
  const engine cpu(engine::kind::cpu, 0);
  stream queue(cpu);
  const auto f32 = memory::data_type::f32;
  using Dims = memory::dims;
  const int64_t m = s.m, n = s.n, k = s.k;
  const memory::desc a({s.batch, m, k}, f32, s.ta ? Dims{m * k, 1, m} : Dims{m * k, k, 1});
  const memory::desc b({s.batch, k, n}, f32, s.tb ? Dims{k * n, 1, k} : Dims{k * n, n, 1});
  const memory::desc c({s.batch, m, n}, f32, Dims{m * n, n, 1});
#if DNNL_VERSION_MAJOR >= 3
  const matmul::primitive_desc description(cpu, a, b, c);
#else
  const matmul::primitive_desc description(matmul::desc(a, b, c), cpu);
#endif
  const matmul product(description);
  memory ma(a, cpu, o.a.data()), mb(b, cpu, o.b.data()), mc(c, cpu, o.c.data());
  double seconds = median_seconds(
      [&] {
        product.execute(queue, {{DNNL_ARG_SRC, ma}, {DNNL_ARG_WEIGHTS, mb}, {DNNL_ARG_DST, mc}});
        queue.wait();
      },
      budget);
  if (s.batch == 1)
    seconds = std::min(seconds, median_seconds([&] { dnnl_sgemm(s.ta ? 'T' : 'N', s.tb ? 'T' : 'N', m, n, k, 1, o.a.data(), s.ta ? m : k, o.b.data(), s.tb ? k : n, 0,
                                                                o.c.data(), n); }, budget));
  return seconds;
}
#endif

}  // namespace

int main(int argc, char** argv) {
  const double budget = argc > 1 ? std::atof(argv[1]) : 0.4;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 1;
#if !defined(NO_OPENBLAS)
  if (openblas_set_num_threads) openblas_set_num_threads(threads);
#endif
  (void)threads;   // oneDNN's are those of OpenMP: OMP_NUM_THREADS
  std::printf("{\"versions\":[");
#if !defined(NO_OPENBLAS)
  std::printf("\"%s\"", openblas_get_config());
#endif
#if !defined(NO_ONEDNN)
  const dnnl_version_t* version = dnnl_version();
#if !defined(NO_OPENBLAS)
  std::printf(",");
#endif
  std::printf("\"oneDNN %d.%d.%d\"", version->major, version->minor, version->patch);
#endif
  std::printf("]}\n");
  for (const Product& s : product_shapes) {
    const double operations = 2e-9 * s.batch * s.m * static_cast<double>(s.n) * s.k;
    std::printf("{\"name\":\"%s\"", s.name);
#if !defined(NO_OPENBLAS)
    std::printf(",\"OpenBLAS\":%.2f", operations / openblas(s, budget));
#endif
#if !defined(NO_ONEDNN)
    std::printf(",\"oneDNN\":%.2f", operations / onednn(s, budget));
#endif
    std::printf("}\n");
    std::fflush(stdout);
  }
}
