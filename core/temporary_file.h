// A file that has no name, so that nothing stays behind, not even after kill -9.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace qd {

class TemporaryFile {
 public:
  // In `folder`, or in the system's folder for temporary files (TMPDIR). `purpose` completes "expected to write ..." in errors, `hint`
  // says what to do about them. Throws Error: no such folder, no permission.
  TemporaryFile(const std::string& folder, std::string purpose, std::string hint);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const void* bytes, size_t count);                   // at the end; throws Error: full disk
  void read(void* bytes, size_t count, uint64_t offset) const;   // what was written; throws Error
  const void* map(size_t bytes) const;   // read-only, to be unmapped by the caller, also after this is gone
  uint64_t size() const { return size_; }

 private:
  [[noreturn]] void refuse(const std::string& what) const;
  std::string folder_, purpose_, hint_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace qd
