#include "core/profile.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/kernels/table.h"
#include "core/log.h"
#include "core/parallel.h"

namespace qd {

std::atomic<bool> profiling{false};

namespace {

constexpr size_t most_events = 1'000'000;   // in a trace: a viewer has its limits, and memory too
constexpr size_t most_pending = 4096;

int64_t now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

struct Row {
  int64_t calls = 0, time = 0;   // time: of its own, without what is measured inside; ns
  double operations = 0, bytes = 0;

  void add(int64_t own, const Work& work) {
    ++calls;
    time += own;
    operations += work.operations;
    bytes += work.bytes;
  }
};

// op null: outside of ops; kernel null: the op itself.
struct Key {
  const char* op;
  Pass pass;
  const char* kernel;
  bool operator<(const Key& other) const { return std::tie(op, pass, kernel) < std::tie(other.op, other.pass, other.kernel); }
};

struct Event {
  const char* name;
  Pass pass;
  bool op;
  int thread;
  int64_t start, duration;
  Shape sizes;
};

struct Collected {
  std::mutex mutex;
  std::map<Key, Row> rows;
  std::vector<Event> events;
  std::string path;              // of the trace; empty: none
  bool left_out = false;         // events
  int threads = 0;
  int64_t start = 0;
  uint64_t run = 0;              // counts start_profile(): what a thread remembers belongs to one run
  const Kernels* kernels = nullptr;

  void event(const Event& e) {
    if (path.empty()) return;
    if (events.size() < most_events) {
      events.push_back(e);
    } else {
      left_out = true;
    }
  }
};

// Never destroyed: a thread may end after it would be.
Collected& collected() {
  static auto* all = new Collected;
  return *all;
}

// What is open in a thread, outermost first; the first frame stands for what is outside of all ops.
struct Frame {
  const char* name;
  Pass pass;
  bool op;
  int64_t start;
  Work work;                     // its sizes are those of the trace
  size_t waiting;                // kernels from here on in Thread::waiting ran in this op
  int64_t inside = 0;            // time that is measured within
};

struct Kernel {
  const char* name;
  Work work;
  int64_t start, own;
};

struct Thread {
  uint64_t run = 0;
  int number = 0;
  std::vector<Frame> open;
  std::vector<Kernel> waiting;   // until it is known whose kernels they are

  Frame& top() { return open.back(); }
  const Frame& op() const { return *std::find_if(open.rbegin(), open.rend(), [](const Frame& f) { return f.op; }); }

  // The waiting kernels of this scope are those of `name`; returns their time.
  int64_t settle(const char* name, Pass pass) {
    int64_t total = 0;
    for (size_t i = top().waiting; i < waiting.size(); ++i) {
      const Kernel& k = waiting[i];
      collected().rows[{name, pass, k.name}].add(k.own, k.work);
      total += k.own;
    }
    waiting.resize(top().waiting, {});
    return total;
  }

