#include "core/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace qd {

AppendFile::AppendFile(std::string path, int64_t length) : path_(std::move(path)) {
  descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  QD_CHECK(descriptor_ >= 0, path_, str("expected to open it for writing: ", std::strerror(errno)));
  const off_t end = lseek(descriptor_, 0, SEEK_END);
  length_ = std::clamp<int64_t>(length, 0, std::max<off_t>(end, 0));
  if (ftruncate(descriptor_, length_) != 0) {
    const std::string reason = std::strerror(errno);
    close(std::exchange(descriptor_, -1));
    fail(path_, str("expected to cut it to ", length_, " bytes: ", reason));
  }
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(length_, other.length_);
  return *this;
}

void AppendFile::append(std::string_view bytes) {
  if (descriptor_ < 0) return;
  const ssize_t written = pwrite(descriptor_, bytes.data(), bytes.size(), length_);
  if (written != static_cast<ssize_t>(bytes.size())) {
    const std::string reason = written < 0 ? std::strerror(errno) : "the disk is full";
    [[maybe_unused]] const int cut = ftruncate(descriptor_, length_);   // what comes later must not continue a torn piece
    fail(path_, str("expected to append to it: ", reason), "make room on the disk");
  }
  length_ += written;
}

}  // namespace qd
