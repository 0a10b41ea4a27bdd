// The graph that backward() goes through, as a picture.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace qd {

// Graphviz dot of everything that y depends on: operations with the shape of what they give, and leaves under their names in `leaves`.
// Of more than `most` operations only the first and the last halves of `most` are drawn, the rest is one node that says how many they are.
// Call it before backward(), which takes the graph apart. Throws Error: y depends on no leaf.
std::string graph_of(const Tensor& y, const std::vector<std::pair<std::string, Tensor>>& leaves, size_t most = 200);

}  // namespace qd
