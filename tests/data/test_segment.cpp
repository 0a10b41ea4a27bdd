#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"
#include "data/segment.h"
#include "data/segment_score.h"
#include "data/text.h"
#include "tests/errors.h"
#include "tests/root.h"

using namespace qd;
using test::has;
using test::message_of;

namespace {

nlohmann::json golden() { return nlohmann::json::parse(read_file(test::root() + "/tests/golden/jieba.json")); }

std::string cut(const Segmenter& segmenter, std::string_view text) {
  std::string out;
  segmenter.segment(text, out);
  return out;
}

const std::vector<WordCount> few = {{"中", 5},   {"国", 5},     {"中国", 9}, {"国人", 4}, {"人", 8},
                                    {"人民", 9}, {"中国人", 2}, {"民主", 3}, {"主", 1}};

// Words of random characters, and texts of them.
struct RandomCase {
  std::vector<WordCount> words;
  std::vector<std::string> characters;   // of the text
  std::string text() const {
    std::string all;
    for (const auto& c : characters) all += c;
    return all;
  }
  std::string part(size_t begin, size_t end) const {
    std::string all;
    for (size_t i = begin; i < end; ++i) all += characters[i];
    return all;
  }
};
RandomCase random_case(std::mt19937& random) {
  const std::string letters[] = {"中", "国", "人", "民", "大"};
  RandomCase c;
  for (int i = 0; i < 25; ++i) {
    std::string word;
    for (size_t j = 0, n = 1 + random() % 4; j < n; ++j) word += letters[random() % 5];
    c.words.push_back({word, static_cast<int64_t>(1 + random() % 9)});
  }
  for (size_t i = 0, n = random() % 25; i < n; ++i) c.characters.push_back(letters[random() % 5]);
  return c;
}

const SegmentMethod methods[] = {SegmentMethod::unigram, SegmentMethod::dag, SegmentMethod::forward, SegmentMethod::backward,
                                 SegmentMethod::shortest};

}  // namespace

TEST_CASE("segment: dag cuts as jieba does, with its model and without") {
  const nlohmann::json file = golden();
  const auto words = parse_word_counts(file.at("dictionary").get<std::string>(), "golden");
  const Segmenter dag(Dictionary(words), SegmentMethod::dag);
  const Segmenter hmm(
      Dictionary(words), SegmentMethod::dag,
      Hmm(file.at("start").get<std::string>(), file.at("trans").get<std::string>(), file.at("emit").get<std::string>()));
  REQUIRE(file.at("cases").size() > 100);
  for (const auto& c : file.at("cases")) {
    const auto text = c.at("text").get<std::string>();
    CAPTURE(text);
    CHECK(cut(dag, text) == c.at("dag").get<std::string>());
    CHECK(cut(hmm, text) == c.at("hmm").get<std::string>());
  }
}

TEST_CASE("segment: the longest word from the left and from the right, as defined") {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const RandomCase c = random_case(random);
    const Dictionary d(c.words);
    const auto is_word = [&](size_t begin, size_t end) { return d.weight(c.part(begin, end)) > -1e300; };
    std::string forward, backward;
    const size_t n = c.characters.size();
    for (size_t at = 0; at < n;) {
      size_t end = n;
      while (end > at + 1 && !is_word(at, end)) --end;
      forward += str(at > 0 ? " " : "", c.part(at, end)), at = end;
    }
    for (size_t end = n; end > 0;) {
      size_t begin = 0;
      while (begin + 1 < end && !is_word(begin, end)) ++begin;
      backward = str(c.part(begin, end), end < n ? " " : "", backward), end = begin;
    }
    CHECK(cut(Segmenter(Dictionary(c.words), SegmentMethod::forward), c.text()) == forward);
    CHECK(cut(Segmenter(Dictionary(c.words), SegmentMethod::backward), c.text()) == backward);
  }
}

TEST_CASE("segment: shortest has the fewest words, and of these the most probable") {
  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    const RandomCase c = random_case(random);
    const Dictionary d(c.words);
    // All ways, from the right: number of words and probability of the best one.
    struct Best {
      int words = 0;
      double weight = 0;
    };
    std::vector<Best> best(c.characters.size() + 1);
    for (size_t i = c.characters.size(); i-- > 0;) {
      best[i] = {best[i + 1].words + 1, best[i + 1].weight + std::max(d.weight(c.part(i, i + 1)), -d.log_total())};
      for (size_t end = i + 1; end <= c.characters.size(); ++end) {
        const double weight = d.weight(c.part(i, end)) + best[end].weight;
        const int words = best[end].words + 1;
        if (weight > -1e300 && (words < best[i].words || (words == best[i].words && weight > best[i].weight)))
          best[i] = {words, weight};
      }
    }
    std::vector<std::string_view> words;
    const std::string text = c.text();
    Segmenter(Dictionary(c.words), SegmentMethod::shortest).words(text, words);
    double weight = 0;
    for (const auto word : words) weight += std::max(d.weight(word), -d.log_total());
    CHECK(std::ssize(words) == best[0].words);
    CHECK(weight == doctest::Approx(best[0].weight).epsilon(1e-12));
  }
}

