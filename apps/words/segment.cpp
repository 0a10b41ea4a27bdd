// bin/words segment: text in, the same text with a blank between its words out.
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <vector>

#include "apps/words/commands.h"
#include "core/error.h"
#include "core/log.h"
#include "core/parallel.h"
#include "data/lines.h"
#include "data/segment.h"
#include "data/text.h"

namespace qd {
namespace {

struct SegmentOptions {
  std::string dict, method = "unigram", hmm, file = "-";
  int64_t threads = 0;
  bool json = false;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int segment(const SegmentOptions& o) {
  static const std::map<std::string, SegmentMethod> methods = {{"unigram", SegmentMethod::unigram},
                                                               {"dag", SegmentMethod::dag},
                                                               {"fmm", SegmentMethod::forward},
                                                               {"bmm", SegmentMethod::backward},
                                                               {"shortest", SegmentMethod::shortest}};
  QD_CHECK(!o.dict.empty(), "--dict", "expected a dictionary, got none", "bin/words discover text.txt --out dict.txt makes one");
  if (o.threads > 0) set_threads(static_cast<int>(o.threads));
  const auto loading = Clock::now();
  std::optional<Hmm> hmm;
  if (!o.hmm.empty()) hmm.emplace(o.hmm);
  const Segmenter segmenter(Dictionary(read_word_counts(o.dict), o.dict), methods.at(o.method), std::move(hmm));
  const double loaded = seconds_since(loading);

  const auto start = Clock::now();
  int64_t bytes = 0, words = 0, broken = 0;
  bool line_begins = true;
  std::vector<std::string> parts;   // their memory serves again
  std::vector<Segmenter::Totals> totals;
  std::error_code unknown;   // standard input has no size
  const auto all_bytes = std::filesystem::is_regular_file(o.file, unknown) ? std::filesystem::file_size(o.file, unknown) : 0;
  Progress progress("cutting");
  for_each_block(o.file, [&](std::string_view block) {
    bytes += std::ssize(block);
    const auto texts = cut_text(block, 1 << 16, [&](std::string_view t, size_t at) { return segmenter.boundary(t, at); });
    parts.resize(std::max(parts.size(), texts.size()));
    totals.resize(texts.size());
    parallel_tasks(std::ssize(texts), [&](int64_t task) {
      const auto i = static_cast<size_t>(task);
      parts[i].clear();
      totals[i] = segmenter.segment(texts[i], parts[i]);
    });
    for (size_t i = 0; i < texts.size(); ++i) {
      words += totals[i].words, broken += totals[i].broken_bytes;
      if (parts[i].empty()) continue;
      if (!line_begins && parts[i].front() != '\n') print(" ");   // a line that was cut
      print(parts[i]);
      line_begins = parts[i].back() == '\n';
    }
    progress.update(all_bytes > 0 ? static_cast<double>(bytes) / static_cast<double>(all_bytes) : 0,
                    str(std::round(static_cast<double>(bytes) / 1e5 / seconds_since(start)) / 10, " MB/s"));
  });
  progress.finish();
  const double seconds = seconds_since(start);
  if (o.json && !line_begins) print("\n");
  if (broken > 0) warn(str(broken, " bytes are not UTF-8 and became U+FFFD"));
  const double rate = static_cast<double>(bytes) / 1e6 / std::max(seconds, 1e-9);
  log(str(words, " words in ", bytes, " bytes: ", std::round(seconds * 1000) / 1000, " s, ", std::round(rate * 10) / 10,
          " MB/s; the dictionary took ", std::round(loaded * 1000) / 1000, " s"));
  if (o.json)
    print_json({{"words", words},
                {"bytes", bytes},
                {"seconds", seconds},
                {"mb_per_second", rate},
                {"load_seconds", loaded},
                {"broken_bytes", broken}});
  return 0;
}

}  // namespace

void add_segment(App& app) {
  static SegmentOptions o;
  app.command("segment", "Cut text into words: one blank between them, lines as they are", [] { return segment(o); })
      .option("file", o.file, "FILE|-", "text; - is standard input")
      .option("--dict", o.dict, "FILE", "lines `word count`, as discover writes them; jieba's dict.txt is one")
      .choice("--method", o.method, {"unigram", "dag", "fmm", "bmm", "shortest"},
              "unigram: our best; dag: jieba's; fmm, bmm: longest word from the left, from the right; shortest: fewest words")
      .option("--hmm", o.hmm, "DIR", "jieba's folder finalseg, for words that are not in the dictionary, beside --method dag")
      .option("--threads", o.threads, "N", "0: all processors", from_to(0, 1024))
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
