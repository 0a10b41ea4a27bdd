#include "data/tokens.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/temporary_file.h"
#include "data/text.h"

namespace qd {
TokenStream::TokenStream(const Tokenizer& tokenizer, std::span<const std::string_view> parts, const std::string& folder) {
  constexpr size_t chunk = 16 << 20;   // of text encoded at once
  const int64_t vocabulary = tokenizer.size();
  width_ = vocabulary <= 65536 ? 2 : 4;
  TemporaryFile file(folder, "token ids", "set TMPDIR to a folder with room for two to four bytes per token");
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
