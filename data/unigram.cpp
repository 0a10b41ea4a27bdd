#include "data/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>

#include "data/grams.h"
#include "data/unicode.h"

namespace qd {
namespace {

constexpr double impossible = -1e300;

bool in(std::u32string_view set, uint32_t code) { return set.find(code) != std::u32string_view::npos; }
uint32_t half_width(uint32_t code) { return code >= 0xFF01 && code <= 0xFF5E ? code - 0xFEE0 : code; }

}  // namespace

Unigram::Kind Unigram::kind(uint32_t code) {
  if (is_chinese(code)) return chinese;
  const uint32_t half = half_width(code);
  if (half >= '0' && half <= '9') return digit;
  if (is_letter(code) || is_mark(code)) return latin;
  if (in(U".,-/:_&@+#'", code) || in(U"．－／＆＠", code)) return joiner;
  return in(U"%％‰℃°", code) ? per : other;
}

bool Unigram::repeats(uint32_t code) { return in(U"…—─―", code); }

Unigram::Unigram(const Dictionary& dictionary, bool unknown_words) : dictionary_(dictionary), unknown_words_(unknown_words) {
  const Dictionary::Node* nodes = dictionary.nodes();
  // Every word of the dictionary counts once: rare words tell how unknown ones are spelled.
  std::vector<uint16_t> word;
  std::array<double, longest + 1> lengths{};
  std::vector<std::array<double, 4>> counts(dictionary.characters() + 1);   // by letter and place
  for (int32_t node = 1; node < dictionary.places(); ++node) {
    if (nodes[node].parent == Dictionary::none || !dictionary.is_word(node)) continue;
    word.clear();
    for (int32_t at = node; at != Dictionary::root; at = nodes[at].parent)
      word.push_back(static_cast<uint16_t>(at - nodes[nodes[at].parent].children));   // from the end on
    if (word.size() > longest) continue;
    ++lengths[word.size()];
    for (size_t i = 0; i < word.size(); ++i) {
      const size_t place = word.size() == 1 ? 3 : i == 0 ? 2 : i + 1 == word.size() ? 0 : 1;
      ++counts[word[i]][place];
    }
  }
  const auto kinds = static_cast<double>(dictionary.size()), tokens = static_cast<double>(dictionary.total());
  double all_lengths = 0;
  for (const double count : lengths) all_lengths += count + 1;
  for (size_t n = 1; n <= longest; ++n)
    length_[n] = std::log(kinds / (kinds + tokens)) + std::log((lengths[n] + 1) / all_lengths);
  run_ = length_[1];

  std::array<double, 4> totals{};
  for (const auto& count : counts)
    for (size_t place = 0; place < 4; ++place) totals[place] += count[place] + 0.5;
  for (const auto& count : counts) {
    const auto log_of = [&](size_t place) { return std::log((count[place] + 0.5) / totals[place]); };
    spelling_.push_back({.begin = log_of(2), .middle = log_of(1), .end = log_of(0), .single = log_of(3)});
  }
}

size_t Unigram::run_end(const SegmentBlock& b, size_t begin) const {
  const auto is_run = [&](size_t i) { return b.kind[i] == digit || b.kind[i] == latin; };
  size_t end = begin;
  while (end < b.size()) {
    if (is_run(end)) {
      ++end;
    } else if (b.kind[end] == joiner && end > begin && end + 1 < b.size() && is_run(end + 1)) {
      end += 2;
    } else {
      break;
    }
  }
  while (end < b.size() && b.kind[end] == per) ++end;
  return end;
}

size_t Unigram::unit_end(const SegmentBlock& b, size_t begin) const {
  if (begin == b.size() || b.kind[begin - 1] != digit || !in(U"年月日时分秒", b.codes[begin])) return begin;
  const uint32_t next = begin + 1 < b.size() ? b.codes[begin + 1] : 0;
  return begin + 1 + ((b.codes[begin] == U'年' && next == U'代') || (b.codes[begin] == U'月' && next == U'份'));
}

void Unigram::cut(SegmentBlock& b) const {
  const Dictionary::Node* nodes = dictionary_.nodes();
  const double unknown = 0.0 - dictionary_.log_total();
  const size_t n = b.size();
  const auto first = [](auto& values, size_t count) { return std::span(values.data(), count); };
  std::ranges::fill(first(b.route, n + 1), 0.0);
  std::ranges::fill(first(b.length, n), 1U);
  std::ranges::fill(first(b.run, n), 0U);
  for (size_t i = 0; i < n;) {
    const bool starts = b.kind[i] == digit || b.kind[i] == latin;
    const size_t end = starts ? run_end(b, i) : i + 1;
    if (starts) b.run[i] = static_cast<uint32_t>(end - i);
    for (size_t inside = i + 1; inside < end; ++inside) b.route[inside] = impossible;   // words neither begin nor end there
    i = end;
  }
  for (size_t i = n; i-- > 0;) {
    if (b.route[i] == impossible) continue;
    double best = std::numeric_limits<double>::lowest();
    const auto offer = [&](double score, size_t end) {
      if (score >= best) best = score, b.length[i] = static_cast<uint32_t>(end - i);
    };
    offer(unknown + b.route[i + 1], i + 1);
    int32_t node = Dictionary::root;
    for (size_t j = i;;) {
      const int32_t at = nodes[node].children + b.letters[j];
      if (nodes[at].parent != node) break;
      node = at;
      ++j;
      offer(nodes[node].weight + b.route[j], j);
    }
    if (b.kind[i] == chinese && unknown_words_) {
      const auto spelled = [&](size_t at) -> const Spelling& { return spelling_[b.letters[at]]; };
      double score = spelled(i).begin;
      for (size_t j = i + 1; j < n && j - i < longest && b.kind[j] == chinese; ++j) {
        offer(score + spelled(j).end + length_[j + 1 - i] + b.route[j + 1], j + 1);
        score += spelled(j).middle;
      }
    } else if (b.run[i] > 0) {
      const size_t end = i + b.run[i], unit = unit_end(b, end);
      offer(run_ + b.route[end], end);
      if (unit > end) offer(run_ + b.route[unit], unit);
    }
    b.route[i] = best;
  }
}

}  // namespace qd
