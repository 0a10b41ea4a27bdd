// Where the checkout is, with the golden files: the current directory, or QD_ROOT when that is set.
#pragma once

#include <cstdlib>
#include <string>

namespace qd::test {

inline std::string root() {
  const char* root = std::getenv("QD_ROOT");
  return root && *root ? root : ".";
}

}  // namespace qd::test
