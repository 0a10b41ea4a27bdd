#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "core/error.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/discover.h"
#include "tests/errors.h"

using namespace qd;
using test::has;

namespace {

using Words = std::map<std::string, int64_t>;

std::vector<FoundWord> found(std::string_view text, const DiscoverOptions& o) { return discover_words({&text, 1}, o); }
Words words_of(std::string_view text, const DiscoverOptions& o) {
  Words words;
  for (const FoundWord& w : found(text, o)) words[w.word] = w.count;
  return words;
}

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

// Characters of a text, "" where it is interrupted: what the plain definitions below work on.
std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> characters = {""};
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    const bool inside = c.valid && (is_chinese(c.code) || (c.code < 0x80 && std::isalnum(static_cast<int>(c.code))));
    characters.emplace_back(inside ? text.substr(at, static_cast<size_t>(c.length)) : "");
    at += static_cast<size_t>(c.length);
  }
  characters.emplace_back("");
  return characters;
}
std::map<std::string, int64_t> grams_of(const std::vector<std::string>& characters, int n) {
  std::map<std::string, int64_t> counts;
  for (size_t i = 0; i + static_cast<size_t>(n) <= characters.size(); ++i) {
    std::string gram;
    bool whole = true;
    for (size_t j = i; j < i + static_cast<size_t>(n); ++j) whole &= !characters[j].empty(), gram += characters[j];
    if (whole) ++counts[gram];
  }
  return counts;
}

// Post 6920's way to the same cut: a trie of all cohesive grams; a piece goes on as long as some gram that begins in it reaches further.
std::vector<std::string> cut_by_trie(const std::vector<std::string>& characters, const std::set<std::string>& grams,
                                     int longest) {
  std::vector<std::string> pieces;
  for (size_t i = 0; i < characters.size();) {
    if (characters[i].empty()) {
      ++i;
      continue;
    }
    size_t end = i + 1;   // of the piece
    for (size_t begin = i; begin < end; ++begin) {
      std::string gram;
      for (size_t j = begin; j < begin + static_cast<size_t>(longest) && j < characters.size() && !characters[j].empty(); ++j)
        if (gram += characters[j]; grams.count(gram)) end = std::max(end, j + 1);
    }
    std::string piece;
    for (; i < end; ++i) piece += characters[i];
    pieces.push_back(piece);
  }
  return pieces;
}

std::string random_text(std::mt19937& random, int size) {
  const std::string units[] = {"中",       "国", "人", "民", "大", "会",         "中国", "人民", "大会",
                               "人民大会", "，", "\n", "a",  "7",  "\U00020000", "\xFF", "é",    "\r\n"};
  std::string text;
  for (int i = 0; i < size; ++i) text += units[random() % std::size(units)];
  return text;
}

}  // namespace

