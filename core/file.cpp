#include "core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/error.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

const char* hint_for(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR: return "check the path, and the folder that it starts from";
    case EISDIR: return "give the path of a file";
    case ELOOP: return "the link leads back to itself";
    case EACCES:
    case EPERM:
    case EROFS: return "check who may read and write there (ls -l)";
    case ENOSPC:
    case EDQUOT: return "make room on the disk and try again";
    case EFBIG: return "raise the limit on the size of files (ulimit -f)";
    case EMFILE: return "raise the limit on open files (ulimit -n)";
    default: return "";
  }
}

// What the system refused, for the reason in errno.
[[noreturn]] void refuse(const std::string& path, const std::string& what, int error = errno) {
  fail(path, "expected to " + what + ": " + std::strerror(error), hint_for(error));
}

int open_file(const std::string& path, int flags, mode_t mode = 0) {
  int descriptor;
  do descriptor = open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY, mode);
  while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// Reads from the start to the end; "-" is standard input.
class Source {
 public:
  explicit Source(const std::string& path) : standard_(path == "-"), name_(standard_ ? "standard input" : path) {
    descriptor_ = standard_ ? STDIN_FILENO : open_file(path, O_RDONLY);
    if (descriptor_ < 0 || fstat(descriptor_, &status_) != 0) {
      const int error = errno;
      close();
      refuse(name_, "read it", error);
    }
  }
  ~Source() { close(); }
  Source(const Source&) = delete;

  int descriptor() const { return descriptor_; }
  size_t size() const { return S_ISREG(status_.st_mode) ? static_cast<size_t>(status_.st_size) : 0; }   // 0: not known

  std::string read() const {
    std::string bytes(size() + 1, '\0');   // one more than expected, to see the end without growing
    for (size_t done = 0;;) {
      const ssize_t got = ::read(descriptor_, bytes.data() + done, bytes.size() - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) refuse(name_, "read it");
      done += static_cast<size_t>(got);
      if (got == 0) {
        bytes.resize(done);
        return bytes;
      }
      if (done == bytes.size()) bytes.resize(std::max<size_t>(2 * done, 1 << 16));
    }
  }

 private:
  void close() {
    if (descriptor_ >= 0 && !standard_) ::close(descriptor_);
  }
  const bool standard_;
  const std::string name_;
  int descriptor_;
  struct stat status_ = {};
};

bool is_stream(const std::string& path) { return path.starts_with("/proc/") || path.starts_with("/dev/fd/"); }

// Where the file itself lies or will lie. Links to open streams, as /dev/stdout is one, lead no further than to the stream.
std::string behind_links(std::string path) {
  constexpr int most = 40;   // as the system follows
  for (int i = 0; i < most && !is_stream(path); ++i) {
    std::error_code no_link;
    const fs::path to = fs::read_symlink(path, no_link);
    if (no_link) break;
    path = (fs::path(path).parent_path() / to).string();
  }
  return path;
}

void sync(int descriptor, const std::string& path) {
  while (fsync(descriptor) != 0) {
    if (errno == EINVAL) return;   // nothing there that could be synced
    if (errno != EINTR) refuse(path, "write it to the disk");
  }
}

}  // namespace

std::string read_file(const std::string& path) { return Source(path).read(); }

bool is_there(const std::string& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() != fs::file_type::not_found;
}

