#include "data/tokens.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/text.h"

namespace qd {
namespace {

// A file that has no name, so that nothing stays behind, not even after kill -9.
class NamelessFile {
 public:
  explicit NamelessFile(const std::string& folder) : folder_(folder) {
    descriptor_ = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (descriptor_ < 0) {   // not every file system can do that
      std::string name = folder + "/qiudao-XXXXXX";
      descriptor_ = mkostemp(name.data(), O_CLOEXEC);
      if (descriptor_ >= 0) unlink(name.c_str());
    }
    if (descriptor_ < 0) refuse("expected to make a temporary file");
  }
  ~NamelessFile() { close(descriptor_); }
  NamelessFile(const NamelessFile&) = delete;

  void write(const void* bytes, size_t count) {
    for (auto from = static_cast<const char*>(bytes); count > 0;) {
      const ssize_t written = ::write(descriptor_, from, count);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) refuse("expected to write token ids into a temporary file");
      from += written, count -= static_cast<size_t>(written);
    }
  }
  const void* map(size_t bytes) const {
    void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (memory == MAP_FAILED) refuse("expected to map a temporary file");
    return memory;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail(folder_, what + ": " + std::strerror(errno), "set TMPDIR to a folder with room for two to four bytes per token");
  }
  const std::string folder_;
  int descriptor_;
};

std::string temporary_folder() {
  std::error_code error;
  const auto folder = std::filesystem::temp_directory_path(error);
  QD_CHECK(!error, "TMPDIR", "expected a folder for temporary files: " + error.message());
  return folder.string();
}

}  // namespace

TokenStream::TokenStream(const Tokenizer& tokenizer, std::span<const std::string_view> parts, const std::string& folder) {
  constexpr size_t chunk = 16 << 20;   // of text encoded at once
  const int64_t vocabulary = tokenizer.size();
  width_ = vocabulary <= 65536 ? 2 : 4;
  NamelessFile file(folder.empty() ? temporary_folder() : folder);
  std::vector<uint16_t> narrow;
  for (const std::string_view part : parts) {
    for (const auto piece :
         cut_text(part, chunk, [&](std::string_view text, size_t at) { return tokenizer.boundary(text, at); })) {
      const std::vector<int32_t> ids = tokenizer.encode(piece);
      const auto outside = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id < 0 || id >= vocabulary; });
      QD_CHECK(outside == ids.end(), "tokenizer", str("expected ids from 0 to ", vocabulary - 1, ", got ", *outside));
      if (width_ == 2) {
        narrow.assign(ids.begin(), ids.end());
        file.write(narrow.data(), narrow.size() * sizeof(uint16_t));
      } else {
        file.write(ids.data(), ids.size() * sizeof(int32_t));
      }
      size_ += static_cast<int64_t>(ids.size());
    }
    text_bytes_ += static_cast<int64_t>(part.size());
  }
  if (size_ > 0) ids_ = file.map(static_cast<size_t>(size_ * width_));
}

TokenStream::~TokenStream() {
  if (ids_) munmap(const_cast<void*>(ids_), static_cast<size_t>(size_ * width_));
}

TokenStream::TokenStream(TokenStream&& other) noexcept { *this = std::move(other); }

TokenStream& TokenStream::operator=(TokenStream&& other) noexcept {
  std::swap(ids_, other.ids_);
  std::swap(size_, other.size_);
  std::swap(text_bytes_, other.text_bytes_);
  std::swap(width_, other.width_);
  return *this;
}

void TokenStream::read(int64_t begin, std::span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  QD_CHECK(begin >= 0 && count <= size_ && begin <= size_ - count, "token stream",
           str("expected a range within ", size_, " ids, got ", count, " from ", begin, " on"));
  if (width_ == 2) {
    const auto* from = static_cast<const uint16_t*>(ids_) + begin;
    std::copy(from, from + count, out.begin());
  } else {
    const auto* from = static_cast<const int32_t*>(ids_) + begin;
    std::copy(from, from + count, out.begin());
  }
}

}  // namespace qd
