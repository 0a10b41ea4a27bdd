// bin/words count: text in, words and how often they occur out.
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>

#include "apps/words/commands.h"
#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/parallel.h"
#include "data/lines.h"
#include "data/segment.h"
#include "data/word_counter.h"

namespace qd {
namespace {

struct CountFlags {
  std::vector<std::string> files;
  std::string by = "space", dict, strategy = "sharded", memory = "0", out;
  int64_t batch = 1000, top = 0, threads = 0;
  bool json = false;
};

// "2G", "500M", "64K", "1000000"
int64_t bytes_of(const std::string& text) {
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(stop, text.data() + text.size());
  const std::map<std::string, int> shifts = {{"", 0}, {"K", 10}, {"M", 20}, {"G", 30}};
  QD_CHECK(error == std::errc() && number >= 0 && number < (int64_t{1} << 32) && shifts.contains(unit), "--memory",
           str("expected bytes like 500M or 2G, got ", text), "K, M and G are powers of 1024; 0 is no limit");
  const int64_t bytes = number << shifts.at(unit);
  QD_CHECK(bytes == 0 || bytes >= 1 << 20, "--memory", str("expected at least 1M, got ", text),
           "every thread needs some room for its table");
  return bytes;
}

int count(const CountFlags& o) {
  QD_CHECK(!o.files.empty(), "words count", "expected files or folders of text, got none", "bin/words count book.txt --top 20");
  QD_CHECK(o.by == "word" || o.dict.empty(), "--dict", str("expected no dictionary beside --by ", o.by),
           "a dictionary goes with --by word");
  QD_CHECK(o.by != "word" || !o.dict.empty(), "--dict", "expected a dictionary beside --by word, got none",
           "bin/words discover text.txt --out dict.txt makes one");
  const std::map<std::string, CountStrategy> strategies = {
      {"direct", CountStrategy::direct}, {"batched", CountStrategy::batched}, {"sharded", CountStrategy::sharded}};
  if (o.threads > 0) set_threads(static_cast<int>(o.threads));
  CountOptions options{.strategy = strategies.at(o.strategy),
                       .batch = o.batch,
                       .memory = bytes_of(o.memory),
                       .split = split_at_space,
                       .boundary = space_boundary};
  std::optional<Segmenter> segmenter;
  if (o.by == "word") {
    segmenter.emplace(Dictionary(read_word_counts(o.dict), o.dict), SegmentMethod::unigram);
    split_with(*segmenter, options);
  }
  WordCounter words(options);
  CharacterCounter characters;

  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::max(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 1e-9);
  };
  int64_t bytes = 0, all_bytes = 0;
  Progress progress("counting");
  const auto add = [&](std::string_view block) {
    o.by == "char" ? characters.add(block) : words.add(block);
    bytes += std::ssize(block);
    progress.update(all_bytes > 0 ? static_cast<double>(bytes) / static_cast<double>(all_bytes) : 0,
                    str(std::round(static_cast<double>(bytes) / 1e5 / seconds()) / 10, " MB/s"));
  };
  const auto without_mark = [&](std::string_view text) {   // of the order of bytes, which some programs put first
    const bool marked = text.starts_with("\xEF\xBB\xBF");
    bytes += marked ? 3 : 0;
    return text.substr(marked ? 3 : 0);
  };
  std::error_code unknown;
  for (const std::string& path : o.files)
    if (std::filesystem::is_regular_file(path, unknown))
      all_bytes += static_cast<int64_t>(std::filesystem::file_size(path, unknown));
  for (const std::string& path : o.files) {
    if (std::filesystem::is_directory(path, unknown)) {
      const Corpus corpus = read_corpus({path}, 0);
      for (const std::string& note : corpus.notes) warn(note);
      all_bytes += text_bytes(corpus.training);
      for (const std::string_view text : corpus.training)
        for (const auto block : cut_text(without_mark(text), 4 << 20, after_line)) add(block);
    } else {
      bool begins = true;
      for_each_block(path, [&](std::string_view block) { add(begins ? without_mark(block) : block), begins = false; });
    }
  }
  progress.finish();

  std::string text;
  std::optional<AtomicFile> out;
  if (!o.out.empty()) out.emplace(o.out);
  const auto write = [&] {
    out ? out->write(text.data(), text.size()) : print(text);
    text.clear();
  };
  const auto tell = [&](const CountedWord& w) {
    text += w.word, text += ' ', text += std::to_string(w.count), text += '\n';
    if (text.size() > 1 << 20) write();
  };
  const auto summary = o.by == "char" ? characters.finish(o.top, tell) : words.finish(o.top, tell);
  write();
  if (out) out->commit();
  if (summary.broken_bytes > 0) warn(str(summary.broken_bytes, " bytes are not UTF-8 and became U+FFFD"));
  const double rate = static_cast<double>(bytes) / 1e6 / seconds();
  log(str(summary.total, " words, ", summary.distinct, " different, in ", bytes, " bytes: ", std::round(seconds() * 1000) / 1000,
          " s, ", std::round(rate * 10) / 10, " MB/s",
          summary.runs > 0 ? str("; ", summary.runs, " times the memory was full and counts went to a temporary file") : ""));
  if (o.json)
    print_json({{"total", summary.total},
                {"distinct", summary.distinct},
                {"bytes", bytes},
                {"seconds", seconds()},
                {"mb_per_second", rate},
                {"strategy", o.strategy},
                {"broken_bytes", summary.broken_bytes},
                {"runs", summary.runs}});
  return 0;
}

}  // namespace

void add_count(App& app) {
  static CountFlags o;
  app.command("count", "Count the words of a text", [] { return count(o); })
      .option("files", o.files, "FILE|DIR...", "text; - is standard input")
      .choice("--by", o.by, {"space", "char", "word"},
              "what a word is: what stands between white space, a character, or what a dictionary says")
      .option("--dict", o.dict, "FILE", "for --by word: lines `word count`")
      .choice("--strategy", o.strategy, {"direct", "batched", "sharded"},
              "a growing table for each thread; small tables for batches of lines; tables in parts that are added up at once")
      .option("--batch", o.batch, "N", "lines of a batch", from_to(1, 1e9))
      .option("--memory", o.memory, "BYTES", "2G: what does not fit goes to a temporary file; 0: no limit")
      .option("--top", o.top, "K", "the most frequent alone", at_least(1))
      .option("--out", o.out, "FILE", "lines `word count`, the most frequent first; without it standard output")
      .option("--threads", o.threads, "N", "0: all processors", from_to(0, 1024))
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
