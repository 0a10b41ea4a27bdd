// Where the time goes: a table at the end of a run (QD_PROFILE=1) and a file of events (--trace FILE). One mechanism for both.
//
// While it is on, the kernel table is one whose entries look at the clock and call the real ones, record() ends the forward part of an
// op (the kernels since the last op are its own), and the backward loop opens a ProfiledOp for each closure. Ops and kernels need no
// line of their own for that. Arithmetic outside the kernel table names itself:
//   const Profile scope("fft", 5.0 * n * log2(n), 8.0 * n);
// Off, all of it is one load and a branch that is not taken.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "core/shape.h"

namespace qd {

struct Kernels;

extern std::atomic<bool> profiling;
inline bool is_profiling() { return profiling.load(std::memory_order_relaxed); }

// From here on everything is counted; events are kept when `trace` names a file. Throws Error at once when that file cannot be written.
void start_profile(const std::string& trace = "");
// Stops; writes the trace where there is one (Chrome's trace event format: ui.perfetto.dev, chrome://tracing). Returns the table: time
// by op, with its kernels below it, and what lies outside of ops. Throws Error: the file cannot be written. Nothing when it was off.
std::string finish_profile();

// What a kernel has to do at least: floating-point operations; bytes, counting each array that is read or written once.
struct Work {
  double operations = 0, bytes = 0;
  Shape sizes = {};                        // for the trace
};

// A piece of arithmetic, part of the op that runs. One inside another takes its time away from it: nothing counts twice.
class Profile {
 public:
  explicit Profile(const char* name, double operations = 0, double bytes = 0) {
    if (is_profiling()) [[unlikely]] begin(name, {operations, bytes});
  }
  Profile(const char* name, const Work& work) { begin(name, work); }
  ~Profile() {
    if (begun_) [[unlikely]] end();
  }
  Profile(const Profile&) = delete;

 private:
  void begin(const char* name, const Work& work);
  void end();
  bool begun_ = false;
};

// Work under a name of its own beside the forward parts of ops, which record() reports: a closure of the backward pass, an optimiser's step.
enum class Pass : uint8_t { forward, backward, again };   // again: recomputed in the backward pass of checkpoint()
class ProfiledOp {
 public:
  explicit ProfiledOp(const char* name, Pass pass = Pass::forward, const Shape* shape = nullptr) {
    if (is_profiling()) [[unlikely]] begin(name, pass, shape);
  }
  ~ProfiledOp() {
    if (begun_) [[unlikely]] end();
  }
  ProfiledOp(const ProfiledOp&) = delete;

 private:
  void begin(const char* name, Pass pass, const Shape* shape);
  void end();
  bool begun_ = false;
};

// record() calls this while profiling: the kernels that ran since the last op, in this thread and this scope, are those of `name`.
void profile_forward(const char* name, Pass pass, const Shape& shape);

// The table whose entries time those of `real` (profile_kernels.cpp). Valid until the next call.
const Kernels& profiled(const Kernels& real);

}  // namespace qd
