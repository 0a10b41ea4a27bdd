#include "core/graph.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/autograd.h"
#include "core/error.h"

namespace qd {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' || c == '\\' ? std::string("\\") + c : c == '\n' ? "\\n" : std::string(1, c);
  return out + "\"";
}

// All nodes that lead to `root`, oldest first.
std::vector<const Node*> nodes_before(const Node* root) {
  std::vector<const Node*> found = {root};
  std::set<const Node*> seen = {root};
  for (size_t i = 0; i < found.size(); ++i) {
    for (const Ref<Node>& input : found[i]->inputs)
      if (input && seen.insert(input.get()).second) found.push_back(input.get());
  }
  std::sort(found.begin(), found.end(), [](const Node* a, const Node* b) { return a->number < b->number; });
  return found;
}

}  // namespace

std::string graph_of(const Tensor& y, const std::vector<std::pair<std::string, Tensor>>& leaves, size_t most) {
  QD_CHECK(y.needs_gradient(), "graph", "expected a tensor that depends on a parameter, got one without gradient");
  std::map<const Node*, std::string> names;
  for (const auto& [name, tensor] : leaves) names[tensor.node().get()] = name;

  const auto nodes = nodes_before(y.node().get());
  std::vector<const Node*> ops;
  std::map<const Node*, std::string> id;   // in the picture; numbered from 1, so that the same model gives the same text
  for (const Node* node : nodes) {
    if (!node->leaf) ops.push_back(node);
    id[node] = str('n', id.size() + 1);
  }
  std::set<const Node*> hidden;
  if (ops.size() > most) hidden.insert(ops.begin() + static_cast<std::ptrdiff_t>(most / 2), ops.end() - static_cast<std::ptrdiff_t>(most - most / 2));

  std::set<const Node*> drawn_leaves;
  std::set<std::string> edges;   // each once, however many hidden operations share it
  for (const Node* op : ops) {
    for (const Ref<Node>& input : op->inputs) {
      if (!input || (hidden.contains(op) && (input->leaf || hidden.contains(input.get())))) continue;
      if (input->leaf) drawn_leaves.insert(input.get());
      const auto end = [&](const Node* node) { return hidden.contains(node) ? std::string("hidden") : id[node]; };
      edges.insert(str("  ", end(input.get()), " -> ", end(op), ";\n"));
    }
  }

  std::string dot = "digraph {\n  node [shape=box, style=filled, fillcolor=white, fontname=\"sans-serif\"];\n";
  for (const Node* node : nodes) {
    if (hidden.contains(node) || (node->leaf && !drawn_leaves.contains(node) && node != y.node().get())) continue;
    const auto name = names.find(node);
    const std::string label = str(name != names.end() ? name->second : node->name, '\n', node->shape.str());
    dot += str("  ", id[node], " [label=", quoted(label), node->leaf ? ", shape=ellipse, fillcolor=lightblue" : "",
               node == y.node().get() ? ", penwidth=3" : "", "];\n");
  }
  if (!hidden.empty()) dot += str("  hidden [label=\"... ", hidden.size(), " more operations\", shape=plaintext];\n");
  for (const std::string& edge : edges) dot += edge;
  return dot + "}\n";
}

}  // namespace qd
