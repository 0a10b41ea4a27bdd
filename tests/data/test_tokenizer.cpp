#include <doctest/doctest.h>

#include <random>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/tokenizer.h"
#include "tests/errors.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;

namespace {

std::unique_ptr<Tokenizer> trained_on(const std::string& kind, std::string_view text) { return make_tokenizer(kind, {&text, 1}); }

// Text, broken text and plain noise, mixed.
std::string random_bytes(std::mt19937& random, size_t size) {
  const std::string pieces[] = {
      "a", "\n", "é", "求", "导", "\U0001F600", "\x80", "\xFF", "\xE6\xB1", "\xED\xA0\x80", std::string(1, '\0')};
  std::string text;
  while (text.size() < size) {
    if (random() % 4) {
      text += pieces[random() % std::size(pieces)];
    } else {
      text += static_cast<char>(random());
    }
  }
  return text;
}

std::string failure(const std::string& folder) {
  return test::message_of([&] { load_tokenizer(folder); });
}

}  // namespace

TEST_CASE("tokenizer: any bytes survive, with any vocabulary, before and after saving") {
  std::mt19937 random(3);
  const test::TempDir dictionaries;
  write_file(dictionaries / "dict.txt", "求 3\n求导 5\né 2\na\xC3\xA9 1\nab 4\n0 1\n");
  for (const std::string& kind : {std::string("byte"), std::string("char"), std::string("bpe:259"), str("word:", dictionaries / "dict.txt")}) {
    const test::TempDir folder;
    for (int round = 0; round < (kind == "bpe:259" ? 10 : 100); ++round) {   // of more files
      const auto tokenizer = trained_on(kind, random_bytes(random, random() % 60) + "abab abab");
      tokenizer->save(folder / "");
      const auto again = load_tokenizer(folder / "");
      CHECK(again->kind() == kind.substr(0, kind.find(':')));
      CHECK(again->size() == tokenizer->size());

      const std::string text = random_bytes(random, random() % 200);
      const auto ids = tokenizer->encode(text);
      for (const int32_t id : ids) CHECK((id >= 0 && id < tokenizer->size()));
      CHECK(tokenizer->decode(ids) == text);
      CHECK(again->encode(text) == ids);
      CHECK(again->decode(ids) == text);
    }
  }
}

TEST_CASE("tokenizer: layout of the character vocabulary") {
  const auto tokenizer = trained_on("char", "b求b导导éa\xFF");
  CHECK(tokenizer->size() == 256 + 3);
  CHECK(tokenizer->bytes(256) == "导");   // twice
  CHECK(tokenizer->bytes(257) == "é");    // once, the lower code point first
  CHECK(tokenizer->bytes(258) == "求");
  CHECK(tokenizer->bytes('b') == "b");
  CHECK(tokenizer->bytes(255) == "\xFF");
  CHECK(tokenizer->encode("b求\xFFü") == std::vector<int32_t>{'b', 258, 0xFF, 0xC3, 0xBC});
  CHECK(trained_on("char", "plain")->size() == 256);
  CHECK(trained_on("byte", "求")->size() == 256);
  CHECK(trained_on("char", "")->encode("").empty());

  // U+FFFD is a character like any other and not what broken bytes become
  const auto replacement = trained_on("char", "\uFFFD");
  CHECK(replacement->encode("\xEF\xBF\xBD") == std::vector<int32_t>{256});
  CHECK(replacement->encode("\xFF") == std::vector<int32_t>{0xFF});
}

TEST_CASE("tokenizer: every character at once") {
  std::string all;
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (code < 0xD800 || code >= 0xE000) append_utf8(all, code);
  }
  const test::TempDir folder;
  trained_on("char", all)->save(folder / "");
  const auto tokenizer = load_tokenizer(folder / "");
  CHECK(tokenizer->size() == 0x110000 - 0x800 + 128);
  CHECK(tokenizer->decode(tokenizer->encode(all)) == all);
}

TEST_CASE("tokenizer: the same ids on one thread and on several") {
  std::mt19937 random(4);
  const std::string text = random_bytes(random, 1 << 20);
  const auto tokenizer = trained_on("char", text);
  const int before = threads();
  set_threads(1);
  const auto one = tokenizer->encode(text);
  set_threads(3);
  const auto three = tokenizer->encode(text);
  set_threads(before);
  CHECK(one == three);
  CHECK(tokenizer->decode(one) == text);

  std::vector<int32_t> small;   // pieces do not show
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = utf8_boundary(text, begin + 1000);
    const auto part = tokenizer->encode(std::string_view(text).substr(begin, end - begin));
    small.insert(small.end(), part.begin(), part.end());
  }
  CHECK(small == one);
}

TEST_CASE("tokenizer: wrong requests and hostile files are refused") {
  const test::TempDir folder;
  const std::string path = folder / "qiudao_tokenizer.json", here = folder / "";
  CHECK_THROWS_WITH(make_tokenizer("bpp", {}), doctest::Contains("byte, char"));
  CHECK_THROWS_WITH(make_tokenizer("word:/nowhere", {}), doctest::Contains("/nowhere"));
  const auto bytes = make_tokenizer("byte", {});
  for (const int32_t id : {-1, 256, INT32_MAX, INT32_MIN})
    CHECK_THROWS_WITH(bytes->decode({&id, 1}), doctest::Contains(std::to_string(id).c_str()));
  CHECK(has(failure(here), "qiudao_tokenizer.json"));
  CHECK(has(failure(folder / "missing"), "missing"));

  const std::string head = R"({"format":"qiudao tokenizer","version":1,)";
  const std::pair<std::string, const char*> cases[] = {
      {"", "JSON"},
      {"[]", "array"},
      {"{}", "format"},
      {R"({"format":7})", "JSON"},
      {R"({"format":"qiudao tokenizer"})", "version"},
      {R"({"format":"qiudao tokenizer","version":2,"kind":"byte"})", "version"},
      {head + R"("kind":"piece"})", "piece"},
      {head + R"("kind":"word"})", "JSON"},
      {head + R"("kind":"word","dictionary":"","characters":""})", "empty dictionary"},
      {head + R"("kind":"word","dictionary":"中国 x\n","characters":""})", "line 1"},
      {head + R"("kind":7})", "JSON"},
      {head + R"("kind":"char"})", "characters"},
      {head + R"("kind":"char","characters":["é"]})", "JSON"},
      {head + R"("kind":"char","characters":"éxé"})", "beyond ASCII"},
      {head + R"("kind":"char","characters":"é求é"})", "256 and 258"},
      {head + "\"kind\":\"char\",\"characters\":\"\xFF\"}", "JSON"},
      {head + R"("kind":"char","characters":"\ud800"})", "JSON"},
      {head + R"("kind":"char","characters":"é)", "JSON"},
      {std::string(100000, '['), "JSON"},
      {std::string(17 << 20, ' '), "at most"},
  };
  for (const auto& c : cases) {
    write_file(path, c.first);
    CAPTURE(c.first.substr(0, 100));
    CHECK(has(failure(here), c.second));
    CHECK(has(failure(here), path));
  }
  write_file(path, head + R"("kind":"char","characters":"\u00e9\ud83d\ude00"})");   // escapes are as good
  CHECK(load_tokenizer(here)->bytes(257) == "\U0001F600");
}
