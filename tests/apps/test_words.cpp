// bin/words and bin/lab as their users meet them.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "tests/apps/run_app.h"
#include "tests/errors.h"

using namespace qd;
using nlohmann::json;
using test::has;
using test::Outcome;

namespace {

struct Place : test::Workplace {
  Outcome words(test::Arguments arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), "words");
    return run(arguments, input);
  }
};

// Sentences of few words.
std::string some_text() {
  std::string text;
  std::mt19937 random(1);
  const char* parts[] = {"中国", "喜欢", "大会", "人民", "天气", "的",   "在", "北京",
                         "和",   "是",   "不",   "很好", "今天", "我们", "他"};
  for (int i = 0; i < 500; ++i) {
    for (int j = 0; j < 6; ++j) text += parts[random() % std::size(parts)];
    text += i % 3 ? "，" : "。\n";
  }
  return text;
}

}  // namespace

TEST_CASE("words: from a text to its words to a cut text to a score") {
  if (!test::is_built("words")) return;
  const Place at;
  write_file(at / "text.txt", some_text());
  for (const std::string method : {"cut", "entropy", "ngram", "best"}) {
    const Outcome found = at.words({"discover", "text.txt", "--method", method, "--min-count", "5", "--min-entropy", "0.1",
                                    "--out", "dict.txt", "--scores", "scores.txt", "--json"});
    CAPTURE(found.err);
    REQUIRE(found.status == 0);
    const json result = json::parse(found.last_line());
    CHECK(result["method"] == method);
    const std::string dictionary = read_file(at / "dict.txt");
    CHECK(result["words"] == std::count(dictionary.begin(), dictionary.end(), '\n'));
    CHECK(has(read_file(at / "scores.txt"), "word\tcount\tcohesion\tleft_entropy\tright_entropy\n"));
    if (method == "best") CHECK(has(dictionary, "北京 "));
  }
  for (const std::string method : {"unigram", "dag", "fmm", "bmm", "shortest"}) {
    const Outcome cut = at.words({"segment", "--dict", "dict.txt", "--method", method, "text.txt"});
    CHECK(cut.status == 0);
    std::string plain;
    for (const char c : cut.out)
      if (c != ' ') plain += c;
    CHECK(plain == some_text());
    CHECK(at.words({"segment", "--dict", "dict.txt", "--method", method}, some_text()).out == cut.out);   // standard input
    write_file(at / "cut.txt", cut.out);
    const Outcome same = at.words({"score", "cut.txt", "cut.txt", "--json"});
    CHECK(json::parse(same.last_line())["f1"] == 1.0);
  }
}

TEST_CASE("words: scores are those of spans, lines that differ are told") {
  if (!test::is_built("words")) return;
  const Place at;
  write_file(at / "gold.txt", "中国 人民 大\n人\n");
  write_file(at / "result.txt", "中 国 人民 大\n民\n");
  const Outcome scored = at.words({"score", "gold.txt", "result.txt", "--json"});
  REQUIRE(scored.status == 0);
  const json result = json::parse(scored.last_line());
  CHECK(result["precision"].get<double>() == doctest::Approx(2.0 / 5));
  CHECK(result["recall"].get<double>() == doctest::Approx(2.0 / 4));
  CHECK(result["differing_lines"] == 1);
  CHECK(scored.says("1 of 2 lines have other characters"));
}

TEST_CASE("words: counts of files, folders and standard input, in any way the same") {
  if (!test::is_built("words")) return;
  const Place at;
  std::filesystem::create_directory(at / "folder");
  write_file(at / "folder/a.txt",
             "\xEF\xBB\xBF"
             "b a\r\n\na b b");
  write_file(at / "folder/b.txt", "a\xE3\x80\x80\xFF\n");
  const std::string expected = "a 3\nb 3\n\uFFFD 1\n";
  for (const std::string strategy : {"direct", "batched", "sharded"})
    for (const std::string memory : {"0", "1M"}) {
      const Outcome counted = at.words({"count", "folder", "--strategy", strategy, "--memory", memory, "--batch", "1"});
      CHECK(counted.status == 0);
      CHECK(counted.out == expected);
      CHECK(counted.says("1 bytes are not UTF-8"));
    }
  CHECK(at.words({"count", "folder/a.txt", "folder/b.txt", "--top", "1"}).out == "a 3\n");
  CHECK(at.words({"count", "-", "--by", "char"}, "中国 中\n").out == "中 2\n国 1\n");
  CHECK(at.words({"count", "-"}, "").out == "");
  write_file(at / "dict.txt", "中国 3\n人民 2\n");
  const Outcome by_word =
      at.words({"count", "-", "--by", "word", "--dict", "dict.txt", "--out", "counts.txt", "--json"}, "中国人民中国\n");
  CHECK(by_word.status == 0);
  CHECK(read_file(at / "counts.txt") == "中国 2\n人民 1\n");
  const json result = json::parse(by_word.last_line());
  CHECK((result["total"] == 3 && result["distinct"] == 2 && result["broken_bytes"] == 0));
  const Outcome broken = at.words({"count", "-", "--by", "word", "--dict", "dict.txt", "--json"}, "中国\xFF\xE4\xB8人民\n\xFF中国");
  CHECK(broken.status == 0);
  CHECK(test::has(broken.out, "中国 2\n"));
  CHECK(test::has(broken.out, "\uFFFD 4\n"));
  CHECK(json::parse(broken.last_line())["broken_bytes"] == 4);
}

