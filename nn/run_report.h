// The report of a training run, made from what its directory holds: while it runs, when it has ended, and after it was resumed.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nn/report.h"

namespace qd {

// What an app adds: figures for the headline, and sections of its own between the samples and the configuration.
struct ReportExtras {
  std::string loss_unit = {};                        // "nats per token"
  std::vector<Figure> figures = {};
  std::function<void(Report&)> sections = {};
};

// Writes report.html into the directory of a run, from metrics.jsonl (every figure in it gets a curve), samples/ (text and PNG), config.json and run.json.
// What is missing or damaged is left out. Throws Error: the file cannot be written.
void write_run_report(const std::string& folder, const ReportExtras& extras = {});

}  // namespace qd
