// Properties of characters from one generated table: every question about letters, case and accents is answered here.
// A code is a code point; values above U+10FFFF count as unassigned. https://www.unicode.org/reports/tr44/
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qd {

const char* unicode_version();             // "14.0.0"

// General categories, in the groups L N M P S Z C.
enum class Category : uint8_t {
  Lu, Ll, Lt, Lm, Lo, Mn, Mc, Me, Nd, Nl, No, Pc, Pd, Ps, Pe, Pi, Pf, Po, Sm, Sc, Sk, So, Zs, Zl, Zp, Cc, Cf, Cs, Co, Cn
};
Category category(uint32_t code);

bool is_letter(uint32_t code);             // \p{L}
bool is_number(uint32_t code);             // \p{N}
bool is_mark(uint32_t code);               // \p{M}
bool is_punctuation(uint32_t code);        // \p{P}
bool is_space(uint32_t code);              // \s: the property White_Space. Python's str.isspace has U+001C to U+001F as well

std::u32string lower(uint32_t code);       // as Python's str.lower of one character; one code point, two for U+0130
int combining_class(uint32_t code);        // 0 to 254; 0 for all but combining marks
std::u32string nfd(std::u32string_view text);   // canonical decomposition: fully decomposed, marks in canonical order

}  // namespace qd
