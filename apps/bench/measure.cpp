// How rows are chosen and timed, the roofs, and memory.
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

#include "apps/bench/bench.h"
#include "apps/bench/timing.h"
#include "apps/options.h"
#include "core/allocator.h"
#include "core/error.h"
#include "core/kernels/table.h"
#include "core/parallel.h"
#include "core/profile.h"
#include "core/random.h"

namespace qd::bench {
namespace {

// The largest resident set since forget_peak(), in MiB. Where the system does not let us forget, that since the start.
double peak_rss_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  return 0;
}
void forget_peak() {
  empty_cache();
  reset_peak();
  std::ofstream("/proc/self/clear_refs") << 5;   // proc(5): resets the high-water mark
}

// Multiply-adds in registers, on all threads, in the precision of products; gives their number in 1e9 operations.
double multiply_adds(int64_t steps) {
  const bool bf16 = multiplies_bf16();
  const auto work = bf16 ? bf16_products()->multiply_adds : kernels().multiply_adds;
  parallel_tasks(threads(), [=](int64_t) { work(steps); });
  return (bf16 ? 48e-9 : 24e-9) * static_cast<double>(steps * kernels().lanes * threads());
}

// y += a x over two arrays of 128 MiB, far beyond the caches; gives what is read and written, 12 bytes an element, in GB.
class Sweep {
 public:
  static constexpr int64_t n = 32 << 20;
  double operator()() {
    kernels().scale_add(n, 0.5f, x_.data(), y_.data());
    return 12e-9 * n;
  }

 private:
  LargeVector<float> x_ = LargeVector<float>(n, 1.0f), y_ = x_;
};

template <class Work>
double rate_of(Work work) {
  const double start = now(), amount = work();
  return amount / (now() - start);
}

// The rate of multiply-adds in a call about as long as one of `seconds`.
double multiply_add_rate(double seconds) {
  constexpr double cycles = 6, hertz = 4e9;   // of a step
  multiply_adds(20'000);                      // wakes the other threads
  return rate_of([=] { return multiply_adds(static_cast<int64_t>(std::clamp(seconds, 1e-4, 3e-3) * hertz / cycles)); });
}

// A roof in the very seconds of a row, since processors change their frequency by a tenth from one moment to the next, others get their turn on
// them, and memory is shared with everyone: measured between calls, in a tenth of the time.
class RoofMeter {
 public:
  explicit RoofMeter(std::function<double(double seconds)> rate) : rate_(std::move(rate)) {}
  void operator()(double seconds) {
    const double start = now();
    if (!rate_ || start < next_) return;
    const ProfiledOp scope("bench: roofs");
    rates_.push_back(rate_(seconds));
    next_ = now() + 10 * (now() - start);
  }
  double median() {
    std::sort(rates_.begin(), rates_.end());
    return rates_.empty() ? 0 : bench::median(rates_);
  }

 private:
  std::function<double(double seconds)> rate_;
  std::vector<double> rates_;
  double next_ = 0;
};

}  // namespace

Row arithmetic(const std::string& name, double operations, Prepare prepare, bool slow) {
  return {.name = name, .unit = "GFLOP/s", .amount = operations / 1e9, .operations = operations, .prepare = std::move(prepare), .slow = slow};
}
Row traffic(const std::string& name, double bytes, Prepare prepare) {
  return {.name = name, .unit = "GB/s", .amount = bytes / 1e9, .bytes = bytes, .prepare = std::move(prepare)};
}
Row model(const std::string& name, const char* unit, double amount, double operations, Prepare prepare, bool slow) {
  return {.name = name, .unit = unit, .amount = amount, .operations = operations, .prepare = std::move(prepare), .slow = slow, .model = true};
}

Tensor noise(const Shape& shape) {
  Tensor x = empty(shape);
  Random random(1, static_cast<uint64_t>(shape.size()));
  float* p = x.mutable_data();
  for (int64_t i = 0; i < x.size(); ++i) p[i] = static_cast<float>(random.uniform() - 0.5);
  return x;
}

Tensor random_ids(const Shape& shape, int64_t below) {
  Tensor ids = empty(shape, DType::i32);
  Random random(1, 0);
  auto* p = ids.mutable_data<int32_t>();
  for (int64_t i = 0; i < ids.size(); ++i) p[i] = static_cast<int32_t>(random.next() % static_cast<uint32_t>(below));
  return ids;
}

Roofs measure_roofs(bool quick) {
  const ProfiledOp scope("bench: roofs");
  const double budget = quick ? 0.1 : 0.5;
  const auto best = [=](auto work) {
    double amount = 0;
    const double seconds = seconds_of([&] { amount = work(); }, budget).front();
    return amount / seconds;
  };
  return {.peak = best([] { return multiply_adds(2'000'000); }), .bandwidth = best(Sweep())};
}

Measured measure(const Row& row, bool quick) {
  const ProfiledOp scope(row.name.c_str());   // main() keeps the rows until the profile is printed
  std::optional<Sweep> sweep;
  if (row.model && row.bytes > 0) sweep.emplace();
  if (row.model) forget_peak();
  const auto work = row.prepare();
  const double budget = row.model ? 4 : 0.4;
  std::function<double(double)> rate;
  if (row.operations > 0) rate = multiply_add_rate;
  if (sweep) {
    rate = [&](double) {
      (*sweep)();   // wakes the other threads
      return rate_of(std::ref(*sweep));
    };
  }
  RoofMeter roof(rate);
  const std::vector<double> times = seconds_of(work, quick ? budget / 8 : budget, std::ref(roof));
  Measured m{.seconds = median(times), .roof = roof.median()};
  if (row.model) {
    m.peak_mib = static_cast<double>(memory_use().peak) / (1 << 20);
    m.rss_mib = peak_rss_mib() - (sweep ? 2.0 * Sweep::n * sizeof(float) / (1 << 20) : 0);
  }
  return m;
}

std::vector<const Row*> chosen(const Rows& rows, const std::vector<std::string>& names, bool quick) {
  std::vector<const Row*> out;
  std::vector<bool> taken(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) taken[i] = names.empty() && !(quick && rows[i].slow);
  for (const std::string& name : names) {
    const auto is_it = [&](const Row& row) { return row.name == name; };
    const bool exact = std::any_of(rows.begin(), rows.end(), is_it);
    bool found = false;
    for (size_t i = 0; i < rows.size(); ++i) {
      const bool fits = exact ? is_it(rows[i]) : rows[i].name.find(name) != std::string::npos;
      found = found || fits;
      if (fits) taken[i] = true;
    }
    if (found) continue;
    std::vector<std::string> candidates;   // whole names, and their words
    for (const Row& row : rows) {
      candidates.push_back(row.name);
      std::istringstream words(row.name);
      for (std::string word; words >> word;) candidates.push_back(word);
    }
    const std::string near = nearest(name, candidates);
    fail("bench", str("expected a row's name or a part of it, got '", name, "'"), near.empty() ? "bin/bench --list prints the names" : "did you mean '" + near + "'?");
  }
  for (size_t i = 0; i < rows.size(); ++i)
    if (taken[i]) out.push_back(&rows[i]);
  return out;
}

}  // namespace qd::bench
