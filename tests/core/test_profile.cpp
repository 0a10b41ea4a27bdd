// The profile: which ops and kernels it counts, that no time counts twice, the trace, and that nothing stays behind.
#include "core/profile.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "core/error.h"
#include "core/file.h"
#include "core/ops.h"
#include "nn/layers.h"
#include "nn/optimizer.h"
#include "tests/temp_dir.h"

using namespace qd;
using nlohmann::json;

namespace {

struct Net : Module {
  Linear hidden{*this, "hidden", 8, 16}, out{*this, "out", 16, 3};
  Tensor operator()(const Tensor& x) const { return out(hidden(x, Activation::gelu)); }
};

Tensor ramp(const Shape& shape) {
  Tensor x = empty(shape);
  for (int64_t i = 0; i < x.size(); ++i) x.mutable_data()[i] = 0.01f * static_cast<float>(i % 37) - 0.1f;
  return x;
}

std::vector<float> step() {
  Net net;
  net.initialize(1);
  SGD optimizer(net);
  mse(net(ramp({5, 8})), ramp({5, 3})).backward();
  optimizer.step(0.1);
  const Tensor& w = net.arena().values;
  return {w.values().begin(), w.values().end()};
}

struct Line {
  std::string name;
  int64_t calls = -1;   // -1: none
  double seconds = 0;
  bool kernel = false;
};

// The lines of the table. A name has 36 columns, calls 10, seconds 12.
std::vector<Line> lines(const std::string& table) {
  std::istringstream in(table);
  std::vector<Line> out;
  std::string text;
  std::getline(in, text);   // the head
  while (std::getline(in, text)) {
    Line line;
    line.kernel = text.starts_with("  ");
    line.name = text.substr(line.kernel ? 2 : 0, line.kernel ? 34 : 36);
    line.name.erase(line.name.find_last_not_of(' ') + 1);
    std::istringstream calls(text.substr(36, 10)), seconds(text.substr(46, 12));
    if (!(calls >> line.calls)) line.calls = -1;   // an empty column
    REQUIRE(static_cast<bool>(seconds >> line.seconds));
    out.push_back(line);
  }
  return out;
}

int64_t calls(const std::vector<Line>& all, const std::string& op, const std::string& kernel = "") {
  std::string current;
  for (const Line& line : all) {
    if (!line.kernel) current = line.name;
    if (current == op && (kernel.empty() ? !line.kernel : line.kernel && line.name == kernel)) return line.calls;
  }
  return 0;
}

std::string profiled_table(const std::function<void()>& work, const std::string& trace = "") {
  start_profile(trace);
  try {
    work();
  } catch (...) {
    finish_profile();
    throw;
  }
  return finish_profile();
}

}  // namespace

TEST_CASE("profile: ops and their kernels, forward and backward, after a step of a small model") {
  const Kernels* before = &kernels();
  const auto plain = step();
  std::vector<float> watched;
  const std::string text = profiled_table([&] { watched = step(); });
  CHECK(watched == plain);
  CHECK(&kernels() == before);
  CHECK_FALSE(is_profiling());
  CAPTURE(text);
  const auto all = lines(text);
  CHECK(calls(all, "linear") == 2);
  CHECK(calls(all, "linear", "gemm") == 2);
  CHECK(calls(all, "linear backward") == 2);
  CHECK(calls(all, "linear backward", "gemm") == 3);             // dW twice, dx once: the input needs none
  CHECK(calls(all, "linear backward", "unary_gradient") == 1);
  CHECK(calls(all, "linear backward", "sum_rows") == 2);
  CHECK(calls(all, "mse") == 1);
  CHECK(calls(all, "mse", "sum_squares") == 1);
  CHECK(calls(all, "mse backward") == 1);
  CHECK(calls(all, "optimiser step", "momentum") == 2);
  CHECK(calls(all, "gelu") == 0);
  CHECK(all.back().name == "all");
  CHECK(all[all.size() - 2].name == "outside of ops");
}

TEST_CASE("profile: transforms have their lines, forward and backward") {
  Tensor u = ramp({2, 20, 3}), a = zeros({3, 4}), b = ramp({3, 4});
  u.require_gradient(), b.require_gradient();
  const auto all = lines(profiled_table([&] { sum(rational_transfer(u, a, b)).backward(), irfft(rfft(u.detach(), 20), 20); }));
  for (const char* name : {"long_convolution", "rational_kernel"}) {
    CHECK(calls(all, name, name) == 1);
    CHECK(calls(all, str(name, " backward"), str(name, "_gradient")) == 1);
  }
  for (const char* name : {"rfft", "irfft"}) CHECK(calls(all, name, name) == 1);
}

