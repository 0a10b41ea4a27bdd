#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "data/text.h"
#include "tests/errors.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
namespace fs = std::filesystem;

namespace {

std::string message_of(const std::vector<std::string>& paths, double val_fraction = 0.1) {
  return test::message_of([&] { read_corpus(paths, val_fraction); });
}

}  // namespace

TEST_CASE("text: training and held-out parts make up every file, cut between characters") {
  const test::TempDir folder;
  const std::string path = folder / "poem.txt";
  for (const std::string& unit :
       {std::string("a"), std::string("é"), std::string("求"), std::string("\U0001F600"), std::string("\x80")}) {
    for (int length = 1; length < 25; ++length) {
      std::string text;
      for (int i = 0; i < length; ++i) text += unit;
      write_file(path, text);
      const Corpus corpus = read_corpus({path}, 0.1);
      std::string joined;
      for (const auto part : corpus.training) joined += part;
      const size_t held_out = text.size() - joined.size();
      for (const auto part : corpus.held_out) joined += part;
      CHECK(joined == text);
      CHECK(held_out >= text.size() / 10);
      CHECK(held_out < text.size() / 10 + 5);
      CHECK(held_out % unit.size() == 0);
    }
  }
  write_file(path, std::string(1000, 'x'));
  CHECK(read_corpus({path}, 0).held_out.empty());
  CHECK(text_bytes(read_corpus({path}, 0).training) == 1000);
  CHECK(text_bytes(read_corpus({path}, 0.25).held_out) == 250);
}

TEST_CASE("text: a folder gives its text files in the order of their names, each with its own held-out part") {
  const test::TempDir folder;
  fs::create_directories(folder / "b/deep");
  fs::create_directories(folder / ".git");
  write_file(folder / "c.txt", std::string(10, 'c'));
  write_file(folder / "a.txt", std::string(100000, 'a'));   // large enough to be mapped
  write_file(folder / "b/deep/d.txt", std::string(20, 'd'));
  write_file(folder / ".hidden", "secret");
  write_file(folder / ".git/config", "secret");
  write_file(folder / "empty.txt", "");
  write_file(folder / "picture.png", std::string("\x89PNG\0\0", 6) + std::string(100000, 'x'));
  fs::create_symlink("nowhere", folder / "dangling");
  fs::create_directory_symlink("..", folder / "b/circle");

  Corpus corpus = read_corpus({folder / "", folder / "c.txt"}, 0.1);
  REQUIRE(corpus.files.size() == 4);
  CHECK(has(corpus.files[0], "a.txt"));
  CHECK(has(corpus.files[1], "b/deep/d.txt"));
  CHECK(has(corpus.files[2], "c.txt"));
  CHECK(has(corpus.files[3], "c.txt"));
  REQUIRE(corpus.notes.size() == 2);
  CHECK(has(corpus.notes[0], "empty.txt: skipped, empty"));
  CHECK(has(corpus.notes[1], "picture.png: skipped, not a text file"));

  const Corpus moved = std::move(corpus);   // the parts stay where they are
  REQUIRE(moved.training.size() == 4);
  CHECK(moved.training[0] == std::string(90000, 'a'));
  CHECK(moved.held_out[0] == std::string(10000, 'a'));
  CHECK(moved.training[1] == std::string(18, 'd'));
  CHECK(moved.held_out[1] == "dd");
  CHECK(moved.training[2] == std::string(9, 'c'));
}

TEST_CASE("text: wrong input is named") {
  const test::TempDir folder;
  fs::create_directories(folder / "nothing/.hidden");
  write_file(folder / "nothing/binary", std::string(10, '\0'));
  write_file(folder / "empty", "");
  CHECK(has(message_of({folder / "missing.txt"}), "missing.txt"));
  CHECK(has(message_of({folder / "empty/x"}), "Not a directory"));
  CHECK(has(message_of({folder / "empty"}), "the file is empty"));
  CHECK(has(message_of({folder / "nothing"}), "found none"));
  CHECK(has(message_of({}), "at least one"));
  CHECK(has(message_of({folder / "empty"}, 1.0), "fraction"));
  CHECK(has(message_of({folder / "empty"}, -0.1), "fraction"));
  CHECK(has(message_of({folder / "empty"}, 0.0 / 0.0), "fraction"));

  const Corpus named = read_corpus({folder / "nothing/binary"}, 0);   // whoever names a file wants it
  CHECK(named.training.size() == 1);
  CHECK(named.notes.size() == 1);
}

TEST_CASE("text: broken bytes are counted over cuts") {
  std::string text;
  while (text.size() < 3 << 20) text += "求导 qd \xFF é";
  const std::string_view parts[] = {text, "\xE6\xB1", "fine"};
  const auto expected = std::count(text.begin(), text.end(), '\xFF') + 2;
  CHECK(broken_bytes(parts) == expected);
  CHECK(broken_bytes({}) == 0);
}

TEST_CASE("text: pieces grow until there is a place to cut") {
  const auto at_blanks = [](std::string_view text, size_t position) {
    return position >= text.size()                               ? text.size()
           : text.rfind(' ', position) == std::string_view::npos ? 0
                                                                 : text.rfind(' ', position);
  };
  const auto pieces = cut_text("ab cd efghijklmnopqrstuvw x", 6, at_blanks);
  std::string joined;
  for (const auto piece : pieces) joined += piece;
  CHECK(joined == "ab cd efghijklmnopqrstuvw x");
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[0] == "ab cd");
  const std::string long_line(1000, 'x');
  std::vector<size_t> seen;   // how much text there was to look at
  cut_text(long_line, 100, [&](std::string_view t, size_t position) { return seen.push_back(t.size()), position; });
  CHECK(seen == std::vector<size_t>{1000, 900, 800, 700, 600, 500, 400, 300, 200, 100});
  CHECK(cut_text("", 6).empty());
  CHECK(cut_text("求导求导", 1).size() == 4);
}