void write_file(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  struct stat now = {};
  const bool exists = stat(path_.c_str(), &now) == 0;
  if (!exists && errno != ENOENT) refuse(path_, "write it");
  target_ = behind_links(path_);
  if ((exists && !S_ISREG(now.st_mode)) || is_stream(target_)) {
    descriptor_ = open_file(path_, O_WRONLY | O_APPEND);
    if (descriptor_ < 0) refuse(path_, "write it");
    return;
  }
  if (exists && access(path_.c_str(), W_OK) != 0) refuse(path_, "write it");   // a rename would not ask
  static std::atomic<int> number{0};
  do {
    temporary_ = str(target_, ".tmp-", getpid(), "-", number++);
    descriptor_ = open_file(temporary_, O_WRONLY | O_CREAT | O_EXCL, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);   // left by a process that was killed
  if (descriptor_ < 0) refuse(path_, "write it");
  [[maybe_unused]] const int kept = exists ? fchmod(descriptor_, now.st_mode & 0777) : 0;   // not every file system has them
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::write_out(const void* bytes, size_t count) {
  for (auto from = static_cast<const char*>(bytes); count > 0;) {
    const ssize_t written = ::write(descriptor_, from, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) refuse(path_, "write it", written < 0 ? errno : ENOSPC);
    from += written, count -= static_cast<size_t>(written);
  }
}

void AtomicFile::write(const void* bytes, size_t count) {
  constexpr size_t small = 1 << 16;
  if (buffer_.size() + count <= small) {
    if (count > 0) buffer_.append(static_cast<const char*>(bytes), count);
    return;
  }
  write_out(buffer_.data(), buffer_.size());
  buffer_.clear();
  write_out(bytes, count);
}

void AtomicFile::commit() {
  QD_CHECK(descriptor_ >= 0, path_, "expected one commit, got a second one");
  write_out(buffer_.data(), buffer_.size());
  buffer_.clear();
  if (!temporary_.empty()) sync(descriptor_, path_);
  if (close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) refuse(path_, "write it");
  if (temporary_.empty()) return;
  if (rename(temporary_.c_str(), target_.c_str()) != 0) refuse(path_, "put the new file in place of the old one");
  temporary_.clear();
  const fs::path folder = fs::path(target_).parent_path();
  const int opened = open_file(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  if (opened < 0) return;   // a folder may be written but not read
  try {
    sync(opened, path_);
  } catch (...) {
    close(opened);
    throw;
  }
  close(opened);
}

// A pipe that nobody writes to must be refused as well, not waited for: hence O_NONBLOCK, which regular files ignore.
InputFile::InputFile(std::string path) : path_(std::move(path)), descriptor_(open_file(path_, O_RDONLY | O_NONBLOCK)) {
  if (descriptor_ < 0) refuse(path_, "read it");
  struct stat now = {};
  const int error = fstat(descriptor_, &now) != 0 ? errno : S_ISDIR(now.st_mode) ? EISDIR : 0;
  if (!error && S_ISREG(now.st_mode)) {
    size_ = static_cast<uint64_t>(now.st_size);
    return;
  }
  close(descriptor_);
  if (error) refuse(path_, "read it", error);
  fail(path_, "expected a regular file, got a pipe or a device", "save what it gives to a file first");
}

InputFile::~InputFile() { close(descriptor_); }

void InputFile::read(void* bytes, size_t count, uint64_t offset) const {
  for (size_t done = 0; done < count;) {
    const ssize_t got = pread(descriptor_, static_cast<char*>(bytes) + done, count - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse(path_, "read it");
    QD_CHECK(got > 0, path_, str("expected ", count, " bytes at byte ", offset, ", the file ends ", count - done, " bytes early"),
             "is another program writing it?");
    done += static_cast<size_t>(got);
  }
}

MappedFile::MappedFile(const std::string& path) {
  const Source source(path);
  if (source.size() > 0) {
    void* memory = mmap(nullptr, source.size(), PROT_READ, MAP_PRIVATE, source.descriptor(), 0);
    mapped_ = memory != MAP_FAILED;   // not every file system can map
    if (mapped_) {
      data_ = memory;
      size_ = source.size();
      return;
    }
  }
  const std::string bytes = source.read();
  auto* copy = new char[bytes.size()];
  bytes.copy(copy, bytes.size());
  data_ = copy;
  size_ = bytes.size();
}

MappedFile::~MappedFile() {
  if (mapped_) {
    munmap(const_cast<void*>(data_), size_);
  } else {
    delete[] static_cast<const char*>(data_);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace qd
