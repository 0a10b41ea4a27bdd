#include "core/parallel.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <fstream>
#include <string>

#include "core/error.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace qd {
namespace {

thread_local bool serial = false;
std::atomic<int> thread_count{0};

// The cgroup quota in processors (version 2, then version 1), or a large number where there is none.
double quota() {
  std::string limit;
  double period = 0;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> limit >> period && limit != "max" && period > 0) return std::stod(limit) / period;
  double used = 0;
  std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (q >> used && p >> period && used > 0 && period > 0) return used / period;
  return 1e9;
}

// Runs `work(thread)` in `count` threads and rethrows the first exception.
template <class Work>
void run_team(int count, Work&& work) {
  std::exception_ptr error;
#pragma omp parallel num_threads(count)
  {
    flush_denormals();
    try {
      work(omp_get_thread_num(), omp_get_num_threads());
    } catch (...) {
#pragma omp critical(qd_parallel_error)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace

int default_threads() {
  static const int count = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : omp_get_num_procs();
    return std::max(1, std::min(allowed, static_cast<int>(std::ceil(std::min(quota(), 1e6)))));
  }();
  return count;
}

int threads() {
  const int count = thread_count.load(std::memory_order_relaxed);
  return count > 0 ? count : default_threads();
}

void set_threads(int n) {
  QD_CHECK(n >= 1, "threads", str("expected at least 1, got ", n));
  thread_count = n;
}

void serial_thread() { serial = true; }

void flush_denormals() {
#if defined(__SSE2__)
  constexpr unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040, both = flush_to_zero | denormals_are_zero;
  if (const unsigned now = _mm_getcsr(); (now & both) != both) _mm_setcsr(now | both);
#endif
}

void parallel_ranges(int64_t n, int64_t grain, RangeBody body, void* context) {
  if (n <= 0) return;
  const int64_t pieces = std::min<int64_t>(threads(), n / std::max<int64_t>(grain, 1));
  if (pieces <= 1 || serial || omp_in_parallel()) {
    flush_denormals();
    body(context, 0, n);
    return;
  }
  run_team(static_cast<int>(pieces), [&](int64_t thread, int64_t team) {
    const int64_t begin = n * thread / team, end = n * (thread + 1) / team;
    if (begin < end) body(context, begin, end);
  });
}

void parallel_indices(int64_t n, RangeBody body, void* context) {
  const int64_t team = std::min<int64_t>(threads(), n);
  if (team <= 1 || serial || omp_in_parallel()) {
    flush_denormals();
    if (n > 0) body(context, 0, n);
    return;
  }
  std::atomic<int64_t> next{0};
  run_team(static_cast<int>(team), [&](int, int) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) body(context, i, i + 1);
  });
}

}  // namespace qd
