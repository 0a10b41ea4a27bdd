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
inline Utf8Char decode_utf8(std::string_view text);   // text must not be empty. Inline: tokenizers ask it for every character
void append_utf8(std::string& out, uint32_t code);    // code must be a scalar value (not checked)
size_t count_invalid_utf8(std::string_view text);     // broken bytes; 0 for valid text. Fast on long texts
size_t complete_utf8_prefix(std::string_view text);   // bytes before a character cut at the end, to stream whole characters

// The last place <= position that is inside no character, in broken text as well.
size_t utf8_boundary(std::string_view text, size_t position);

inline Utf8Char decode_utf8(std::string_view text) {
  constexpr Utf8Char broken{0xFFFD, 1, false};
  constexpr uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};   // by length; anything below is an overlong form

  const uint32_t first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return {first, 1, true};
  if (first < 0xC2 || first > 0xF4) return broken;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (text.size() < length) return broken;

  uint32_t code = first & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((text[i] & 0xC0) != 0x80) return broken;
    code = code << 6 | (text[i] & 0x3F);
  }
  const bool surrogate = code >> 11 == 0xD800 >> 11;
  if (code < smallest[length] || surrogate || code > 0x10FFFF) return broken;
  return {code, static_cast<int>(length), true};
}

}  // namespace qd
