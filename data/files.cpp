#include "data/files.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"

namespace qd {
namespace fs = std::filesystem;

std::vector<std::string> files_below(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code unknown;   // a link that leads nowhere is no regular file
    if (entry->path().filename().string().starts_with('.')) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(unknown)) {
      files.push_back(entry->path().string());
    }
  }
  QD_CHECK(!error, folder, "expected a folder that can be read: " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace qd