TEST_CASE("segment: a text cut at a boundary gives the same words, on lines of any length") {
  std::mt19937 random(5);
  const std::string pieces[] = {"中国", "人民", "民主", "，", "……",   "——", "3.14", "１７％", "GDP", "年",
                                " ",    "\t",   "\r\n", "\n", "\xFF", "𠀀", "(",    "·",      "、",  "2,000"};
  for (const SegmentMethod method : methods) {
    const Segmenter segmenter(Dictionary(few), method);
    for (int round = 0; round < 60; ++round) {
      std::string text;
      for (int i = 0; i < 60; ++i) text += pieces[random() % std::size(pieces)];
      std::vector<std::string_view> whole, parts;
      segmenter.words(text, whole);
      for (const auto part :
           cut_text(text, 1 + random() % 40, [&](std::string_view t, size_t at) { return segmenter.boundary(t, at); }))
        segmenter.words(part, parts);
      CHECK(whole == parts);

      // Nothing but white space is lost.
      std::string joined, expected;
      for (const auto word : whole) joined += word;
      for (size_t at = 0; at < text.size();) {
        const Utf8Char c = decode_utf8(std::string_view(text).substr(at));
        if (!(c.valid && separates_words(c.code))) expected += text.substr(at, static_cast<size_t>(c.length));
        at += static_cast<size_t>(c.length);
      }
      CHECK(joined == expected);
    }
  }
}

TEST_CASE("segment: lines stay, white space goes, broken bytes are replaced") {
  for (const SegmentMethod method : methods) {
    const Segmenter s(Dictionary(few), method);
    CHECK(cut(s, "") == "");
    CHECK(cut(s, "\n\n") == "\n\n");
    CHECK(cut(s, "人民中国\r\n  人\x1c\xE3\x80\x80民\n") == "人民 中国\n人 民\n");
    CHECK(cut(s, "人民\xFF人民") == "人民 \uFFFD 人民");
    std::string out;
    const auto totals = s.segment("人民\xFF\xFE\n", out);
    CHECK(totals.words == 3);
    CHECK(totals.broken_bytes == 2);
  }
}

TEST_CASE("segment: characters that only words without a count have") {
  for (const SegmentMethod method : methods) CHECK(cut(Segmenter(Dictionary({{{"人", 2}, {"民主", 0}, {"大", 0}}}), method), "大人民主").size() > 12);
}

TEST_CASE("segment: unigram takes numbers, Latin and runs of dots as a whole, and makes words of unknown characters") {
  const Segmenter s(Dictionary(few), SegmentMethod::unigram);
  CHECK(cut(s, "人民2022年3月1日中国") == "人民 2022年 3月 1日 中国");
  CHECK(cut(s, "人民１７．５％中国，COVID-19，90年代") == "人民 １７．５％ 中国 ， COVID-19 ， 90年代");
  CHECK(cut(s, "3.14.") == "3.14 .");
  CHECK(cut(s, "中国……人民——主") == "中国 …… 人民 —— 主");
  // Characters that begin, continue and end words of the dictionary, in words that it does not have.
  std::vector<WordCount> names;
  for (const char* word : {"斯里亚", "斯洛亚", "斯托亚", "斯托里亚", "斯洛托亚", "斯里洛亚"}) names.push_back({word, 1});
  names.push_back({"的", 30});
  CHECK(cut(Segmenter(Dictionary(names), SegmentMethod::unigram), "斯洛里亚的") == "斯洛里亚 的");
  CHECK(cut(Segmenter(Dictionary(names), SegmentMethod::dag), "斯洛里亚的") != "斯洛里亚 的");
}

TEST_CASE("segment: a model goes with dag alone, and its tables are checked") {
  const std::string start = "P={'B': -0.3, 'E': -3.14e+100, 'M': -3.14e+100, 'S': -1.4}", trans = "P={'B': {'E': -0.5}}",
                    emit = "P={'B': {'\\u4e2d': -3.5}, 'S': {\"国\": -2}}";
  CHECK(has(message_of([&] { Segmenter(Dictionary(few), SegmentMethod::forward, Hmm(start, trans, emit)); }), "--hmm"));
  const auto error = [&](const std::string& a, const std::string& b, const std::string& c) {
    return message_of([&] { Hmm(a, b, c); });
  };
  CHECK(error(start, trans, emit) == "no error");
  CHECK(has(error("", trans, emit), "[prob_start.py] expected a table"));
  CHECK(has(error("P={'B': -0.3}", trans, emit), "expected four states"));
  CHECK(has(error("P={'X': -0.3}", trans, emit), "one of the states"));
  CHECK(has(error(start, "P={'B': {'E': nan}}", emit), "[prob_trans.py] expected a number at byte 14"));
  CHECK(has(error(start, "P={'B': {'E': -0.5}", emit), "[prob_trans.py] expected '}'"));
  CHECK(has(error(start, trans, "P={'B': {'\\u4e2': -3.5}}"), "four digits"));
  CHECK(has(error(start, trans, "P={'B': {'\\ud800': -3.5}}"), "four digits"));
  CHECK(has(error(start, trans, "P={'B': {'中国': -3.5}}"), "one character"));
  CHECK(has(error(start, trans, "P={'B': {'中"), "a closing quote"));
  CHECK(has(error(start, trans, emit + " x"), "the end of the file"));
  CHECK(has(message_of([] { Hmm("/nowhere"); }), "[--hmm] expected a folder, got /nowhere"));
}

TEST_CASE("segment: scores are those of spans") {
  const SegmentScore s = score_segments("中国 人民 大\n人\n", "中 国 人民 大\n人\n");
  CHECK((s.gold == 4 && s.found == 5 && s.right == 3 && s.lines == 2 && s.differing_lines == 0));
  CHECK(s.precision() == doctest::Approx(0.6));
  CHECK(s.recall() == doctest::Approx(0.75));
  CHECK(s.f1() == doctest::Approx(2 * 0.6 * 0.75 / 1.35));
  const SegmentScore other = score_segments("中国\n人民", "中国\r\n人 名\n多");
  CHECK((other.lines == 3 && other.differing_lines == 2 && other.right == 1 && other.found == 4 && other.gold == 2));
  CHECK(score_segments("", "").f1() == 0);
}
