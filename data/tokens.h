// Token ids of a corpus, in a file that is mapped: a corpus may be larger than memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "data/tokenizer.h"

namespace qd {

class TokenStream {
 public:
  TokenStream() = default;

  // The ids of all parts, one after another, nothing between them. They lie in a file without a name (2 bytes an id when the
  // vocabulary allows it, otherwise 4) in `folder`, or in the system's folder for temporary files (TMPDIR): it vanishes with the
  // process, however that ends. Throws Error: no room, no permission.
  TokenStream(const Tokenizer& tokenizer, std::span<const std::string_view> parts, const std::string& folder = "");
  ~TokenStream();
  TokenStream(TokenStream&& other) noexcept;
  TokenStream& operator=(TokenStream&& other) noexcept;

  int64_t size() const { return size_; }                    // ids
  int64_t text_bytes() const { return text_bytes_; }        // of the text that they stand for
  void read(int64_t begin, std::span<int32_t> out) const;   // out.size() ids from `begin` on; throws Error beyond the end

 private:
  const void* ids_ = nullptr;
  int64_t size_ = 0, text_bytes_ = 0;
  int64_t width_ = 2;   // bytes per id
};

}  // namespace qd
