// bin/bench as its users call it: names, JSON, errors. Speed itself is not tested.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/kernels/table.h"
#include "tests/apps/run_app.h"

using namespace qd;
using nlohmann::json;
using test::Outcome;

namespace {

Outcome bench(std::vector<std::string> arguments) {
  const test::TempDir folder;
  arguments.insert(arguments.begin(), test::program("bench"));
  return test::Process(arguments, folder / "").wait();
}

std::vector<std::string> lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> out;
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

}  // namespace

TEST_CASE("bench: --list prints names, each once; a part of a name chooses, a whole name chooses one row") {
  if (!test::is_built("bench")) return;
  const Outcome all = bench({"--list"});
  CHECK(all.status == 0);
  CHECK(all.err.empty());
  const auto names = lines(all.out);
  CHECK(names.size() > 40);
  CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
  for (const char* name : {"gemm NN 64^3", "attention forward, backward 4096", "adamw", "gpt 12.3 M (L6 H6 D384 T256 B8)", "deepnorm 1000 layers (D32 T32 B8)"}) {
    CAPTURE(name);
    CHECK(std::find(names.begin(), names.end(), name) != names.end());
    CHECK(lines(bench({"--list", name}).out) == std::vector<std::string>{name});
  }
  const auto gemms = lines(bench({"--list", "gemm", "adamw"}).out);
  CHECK(gemms.size() > 15);
  for (const std::string& name : gemms) CHECK((name.find("gemm") != std::string::npos || name == "adamw"));
  CHECK(lines(bench({"--list", "--quick"}).out).size() < names.size());
  CHECK(lines(bench({"--list", "--quick", "2048"}).out).size() == 1);   // named, it is meant
}

TEST_CASE("bench: --json is one object with the machine and a row for each name") {
  if (!test::is_built("bench")) return;
  const Outcome o = bench({"--json", "--quick", "--threads", "1", "gemm NN 64^3", "small ops, forward", "gpt 0.8 M (L4 H4 D128 T64 B12)"});
  CAPTURE(o.err);
  CHECK(o.status == 0);
  CHECK(lines(o.out).size() == 1);
  const json result = json::parse(o.out);
  CHECK(result["threads"] == 1);
  CHECK(result["precision"] == "f32");
  const json half = json::parse(bench({"--json", "--quick", "--threads", "1", "--precision", "bf16", "gemm NN 64^3"}).out);
  CHECK(half["precision"] == (bf16_products() ? "bf16" : "f32"));
  CHECK(result["instruction_set"].is_string());
  CHECK(result["peak_gflops"] > 0);
  CHECK(result["bandwidth_gbs"] > 0);
  REQUIRE(result["rows"].size() == 3);
  const json &gemm = result["rows"][0], &ops = result["rows"][1], &gpt = result["rows"][2];
  CHECK(gemm["name"] == "gemm NN 64^3");
  CHECK(gemm["unit"] == "GFLOP/s");
  CHECK(gemm["share_of"] == "peak");
  const double operations = 2.0 * 64 * 64 * 64 / 1e9;
  CHECK(gemm["rate"].get<double>() * gemm["seconds"].get<double>() == doctest::Approx(operations));
  CHECK(gemm["share"].get<double>() == doctest::Approx(gemm["rate"].get<double>() / gemm["peak_gflops"].get<double>()));
  CHECK_FALSE(gemm.contains("peak_mib"));
  CHECK_FALSE(ops.contains("share"));
  CHECK(gpt["unit"] == "tokens/s");
  CHECK(gpt["rate"].get<double>() * gpt["seconds"].get<double>() == doctest::Approx(768));
  CHECK(gpt["peak_mib"] > 10);
  CHECK(gpt["process_mib"] > 0);
}

TEST_CASE("bench: the table, and a profile and a trace with the rows' names") {
  if (!test::is_built("bench")) return;
  const test::TempDir folder;
  const Outcome o = bench({"--quick", "--threads", "1", "gemm NN 64^3", "--trace", folder / "trace.json"});
  CHECK(o.status == 0);
  CHECK(lines(o.out).size() == 4);
  CHECK(o.out.find("gemm NN 64^3") != std::string::npos);
  const json trace = json::parse(read_file(folder / "trace.json"));
  const auto named = [&](const char* name) { return std::any_of(trace["traceEvents"].begin(), trace["traceEvents"].end(), [&](const json& e) { return e["name"] == name; }); };
  CHECK(named("gemm NN 64^3"));
  CHECK(named("gemm"));
}

TEST_CASE("bench: what cannot be is an error with the nearest name and status 1") {
  if (!test::is_built("bench")) return;
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"gemm NN 65^3"}, "did you mean 'gemm NN 64^3'?"},
      {{"atention"}, "did you mean 'attention'?"},
      {{"gemm", "no such row at all"}, "--list prints the names"},
      {{"--threads", "-1"}, "[--threads] expected"},
      {{"--jsn"}, "did you mean --json?"},
      {{"--trace", "none/here.json"}, "none/here.json] expected to"},
  };
  for (const auto& wrong : cases) {
    const Outcome o = bench(wrong.first);
    CAPTURE(wrong.second);
    CAPTURE(o.err);
    CHECK(o.status == 1);
    CHECK(o.says(wrong.second));
    CHECK(o.out.empty());
  }
}
