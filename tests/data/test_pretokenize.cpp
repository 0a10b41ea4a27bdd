#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "core/utf8.h"
#include "data/pretokenize.h"
#include "data/unicode.h"

using namespace qd;

namespace {

std::vector<std::string> pieces_of(std::string_view text) {
  std::vector<std::string> pieces;
  for_each_piece(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

// The regular expression word by word: alternatives in order, each with its backtracking, on code points; broken bytes are code -1.
std::vector<std::string> by_the_book(std::string_view text) {
  std::vector<int64_t> codes;
  std::vector<size_t> begins;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    codes.push_back(c.valid ? static_cast<int64_t>(c.code) : -1);
    begins.push_back(at);
    at += static_cast<size_t>(c.length);
  }
  begins.push_back(text.size());
  const size_t n = codes.size();
  const auto code = [&](size_t i) { return static_cast<uint32_t>(codes[i]); };
  const auto L = [&](size_t i) { return codes[i] >= 0 && is_letter(code(i)); };
  const auto N = [&](size_t i) { return codes[i] >= 0 && is_number(code(i)); };
  const auto S = [&](size_t i) { return codes[i] >= 0 && is_space(code(i)); };
  const auto run = [&](size_t i, auto&& is) {
    while (i < n && is(i)) ++i;
    return i;
  };
  const auto with_blank = [&](size_t i, auto&& is) {   // " ?x+": greedy blank first, then without; i where nothing matches
    if (i < n && codes[i] == ' ')
      if (const size_t end = run(i + 1, is); end > i + 1) return end;
    return run(i, is);
  };
  std::vector<std::string> pieces;
  for (size_t i = 0, end = 0; i < n; i = end) {
    end = i;
    for (const char* contraction : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (end == i && text.substr(begins[i]).starts_with(contraction)) end = i + std::string_view(contraction).size();
    if (end == i) end = with_blank(i, L);
    if (end == i) end = with_blank(i, N);
    if (end == i) end = with_blank(i, [&](size_t k) { return !S(k) && !L(k) && !N(k); });
    if (end == i)
      for (size_t stop = run(i, S); stop > i && end == i; --stop)   // \s+(?!\S): the longest run behind which no other character stands
        if (stop == n || S(stop)) end = stop;
    if (end == i) end = run(i, S);
    REQUIRE(end > i);
    pieces.emplace_back(text.substr(begins[i], begins[end] - begins[i]));
  }
  return pieces;
}

std::string random_text(std::mt19937& random, size_t characters) {
  const std::string parts[] = {" ", " ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u0085", "\x1c", "'", "'s", "'re", "'l", "'S", "\u2019", "s", "e", "l",
                               "a", "Z", "7", "\u0661", "\u00bd", "!", "_", "求", "é", "\u0301", "\u200d", "\U0001F600", "\x80", "\xE6\xB1", "\xFF",
                               std::string(1, '\0'), "\u2028", "v", "t", "d", "m"};
  std::string text;
  for (size_t i = 0; i < characters; ++i) text += parts[random() % std::size(parts)];
  return text;
}

using Pieces = std::vector<std::string>;

}  // namespace

TEST_CASE("pretokenize: blanks, contractions, numbers, other scripts, broken bytes") {
  const std::pair<std::string, Pieces> cases[] = {
      {"", {}},
      {"Hello world", {"Hello", " world"}},
      {"a  b", {"a", " ", " b"}},
      {"a\n\nb", {"a", "\n", "\n", "b"}},       // only a blank goes with the word behind it
      {"a \n b  ", {"a", " \n", " b", "  "}},
      {"a\t b", {"a", "\t", " b"}},
      {" \n", {" \n"}},
      {"don't we'Re 's", {"don", "'t", " we", "'", "Re", " '", "s"}},
      {"''s '", {"''", "s", " '"}},
      {"it\u2019s", {"it", "\u2019", "s"}},
      {"12ab!? 3", {"12", "ab", "!?", " 3"}},
      {"\u00bd\u0661 \u00b2", {"\u00bd\u0661", " \u00b2"}},
      {"e\u0301", {"e", "\u0301"}},             // a mark is no letter
      {"\u00a0x \u3000 x", {"\u00a0", "x", " \u3000", " x"}},
      {"a\u0085\x1c", {"a", "\u0085", "\x1c"}},   // White_Space has U+0085, not U+001C
      {"求导，求 导", {"求导", "，", "求", " 导"}},
      {"a\xFF\x80 \xE6\xB1 b", {"a", "\xFF\x80", " \xE6\xB1", " b"}},
  };
  for (const auto& [text, pieces] : cases) {
    CAPTURE(text);
    CHECK(pieces_of(text) == pieces);
    CHECK(by_the_book(text) == pieces);
  }
}

TEST_CASE("pretokenize: as the regular expression on random text, and cut anywhere") {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = random_text(random, random() % 24);
    CAPTURE(text);
    const Pieces whole = pieces_of(text);
    CHECK(whole == by_the_book(text));
    size_t last = 0;
    for (size_t position = 0; position < text.size(); ++position) {
      const size_t cut = piece_boundary(text, position);
      CHECK((cut <= position && cut >= last));
      last = cut;
      Pieces both = pieces_of(std::string_view(text).substr(0, cut));
      for (const std::string& piece : pieces_of(std::string_view(text).substr(cut))) both.push_back(piece);
      CAPTURE(cut);
      CHECK(both == whole);
    }
    CHECK(piece_boundary(text, text.size()) == text.size());
    CHECK(piece_boundary(text, text.size() + 9) == text.size());
  }
  // Places are found wherever there is an edge between kinds of characters.
  CHECK(piece_boundary("word word", 8) == 4);
  CHECK(piece_boundary("12ab", 3) == 2);
  CHECK(piece_boundary("求，导", 8) == 6);
  CHECK(piece_boundary("abcdef", 5) == 0);
}
