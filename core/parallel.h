// Parallel loops on a team of threads. Results never depend on the number of threads: a loop body writes what belongs to its own indices,
// and reductions are split into chunks by shape, added in order by the caller.
#pragma once

#include <cstdint>
#include <type_traits>

namespace qd {

int threads();               // threads that parallel loops use now, at least 1
void set_threads(int n);     // n >= 1; throws Error otherwise
int default_threads();       // processors this process may use: affinity mask and cgroup quota respected
void serial_thread();        // marks the calling thread: its parallel loops run in place (data loading threads call this first)
void flush_denormals();      // treat denormal f32 as zero in the calling thread; every thread of a parallel loop does so itself

// Two primitives without templates, so that kernels compiled for other instruction sets can call them.
// Exceptions thrown by the body are caught in the worker and the first is rethrown by the caller.
using RangeBody = void (*)(void* context, int64_t begin, int64_t end);
void parallel_ranges(int64_t n, int64_t grain, RangeBody body, void* context);   // at most threads() contiguous ranges of >= grain
void parallel_indices(int64_t n, RangeBody body, void* context);                 // one index at a time, handed out dynamically

// parallel_for(n, grain, [=](int64_t begin, int64_t end) { ... }): contiguous ranges of at least `grain` indices; below that, in place.
// Short loops capture by value: what [&] refers to lies in the caller's cache, and each line of it is a journey between the cores (a product
// of 64 x 64 x 64 on two far cores: 197 GFLOP/s with [&], 240 with [=]).
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  using Body = std::remove_reference_t<F>;
  parallel_ranges(n, grain, [](void* body, int64_t begin, int64_t end) { (*static_cast<Body*>(body))(begin, end); }, (void*)&f);
}

// parallel_tasks(n, [&](int64_t i) { ... }): n coarse tasks of uneven size.
template <class F>
void parallel_tasks(int64_t n, F&& f) {
  using Body = std::remove_reference_t<F>;
  parallel_indices(
      n, [](void* body, int64_t begin, int64_t end) { for (; begin < end; ++begin) (*static_cast<Body*>(body))(begin); }, (void*)&f);
}

}  // namespace qd
