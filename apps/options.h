// Command lines: options with their variables, subcommands, help, errors. options.cpp alone knows the library behind it.
//
//   int main(int argc, char** argv) {
//     App app("lm", "Language models: train, evaluate, sample.");
//     SampleOptions o;
//     Command& sample = app.command("sample", "Continue a text.", [&] { return run(o); });
//     sample.option("--tokens", o.tokens, "N", "tokens to make", at_least(1));
//     return app.run(argc, argv);
//   }
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "nn/trainer.h"

namespace qd {

constexpr const char* program_version = "0.1";

// Which numbers an option takes. Infinities and NaN are never among them.
struct Range {
  double low = -std::numeric_limits<double>::max(), high = std::numeric_limits<double>::max();
  bool with_low = true, with_high = true;
};
constexpr Range at_least(double low) { return {.low = low}; }
constexpr Range above(double low) { return {.low = low, .with_low = false}; }
constexpr Range from_to(double low, double high) { return {.low = low, .high = high}; }
constexpr Range fraction() { return {.low = 0, .high = 1, .with_high = false}; }   // [0, 1)
constexpr Range share() { return {.low = 0, .high = 1, .with_low = false}; }       // (0, 1]

// One command of an app. An option's variable holds its default and receives what the command line says; a name without dashes is
// an argument by position. `what` stands for the value in the help: "N", "DIR".
class Command {
 public:
  using Help = const char*;
  Command& option(const std::string& name, int64_t& value, Help what, Help help, Range range = {});
  Command& option(const std::string& name, double& value, Help what, Help help, Range range = {});
  Command& option(const std::string& name, std::string& value, Help what, Help help);
  Command& option(const std::string& name, std::vector<std::string>& values, Help what, Help help);   // one or more
  Command& option(const std::string& name, Every& value, Help help);                                  // "500" steps, "60s", "0"
  Command& choice(const std::string& name, std::string& value, std::vector<std::string> names, Help help);
  Command& flag(const std::string& name, bool& value, Help help);

  // The option just added may stand without a value, which then is this one.
  Command& or_alone(const std::string& value);

  // The options that follow stand under this title in the help; in --help-all alone when `hidden`.
  Command& group(const std::string& title, bool hidden = false);
  // Read a run.json (or a directory with one): it gives what the command line does not. The option just added names the file;
  // `frozen`: only the options in `free` may be given beside it, and the others come from the file.
  Command& reads_options(bool frozen = false, std::vector<std::string> free = {});
  // The option just added is about this call and not about what is computed: it is not written to run.json.
  Command& not_kept();

  bool given(const std::string& name) const;   // on the command line
  bool known(const std::string& name) const;   // there or in the file of options
  std::string name() const;                    // "lm train"
  // The text of a run.json: version, command line, instruction set, precision, threads, time and machine, and all options but
  // those not kept. Paths in lists become absolute, so that a run can be resumed from anywhere.
  std::string run_file() const;

  struct Impl;
  explicit Command(std::unique_ptr<Impl> impl);
  ~Command();
  Command(const Command&) = delete;

 private:
  friend class App;
  std::unique_ptr<Impl> impl_;
};

class App {
 public:
  App(const std::string& name, const std::string& about);
  ~App();
  App(const App&) = delete;

  // `run` gives the exit status. An app without subcommands has one command, named "".
  Command& command(const std::string& name, const std::string& about, std::function<int()> run);

  // Parses and runs. Every exception becomes a message and "HINT: ..." on standard error and status 1, and so does a standard
  // output that cannot be written. Without arguments: the help, status 0, when there are subcommands.
  int run(int argc, char** argv);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Standard output, checked: throws Error where it cannot be written (a full disk, a closed pipe).
void print(const std::string& text);

// One JSON object on a line of its own. A number that is not finite becomes null.
using Result = std::vector<std::pair<std::string, std::variant<int64_t, double, std::string>>>;
void print_json(const Result& result);

// The candidate that needs the fewest insertions, deletions and replacements; empty when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace qd
