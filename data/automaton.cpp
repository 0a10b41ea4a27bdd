#include "data/automaton.h"

#include <algorithm>

namespace qd {

Automaton::Automaton(const Dictionary& dictionary) : dictionary_(dictionary), links_(static_cast<size_t>(dictionary.places())) {
  const Dictionary::Node* nodes = dictionary.nodes();
  const auto link = [&](int32_t node) -> Link& { return links_[static_cast<size_t>(node)]; };

  // Nodes level by level: the links of a node need those of shorter ones.
  std::vector<int32_t> order, path;
  for (int32_t place = 1; place < dictionary.places(); ++place) {
    if (nodes[place].parent == Dictionary::none) continue;
    path.clear();
    int32_t at = place;
    for (; at != Dictionary::root && link(at).depth == 0; at = nodes[at].parent) path.push_back(at);
    for (int32_t depth = link(at).depth; !path.empty(); path.pop_back()) link(path.back()).depth = ++depth;
    order.push_back(place);
  }
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return link(a).depth < link(b).depth; });

  for (const int32_t node : order) {
    const int32_t parent = nodes[node].parent;
    if (parent != Dictionary::root) {
      const auto letter = static_cast<uint16_t>(node - nodes[parent].children);
      link(node).suffix = step(link(parent).suffix, letter);
    }
    const int32_t suffix = link(node).suffix;
    link(node).word = dictionary.is_word(suffix) ? suffix : link(suffix).word;
  }
}

}  // namespace qd
