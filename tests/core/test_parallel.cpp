#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"

using namespace qd;

namespace {

struct Threads {
  explicit Threads(int n) { set_threads(n); }
  ~Threads() { set_threads(default_threads()); }
};

}  // namespace

TEST_CASE("parallel: every index once, in ranges of at least the grain") {
  for (const int count : {1, 2, 3, 7}) {
    const Threads scope(count);
    for (const int64_t n : {0, 1, 2, 3, 10, 1000})
      for (const int64_t grain : {0, 1, 4, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        std::atomic<bool> small = false;
        std::atomic<int> ranges = 0;
        parallel_for(n, grain, [&](int64_t begin, int64_t end) {
          if (end - begin < std::min(grain, n)) small = true;
          ++ranges;
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        std::vector<std::atomic<int>> tasks(static_cast<size_t>(n));
        parallel_tasks(n, [&](int64_t i) { ++tasks[static_cast<size_t>(i)]; });
        for (int64_t i = 0; i < n; ++i) {
          CHECK(seen[static_cast<size_t>(i)] == 1);
          CHECK(tasks[static_cast<size_t>(i)] == 1);
        }
        CHECK_FALSE(small);
        CHECK(ranges <= count);
        CHECK((ranges == 0) == (n == 0));
      }
  }
}

TEST_CASE("parallel: exceptions reach the caller, and the next loop works") {
  for (const int count : {1, 2, 3}) {
    const Threads scope(count);
    for (const int64_t bad : {0, 57, 99})
      CHECK_THROWS_WITH(parallel_tasks(100, [&](int64_t i) { if (i == bad) fail("task", "wrong"); }), "[task] wrong");
    CHECK_THROWS_AS(parallel_tasks(50, [](int64_t) { throw 3; }), int);   // all of them: one is told
  }
  const Threads scope(3);
  CHECK_THROWS_WITH(parallel_for(100, 1, [](int64_t begin, int64_t) { if (begin == 0) throw std::runtime_error("one"); }), "one");
  CHECK_THROWS_WITH(parallel_tasks(100, [](int64_t i) { if (i == 57) fail("task", "57"); }), "[task] 57");
  std::atomic<int> count = 0;
  parallel_tasks(10, [&](int64_t) { ++count; });
  CHECK(count == 10);
}

TEST_CASE("parallel: inside a loop, and in a thread that said so, loops run in place") {
  const Threads scope(2);
  std::atomic<bool> elsewhere = false;
  parallel_tasks(4, [&](int64_t) {
    const auto self = std::this_thread::get_id();
    parallel_for(100, 1, [&](int64_t, int64_t) { if (std::this_thread::get_id() != self) elsewhere = true; });
  });
  std::thread([&] {
    serial_thread();
    const auto self = std::this_thread::get_id();
    parallel_tasks(100, [&](int64_t) { if (std::this_thread::get_id() != self) elsewhere = true; });
  }).join();
  CHECK_FALSE(elsewhere);
}

TEST_CASE("parallel: loops of several threads at once, while the number of threads changes") {
  const Threads scope(3);
  std::atomic<int> wrong = 0;
  std::atomic<bool> done = false;
  const auto loops = [&](int first) {
    std::vector<int> seen;
    for (int round = 0; round < 3000; ++round) {
      const int n = 1 + (first + round * 37) % 200, bad = round % 11 == 0 ? n / 2 : -1;
      seen.assign(static_cast<size_t>(n), 0);
      try {
        parallel_tasks(n, [&](int64_t i) {
          ++seen[static_cast<size_t>(i)];
          if (i == bad) fail("task", "wrong");
        });
        if (bad >= 0) ++wrong;
        for (const int times : seen) wrong += times != 1;
      } catch (const Error&) {
        if (bad < 0) ++wrong;
      }
    }
  };
  std::thread setter([&] {
    for (int i = 0; !done; ++i) set_threads(1 + i % 7), std::this_thread::yield();
  });
  std::thread one([&] { loops(1); }), two([&] { loops(2); });
  loops(3);
  one.join(), two.join();
  done = true;
  setter.join();
  CHECK(wrong == 0);
}

TEST_CASE("parallel: denormals are zero in every thread") {
  const Threads scope(3);
  std::atomic<int> wrong = 0;
  const auto shrink = [&] {
    volatile float tiny = 1e-30f;
    if (tiny * 1e-10f != 0) ++wrong;   // 1e-40 is a denormal
  };
  parallel_tasks(64, [&](int64_t) { shrink(); });
  std::thread([&] {   // also in place, in a thread whose flags nobody has set
    serial_thread();
    parallel_for(64, 1, [&](int64_t, int64_t) { shrink(); });
  }).join();
#if defined(__SSE2__)
  CHECK(wrong == 0);
#endif
}

TEST_CASE("parallel: the number of threads") {
  CHECK(default_threads() >= 1);
  CHECK_THROWS_WITH_AS(set_threads(0), "[threads] expected at least 1, got 0", Error);
  CHECK_THROWS_AS(set_threads(-2), Error);
  CHECK(threads() == default_threads());
  const Threads scope(5);
  CHECK(threads() == 5);
}
