// The parts of bin/inspect. Everything is read in pieces: a file may be larger than memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/safetensors.h"

namespace qd {

// Names as people count: h.2 before h.10.
std::vector<const StoredTensor*> in_order(const StoredState& state);

// The numbers of a tensor, a piece at a time; none where its type is unknown.
void for_each_piece(const StoredTensor& tensor, const std::function<void(const std::vector<double>&)>& f);

int describe(const std::string& path, bool json);                                  // the table of tensors
int compare(const std::string& path, const std::string& other, bool json);         // two files or directories
int draw(const std::string& folder, const std::string& out);                       // the graph of a training step

// Rows of texts with their columns side by side; the first `left` columns are texts, the others numbers.
std::string table(const std::vector<std::vector<std::string>>& rows, size_t left);
std::string shown(double value);   // "0.02143"

}  // namespace qd
