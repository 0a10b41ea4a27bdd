#include "data/bpe_letters.h"

#include <array>

#include "core/utf8.h"

namespace qd {
namespace {

struct Letters {
  std::array<uint8_t, 256> order{};      // bytes, the printable ones first
  std::array<uint16_t, 256> code{};      // of each byte
  std::array<int16_t, 0x144> byte{};     // of each code point; -1 where it is no letter

  Letters() {
    const auto printable = [](int b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD); };
    byte.fill(-1);
    size_t n = 0;
    for (const bool wanted : {true, false}) {
      for (int b = 0; b < 256; ++b) {
        if (printable(b) != wanted) continue;
        code[b] = static_cast<uint16_t>(wanted ? b : 0x100 + static_cast<int>(n) - 188);
        byte[code[b]] = static_cast<int16_t>(b);
        order[n++] = static_cast<uint8_t>(b);
      }
    }
  }
};

const Letters& letters() {
  static const Letters table;
  return table;
}

}  // namespace

uint8_t byte_in_gpt2_order(int32_t id) { return letters().order[static_cast<size_t>(id)]; }

std::string letters_of(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) append_utf8(text, letters().code[static_cast<unsigned char>(byte)]);
  return text;
}

std::optional<std::string> bytes_of_letters(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (!c.valid || c.code >= letters().byte.size() || letters().byte[c.code] < 0) return std::nullopt;
    bytes += static_cast<char>(letters().byte[c.code]);
    text.remove_prefix(static_cast<size_t>(c.length));
  }
  return bytes;
}

}  // namespace qd
