#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "core/random.h"
#include "core/utf8.h"

using namespace qd;

namespace {

// The definition read backwards: a prefix is a character when encoding some scalar value by the book gives exactly these bytes.
std::string encode_slowly(uint32_t code) {
  std::string bits;   // of the code, most significant first, without leading zeros
  for (uint32_t c = code; c; c >>= 1) bits.insert(bits.begin(), static_cast<char>('0' + c % 2));
  const char* pattern = bits.size() <= 7    ? "0xxxxxxx"
                        : bits.size() <= 11 ? "110xxxxx10xxxxxx"
                        : bits.size() <= 16 ? "1110xxxx10xxxxxx10xxxxxx"
                                            : "11110xxx10xxxxxx10xxxxxx10xxxxxx";
  std::string all = pattern, out;
  for (size_t i = all.size(); i-- > 0;) {
    if (all[i] != 'x') continue;
    all[i] = bits.empty() ? '0' : bits.back();
    if (!bits.empty()) bits.pop_back();
  }
  for (size_t i = 0; i < all.size(); i += 8) {
    int byte = 0;
    for (size_t k = 0; k < 8; ++k) byte = byte * 2 + (all[i + k] - '0');
    out += static_cast<char>(byte);
  }
  return out;
}

bool is_scalar(uint32_t code) { return code < 0xD800 || (code >= 0xE000 && code <= 0x10FFFF); }

void check_broken(std::string_view bytes) {
  const Utf8Char c = decode_utf8(bytes);
  CHECK(!c.valid);
  CHECK(c.code == 0xFFFD);
  CHECK(c.length == 1);
}

}  // namespace

TEST_CASE("utf8: every scalar value survives encoding and decoding") {
  std::string text;
  int64_t wrong = 0;
  for (uint32_t code = 0; code <= 0x10FFFF; ++code) {
    if (!is_scalar(code)) continue;
    std::string one;
    append_utf8(one, code);
    const Utf8Char c = decode_utf8(one);
    wrong += one != encode_slowly(code) || !c.valid || c.code != code || c.length != static_cast<int>(one.size());
    text += one;
  }
  CHECK(wrong == 0);
  CHECK(count_invalid_utf8(text) == 0);
}

