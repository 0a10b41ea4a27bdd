#include "core/temporary_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace qd {

TemporaryFile::TemporaryFile(const std::string& folder, std::string purpose, std::string hint)
    : folder_(folder), purpose_(std::move(purpose)), hint_(std::move(hint)) {
  if (folder_.empty()) {
    std::error_code error;
    folder_ = std::filesystem::temp_directory_path(error).string();
    QD_CHECK(!error, "TMPDIR", str("expected a folder for temporary files: ", error.message()), hint_);
  }
  descriptor_ = open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor_ < 0) {   // not every file system can do that
    std::string name = folder_ + "/qiudao-XXXXXX";
    descriptor_ = mkostemp(name.data(), O_CLOEXEC);
    if (descriptor_ >= 0) unlink(name.c_str());
  }
  if (descriptor_ < 0) refuse("expected to make a temporary file");
}

TemporaryFile::~TemporaryFile() { close(descriptor_); }

void TemporaryFile::write(const void* bytes, size_t count) {
  size_ += count;
  for (auto from = static_cast<const char*>(bytes); count > 0;) {
    const ssize_t written = ::write(descriptor_, from, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) refuse(str("expected to write ", purpose_, " into a temporary file"));
    from += written, count -= static_cast<size_t>(written);
  }
}

void TemporaryFile::read(void* bytes, size_t count, uint64_t offset) const {
  for (auto to = static_cast<char*>(bytes); count > 0;) {
    const ssize_t got = pread(descriptor_, to, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) refuse(str("expected to read ", purpose_, " from a temporary file"));
    to += got, offset += static_cast<uint64_t>(got), count -= static_cast<size_t>(got);
  }
}

const void* TemporaryFile::map(size_t bytes) const {
  void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor_, 0);
  if (memory == MAP_FAILED) refuse("expected to map a temporary file");
  return memory;
}

void TemporaryFile::refuse(const std::string& what) const { fail(folder_, str(what, ": ", std::strerror(errno)), hint_); }

}  // namespace qd
