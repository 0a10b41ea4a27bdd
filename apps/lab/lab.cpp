#include "apps/lab/lab.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/parallel.h"
#include "nn/checkpoint.h"

namespace qd {
namespace {

const char* text_of(Verdict::Kind kind) {
  return kind == Verdict::Kind::pass ? "PASS" : kind == Verdict::Kind::fail ? "FAIL" : "SKIPPED";
}

std::vector<Experiment> chosen(const Laboratory& lab, const std::string& only) {
  if (only.empty()) return lab.experiments;
  std::vector<std::string> ids;
  for (const Experiment& e : lab.experiments) ids.push_back(e.id);
  std::vector<Experiment> list;
  std::istringstream names(only);
  for (std::string id; std::getline(names, id, ',');) {
    const auto found = std::find(ids.begin(), ids.end(), id);
    QD_CHECK(found != ids.end(), "--only", str("expected experiments of ", lab.name, ", got '", id, "'"),
             str("it has ", ids.front(), " to ", ids.back()));
    list.push_back(lab.experiments[static_cast<size_t>(found - ids.begin())]);
  }
  return list;
}

struct Found {
  Experiment experiment;
  Verdict verdict;
};

std::string page(const Laboratory& lab, const std::vector<Found>& results, const std::string& run_file) {
  Report report(str("lab ", lab.name), lab.about);
  const auto options = nlohmann::json::parse(run_file);
  Table verdicts{.title = "Verdicts", .columns = {"", "claim", "holds if", "verdict"}};
  for (const auto& [e, v] : results) {
    const auto tone = v.kind == Verdict::Kind::pass   ? Cell::Tone::good
                      : v.kind == Verdict::Kind::fail ? Cell::Tone::bad
                                                      : Cell::Tone::plain;
    verdicts.rows.push_back({e.id.c_str(), e.claim.c_str(), e.criterion.c_str(), Cell(text_of(v.kind), tone)});
  }
  report.table(verdicts);
  for (const auto& [e, v] : results) {
    report.section(str(e.id, ": ", e.claim)).note(str("Holds if ", e.criterion, ": ", text_of(v.kind), "."));
    if (!v.note.empty()) report.note(v.note);
    report.figures(v.figures);
    for (const Table& table : v.tables) report.table(table);
    if (!v.charts.empty()) report.charts(v.charts);
  }
  report.section("To repeat it").note(str(processor_name(), ", ", system_name(), ", ", compiler_name()));
  if (options.contains("command")) report.command(options.at("command").get<std::string>());
  return report.html();
}

}  // namespace

Command& Laboratory::add_to(App& app, LabOptions& o) const {
  const auto command = std::make_shared<Command*>(nullptr);
  *command = &app.command(name, about, [this, &o, command] { return run(o, **command); });
  return (*command)
      ->flag("--quick", o.quick, "small sizes: seconds instead of minutes")
      .option("--only", o.only, "ID,...", "these experiments alone")
      .option("--seeds", o.seeds, "N", "repetitions with other random numbers, where there are any", from_to(1, 1000))
      .option("--out", o.out, "DIR", "folder for report.html; without it the next free one in runs/")
      .option("--threads", o.threads, "N", "0: all processors", from_to(0, 1024))
      .flag("--json", o.json, "the last line on standard output is a list of verdicts as JSON");
}

int Laboratory::run(const LabOptions& o, const Command& command) const {
  if (o.threads > 0) set_threads(static_cast<int>(o.threads));
  const auto list = chosen(*this, o.only);
  const std::string out = o.out.empty() ? next_run_directory("runs", str("lab-", name)) : o.out;
  std::error_code error;
  std::filesystem::create_directories(out, error);
  QD_CHECK(std::filesystem::is_directory(out, error), "--out", str("expected a folder that can be made, got ", out));

  std::vector<Found> results;
  auto json = nlohmann::ordered_json::array();
  for (const Experiment& e : list) {
    log(str(e.id, ": ", e.claim));
    const Verdict v = e.run(o);
    nlohmann::ordered_json figures = nlohmann::ordered_json::object();
    for (const auto& [name, value, remark] : v.figures) {
      log(str("  ", name, ": ", value, remark.empty() ? "" : "  ", remark));
      figures[name] = value;
    }
    if (!v.note.empty()) log(str("  ", v.note));
    log(str("  ", text_of(v.kind), ": ", e.criterion));
    json.push_back(
        {{"id", e.id}, {"claim", e.claim}, {"criterion", e.criterion}, {"figures", figures}, {"verdict", text_of(v.kind)}});
    results.push_back({e, v});
    write_file(out + "/report.html",
               page(*this, results, command.run_file()));   // what is done is there when the next one is stopped
  }
  log(str("the report is ", out, "/report.html"));
  if (o.json) print(json.dump() + "\n");
  return 0;
}

}  // namespace qd
