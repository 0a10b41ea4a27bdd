// bin/tok decode: lines of ids to lines of text.
#include <charconv>
#include <vector>

#include "apps/tok/commands.h"
#include "apps/tok/convert.h"
#include "data/lines.h"
#include "core/error.h"
#include "core/log.h"

namespace qd {
namespace {

// The ids of a line. `where` is told when they are none.
void parse_ids(std::string_view line, int64_t vocabulary, const std::string& file, int64_t number, std::vector<int32_t>& ids) {
  constexpr std::string_view blanks = " \t\r";
  ids.clear();
  for (size_t at = 0; (at = line.find_first_not_of(blanks, at)) != std::string_view::npos;) {
    const std::string_view word = line.substr(at, line.find_first_of(blanks, at) - at);
    int32_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    QD_CHECK(
        error == std::errc() && end == word.data() + word.size() && id >= 0 && id < vocabulary, str(file, ": line ", number),
        str("expected ids from 0 to ", vocabulary - 1, " with blanks between them, got '", printable(word.substr(0, 40)), "'"),
        "--model must be the tokenizer that made the ids");
    ids.push_back(id);
    at += word.size();
  }
}

int decode(const ConvertOptions& o) {
  const auto tokenizer = o.tokenizer();
  Totals totals;
  std::vector<int32_t> ids;
  bool line_ended = true;
  int64_t number = 0;
  for_each_block(o.file, [&](std::string_view block) {
    std::string out;
    for_each_line(block, [&](std::string_view line, bool ended) {
      parse_ids(line, tokenizer->size(), o.file == "-" ? "standard input" : o.file, ++number, ids);
      const std::string text = tokenizer->decode(ids);
      out += text;
      if (ended && !o.whole) out += '\n';
      totals.bytes += std::ssize(text), totals.tokens += std::ssize(ids);
    });
    print(out);
    if (!out.empty()) line_ended = out.ends_with('\n');
  });
  totals.report(o.json, line_ended);
  return 0;
}

}  // namespace

void add_decode(App& app) {
  static ConvertOptions o;
  Command& command =
      app.command("decode", "Ids to text: what encode made becomes the same bytes again", [] { return decode(o); });
  o.describe(command, "lines of ids; - is standard input", "the ids are those of encode --whole: their line ends mean nothing");
}

}  // namespace qd
