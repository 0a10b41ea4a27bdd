// The files of a folder.
#pragma once

#include <string>
#include <vector>

namespace qd {

// Regular files below a folder, sorted by path, hidden ones left out. Links to files are followed, links to folders are not: they may
// lead in circles. Throws Error: a folder that cannot be read.
std::vector<std::string> files_below(const std::string& folder);

}  // namespace qd
