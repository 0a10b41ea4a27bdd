#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <random>

#include "core/utf8.h"
#include "data/automaton.h"
#include "data/dictionary.h"
#include "tests/errors.h"

using namespace qd;
using test::has;
using test::message_of;

namespace {

constexpr double no_word = -std::numeric_limits<double>::infinity();

std::string random_word(std::mt19937& random, uint32_t characters, size_t longest) {
  std::string word;
  for (size_t i = 0, n = 1 + random() % longest; i < n; ++i) {
    const uint32_t c = random() % characters;
    append_utf8(word, c < 26 ? 'a' + c : c % 7 == 0 || c > 20000 ? 0x20000 + c : 0x4E00 + c);
  }
  return word;
}

std::string parse_error(std::string_view text) {
  return message_of([&] { parse_word_counts(text, "dict.txt"); });
}

}  // namespace

TEST_CASE("dictionary: every word is found with its weight, and nothing else is") {
  std::mt19937 random(1);
  for (const uint32_t characters : {1u, 3u, 60u, 5000u, 60000u}) {
    std::vector<WordCount> words;
    std::map<std::string, int64_t> plain;
    int64_t total = 0;
    for (int i = 0; i < 3000; ++i) {
      words.push_back({random_word(random, characters, characters < 3 ? 300 : 5), static_cast<int64_t>(random() % 50)});
      plain[words.back().word] = words.back().count;   // the later line counts, the total has both
      total += words.back().count;
    }
    const Dictionary d(words);
    CHECK(d.total() == total);
    int64_t size = 0;
    for (const auto& [word, count] : plain) {
      size += count > 0;
      CHECK(d.weight(word) ==
            (count > 0 ? std::log(static_cast<double>(count)) - std::log(static_cast<double>(total)) : no_word));
      CHECK(d.weight(word + "b") == (plain.count(word + "b") && plain[word + "b"] > 0 ? d.weight(word + "b") : no_word));
    }
    CHECK(d.size() == size);
    for (int i = 0; i < 3000; ++i) {
      const std::string word = random_word(random, characters + 10, 4);
      const auto found = plain.find(word);
      CHECK((d.weight(word) > no_word) == (found != plain.end() && found->second > 0));
    }
    CHECK(d.weight("") == no_word);
  }
}

TEST_CASE("dictionary: the automaton finds all words of a text, the longest first") {
  std::mt19937 random(2);
  for (const uint32_t characters : {2u, 4u, 30u}) {
    std::vector<WordCount> words;
    for (int i = 0; i < 80; ++i) words.push_back({random_word(random, characters, 6), static_cast<int64_t>(random() % 3)});
    const Dictionary d(words);
    const Automaton automaton(d);
    for (int round = 0; round < 30; ++round) {
      std::vector<std::string> text;
      int32_t node = Dictionary::root;
      for (int i = 0; i < 40; ++i) {
        text.push_back(random_word(random, characters + 1, 1));
        node = automaton.step(node, d.letter(decode_utf8(text.back()).code));
        std::vector<size_t> expected, found;
        std::string suffix;
        for (size_t length = 1; length <= text.size(); ++length) {
          suffix = text[text.size() - length] + suffix;
          if (d.weight(suffix) > no_word) expected.insert(expected.begin(), length);
        }
        for (int32_t n = automaton.word_at(node); n != Dictionary::root; n = automaton.shorter(n))
          found.push_back(static_cast<size_t>(automaton.length(n)));
        CHECK(found == expected);
      }
    }
  }
}

TEST_CASE("dictionary: lines of words and counts, as they are found in the wild") {
  const auto words = parse_word_counts("\xEF\xBB\xBF中国 12 ns\r\n\n  的 3\t\nAT&T 0 nz x\n人民", "dict.txt");
  REQUIRE(words.size() == 4);
  CHECK((words[0].word == "中国" && words[0].count == 12));
  CHECK((words[1].word == "的" && words[1].count == 3));
  CHECK((words[2].word == "AT&T" && words[2].count == 0));
  CHECK((words[3].word == "人民" && words[3].count == 1));
}

TEST_CASE("dictionary: what is none is refused with its line") {
  CHECK(
      has(parse_error("中国 3\n人民 x\n"), "[dict.txt, line 2] expected a word, one blank and a count from 0 on, got '人民 x'"));
  for (const char* text : {"中国  3", "中国 -1", "中国 3.5", "中国 99999999999999999999", "中国 3x n", "中国 0x3"})
    CHECK(has(parse_error(text), "line 1"));
  CHECK(has(parse_error(""), "expected words, got an empty dictionary"));
  CHECK(has(parse_error("\n \r\n"), "expected words, got an empty dictionary"));
  CHECK(has(parse_error("\xFF\xFE中 3"), "expected UTF-8"));
  CHECK(has(message_of([] { Dictionary({{{"中", 0}, {"国", 0}}}); }), "expected counts above 0"));
  CHECK(has(message_of([] { Dictionary({{{"中", std::numeric_limits<int64_t>::max()}, {"国", 1}}}); }), "below 2^63"));
  CHECK(has(message_of([] { Dictionary({{{"\xED\xA0\x80", 1}}}); }), "expected UTF-8"));
  std::vector<WordCount> many;
  for (uint32_t code = 0x10000; code < 0x10000 + 70000; ++code) append_utf8(many.emplace_back("", 1).word, code);
  CHECK(has(message_of([&] { Dictionary{many}; }), "at most 65,534 distinct characters, got 70000"));
}
