#include <doctest/doctest.h>

#include <array>

#include "data/unicode.h"

using namespace qd;

// The totals are what data/make_unicode_table.py prints; after a change of Unicode's version they are replaced together.
TEST_CASE("unicode: totals and checksums of every table agree with the script that wrote them") {
  std::array<int64_t, 30> count{};
  int64_t letters = 0, numbers = 0, marks = 0, punctuation = 0, spaces = 0, lower_changes = 0, nfd_changes = 0;
  uint64_t categories = 0, classes = 0, lower_sum = 0, nfd_sum = 0;
  for (uint32_t code = 0; code < 0x110000; ++code) {
    ++count[static_cast<size_t>(category(code))];
    letters += is_letter(code);
    numbers += is_number(code);
    marks += is_mark(code);
    punctuation += is_punctuation(code);
    spaces += is_space(code);
    categories += uint64_t{code} * static_cast<uint64_t>(category(code));
    classes += uint64_t{code} * static_cast<uint64_t>(combining_class(code));

    const std::u32string small = lower(code), whole(1, code), parts = nfd(whole);
    lower_changes += small != whole;
    nfd_changes += parts != whole;
    uint64_t sum = 0;
    for (const char32_t c : small) sum += c;
    lower_sum += code * sum;
    for (size_t k = 0; k < parts.size(); ++k) nfd_sum += (code + 7 * k) * parts[k];
  }
  CHECK(std::string(unicode_version()) == "14.0.0");
  CHECK(letters == 131756);
  CHECK(numbers == 1791);
  CHECK(marks == 2408);
  CHECK(punctuation == 819);
  CHECK(spaces == 25);
  CHECK(count[static_cast<size_t>(Category::Cs)] == 2048);
  CHECK(categories == 17497488366879);
  CHECK(classes == 4730807168);
  CHECK(lower_changes == 1433);
  CHECK(lower_sum == 460961560698925578);
  CHECK(nfd_changes == 13233);
  CHECK(nfd_sum == 460925315780696017);
}

TEST_CASE("unicode: known characters") {
  for (const char32_t c : U"aZéßſ求ʰאǅª") CHECK((c == 0 || is_letter(c)));
  for (const char32_t c : U"09²Ⅷ٣½〇") CHECK((c == 0 || is_number(c)));
  for (const char32_t c : U".,!、。「」—_%¿") CHECK((c == 0 || is_punctuation(c)));
  for (const uint32_t c :
       {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20, 0x85, 0xA0, 0x1680, 0x2003, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}) {
    CHECK(is_space(c));
    CHECK(!is_letter(c));
  }
  for (const uint32_t c : {0x1C, 0x1F, 0x200B, 0xFEFF, 0x180E}) CHECK(!is_space(c));
  for (const char32_t c : {U'$', U'+', U'<', U'=', U'>', U'^', U'`', U'|', U'~'}) CHECK(!is_punctuation(c));   // symbols
  CHECK(category('$') == Category::Sc);
  CHECK(category(0x378) == Category::Cn);
  CHECK(category(0x110000) == Category::Cn);
  CHECK(category(0xFFFFFFFF) == Category::Cn);
  CHECK(is_mark(0x301));
  CHECK(!is_letter(0x110041));
}

TEST_CASE("unicode: lower case") {
  CHECK(lower('A') == U"a");
  CHECK(lower('a') == U"a");
  CHECK(lower('@') == U"@");
  CHECK(lower(U'É') == U"é");
  CHECK(lower(U'ÿ') == U"ÿ");
  CHECK(lower(U'Ÿ') == U"ÿ");
  CHECK(lower(U'Σ') == U"σ");
  CHECK(lower(U'Ж') == U"ж");
  CHECK(lower(U'Ａ') == U"ａ");
  CHECK(lower(U'Ā') == U"ā");
  CHECK(lower(U'ā') == U"ā");
  CHECK(lower(U'İ') == U"i\u0307");
  CHECK(lower(0x10400) == std::u32string(1, 0x10428));
  CHECK(lower(0x110000).size() == 1);
}

TEST_CASE("unicode: canonical decomposition") {
  CHECK(nfd(U"") == U"");
  CHECK(nfd(U"plain 求") == U"plain 求");
  CHECK(nfd(U"é") == U"e\u0301");
  CHECK(nfd(U"ǖ") == U"u\u0308\u0304");                       // two steps
  CHECK(nfd(U"각가") == U"\u1100\u1161\u11A8\u1100\u1161");   // Hangul
  CHECK(nfd(U"\uF900") == U"\u8C48");                         // compatibility ideograph with a canonical mapping
  CHECK(nfd(U"\uFB01\u00B2") == U"\uFB01\u00B2");             // compatibility mappings stay
  CHECK(nfd(U"a\u0301\u0323") == U"a\u0323\u0301");           // 230 after 220
  CHECK(nfd(U"a\u0301\u0300") == U"a\u0301\u0300");           // equal classes keep their order
  CHECK(nfd(U"\u1E69\u0323") == U"s\u0323\u0323\u0307");
  CHECK(nfd(U"\u0323e\u0301x\u0323") == U"\u0323e\u0301x\u0323");
  CHECK(combining_class(0x301) == 230);
  CHECK(combining_class('a') == 0);
}
