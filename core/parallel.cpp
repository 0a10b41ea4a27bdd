#include "core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "core/error.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace qd {
namespace {

constexpr int most_threads = 256;   // of a loop
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

// The team: worker threads that live as long as the program. A loop is published in one place, cut into one share of neighbouring pieces
// for each thread; the caller begins with its share at once, workers that are awake join in with theirs, and who is done helps with
// what is left of the others'. So a thread meets the same memory again in the next loop, mostly. Nobody waits for a thread that has not
// begun: on a machine that does other things as well, a worker without a processor costs nothing, where a barrier would stand still for
// a time slice.
class Team {
 public:
  // Calls body(context, begin, end) for the `count` pieces of [0, n), on at most `limit` threads, and rethrows the first exception.
  // False: another thread's loop is running.
  bool run(int64_t n, int64_t count, int limit, RangeBody body, void* context) {
    const std::unique_lock<std::mutex> one(owner_, std::try_to_lock);
    if (!one.owns_lock()) return false;
    try {
      for (; workers_ < limit - 1; ++workers_) std::thread([this, id = workers_ + 1] { work(id); }).detach();
    } catch (const std::system_error&) {   // no more threads for this process: those that are there share the work
    }
    for (int64_t i = 0; i < limit; ++i) {
      Share& share = shares_[static_cast<size_t>(i)];
      share.next.store(count * i / limit, std::memory_order_relaxed);
      share.end = count * (i + 1) / limit;
    }
    n_ = n, count_ = count, helpers_ = limit - 1, body_ = body, context_ = context;
    inside_.fetch_add(open);
    loops_.fetch_add(1);
    if (asleep_.load() > 0) loops_.notify_all();
    take_pieces(0);
    if (inside_.fetch_sub(open) != open) {
      for (int patience = spins; inside_.load() > 0 && patience > 0; --patience) pause();
      for (int still; (still = inside_.load()) > 0;) inside_.wait(still);   // sleeps, so that the workers get this processor if need be
    }
    if (std::exception_ptr error; error_) {
      std::swap(error, error_);
      std::rethrow_exception(error);
    }
    return true;
  }

 private:
  static constexpr int spins = 8192;   // about 0.1 ms: longer than the gaps within a training step

  void work(int id) {
    serial = true;
    flush_denormals();
    for (int seen = 0;;) {
      for (int patience = spins; loops_.load() == seen && patience > 0; --patience) pause();
      if (loops_.load() == seen) {
        asleep_.fetch_add(1);
        loops_.wait(seen);
        asleep_.fetch_sub(1);
      }
      seen = loops_.load();
      __builtin_prefetch(&shares_[static_cast<size_t>(id)], 1);
      if (inside_.fetch_add(1) >= open && id <= helpers_) take_pieces(id);
      if (inside_.fetch_sub(1) == 1) inside_.notify_all();
    }
  }

  void take_pieces(int self) {
    const int team = helpers_ + 1;
    for (int turn = 0; turn < team; ++turn) {
      const int owner = (self + turn) % team;
      if (self > 0 && owner == 0 && count_ <= team) continue;   // a single piece, which the caller has begun
      Share& share = shares_[static_cast<size_t>(owner)];
      const int64_t end = share.end;   // known before the work, while the line is here: another look at it would be a journey
      if (turn > 0 && share.next.load(std::memory_order_relaxed) >= end) continue;
      for (int64_t i = take(share); i < end; i = i + 1 < end ? take(share) : end) try {
          body_(context_, n_ * i / count_, n_ * (i + 1) / count_);
        } catch (...) {
          const std::lock_guard<std::mutex> guard(error_lock_);
          if (!error_) error_ = std::current_exception();
        }
    }
  }

  static void pause() {
#if defined(__SSE2__)
    _mm_pause();
#endif
  }

  struct alignas(64) Share {
    std::atomic<int64_t> next{0};   // the next piece to take
    int64_t end = 0;
  };
  static int64_t take(Share& share) { return share.next.fetch_add(1, std::memory_order_relaxed); }

  // In inside_: workers may join. One atomic number for both, so that a worker that adds itself while the loop is open is waited for, and one
  // that comes before or after sees that it is closed and touches nothing.
  static constexpr int open = 1 << 24;

  // What a worker needs to begin is one cache line: from another core each line takes as long as a product of 16 x 16.
  alignas(64) std::atomic<int> loops_{0};   // how many loops have been published; workers wait here
  std::atomic<int> inside_{0};              // workers that may be looking at the loop, and `open`
  std::atomic<int> asleep_{0};
  int helpers_ = 0;
  int64_t n_ = 0, count_ = 0;               // the loop: written while nobody is inside who has seen it open
  RangeBody body_ = nullptr;
  void* context_ = nullptr;
  std::array<Share, most_threads> shares_;
  std::mutex owner_, error_lock_;
  std::exception_ptr error_;
  int workers_ = 0;
};

// Runs on the team, or in place: a single piece, within another loop, in a thread that said so, or beside another thread's loop.
void run(int64_t n, int64_t count, RangeBody body, void* context) {
  if (n <= 0) return;
  flush_denormals();
  const int limit = static_cast<int>(std::min<int64_t>({threads(), count, most_threads}));
  if (limit > 1 && !serial) {
    static Team& team = *new Team;   // never destroyed: its workers may outlive static objects
    serial = true;                   // loops within the body
    struct Restore {
      ~Restore() { serial = false; }
    } restore;
    if (team.run(n, count, limit, body, context)) return;
  }
  body(context, 0, n);
}

}  // namespace

int default_threads() {
  static const int count = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(std::thread::hardware_concurrency());
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
  run(n, std::min<int64_t>(threads(), n / std::max<int64_t>(grain, 1)), body, context);
}

void parallel_indices(int64_t n, RangeBody body, void* context) { run(n, n, body, context); }

}  // namespace qd
