// bin/tok encode: lines of text to lines of ids.
#include <charconv>
#include <vector>

#include "apps/tok/commands.h"
#include "apps/tok/convert.h"
#include "data/lines.h"
#include "core/file.h"
#include "core/parallel.h"
#include "data/text.h"

namespace qd {
namespace {

void append_ids(std::string& out, const std::vector<int32_t>& ids) {
  char digits[12];
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ' ';
    out.append(digits, std::to_chars(digits, digits + sizeof digits, ids[i]).ptr);
  }
}

int encode_whole(const ConvertOptions& o, const Tokenizer& tokenizer) {
  Totals totals;
  const std::string input = o.file == "-" ? read_file("-") : "";
  const MappedFile file = o.file == "-" ? MappedFile() : MappedFile(o.file);
  const std::string_view text = o.file == "-" ? input : file.text();
  for (const auto piece : cut_text(text, 16 << 20, [&](std::string_view t, size_t at) { return tokenizer.boundary(t, at); })) {
    const auto ids = tokenizer.encode(piece);
    std::string out = totals.tokens > 0 ? " " : "";
    append_ids(out, ids);
    print(out);
    totals.bytes += std::ssize(piece), totals.tokens += std::ssize(ids);
  }
  print("\n");
  totals.report(o.json, true);
  return 0;
}

// Every line by itself, without its line end. Parts of a block at once.
int encode(const ConvertOptions& o) {
  const auto tokenizer = o.tokenizer();
  if (o.whole) return encode_whole(o, *tokenizer);
  Totals totals;
  bool line_ended = true;
  struct Part {
    std::string out;
    int64_t bytes = 0, tokens = 0;
  };
  for_each_block(o.file, [&](std::string_view block) {
    const auto texts = cut_text(block, 1 << 16, after_line);
    std::vector<Part> parts(texts.size());
    parallel_tasks(std::ssize(texts), [&](int64_t i) {
      Part& part = parts[static_cast<size_t>(i)];
      for_each_line(texts[static_cast<size_t>(i)], [&](std::string_view line, bool ended) {
        const auto ids = tokenizer->encode(line);
        append_ids(part.out, ids);
        if (ended) part.out += '\n';
        part.bytes += std::ssize(line), part.tokens += std::ssize(ids);
      });
    });
    for (const Part& part : parts) {
      print(part.out);
      totals.bytes += part.bytes, totals.tokens += part.tokens;
    }
    line_ended = block.ends_with('\n');
  });
  totals.report(o.json, line_ended);
  return 0;
}

}  // namespace

void add_encode(App& app) {
  static ConvertOptions o;
  Command& command =
      app.command("encode", "Text to ids: for each line a line of ids with blanks between them", [] { return encode(o); });
  o.describe(command, "text; - is standard input", "take the text as one, line ends included, and print one line");
}

}  // namespace qd
