// A folder of its own for a test that writes files.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "core/error.h"

namespace qd::test {

class TempDir {
 public:
  TempDir() : path_((std::filesystem::temp_directory_path() / "qiudao-test-XXXXXX").string()) {
    QD_CHECK(mkdtemp(path_.data()), path_, "expected to make this folder", "set TMPDIR to a folder that can be written");
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }   // "" for the folder itself

 private:
  std::string path_;
};

}  // namespace qd::test
