// Apps as processes in a folder of their own.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/apps/capture.h"
#include "tests/root.h"

namespace qd::test {

using Arguments = std::vector<std::string>;

inline std::string program(const std::string& name) {
  const char* folder = std::getenv("QD_BIN");
  return std::filesystem::absolute(std::filesystem::path(folder ? folder : "bin") / name).string();
}

inline bool is_built(const std::string& name) {
  const bool built = std::filesystem::exists(program(name));
  if (!built) MESSAGE("skipped: there is no " << program(name) << "; QD_BIN names the folder of the apps");
  return built;
}

// tests/golden/<name>, as an absolute path.
inline std::string golden_path(const std::string& name) {
  return std::filesystem::absolute(std::filesystem::path(root()) / "tests/golden" / name).string();
}

// A folder in which programs run: run({"lm", "eval", ...}).
struct Workplace {
  TempDir folder;
  std::string operator/(const std::string& name) const { return folder / name; }
  Outcome run(Arguments command, const std::string& input = "") const {
    command[0] = program(command[0]);
    return Process(command, folder / "", input).wait();
  }
  nlohmann::json json(Arguments command) const {   // what it says with --json
    command.push_back("--json");
    const Outcome o = run(command);
    CAPTURE(o.err);
    REQUIRE(o.status == 0);
    return nlohmann::json::parse(o.last_line());
  }
};

// Until the process has written something to a file, or has ended.
inline void until_written(Process& process, const std::string& path) {
  std::error_code missing;
  for (int i = 0; i < 20000 && process.running() && std::filesystem::file_size(path, missing) + 1 <= 1; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));   // the size of a missing file is -1
}

}  // namespace qd::test
