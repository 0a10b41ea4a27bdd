// UTF-8: decode with validation, encode, count what is broken. RFC 3629.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace qd {

// One character at the front of a text. `length` bytes belong to it. Where the bytes are not valid UTF-8 (overlong forms,
// surrogates, values above U+10FFFF, cut sequences included), `valid` is false, `code` is U+FFFD and `length` is 1: the caller
// decides what a broken byte means.
struct Utf8Char {
  uint32_t code;
  int length;
  bool valid;
};
Utf8Char decode_utf8(std::string_view text);          // text must not be empty
void append_utf8(std::string& out, uint32_t code);    // code must be a scalar value (not checked)
size_t count_invalid_utf8(std::string_view text);     // broken bytes; 0 for valid text. Fast on long texts
size_t complete_utf8_prefix(std::string_view text);   // bytes before a character cut at the end, to stream whole characters

// The last place <= position that is inside no character, in broken text as well.
size_t utf8_boundary(std::string_view text, size_t position);

}  // namespace qd
