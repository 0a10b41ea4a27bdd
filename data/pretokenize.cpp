#include "data/pretokenize.h"

#include <cstdint>
#include <vector>

#include "core/utf8.h"
#include "data/unicode.h"

namespace qd {
namespace {

enum Kind : uint8_t { letter, number, space, other };

// The kind of every code point, one byte each: splitting asks once for each character.
const Kind* kinds() {
  static const std::vector<Kind> all = [] {
    std::vector<Kind> table(0x110000);
    for (uint32_t code = 0; code < table.size(); ++code)
      table[code] = is_letter(code) ? letter : is_number(code) ? number : is_space(code) ? space : other;
    return table;
  }();
  return all.data();
}

struct Character {
  Kind kind;
  size_t length;   // bytes
};

Character character_at(std::string_view text, size_t at, const Kind* kind) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {kind[byte], 1};
  const Utf8Char c = decode_utf8(text.substr(at));
  return {c.valid ? kind[c.code] : other, static_cast<size_t>(c.length)};
}

// 's 't 're 've 'm 'll 'd: bytes at the front, 0 where there is none. Capitals and curly apostrophes are none.
size_t contraction_length(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  switch (text[1]) {
    case 's': case 't': case 'm': case 'd': return 2;
    case 'r': case 'v': return text.size() > 2 && text[2] == 'e' ? 3 : 0;
    case 'l': return text.size() > 2 && text[2] == 'l' ? 3 : 0;
    default: return 0;
  }
}

// \s+(?!\S)|\s+ at the front: all white space, but the last character is left to the word behind it where there are others.
size_t space_length(std::string_view text, const Kind* kind) {
  size_t last = 0, end = 0;
  while (end < text.size()) {
    const Character c = character_at(text, end, kind);
    if (c.kind != space) return last > 0 ? last : end;
    last = end, end += c.length;
  }
  return end;
}

}  // namespace

size_t piece_length(std::string_view text) {
  if (const size_t length = contraction_length(text)) return length;
  size_t end = text[0] == ' ' && text.size() > 1;   // the blank that belongs to the word behind it
  const Kind* const table = kinds();
  const Kind kind = character_at(text, end, table).kind;
  if (kind == space) return space_length(text, table);
  while (end < text.size()) {
    const Character c = character_at(text, end, table);
    if (c.kind != kind) break;
    end += c.length;
  }
  return end;
}

// No piece goes on from another kind into white space, and none holds two kinds but behind its blank and in contractions.
size_t piece_boundary(std::string_view text, size_t position) {
  if (position >= text.size()) return text.size();
  for (size_t at = utf8_boundary(text, position); at > 0;) {
    const size_t before = utf8_boundary(text, at - 1);
    const Character left = character_at(text, before, kinds()), right = character_at(text, at, kinds());
    const bool contraction = text[at - 1] == '\'' && right.kind == letter;
    if (before + left.length == at && left.kind != right.kind && left.kind != space && !contraction) return at;
    at = before;
  }
  return 0;
}

}  // namespace qd