TEST_CASE("discover: n-grams have exact counts, on any number of threads") {
  const int before = threads();
  std::mt19937 random(1);
  for (const int size : {0, 1, 50, 3000, 120'000}) {
    const std::string text = random_text(random, size);
    const std::string_view view = text;
    const auto characters = characters_of(text);
    const auto expected = [&](int n, int64_t least) {
      Words kept;
      for (const auto& [gram, count] : grams_of(characters, n))
        if (count >= least) kept[gram] = count;
      return kept;
    };
    for (const int n_threads : {1, 2, 3}) {
      set_threads(n_threads);
      const Characters read = read_characters({&view, 1}, Alphabet::alphanumeric);
      Grams grams = single_characters(read, 2);
      for (int n = 1; n <= 4; ++n) {
        if (n > 1) grams = longer_grams(read, grams, 2);
        Words counted;
        for (size_t g = 0; g < grams.size(); ++g) {
          std::string spelled;
          read.append(spelled, grams.first[g], static_cast<size_t>(n));
          counted[spelled] = grams.count[g];
          CHECK(grams.at[grams.first[g]] == static_cast<int32_t>(g));
        }
        CHECK(counted == expected(n, 2));
      }
    }
  }
  set_threads(before);
}

TEST_CASE("discover: cohesion and neighbours of a text small enough to count by hand") {
  // 中国 stands 3 times; 中 and 国 3 and 4 times among 10 characters.
  const std::string_view text = "中国人，中国大。人中国国";
  const Characters read = read_characters({&text, 1}, Alphabet::chinese);
  CHECK(read.total == 10);
  GramLevels grams{{single_characters(read, 1)}};
  grams.level.push_back(longer_grams(read, grams.level[0], 2));
  REQUIRE(grams.of(2).size() == 1);
  CHECK(cohesions(grams, 2, 10)[0] == doctest::Approx(std::log(10.0 * 3 / (3 * 4))));
  const Neighbours beside = neighbours(read, grams.of(2));
  CHECK(beside.left[0] == doctest::Approx(std::log(3.0) - 2 * std::log(2.0) / 3));   // interrupted twice, 人 once
  CHECK(beside.right[0] == doctest::Approx(std::log(3.0)));                          // 人 大 国
}

TEST_CASE("discover: cut keeps what attracts each other, and what stands alone") {
  // 哈哈哈: a character with itself. Digits and Latin letters are characters as well; a character by itself is a piece.
  const std::string text = repeated("哈哈哈，abc 12\r\n好\n\xFF\xE4\xB8坏\U00020000坏。", 20);
  const Words words = words_of(text, {.method = DiscoverMethod::cut, .min_pmi = 0});   // 哈哈 has ln(140 * 40 / 60^2) = 0.44
  CHECK(words == Words{{"哈哈哈", 20}, {"abc", 20}, {"12", 20}, {"好", 20}, {"坏\U00020000坏", 20}});
  CHECK(words_of("", {.method = DiscoverMethod::cut}).empty());
  CHECK(words_of("\xFF\xFF", {.method = DiscoverMethod::cut}).empty());
  CHECK(words_of(text, {.method = DiscoverMethod::cut, .min_count = 61}).empty());
}

TEST_CASE("discover: a word with a weak pair (post 3913: 共和国 holds 和国)") {
  // Among 20,800 pairs 甲乙 has a cohesion of 20800 / 1000, 乙丙 of 20800 * 400 / (1000 * 2400) = 3.5.
  std::mt19937 random(4);
  std::string text = repeated("甲乙丙，", 400) + repeated("乙，", 600) + repeated("丙，", 2000);
  for (int i = 0; i < 20'000; ++i) {
    for (int j = 0; j < 2; ++j) append_utf8(text, 0x5000 + random() % 40);
    text += "，";
  }
  for (int i = 0; i < 100'000; ++i)
    append_utf8(text, 0x5000 + random() % 40), text += "，";   // the n-gram 144,000 * 400 / (400 * 2400) = 60
  const double alpha_10 = std::log(10.0), alpha_2 = std::log(2.0);
  const auto cut = [&](double pmi) { return words_of(text, {.method = DiscoverMethod::cut, .min_pmi = pmi}); };
  CHECK(cut(alpha_2)["甲乙丙"] == 400);
  CHECK(cut(alpha_10)["甲乙丙"] == 0);
  CHECK(words_of(text, {.method = DiscoverMethod::ngram})["甲乙丙"] == 400);
}

TEST_CASE("discover: backtracking drops a piece whose parts are words and which is none (post 4256: 各项目)") {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "各项，项目，";
  for (int i = 0; i < 40; ++i) text += "各项目，";
  text += repeated("天，地，玄，黄，宇，宙，洪，荒，", 800);
  const Words with = words_of(text, {.method = DiscoverMethod::ngram}),
              without = words_of(text, {.method = DiscoverMethod::ngram, .backtrack = false});
  CHECK(without.count("各项目") == 1);
  CHECK(with.count("各项目") == 0);
  CHECK((with.count("各项") == 1 && with.count("项目") == 1));
}

TEST_CASE("discover: pieces between open gaps are those of a trie of all grams") {
  std::mt19937 random(5);
  for (int round = 0; round < 40; ++round) {
    const std::string text = random_text(random, 300);
    const std::string_view view = text;
    const auto characters = characters_of(text);
    // Any set of frequent grams can be cohesive.
    std::set<std::string> chosen;
    const Characters read = read_characters({&view, 1}, Alphabet::alphanumeric);
    GramLevels grams{{single_characters(read, 1)}};
    std::vector<uint8_t> closed(read.ids.size());
    for (int n = 2; n <= 4; ++n) {
      grams.level.push_back(longer_grams(read, grams.level.back(), 1));
      const Grams& level = grams.of(n);
      std::vector<uint8_t> cohesive(level.size());
      for (size_t g = 0; g < level.size(); ++g) {
        if (!(cohesive[g] = random() % 6 == 0)) continue;
        std::string gram;
        read.append(gram, level.first[g], static_cast<size_t>(n));
        chosen.insert(gram);
      }
      for (size_t i = 0; i < level.at.size(); ++i)
        if (level.at[i] >= 0 && cohesive[static_cast<size_t>(level.at[i])])
          std::fill_n(closed.begin() + static_cast<std::ptrdiff_t>(i), n - 1, uint8_t{1});
    }
    Words expected, counted;
    for (const auto& piece : cut_by_trie(characters, chosen, 4)) ++expected[piece];
    for (const FoundWord& w : count_pieces(read, grams, closed, 1, [](size_t, size_t) { return true; }))
      counted[w.word] += w.count;
    CHECK(counted == expected);
  }
}

TEST_CASE("discover: the same words on any number of threads, from one long line or many files") {
  const int before = threads();
  std::mt19937 random(6);
  const std::string text = random_text(random, 150'000), half_1 = text.substr(0, text.size() / 2),
                    half_2 = text.substr(text.size() / 2);
  for (const DiscoverMethod method :
       {DiscoverMethod::cut, DiscoverMethod::entropy, DiscoverMethod::ngram, DiscoverMethod::best}) {
    set_threads(1);
    const auto lines = words_of(text, {.method = method, .min_entropy = 0.5});
    if (method == DiscoverMethod::cut || method == DiscoverMethod::best) CHECK(lines.size() > 5);
    for (const int n : {2, 3}) {
      set_threads(n);
      CHECK(words_of(text, {.method = method, .min_entropy = 0.5}) == lines);
    }
    std::string one_line = text;
    std::replace_if(
        one_line.begin(), one_line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    CHECK(words_of(one_line, {.method = method, .min_entropy = 0.5}) == lines);
  }
  const std::string_view files[] = {"中国中国", "国人", "国人"}, together = "中国中国，国人，国人";   // no word lies across files
  const auto of_files = discover_words(files, {.method = DiscoverMethod::cut, .min_count = 1, .min_pmi = -9});
  Words apart;
  for (const FoundWord& w : of_files) apart[w.word] = w.count;
  CHECK(apart == words_of(together, {.method = DiscoverMethod::cut, .min_count = 1, .min_pmi = -9}));
  set_threads(before);
}

TEST_CASE("discover: words with their scores, most frequent first; what makes no sense is refused") {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "中国人民，大会，人民，大会中国。";
  const auto words = found(text, {.method = DiscoverMethod::best, .scores = true});
  REQUIRE(!words.empty());
  for (size_t i = 1; i < words.size(); ++i)
    CHECK((words[i - 1].count > words[i].count || (words[i - 1].count == words[i].count && words[i - 1].word < words[i].word)));
  for (const FoundWord& w : words)
    if (w.word == "大会") CHECK((w.cohesion > 0 && w.left_entropy >= 0 && w.right_entropy > 0));
  CHECK(has(test::message_of([] { found("", {.max_length = 9}); }), "expected a max_length from 2 to 8, got 9"));
  CHECK(has(test::message_of([] { found("", {.min_count = -1}); }), "expected a min_count above 0, got -1"));
}
