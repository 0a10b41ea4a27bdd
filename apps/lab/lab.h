// What all laboratories share. One is a list of experiments; each says what is claimed and when the claim holds, and gives a verdict.
//   void add_wordcount(App& app) {
//     static LabOptions o;
//     static Laboratory lab{"wordcount", "Post 7031: ...", {{"W0", "All strategies give one table", "equal tables", same_table}, ...}};
//     lab.add_to(app, o);
//   }
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/options.h"
#include "nn/report.h"

namespace qd {

struct LabOptions {
  bool quick = false, json = false;   // quick: the smallest sizes that still show something
  std::string only;                   // "W0,W2": these alone; empty: all
  int64_t seeds = 3, threads = 0;
  std::string out;                      // a folder for report.html; empty: the next free runs/lab-NAME-001
  std::vector<std::string> data = {};   // files of text, where a laboratory takes some
};

// What an experiment found. Skipped: it needs a file that was not given; `note` says which.
struct Verdict {
  enum class Kind { pass, fail, skipped };
  Kind kind = Kind::fail;
  std::vector<Figure> figures = {};   // numbers as texts, with their units
  std::string note = {};              // a sentence where one is needed
  std::vector<Table> tables = {};
  std::vector<Chart> charts = {};
};
inline Verdict::Kind passed_if(bool holds) { return holds ? Verdict::Kind::pass : Verdict::Kind::fail; }

struct Experiment {
  std::string id, claim, criterion;
  std::function<Verdict(const LabOptions&)> run;
};

// A failed claim is a result, not an error: the exit status is 0.
struct Laboratory {
  std::string name, about;
  std::vector<Experiment> experiments;

  // The command with the shared options; a laboratory adds its own to what this returns.
  Command& add_to(App& app, LabOptions& o) const;
  int run(const LabOptions& o, const Command& command) const;   // throws Error: --only names an experiment that is not there
};

void add_wordcount(App& app);
void add_words(App& app);
void add_vqvae(App& app);

}  // namespace qd
