// Kernels for newer processors must not leak: what an object file defines for others to see is in its own namespace, and nothing
// in it is code that the linker may choose instead of another file's. Reads the object files with nm.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "core/error.h"

using namespace qd;

namespace {

std::string output_of(const std::string& command) {
  std::string out;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return out;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  return pclose(pipe) == 0 ? out : "";
}

}  // namespace

TEST_CASE("isolation: kernels for newer processors stay in their namespaces") {
  const char* build = std::getenv("QD_BUILD");
  for (const std::string set : {"baseline", "avx2", "avx512", "avx512_bf16"}) {
    const std::string object = str(build && *build ? build : "build", "/core/kernels/", set, ".o");
    if (!std::ifstream(object).good()) {
      MESSAGE("left out: ", object, " is not there");
      continue;
    }
    const std::string symbols = output_of("nm -C --defined-only '" + object + "' 2>/dev/null");
    if (symbols.empty()) {
      MESSAGE("left out: nm is not there");
      return;
    }
    std::istringstream lines(symbols);
    bool table = false;
    for (std::string line; std::getline(lines, line);) {
      if (line.size() < 20) continue;
      const char type = line[17];   // "0123456789abcdef T name": lower case is for this file alone, but for w, v and u
      const std::string name = line.substr(19);
      if (std::string("wvu").find(type) == std::string::npos && std::islower(static_cast<unsigned char>(type))) continue;
      if (name.starts_with("DW.ref.") || name.starts_with("__odr_asan"))
        continue;   // addresses and marks that compilers add, no code
      INFO(object, ": ", line);
      CHECK(name.starts_with("qd::" + set + "::"));
      CHECK(std::string("WVwvu").find(type) == std::string::npos);
      table = table || name == "qd::" + set + "::table" || name == "qd::" + set + "::products";
    }
    CHECK(table);
  }
}
