#include "core/utf8.h"

#include <cstring>

namespace qd {

namespace {

bool is_continuation(char byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

void append_utf8(std::string& out, uint32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    tail(12), tail(6), tail(0);
  }
}

size_t count_invalid_utf8(std::string_view text) {
  size_t broken = 0;
  for (size_t i = 0; i < text.size();) {
    for (uint64_t eight; i + 8 <= text.size(); i += 8) {   // ASCII
      std::memcpy(&eight, text.data() + i, 8);
      if (eight & 0x8080808080808080) break;
    }
    // Two characters of three bytes at a time, but for those that begin with E0 or ED, which have forbidden ranges.
    for (uint64_t eight; i + 8 <= text.size(); i += 6) {
      std::memcpy(&eight, text.data() + i, 8);
      const auto in_question = [&](int shift) { return ((eight >> shift) & 0xF) == 0x0 || ((eight >> shift) & 0xF) == 0xD; };
      if ((eight & 0xC0C0F0C0C0F0) != 0x8080E08080E0 || in_question(0) || in_question(24)) break;
    }
    if (i == text.size()) break;
    const Utf8Char c = decode_utf8(text.substr(i));
    broken += !c.valid;
    i += c.length;
  }
  return broken;
}

size_t complete_utf8_prefix(std::string_view text) {
  for (size_t cut = 1; cut <= 3 && cut <= text.size(); ++cut) {
    const std::string_view rest = text.substr(text.size() - cut);
    if (is_continuation(rest[0])) continue;
    if (decode_utf8(rest).valid) break;   // nothing is cut
    // A cut character becomes valid with some continuation; when neither the smallest nor the largest will do, it is broken.
    for (const char fill : {'\x80', '\xBF'}) {
      for (size_t missing = 1; missing + cut <= 4; ++missing) {
        const std::string whole = std::string(rest) + std::string(missing, fill);
        const Utf8Char c = decode_utf8(whole);
        if (c.valid && static_cast<size_t>(c.length) == whole.size()) return text.size() - cut;
      }
    }
    break;
  }
  return text.size();
}

// Four continuation bytes in a row cannot all belong to one character: beyond three steps back the text is broken byte by byte.
size_t utf8_boundary(std::string_view text, size_t position) {
  if (position >= text.size()) return text.size();
  for (size_t back = 0; back <= 3 && back <= position; ++back) {
    if (!is_continuation(text[position - back])) return position - back;
  }
  return position;
}

}  // namespace qd
