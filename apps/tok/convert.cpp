// bin/tok encode, bin/tok decode: lines of text to lines of ids and back.
#include <charconv>
#include <chrono>
#include <cmath>

#include "apps/tok/commands.h"
#include "apps/tok/lines.h"
#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/parallel.h"
#include "data/text.h"
#include "data/tokenizer.h"

namespace qd {
namespace {

struct ConvertOptions {
  std::string model, file = "-";
  bool whole = false, json = false;
  int64_t threads = 0;
};

std::unique_ptr<Tokenizer> tokenizer_of(const ConvertOptions& o) {
  QD_CHECK(!o.model.empty(), "--model", "expected a folder with a tokenizer, got none", "bin/tok train makes one");
  if (o.threads > 0) set_threads(static_cast<int>(o.threads));
  return load_tokenizer(o.model);
}

// What went through, told at the end.
struct Totals {
  int64_t bytes = 0, tokens = 0;   // of text without the line ends that stand for themselves
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

  void report(const ConvertOptions& o, bool line_ended) const {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double per_token = tokens > 0 ? static_cast<double>(bytes) / static_cast<double>(tokens) : 0;
    log(str(bytes, " bytes, ", tokens, " tokens, ", std::round(per_token * 1000) / 1000, " bytes per token, ",
            std::round(static_cast<double>(bytes) / seconds / 1e5) / 10, " MB/s"));
    if (o.json && !line_ended) print("\n");
    if (o.json)
      print_json({{"bytes", bytes}, {"tokens", tokens}, {"bytes_per_token", per_token}, {"seconds", seconds}});
  }
};

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
  totals.report(o, true);
  return 0;
}

// Every line by itself, without its line end. Parts of a block at once.
int encode(const ConvertOptions& o) {
  const auto tokenizer = tokenizer_of(o);
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
  totals.report(o, line_ended);
  return 0;
}

// The ids of a line. `where` is told when they are none.
void parse_ids(std::string_view line, int64_t vocabulary, const std::string& file, int64_t number, std::vector<int32_t>& ids) {
  constexpr std::string_view blanks = " \t\r";
  ids.clear();
  for (size_t at = 0; (at = line.find_first_not_of(blanks, at)) != std::string_view::npos;) {
    const std::string_view word = line.substr(at, line.find_first_of(blanks, at) - at);
    int32_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    QD_CHECK(error == std::errc() && end == word.data() + word.size() && id >= 0 && id < vocabulary, str(file, ": line ", number),
             str("expected ids from 0 to ", vocabulary - 1, " with blanks between them, got '", printable(word.substr(0, 40)), "'"),
             "--model must be the tokenizer that made the ids");
    ids.push_back(id);
    at += word.size();
  }
}

int decode(const ConvertOptions& o) {
  const auto tokenizer = tokenizer_of(o);
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
  totals.report(o, line_ended);
  return 0;
}

void describe(Command& command, ConvertOptions& o, const char* file, const char* whole) {
  command.option("--model", o.model, "DIR", tokenizer_help)
      .option("file", o.file, "FILE|-", file)
      .flag("--whole", o.whole, whole)
      .option("--threads", o.threads, "N", "0: all processors", from_to(0, 1024))
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace

void add_encode(App& app) {
  static ConvertOptions o;
  Command& command = app.command("encode", "Text to ids: for each line a line of ids with blanks between them", [] { return encode(o); });
  describe(command, o, "text; - is standard input", "take the text as one, line ends included, and print one line");
}

void add_decode(App& app) {
  static ConvertOptions o;
  Command& command = app.command("decode", "Ids to text: what encode made becomes the same bytes again", [] { return decode(o); });
  describe(command, o, "lines of ids; - is standard input", "the ids are those of encode --whole: their line ends mean nothing");
}

}  // namespace qd