TEST_CASE("utf8: overlong forms, surrogates, values above U+10FFFF, cut sequences") {
  for (int lead = 0x80; lead <= 0xC1; ++lead) check_broken(std::string{static_cast<char>(lead), '\xBF', '\xBF', '\xBF'});
  for (int lead = 0xF5; lead <= 0xFF; ++lead)
    check_broken(std::string{static_cast<char>(lead), '\x80', '\x80', '\x80', '\x80', '\x80'});
  for (const char* bytes :
       {"\xE0\x80\x80", "\xE0\x9F\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
        "\xF4\x90\x80\x80", "\xC3", "\xC3(", "\xE4\xB8", "\xE4\xB8(", "\xE4(\xAD", "\xF0\x9F\x98", "\xF0\x9F\x98("}) {
    check_broken(bytes);
  }
  for (const char* bytes : {"\xC2\x80", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    CHECK(decode_utf8(bytes).valid);
    CHECK(decode_utf8(bytes).length == static_cast<int>(std::string(bytes).size()));
  }
}

TEST_CASE("utf8: all patterns of lead bytes and boundary continuations agree with the slow definition") {
  const unsigned char second[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xAD, 0xBF, 0xC0, 0xC2, 0xE4, 0xFF};
  int64_t wrong = 0;
  const auto compare = [&](const std::string& bytes) {
    int expected = 0;
    uint32_t code = 0;
    for (size_t length = 1; length <= bytes.size() && !expected; ++length) {   // does this prefix encode a scalar value?
      const auto b = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(bytes[i])); };
      const uint32_t guess = length == 1   ? b(0)
                             : length == 2 ? (b(0) & 31) << 6 | (b(1) & 63)
                             : length == 3 ? (b(0) & 15) << 12 | (b(1) & 63) << 6 | (b(2) & 63)
                                           : (b(0) & 7) << 18 | (b(1) & 63) << 12 | (b(2) & 63) << 6 | (b(3) & 63);
      if (is_scalar(guess) && encode_slowly(guess) == bytes.substr(0, length)) expected = static_cast<int>(length), code = guess;
    }
    const Utf8Char c = decode_utf8(bytes);
    wrong += c.valid != (expected > 0) || c.length != (expected ? expected : 1) || c.code != (expected ? code : 0xFFFD);
  };
  for (int lead = 0; lead < 256; ++lead) {
    const std::string one{static_cast<char>(lead)};
    compare(one);
    for (int b = 0; b < 256; ++b) compare(one + static_cast<char>(b));
    if (lead < 0xC0) continue;   // nothing longer can begin
    for (const char b : second) {
      for (const char c : second) {
        compare(one + b + c);
        if (lead >= 0xE0) {
          for (const char d : second) compare(one + b + c + d);
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("utf8: broken bytes are counted wherever they stand among ASCII") {
  for (size_t length = 1; length < 40; ++length) {
    for (size_t at = 0; at < length; ++at) {
      std::string text(length, 'x');
      text[at] = '\xFF';
      CHECK(count_invalid_utf8(text) == 1);
    }
  }
  CHECK(count_invalid_utf8("") == 0);
  CHECK(count_invalid_utf8("求导 qd") == 0);
  CHECK(count_invalid_utf8("\xED\xA0\x80") == 3);
  CHECK(count_invalid_utf8("12345678\xE6\xB1") == 2);
}

TEST_CASE("utf8: streaming holds back exactly the characters that are cut") {
  const std::string text = "aé求\U0001F600";
  for (size_t i = 0; i <= text.size(); ++i) {
    const std::string_view front = std::string_view(text).substr(0, i);
    const size_t whole = complete_utf8_prefix(front);
    CHECK(count_invalid_utf8(front.substr(0, whole)) == 0);
    CHECK((whole == 0 || whole == 1 || whole == 3 || whole == 6 || whole == 10));
    CHECK(i - whole < 4);
  }
  CHECK(complete_utf8_prefix("a\xE0") == 1);
  CHECK(complete_utf8_prefix("a\xE0\x80") == 3);   // overlong: no continuation helps
  CHECK(complete_utf8_prefix("a\xED\xA0") == 3);   // a surrogate
  CHECK(complete_utf8_prefix("a\xF4\x90") == 3);   // above U+10FFFF
  CHECK(complete_utf8_prefix("a\xF4\x8F") == 1);
  CHECK(complete_utf8_prefix("a\xF0\x9F\x98") == 1);
  CHECK(complete_utf8_prefix("a\xFF") == 2);
  CHECK(complete_utf8_prefix("a\x80\x80") == 3);
}

TEST_CASE("utf8: a boundary is a place where decoding from the start arrives, in broken text as well") {
  std::mt19937 random(1);
  const std::string alphabet[] = {"a", "é", "求", "\U0001F600", "\x80", "\xBF", "\xE6", "\xF0\x9F", "\xC3"};
  for (int round = 0; round < 300; ++round) {
    std::string text;
    while (text.size() < 40) text += alphabet[random() % std::size(alphabet)];
    std::vector<bool> arrives(text.size() + 1);
    for (size_t i = 0; i < text.size(); i += decode_utf8(std::string_view(text).substr(i)).length) arrives[i] = true;
    arrives[text.size()] = true;
    for (size_t i = 0; i <= text.size(); ++i) {
      const size_t cut = utf8_boundary(text, i);
      CHECK(cut <= i);
      CHECK(i - cut <= 3);
      CHECK(arrives[cut]);
    }
  }
}

TEST_CASE("utf8: broken bytes are counted alike at any place, among characters of any length") {
  Random random(5, 1);
  const std::string_view parts[] = {"a",        "12345678", "\xC3\xA9", "\xE6\xB1\x82", "\xE5\xAF\xBC", "\xE0\xA4\x95", "\xED\x95\x9C", "\xF0\x9F\x98\x80",
                                    "\xE0\x80\x80", "\xED\xA0\x80", "\xE6\xB1",     "\x82",         "\xFF",         "\xC0\xAF"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const bool is_broken = round % 2 == 1;
    for (int i = 0; i < 40; ++i) text += parts[random.next() % (is_broken ? std::size(parts) : 8)];
    size_t expected = 0;
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = decode_utf8(std::string_view(text).substr(at));
      expected += !c.valid, at += static_cast<size_t>(c.length);
    }
    CHECK(count_invalid_utf8(text) == expected);
  }
}
