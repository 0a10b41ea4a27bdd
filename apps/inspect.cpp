// What is in a file of tensors, how two of them differ, and what a training step computes.
//   bin/inspect runs/lm-001
//   bin/inspect runs/lm-001 --against runs/lm-002
//   bin/inspect runs/lm-001 --graph | dot -Tsvg > step.svg
#include "apps/inspect/inspect.h"

#include <filesystem>
#include <utility>

#include "apps/options.h"
#include "core/error.h"

namespace qd {
namespace {

struct InspectOptions {
  std::string path, against, graph;
  bool json = false;
};

int inspect(InspectOptions o) {
  std::error_code ignored;
  if (o.path.empty() && std::filesystem::is_directory(o.graph, ignored)) o.path = std::exchange(o.graph, "-");   // --graph DIR
  QD_CHECK(!o.path.empty(), "inspect", "expected a file or a directory, got none", "bin/inspect runs/lm-001");
  QD_CHECK(o.graph.empty() || (o.against.empty() && !o.json), "--graph", "expected neither --against nor --json beside it");
  if (!o.graph.empty()) return draw(o.path, o.graph);
  return o.against.empty() ? describe(o.path, o.json) : compare(o.path, o.against, o.json);
}

}  // namespace
}  // namespace qd

int main(int argc, char** argv) {
  qd::InspectOptions o;
  qd::App app("inspect", "What is in a file or a directory of tensors: names, types, shapes, norms, metadata.");
  app.command("", "", [&] { return qd::inspect(o); })
      .option("PATH", o.path, "FILE|DIR", "a safetensors file, or a directory with model.safetensors or its parts")
      .option("--against", o.against, "FILE|DIR", "how this one differs; the exit status is 0 whether or not it does")
      .option("--graph", o.graph, "FILE", "the autograd graph of one training step of a model's directory as Graphviz dot; without FILE on standard output")
      .or_alone("-")
      .flag("--json", o.json, "the last line on standard output is a JSON object");
  char help[] = "--help";
  char* with_help[] = {argv[0], help, nullptr};
  return argc > 1 ? app.run(argc, argv) : app.run(2, with_help);
}
