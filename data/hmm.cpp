#include "data/hmm.h"

#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/utf8.h"

namespace qd {
namespace {

constexpr std::string_view states = "BEMS";
constexpr double impossible = -3.14e100;   // jieba's logarithm of 0
constexpr const char* hint = "--hmm takes jieba's folder finalseg, with prob_start.py, prob_trans.py and prob_emit.py";

// Reads `P={'B': -0.26, ...}` and `P={'B': {'一': -3.6, ...}, ...}`: the little of Python that these files are written in.
class Reader {
 public:
  Reader(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {
    const size_t begin = text.find("P=");
    QD_CHECK(begin != std::string_view::npos, where_, "expected a table 'P={...}', got none", hint);
    at_ = begin + 2;
  }

  // f(key) for each entry, which reads the value.
  void entries(const std::function<void(std::string_view key)>& f) {
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      f(key);
      if (!accept(',')) {
        expect('}');
        return;
      }
    }
  }
  double number() {
    skip();
    double value = 0;
    const auto [stop, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    check(error == std::errc() && std::isfinite(value), "a number");
    at_ = static_cast<size_t>(stop - text_.data());
    return value;
  }
  void end() {
    skip();
    check(at_ == text_.size(), "the end of the file");
  }
  void check(bool holds, const char* expected) const {
    QD_CHECK(holds, where_, str("expected ", expected, " at byte ", at_, ", got '", printable(text_.substr(at_, 12)), "'"), hint);
  }

 private:
  void skip() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  bool accept(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    const char wanted[] = {'\'', c, '\'', 0};
    check(accept(c), wanted);
  }
  std::string quoted() {
    if (accept('u')) {
    }   // Python 2's mark of a text
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    std::string value;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_.substr(at_, 2) == "\\u") {
        uint32_t code = 0;
        const char* digits = text_.data() + at_ + 2;
        const auto [stop, error] = std::from_chars(digits, std::min(digits + 4, text_.data() + text_.size()), code, 16);
        check(error == std::errc() && stop == digits + 4 && code >> 11 != 0xD800 >> 11, "four digits behind \\u");
        append_utf8(value, code);
        at_ += 6;
      } else {
        check(text_[at_] != '\\' && text_[at_] != '\n', "a character");
        value += text_[at_++];
      }
    }
    check(at_ < text_.size(), "a closing quote");
    ++at_;
    return value;
  }

  std::string_view text_;
  std::string where_;
  size_t at_ = 0;
};

// {'B': ..., 'E': ..., ...}: f(state) reads each value.
void read_states(Reader& reader, const std::function<void(size_t state)>& f) {
  reader.entries([&](std::string_view key) {
    const size_t state = key.size() == 1 ? states.find(key[0]) : std::string_view::npos;
    reader.check(state != std::string_view::npos, "one of the states 'B', 'E', 'M' and 'S' before this");
    f(state);
  });
}

std::string read_table(const std::string& folder, const char* name) {
  QD_CHECK(std::filesystem::is_directory(folder), "--hmm", str("expected a folder, got ", folder), hint);
  return read_file((std::filesystem::path(folder) / name).string());
}

}  // namespace

Hmm::Hmm(const std::string& folder)
    : Hmm(read_table(folder, "prob_start.py"), read_table(folder, "prob_trans.py"), read_table(folder, "prob_emit.py")) {}

Hmm::Hmm(std::string_view start, std::string_view transitions, std::string_view emissions) {
  constexpr States nothing = {impossible, impossible, impossible, impossible};
  start_ = nothing;
  transition_.fill(nothing);
  emission_.assign(last - first + 1, nothing);

  Reader starts(start, "prob_start.py");
  int found = 0;
  read_states(starts, [&](size_t state) { start_[state] = starts.number(), ++found; });
  starts.check(found == 4, "four states");
  starts.end();

  Reader changes(transitions, "prob_trans.py");
  read_states(changes, [&](size_t from) { read_states(changes, [&](size_t to) { transition_[from][to] = changes.number(); }); });
  changes.end();

  Reader characters(emissions, "prob_emit.py");
  read_states(characters, [&](size_t state) {
    characters.entries([&](std::string_view key) {
      characters.check(!key.empty(), "a character before this");
      const Utf8Char c = decode_utf8(key);
      characters.check(c.valid && static_cast<size_t>(c.length) == key.size(), "one character before this");
      const double value = characters.number();
      if (covers(c.code)) emission_[c.code - first][state] = value;   // others are never asked for
    });
  });
  characters.end();
}

void Hmm::cut(const uint32_t* codes, size_t count, std::vector<uint32_t>& lengths) const {
  enum : uint8_t { B, E, M, S };
  constexpr uint8_t before[4][2] = {{S, E}, {M, B}, {M, B}, {S, E}};   // of B, E, M, S; the greater letter first
  thread_local std::vector<std::array<uint8_t, 4>> came_from;
  came_from.resize(count);
  States now{};
  for (size_t state = 0; state < 4; ++state) now[state] = start_[state] + emission_[codes[0] - first][state];
  for (size_t t = 1; t < count; ++t) {
    const States& emitted = emission_[codes[t] - first];
    States next{};
    for (size_t state = 0; state < 4; ++state) {
      const uint8_t a = before[state][0], b = before[state][1];
      const double by_a = now[a] + transition_[a][state] + emitted[state], by_b = now[b] + transition_[b][state] + emitted[state];
      came_from[t][state] = by_a >= by_b ? a : b;
      next[state] = by_a >= by_b ? by_a : by_b;
    }
    now = next;
  }
  // From the end: a word ends at each E and S, and goes on to the left at M and B.
  uint8_t state = now[S] >= now[E] ? S : E;
  const size_t old = lengths.size();
  uint32_t length = 0;
  for (size_t t = count; t-- > 0;) {
    ++length;
    if (state == B || state == S) lengths.push_back(length), length = 0;
    if (t > 0) state = came_from[t][state];
  }
  if (length > 0) lengths.push_back(length);   // begins with M or E, where B is impossible
  for (size_t i = old, j = lengths.size(); i + 1 < j; ++i) std::swap(lengths[i], lengths[--j]);
}

}  // namespace qd
