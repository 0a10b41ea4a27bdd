// Files: read whole, written whole or not at all, mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qd {

std::string read_file(const std::string& path);   // the bytes; "-" is standard input. Throws Error naming the path and the reason

bool is_there(const std::string& path);           // also a link that leads nowhere: opening it will say what is wrong

// Writes to a temporary name beside `path`, syncs, renames: readers see the old file or the new one, never a part. Links are
// followed, permissions stay. What is no regular file (a pipe, /dev/stdout) is written straight into.
// Throws Error (disk full, no permission) and removes the temporary file.
void write_file(const std::string& path, std::string_view bytes);

// The same, for content made piece by piece: write(...) any number of times, then commit(). Without commit nothing stays behind.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* bytes, size_t count);   // throws Error
  void commit();                                 // flush, sync, rename, sync the folder; throws Error

 private:
  void write_out(const void* bytes, size_t count);
  std::string path_, target_;                    // as given, and with the links followed
  std::string temporary_;                        // empty: written straight into the target
  std::string buffer_;                           // small pieces wait here
  int descriptor_ = -1;
};

// A regular file, read at any place.
class InputFile {
 public:
  explicit InputFile(std::string path);          // throws Error: none there, no permission, not a regular file
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }        // bytes
  void read(void* bytes, size_t count, uint64_t offset) const;   // throws Error: the file ends before that, or cannot be read

 private:
  std::string path_;
  uint64_t size_ = 0;
  int descriptor_ = -1;
};

// A file mapped read-only (regular files; anything else is read into memory). Movable, not copyable.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path);   // throws Error
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }

 private:
  const void* data_ = nullptr;
  size_t size_ = 0;
  bool mapped_ = false;
};

}  // namespace qd
