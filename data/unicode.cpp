#include "data/unicode.h"

#include <algorithm>
#include <vector>

#include "data/unicode_table.h"

namespace qd {

namespace {

constexpr uint32_t codes = 0x110000;

struct Decomposition {
  uint32_t code, first, second;   // second is 0 for a replacement by one code point
};

// The tables unpacked, once, on first use. One byte per code point: the category, and three flags that spare most searches.
struct Unicode {
  static constexpr uint8_t category = 31, has_lower = 32, decomposes = 64, combines = 128;
  std::vector<uint8_t> properties = std::vector<uint8_t>(codes);
  std::vector<Decomposition> decompositions;

  Unicode() {
    uint32_t code = 0;
    for (const uint32_t run : unicode_table::categories) {
      std::fill_n(properties.begin() + code, run / 32, static_cast<uint8_t>(run % 32));
      code += run / 32;
    }
    code = 0;
    const auto& parts = unicode_table::decompositions;
    for (size_t i = 0; i < parts.size(); i += 3) {
      code += parts[i];
      properties[code] |= decomposes;
      decompositions.push_back({code, parts[i + 1], parts[i + 2]});
    }
    const auto& classes = unicode_table::classes;
    for (size_t i = 0; i < classes.size(); i += 3) {
      for (code = classes[i]; code <= classes[i + 1]; ++code) properties[code] |= combines;
    }
    const auto& lower = unicode_table::lower;
    for (size_t i = 0; i < lower.size(); i += 4) {
      for (int32_t c = lower[i]; c <= lower[i + 1]; c += lower[i + 2]) properties[c] |= has_lower;
    }
  }
};

const Unicode& unicode() {
  static const Unicode tables;
  return tables;
}

uint8_t properties(uint32_t code) { return code < codes ? unicode().properties[code] : static_cast<uint8_t>(Category::Cn); }

bool between(uint32_t code, Category first, Category last) {
  const Category c = category(code);
  return first <= c && c <= last;
}

// The row of `width` numbers whose first number is the largest <= code, in a table sorted by first numbers.
template <class T>
const T* row_of(std::span<const T> table, size_t width, uint32_t code) {
  size_t low = 0, high = table.size() / width;
  while (high - low > 1) {
    const size_t middle = (low + high) / 2;
    (static_cast<uint32_t>(table[middle * width]) <= code ? low : high) = middle;
  }
  return &table[low * width];
}

void decompose(uint32_t code, std::u32string& out) {
  constexpr uint32_t syllables = 0xAC00, syllable_count = 11172, leading = 0x1100, vowel = 0x1161, trailing = 0x11A7;
  if (const uint32_t s = code - syllables; code >= syllables && s < syllable_count) {   // Hangul, The Unicode Standard 3.12
    out += leading + s / (21 * 28);
    out += vowel + s % (21 * 28) / 28;
    if (s % 28) out += trailing + s % 28;
    return;
  }
  if (!(properties(code) & Unicode::decomposes)) {
    out += code;
    return;
  }
  const auto& all = unicode().decompositions;
  const auto found =
      std::lower_bound(all.begin(), all.end(), code, [](const Decomposition& d, uint32_t c) { return d.code < c; });
  decompose(found->first, out);
  if (found->second) decompose(found->second, out);
}

}  // namespace

const char* unicode_version() { return unicode_table::version; }

Category category(uint32_t code) { return static_cast<Category>(properties(code) & Unicode::category); }

bool is_letter(uint32_t code) {
  if (code < 128) return (code | 32) - 'a' < 26;
  return between(code, Category::Lu, Category::Lo);
}

bool is_number(uint32_t code) {
  if (code < 128) return code - '0' < 10;
  return between(code, Category::Nd, Category::No);
}

bool is_mark(uint32_t code) { return code >= 128 && between(code, Category::Mn, Category::Me); }

bool is_punctuation(uint32_t code) { return between(code, Category::Pc, Category::Po); }

bool is_space(uint32_t code) {
  if (code < 128) return code == ' ' || code - '\t' < 5;
  return code == 0x85 || between(code, Category::Zs, Category::Zp);
}

std::u32string lower(uint32_t code) {
  if (code == 0x130) return U"i\u0307";   // the one letter whose lower case is longer
  if (properties(code) & Unicode::has_lower) code += row_of(unicode_table::lower, 4, code)[3];
  return std::u32string(1, code);
}

int combining_class(uint32_t code) {
  return properties(code) & Unicode::combines ? static_cast<int>(row_of(unicode_table::classes, 3, code)[2]) : 0;
}

std::u32string nfd(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size() * 2);
  for (const char32_t code : text) decompose(code, out);

  const auto by_class = [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); };
  for (auto begin = out.begin(); begin != out.end();) {   // each run of marks is sorted; equal classes keep their order
    auto end = begin;
    while (end != out.end() && combining_class(*end) != 0) ++end;
    if (end - begin > 1) std::stable_sort(begin, end, by_class);
    begin = end == out.end() ? end : end + 1;
  }
  return out;
}

}  // namespace qd