  void push(const char* name, Pass pass, bool op, const Work& work) {
    if (op && waiting.size() > top().waiting) {   // kernels before it that no record() has claimed
      const std::lock_guard lock(collected().mutex);
      const Frame& owner = this->op();
      settle(owner.name, owner.pass);
    }
    const size_t first = op ? waiting.size() : top().waiting;
    open.push_back({name, pass, op, now(), work, first});
  }
};

Thread& thread() {
  thread_local Thread self;
  Collected& all = collected();
  if (self.run != all.run) {
    const std::lock_guard lock(all.mutex);
    self.run = all.run;
    self.number = ++all.threads;
    self.open = {{nullptr, Pass::forward, true, now(), {}, 0}};
    self.waiting.clear();
  }
  return self;
}

}  // namespace

void Profile::begin(const char* name, const Work& work) {
  thread().push(name, Pass::forward, false, work);
  begun_ = true;
}

void Profile::end() {
  Thread& self = thread();
  if (self.open.size() < 2) return;   // the profile ended, or began anew, while this was open
  const int64_t time = now();
  const Frame frame = self.top();
  self.open.pop_back();
  const int64_t duration = time - frame.start;
  self.top().inside += duration;
  self.waiting.push_back({frame.name, frame.work, frame.start, duration - frame.inside});
  const bool overflow = self.waiting.size() > self.top().waiting + most_pending;
  if (!overflow && collected().path.empty()) return;
  const std::lock_guard lock(collected().mutex);
  collected().event({frame.name, Pass::forward, false, self.number, frame.start, duration, frame.work.sizes});
  if (overflow) self.settle(self.op().name, self.op().pass);
}

void ProfiledOp::begin(const char* name, Pass pass, const Shape* shape) {
  thread().push(name, pass, true, {0, 0, shape ? *shape : Shape()});
  begun_ = true;
}

void ProfiledOp::end() {
  Thread& self = thread();
  if (self.open.size() < 2) return;
  const int64_t time = now();
  const std::lock_guard lock(collected().mutex);
  const Frame frame = self.top();
  self.settle(frame.name, frame.pass);
  self.open.pop_back();
  self.top().inside += time - frame.start;
  collected().rows[{frame.name, frame.pass, nullptr}].add(time - frame.start - frame.inside, {});
  collected().event({frame.name, frame.pass, true, self.number, frame.start, time - frame.start, frame.work.sizes});
}

void profile_forward(const char* name, Pass pass, const Shape& shape) {
  Thread& self = thread();
  const int64_t time = now();
  const std::lock_guard lock(collected().mutex);
  const int64_t start = self.waiting.size() > self.top().waiting ? self.waiting[self.top().waiting].start : time;
  const int64_t own = time - start - self.settle(name, pass);
  self.top().inside += own;
  collected().rows[{name, pass, nullptr}].add(own, {});
  collected().event({name, pass, true, self.number, start, time - start, shape});
}

void start_profile(const std::string& trace) {
  std::error_code ignored;
  const bool pipe = std::filesystem::is_fifo(trace, ignored);      // whose reader would take the probe for the end
  if (!trace.empty() && !pipe) AtomicFile probe(trace);   // nothing stays of it: a path that cannot be written is told before the work
  Collected& all = collected();
  if (is_profiling()) use_kernels(*all.kernels);
  {
    const std::lock_guard lock(all.mutex);
    all.rows.clear();
    all.events.clear();
    all.path = trace;
    all.left_out = false;
    all.threads = 0;
    ++all.run;
    all.kernels = &kernels();
    all.start = now();
  }
  thread();   // this one is the first
  use_kernels(profiled(*all.kernels));
  profiling = true;
}

namespace {

const char* suffix(Pass pass) { return pass == Pass::backward ? " backward" : pass == Pass::again ? " again" : ""; }

std::string full_name(const char* name, Pass pass) { return str(name, suffix(pass)); }

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out + "\"";
}

// Chrome's trace event format: complete events, times in microseconds since the start.
void write_trace(Collected& all) {
  AtomicFile file(all.path);
  const auto write = [&](const std::string& text) { file.write(text.data(), text.size()); };
  const auto before = [](const Event& a, const Event& b) { return a.start != b.start ? a.start < b.start : a.duration > b.duration; };
  std::stable_sort(all.events.begin(), all.events.end(), before);
  write("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
  const char* between = "\n";
  for (const Event& e : all.events) {
    char times[96];
    std::snprintf(times, sizeof times, "\"ts\":%.3f,\"dur\":%.3f", static_cast<double>(e.start - all.start) / 1e3, static_cast<double>(e.duration) / 1e3);
    std::string sizes;
    for (const int64_t n : e.sizes) sizes += str(sizes.empty() ? "" : ",", n);
    write(str(between, "{\"name\":", quoted(full_name(e.name, e.pass)), ",\"cat\":\"", e.op ? "op" : "kernel", "\",\"ph\":\"X\",\"pid\":1,\"tid\":",
              e.thread, ",", times, ",\"args\":{\"sizes\":[", sizes, "]}}"));
    between = ",\n";
  }
  write("\n]}\n");
  file.commit();
}

struct Part {
  std::string name;
  Row total;
  std::vector<std::pair<std::string, Row>> kernels;
};

void add(Row& to, const Row& from) {
  to.time += from.time;
  to.operations += from.operations;
  to.bytes += from.bytes;
}

// One name may have several addresses: rows of equal text become one.
std::vector<Part> parts(const Collected& all) {
  std::map<std::string, std::pair<Row, std::map<std::string, Row>>> ops;
  for (const auto& [key, row] : all.rows) {
    auto& [own, kernels] = ops[key.op ? full_name(key.op, key.pass) : ""];
    Row& to = key.kernel ? kernels[key.kernel] : own;
    add(to, row);
    to.calls += row.calls;
  }
  std::vector<Part> out;
  for (const auto& [name, op] : ops) {
    Part part{name, op.first, {op.second.begin(), op.second.end()}};
    for (const auto& [kernel, row] : part.kernels) add(part.total, row);
    std::stable_sort(part.kernels.begin(), part.kernels.end(), [](const auto& a, const auto& b) { return a.second.time > b.second.time; });
    out.push_back(std::move(part));
  }
  std::stable_sort(out.begin(), out.end(), [](const Part& a, const Part& b) { return a.total.time > b.total.time; });
  return out;
}

std::string line(const std::string& name, const Row& row, int64_t wall) {
  const auto seconds = static_cast<double>(row.time) / 1e9;
  const auto rate = [&](double amount) {
    char text[32] = "";
    if (amount > 0 && seconds > 0) std::snprintf(text, sizeof text, "%.1f", amount / seconds / 1e9);
    return std::string(text);
  };
  char text[160], calls[32] = "", moved[32] = "";
  if (row.calls > 0) std::snprintf(calls, sizeof calls, "%lld", static_cast<long long>(row.calls));
  if (row.bytes > 0) std::snprintf(moved, sizeof moved, "%.3f", row.bytes / 1e9);
  std::snprintf(text, sizeof text, "%-36s %9s %11.4f %6.1f %% %9s %9s %8s\n", name.c_str(), calls, seconds,
                100 * static_cast<double>(row.time) / static_cast<double>(std::max<int64_t>(wall, 1)), rate(row.operations).c_str(), moved,
                rate(row.bytes).c_str());
  return text;
}

std::string table(const Collected& all, int64_t wall, int64_t measured) {
  std::vector<Part> list = parts(all);
  std::string out;
  const auto show = [&](const std::string& name, const Part& part) {
    out += line(name, part.total, wall);
    for (const auto& [kernel, row] : part.kernels) out += line("  " + kernel, row, wall);
  };
  Part outside;
  for (const Part& part : list) {
    if (part.name.empty()) {
      outside = part;
    } else {
      show(part.name, part);
    }
  }
  outside.total.time += std::max<int64_t>(0, wall - measured);
  show("outside of ops", outside);
  char head[200];
  std::snprintf(head, sizeof head, "%-36s %9s %11s %8s %9s %9s %8s\n", str(all.kernels->name, ", threads: ", threads(), "; op, its kernels").c_str(), "calls", "seconds",
                "share", "GFLOP/s", "GB", "GB/s");
  Row whole;
  whole.time = wall;
  return head + out + line("all", whole, wall);
}

}  // namespace

std::string finish_profile() {
  if (!is_profiling()) return "";
  Collected& all = collected();
  const int64_t wall = now() - all.start;
  profiling = false;
  use_kernels(*all.kernels);
  Thread& self = thread();
  const std::lock_guard lock(all.mutex);
  while (self.open.size() > 1) self.open.pop_back();
  self.settle(nullptr, Pass::forward);
  std::string out = table(all, wall, self.open.front().inside);
  if (!all.path.empty()) {
    write_trace(all);
    if (all.left_out) warn(str("the trace holds the first ", most_events, " events"));
  }
  all.events = {};
  return out;
}

}  // namespace qd