TEST_CASE("words: a line that is cut to be worked on by several threads stays one line") {
  if (!test::is_built("words")) return;
  const Place at;
  std::string line;
  while (line.size() < 700'000) line += "中国人民，喜欢北京，3.14！";
  write_file(at / "dict.txt", "中国 3\n人民 2\n喜欢 2\n北京 2\n");
  const Outcome cut = at.words({"segment", "--dict", "dict.txt", "--threads", "2"}, line);
  CHECK(cut.status == 0);
  CHECK(has(cut.out, "中国 人民 ， 喜欢 北京 ， 3.14 ！ 中国"));
  CHECK(std::count(cut.out.begin(), cut.out.end(), '\n') == 0);
  CHECK(std::count(cut.out.begin(), cut.out.end(), ' ') ==
        8 * static_cast<int64_t>(line.size() / std::string("中国人民，喜欢北京，3.14！").size()) - 1);
}

TEST_CASE("words: what is wrong is named, with a hint, and nothing is written") {
  if (!test::is_built("words")) return;
  const Place at;
  write_file(at / "text.txt", "中国 人民\n");
  write_file(at / "dict.txt", "中国 3\n");
  write_file(at / "bad.txt", "中国 x\n");
  write_file(at / "empty.txt", "");
  std::filesystem::create_directory(at / "folder");
  const std::pair<test::Arguments, const char*> cases[] = {
      {{"segment", "text.txt"}, "[--dict] expected a dictionary"},
      {{"segment", "--dict", "nowhere", "text.txt"}, "nowhere"},
      {{"segment", "--dict", "bad.txt", "text.txt"}, "[bad.txt, line 1]"},
      {{"segment", "--dict", "empty.txt", "text.txt"}, "empty dictionary"},
      {{"segment", "--dict", "dict.txt", "nowhere"}, "nowhere"},
      {{"segment", "--dict", "dict.txt", "--method", "dog", "text.txt"}, "dag"},
      {{"segment", "--dict", "dict.txt", "--hmm", "folder", "text.txt"}, "[folder/prob_"},
      {{"segment", "--dict", "dict.txt", "--hmm", "nowhere", "--method", "dag", "text.txt"}, "[--hmm] expected a folder"},
      {{"segment", "--dict", "dict.txt", "--threads", "-1", "text.txt"}, "--threads"},
      {{"score", "text.txt"}, "GOLD and RESULT"},
      {{"score", "empty.txt", "text.txt"}, "empty.txt"},
      {{"count"}, "expected files"},
      {{"count", "nowhere"}, "nowhere"},
      {{"count", "folder"}, "text files"},
      {{"count", "text.txt", "--memory", "2X"}, "--memory"},
      {{"count", "text.txt", "--memory", "1K"}, "at least 1M"},
      {{"count", "text.txt", "--top", "0"}, "--top"},
      {{"count", "text.txt", "--batch", "0"}, "--batch"},
      {{"count", "text.txt", "--by", "word"}, "--dict"},
      {{"count", "text.txt", "--dict", "dict.txt"}, "--by"},
      {{"count", "text.txt", "--out", "folder/none/counts.txt"}, "folder/none"},
      {{"discover"}, "expected files"},
      {{"discover", "empty.txt"}, "empty.txt"},
      {{"discover", "text.txt", "--max-length", "9"}, "--max-length"},
      {{"discover", "text.txt", "--min-count", "-2"}, "--min-count"},
      {{"discover", "text.txt", "--method", "cut", "--min-count", "1", "--out", "/dev/full"}, "/dev/full"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.second);
    const Outcome outcome = at.words(c.first);
    CAPTURE(outcome.err);
    CHECK(outcome.status == 1);
    CHECK(outcome.says(c.second));
    CHECK(outcome.out == "");
  }
  CHECK_FALSE(std::filesystem::exists(at / "folder/none"));
}

TEST_CASE("lab: verdicts as JSON, a page, and the experiments that are asked for") {
  if (!test::is_built("lab")) return;
  const Place at;
  const Outcome outcome = at.run({"lab", "words", "--only", "V4,V6", "--out", "page", "--json"});
  CAPTURE(outcome.err);
  REQUIRE(outcome.status == 0);
  const json list = json::parse(outcome.last_line());
  REQUIRE(list.size() == 2);
  CHECK((list[0]["id"] == "V4" && list[0]["verdict"] == "PASS" && list[1]["id"] == "V6" && list[1]["verdict"] == "SKIPPED"));
  for (const char* key : {"claim", "criterion", "figures"}) CHECK(list[0].contains(key));
  CHECK(has(read_file(at / "page/report.html"), "Backtracking"));
  const Outcome wrong = at.run({"lab", "words", "--only", "V9"});
  CHECK(wrong.status == 1);
  CHECK(wrong.says("[--only] expected experiments of words, got 'V9'"));
}
