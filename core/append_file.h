// A file that grows piece by piece while a run goes on, and that is cut back when the run resumes from an earlier place.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qd {

class AppendFile {
 public:
  AppendFile() = default;                                        // none: writes nothing
  // Opens the file, or makes it, and cuts it to `length` bytes: what was written after a checkpoint goes.
  AppendFile(std::string path, int64_t length);                  // throws Error
  ~AppendFile();
  AppendFile(AppendFile&& other) noexcept { *this = std::move(other); }
  AppendFile& operator=(AppendFile&& other) noexcept;

  void append(std::string_view bytes);                           // throws Error (disk full), and no part of them stays
  int64_t length() const { return length_; }                     // bytes

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t length_ = 0;
};

}  // namespace qd
