// How fast the kernels and training steps are, beside the roofs that are measured in the same run.   bin/bench gemm --threads 1
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/bench/bench.h"
#include "apps/options.h"
#include "apps/run.h"
#include "core/error.h"
#include "core/kernels/table.h"
#include "core/parallel.h"

using namespace qd;

namespace {

struct BenchOptions {
  std::vector<std::string> names;
  int64_t threads = 0;
  std::string precision = "f32";
  bool quick = false, json = false, list = false;
};

std::string line(const std::string& name, double rate, const std::string& unit, double share, const bench::Measured& m) {
  char text[200];
  const int length = std::snprintf(text, sizeof text, "%-44s %10.1f %-9s", name.c_str(), rate, unit.c_str());
  std::string out(text, static_cast<size_t>(length));
  if (share > 0) std::snprintf(text, sizeof text, " %6.1f %%", 100 * share), out += text;
  if (m.peak_mib > 0) std::snprintf(text, sizeof text, " %8.0f MiB, process %.0f MiB", m.peak_mib, m.rss_mib), out += text;
  return out + "\n";
}

int run(const BenchOptions& o, const bench::Rows& all) {
  const auto rows = bench::chosen(all, o.names, o.quick);
  if (o.list) {
    for (const bench::Row* row : rows) print(row->name + "\n");
    return 0;
  }
  if (o.threads > 0) set_threads(static_cast<int>(o.threads));
  choose_precision(o.precision);
  const std::string precision = multiplies_bf16() ? "bf16" : "f32";
  const bench::Roofs roofs = bench::measure_roofs(o.quick);
  nlohmann::ordered_json result = {{"instruction_set", kernels().name}, {"threads", threads()}, {"precision", precision}, {"peak_gflops", roofs.peak},
                                   {"bandwidth_gbs", roofs.bandwidth}, {"rows", nlohmann::ordered_json::array()}};
  if (!o.json) {
    print(str("instruction set ", kernels().name, ", threads ", threads(), "; per cent of multiply-adds (models: or sweeps) between a row's calls, else of the bandwidth\n"));
    print(line("peak of multiply-adds, " + precision, roofs.peak, "GFLOP/s", 0, {}));
    print(line("memory, y += a x", roofs.bandwidth, "GB/s", 0, {}));
  }
  for (const bench::Row* row : rows) {
    const bench::Measured m = bench::measure(*row, o.quick);
    const double rate = row->amount / m.seconds;
    const double share = std::max(row->operations, row->bytes) / m.seconds / 1e9 / (m.roof > 0 ? m.roof : roofs.bandwidth);
    if (!o.json) print(line(row->name, rate, row->unit, share, m));
    nlohmann::ordered_json entry = {{"name", row->name}, {"rate", rate}, {"unit", row->unit}, {"seconds", m.seconds}};
    if (share > 0) entry["share"] = share, entry["share_of"] = row->operations > 0 ? "peak" : "bandwidth";
    if (m.roof > 0) entry[row->operations > 0 ? "peak_gflops" : "bandwidth_gbs"] = m.roof;
    if (row->model) entry["peak_mib"] = m.peak_mib, entry["process_mib"] = m.rss_mib;
    result["rows"].push_back(std::move(entry));
  }
  if (o.json) print(result.dump() + "\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  BenchOptions o;
  bench::Rows rows;
  for (const bench::Group add : bench::groups) add(rows);
  App app("bench", "Speed of kernels and training steps, and the per cent of the peak or bandwidth measured in the same run.");
  app.command("", "", [&] { return run(o, rows); })
      .option("names", o.names, "NAME", "run the row of this name, or all with this in their name; without names: all")
      .option("--threads", o.threads, "N", "threads; 0: all processors", from_to(0, 1024))
      .choice("--precision", o.precision, {"f32", "bf16"}, "of products, and of the peak")
      .flag("--quick", o.quick, "short times; without names also without the rows that take long")
      .flag("--list", o.list, "print the names of the rows")
      .flag("--json", o.json, "one JSON object instead of the table");
  return app.run(argc, argv);
}