TEST_CASE("profile: the lines add up to the whole, the slowest op first") {
  const Tensor a = ramp({64, 64}), b = ramp({64, 64});
  const auto all = lines(profiled_table([&] {
    for (int i = 0; i < 20; ++i) matmul(a, b), exp(a);
    const ProfiledOp outer("outer");
    { const Profile inner("part", 1e6, 1e6), within("within"); }
    exp(a);
    kernels().sum(a.size(), a.data());
  }));
  double ops = 0, previous = 1e9;
  for (const Line& line : all) {
    if (line.kernel || line.name == "all") continue;
    if (line.name != "outside of ops") {
      CHECK(line.seconds <= previous);
      previous = line.seconds;
    }
    ops += line.seconds;
  }
  CHECK(std::abs(ops - all.back().seconds) < 1e-4 * static_cast<double>(all.size()));
  double own = 0;
  for (size_t i = 0; i < all.size(); ++i) {   // kernels are no more than their op
    if (!all[i].kernel) {
      own = all[i].seconds;
      continue;
    }
    CHECK(all[i].seconds <= own + 1e-4);
  }
  CHECK(calls(all, "matmul") == 20);
  CHECK(calls(all, "exp") == 21);
  CHECK(calls(all, "outer") == 1);
  CHECK(calls(all, "exp", "part") == 1);      // what ran before an op in its scope is the op's
  CHECK(calls(all, "exp", "within") == 1);
  CHECK(calls(all, "outer", "sum") == 1);     // and what no op claims is the scope's
}

TEST_CASE("profile: kernels outside of ops, views, recomputed ops, other threads") {
  const Tensor x = ramp({4, 6});
  Tensor w = ramp({6, 6});
  w.require_gradient();
  const auto all = lines(profiled_table([&] {
    kernels().sum(x.size(), x.data());
    { const ProfiledOp other("other"); }
    sum(checkpoint([&](const std::vector<Tensor>& in) { return relu(matmul(in[0], w)).reshape({24}); }, {x})).backward();
    std::thread([&] { exp(x); }).join();
  }));
  CHECK(calls(all, "outside of ops", "sum") == 1);
  CHECK(calls(all, "other") == 1);
  CHECK(calls(all, "reshape") == 0);
  CHECK(calls(all, "matmul") == 1);
  CHECK(calls(all, "matmul again") == 1);
  CHECK(calls(all, "relu again") == 1);
  CHECK(calls(all, "relu backward") == 1);
  CHECK(calls(all, "matmul backward", "gemm") == 1);
  CHECK(calls(all, "exp", "unary") == 1);
}

TEST_CASE("profile: what fails in an op leaves no trace in the next profile; a profile begun anew is empty") {
  const Tensor x = ramp({3});
  CHECK_THROWS_AS(profiled_table([&] {
    const ProfiledOp open("open");
    kernels().sum(x.size(), x.data());
    matmul(x, x);
  }), Error);
  CHECK_FALSE(is_profiling());
  start_profile();
  {
    const ProfiledOp open("open");   // ends after the profile that saw it begin
    start_profile();
  }
  exp(x);
  const auto all = lines(finish_profile());
  CHECK(calls(all, "open") == 0);
  CHECK(calls(all, "exp") == 1);
  CHECK(finish_profile().empty());
}

TEST_CASE("profile: the trace is valid JSON, in the order of time, each kernel within its op") {
  const test::TempDir folder;
  profiled_table([] { step(); }, folder / "trace.json");
  const json file = json::parse(read_file(folder / "trace.json"));
  const json& events = file["traceEvents"];
  REQUIRE(events.size() > 10);
  double last = 0, end_of_op = 0;
  bool gemm = false, backward_seen = false;
  for (const json& e : events) {
    CHECK(e["ph"] == "X");
    CHECK(e["tid"] == 1);
    const double ts = e["ts"], duration = e["dur"];
    CHECK(ts >= last);
    CHECK(duration >= 0);
    last = ts;
    if (e["cat"] == "op") end_of_op = ts + duration;
    if (e["cat"] == "kernel" && e["name"] != "fill") CHECK(ts + duration <= end_of_op + 2e-3);
    if (e["name"] == "gemm" && e["args"]["sizes"] == json({1, 5, 16, 8})) gemm = true;
    if (e["name"] == "linear backward" && e["args"]["sizes"] == json({5, 16})) backward_seen = true;
  }
  CHECK(gemm);
  CHECK(backward_seen);
}

TEST_CASE("profile: a path that cannot be written is an error at once, and nothing is measured") {
  const test::TempDir folder;
  CHECK_THROWS_AS(start_profile(folder / "none/trace.json"), Error);
  CHECK_FALSE(is_profiling());
  start_profile(folder / "trace.json");
  CHECK_FALSE(std::filesystem::exists(folder / "trace.json"));   // only whole files
  finish_profile();
  CHECK(json::parse(read_file(folder / "trace.json"))["traceEvents"].empty());
}

TEST_CASE("profile: off, kernels are the real ones and scopes leave nothing") {
  const Kernels* supported[4];
  const int count = supported_kernels(supported);
  CHECK(std::find(supported, supported + count, &kernels()) != supported + count);
  { const Profile scope("off", 1, 1); }
  { const ProfiledOp scope("off"); }
  exp(ramp({3}));
  const auto all = lines(profiled_table([] {}));
  CHECK(all.size() == 2);
}
