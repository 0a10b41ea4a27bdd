// bin/words segment: text in, the same text with a blank between its words out.
#include <chrono>
#include <cmath>
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
  int64_t bytes = 0, words = 0;
  size_t broken = 0;
  bool line_begins = true;
  for_each_block(o.file, [&](std::string_view block) {
    bytes += std::ssize(block);
    std::string repaired;
    if (count_invalid_utf8(block) > 0) {
      repaired = block;
      broken += repair_utf8(repaired);
      block = repaired;
    }
    const auto texts = cut_text(block, 1 << 16, [&](std::string_view t, size_t at) { return segmenter.boundary(t, at); });
    std::vector<std::string> parts(texts.size());
    std::vector<int64_t> counts(texts.size());
    parallel_tasks(std::ssize(texts), [&](int64_t i) {
      const auto part = static_cast<size_t>(i);
      parts[part].reserve(texts[part].size() * 3 / 2);
      counts[part] = segmenter.segment(texts[part], parts[part]);
    });
    std::string out;
    for (const std::string& part : parts) {
      if (part.empty()) continue;
      if (!line_begins && part.front() != '\n') out += ' ';
      out += part;
      line_begins = part.back() == '\n';
    }
    for (const int64_t count : counts) words += count;
    print(out);
  });
  const double seconds = seconds_since(start);
  if (o.json && !line_begins) print("\n");
  if (broken > 0) warn(str(broken, " bytes are not UTF-8 and became U+FFFD"));
  const double rate = static_cast<double>(bytes) / 1e6 / std::max(seconds, 1e-9);
  log(str(words, " words in ", bytes, " bytes: ", std::round(seconds * 1000) / 1000, " s, ", std::round(rate * 10) / 10,
          " MB/s; the dictionary took ", std::round(loaded * 1000) / 1000, " s"));
  if (o.json)
    print_json({{"words", words}, {"bytes", bytes}, {"seconds", seconds}, {"mb_per_second", rate}, {"load_seconds", loaded}, {"broken_bytes", static_cast<int64_t>(broken)}});
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
