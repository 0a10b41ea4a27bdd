#include "data/segment.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/utf8.h"
#include "data/segment_block.h"
#include "data/unicode.h"
#include "data/viterbi.h"

namespace qd {
namespace {

// What stands beside the letter of a character.
constexpr uint32_t space = 1 << 16, inside = 1 << 17;
constexpr int kind_shift = 24;   // SegmentBlock::kind

bool is_ascii_alphanumeric(uint32_t code) {
  return (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
}

// Copies a word, returns where it ends. One to three Chinese characters, nearly all words, are moves of fixed length and no call.
char* copied(std::string_view word, char* to) {
  switch (word.size()) {
    case 3:
      std::memcpy(to, word.data(), 3);
      break;
    case 6:
      std::memcpy(to, word.data(), 6);
      break;
    case 9:
      std::memcpy(to, word.data(), 9);
      break;
    default:
      std::memcpy(to, word.data(), word.size());
  }
  return to + word.size();
}

// jieba's re_han_default: [\u4E00-\u9FD5a-zA-Z0-9+#&\._%\-]
bool in_jieba_block(uint32_t code) {
  return Hmm::covers(code) || is_ascii_alphanumeric(code) ||
         (code < 0x80 && std::string_view("+#&._%-").find(static_cast<char>(code)) != std::string_view::npos);
}

void cut_dag(SegmentBlock& b, const Dictionary& dictionary) {
  most_probable_words(dictionary, b.letters.data(), b.size(), b.route.data(),
                      [&](size_t i, int32_t, size_t end) { b.length[i] = static_cast<uint32_t>(end - i); });
}

void cut_forward(SegmentBlock& b, const Dictionary& dictionary) {
  for (size_t i = 0; i < b.size(); i += b.length[i]) {
    b.length[i] = 1;
    int32_t node = Dictionary::root;
    for (size_t j = i; (node = dictionary.child(node, b.letters[j])) != Dictionary::none;) {
      ++j;
      if (dictionary.is_word(node)) b.length[i] = static_cast<uint32_t>(j - i);
    }
  }
}

void cut_backward(SegmentBlock& b, const Automaton& automaton) {
  std::vector<uint32_t> longest(b.size());   // word that ends here
  int32_t node = Dictionary::root;
  for (size_t i = 0; i < b.size(); ++i) {
    node = automaton.step(node, b.letters[i]);
    longest[i] = static_cast<uint32_t>(std::max(automaton.length(automaton.word_at(node)), 1));
  }
  for (size_t end = b.size(); end > 0;) {
    const uint32_t length = longest[end - 1];
    end -= length;
    b.length[end] = length;
  }
}

void cut_shortest(SegmentBlock& b, const Dictionary& dictionary, const Automaton& automaton) {
  struct Best {
    int64_t words = 0;
    double weight = 0;
    uint32_t length = 0;   // of the last word
  };
  std::vector<Best> best(b.size() + 1);
  int32_t node = Dictionary::root;
  for (size_t end = 1; end <= b.size(); ++end) {
    node = automaton.step(node, b.letters[end - 1]);
    Best& here = best[end];
    here = {best[end - 1].words + 1, best[end - 1].weight - dictionary.log_total(), 1};
    for (int32_t word = automaton.word_at(node); word != Dictionary::root; word = automaton.shorter(word)) {
      const auto length = static_cast<uint32_t>(automaton.length(word));
      const Best& before = best[end - length];
      const Best through{before.words + 1, before.weight + dictionary.nodes()[word].weight, length};
      if (through.words < here.words || (through.words == here.words && through.weight > here.weight)) here = through;
    }
  }
  for (size_t end = b.size(); end > 0;) {
    const uint32_t length = best[end].length;
    end -= length;
    b.length[end] = length;
  }
}

// jieba's cut(HMM=True): single characters side by side are given to the model, if they are no word together. What is no Chinese
// character among them is cut by finalseg's expression [a-zA-Z0-9]+(?:\.\d+)?%?, and what lies between stays whole.
template <class Word>
void join_unknown(const SegmentBlock& b, const Dictionary& dictionary, const Hmm& hmm, const Word& word) {
  thread_local std::vector<uint32_t> lengths;
  const auto is_word = [&](size_t begin, size_t end) {
    int32_t node = Dictionary::root;
    while (begin < end && (node = dictionary.child(node, b.letters[begin])) != Dictionary::none) ++begin;
    return begin == end && dictionary.is_word(node);
  };
  const auto is_digit = [&](size_t i) { return b.codes[i] >= '0' && b.codes[i] <= '9'; };
  const auto recognise = [&](size_t begin, size_t end) {
    while (begin < end) {
      size_t stop = begin;
      if (Hmm::covers(b.codes[begin])) {
        while (stop < end && Hmm::covers(b.codes[stop])) ++stop;
        lengths.clear();
        hmm.cut(b.codes.data() + begin, stop - begin, lengths);
        for (const uint32_t length : lengths) word(begin, begin + length), begin += length;
      } else if (b.kind[begin]) {
        while (stop < end && b.kind[stop]) ++stop;
        if (stop + 1 < end && b.codes[stop] == '.' && is_digit(stop + 1))
          for (++stop; stop < end && is_digit(stop);) ++stop;
        if (stop < end && b.codes[stop] == '%') ++stop;
        word(begin, stop);
      } else {
        while (stop < end && !b.kind[stop] && !Hmm::covers(b.codes[stop])) ++stop;
        word(begin, stop);
      }
      begin = stop;
    }
  };
  for (size_t i = 0; i < b.size();) {
    size_t end = i;
    while (end < b.size() && b.length[end] == 1) ++end;
    if (end == i) {
      word(i, i + b.length[i]), i += b.length[i];
      continue;
    }
    if (end - i > 1 && !is_word(i, end)) {
      recognise(i, end);
    } else {
      for (size_t at = i; at < end; ++at) word(at, at + 1);
    }
    i = end;
  }
}

}  // namespace

Segmenter::Segmenter(Dictionary dictionary, SegmentMethod method, std::optional<Hmm> hmm, bool unknown_words)
    : dictionary_(std::move(dictionary)), method_(method), hmm_(std::move(hmm)), about_(0x10000) {
  QD_CHECK(!hmm_ || method == SegmentMethod::dag, "--hmm", "expected the method dag beside it",
           "the model belongs to jieba's method: --method dag");
  for (uint32_t code = 0; code < about_.size(); ++code) about_[code] = kind_of(code);
  if (method == SegmentMethod::backward || method == SegmentMethod::shortest) automaton_.emplace(dictionary_);
  if (method == SegmentMethod::unigram) unigram_.emplace(dictionary_, unknown_words);
}

Segmenter::~Segmenter() = default;

uint32_t Segmenter::kind_of(uint32_t code) const {
  if (separates_words(code)) return space;
  const uint32_t letter = dictionary_.letter(code);
  if (method_ == SegmentMethod::unigram) {
    const uint32_t kind = Unigram::kind(code);
    return letter | kind << kind_shift | (letter != 0 || kind != Unigram::other ? inside : 0);
  }
  const bool is_inside =
      method_ == SegmentMethod::dag ? in_jieba_block(code) : letter != 0 || is_letter(code) || is_number(code) || is_mark(code);
  return letter | (is_inside ? inside : 0) | static_cast<uint32_t>(is_ascii_alphanumeric(code)) << kind_shift;
}

uint32_t Segmenter::about(uint32_t code) const { return code < about_.size() ? about_[code] : kind_of(code); }

void Segmenter::words(std::string_view text, std::vector<std::string_view>& words) const {
  thread_local SegmentBlock b;
  const char* data = text.data();
  for (size_t at = 0; at < text.size();) {
    // One block: characters that words may consist of.
    b.begin();
    uint32_t kind = 0;
    Utf8Char c{};
    while (at < text.size()) {
      c = decode_utf8(text.substr(at));
      kind = c.valid ? about(c.code) : 0;
      if (!(kind & inside)) break;
      b.push(c.code, static_cast<uint16_t>(kind), static_cast<uint8_t>(kind >> kind_shift), at);
      at += static_cast<size_t>(c.length);
    }
    if (b.size() > 0) {
      b.finish(at);
      cut(b);
      const auto word = [&](size_t begin, size_t end) {
        words.emplace_back(data + b.offset[begin], b.offset[end] - b.offset[begin]);
      };
      if (hmm_) {
        join_unknown(b, dictionary_, *hmm_, word);
      } else if (method_ == SegmentMethod::unigram) {
        for (size_t i = 0; i < b.size(); i += b.length[i]) word(i, i + b.length[i]);
      } else {
        // Single letters and digits of ASCII side by side are one word.
        for (size_t i = 0; i < b.size();) {
          size_t end = i + b.length[i];
          if (b.length[i] == 1 && b.kind[i])
            while (end < b.size() && b.length[end] == 1 && b.kind[end]) ++end;
          word(i, end), i = end;
        }
      }
    } else if (at < text.size()) {
      const size_t begin = at;
      at += static_cast<size_t>(c.length);
      if (method_ == SegmentMethod::unigram && c.valid && Unigram::repeats(c.code)) {
        const std::string_view mark = text.substr(begin, static_cast<size_t>(c.length));
        while (text.substr(at).starts_with(mark)) at += mark.size();
      }
      if (kind != space) words.push_back(text.substr(begin, at - begin));
    }
  }
}

void Segmenter::cut(SegmentBlock& b) const {
  switch (method_) {
    case SegmentMethod::unigram:
      return unigram_->cut(b);
    case SegmentMethod::dag:
      return cut_dag(b, dictionary_);
    case SegmentMethod::forward:
      return cut_forward(b, dictionary_);
    case SegmentMethod::backward:
      return cut_backward(b, *automaton_);
    case SegmentMethod::shortest:
      return cut_shortest(b, dictionary_, *automaton_);
  }
}

Segmenter::Totals Segmenter::segment(std::string_view text, std::string& out) const {
  thread_local std::vector<std::string_view> found;
  thread_local std::vector<char> line;
  Totals totals;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    found.clear();
    words(text.substr(0, end), found);
    size_t most = 0;
    for (const std::string_view word : found) most += word.size() + 3;   // a blank, and U+FFFD for a byte
    if (line.size() < most) line.resize(most);
    char* to = line.data();
    for (size_t i = 0; i < found.size(); ++i) {
      if (i > 0) *to++ = ' ';
      if (found[i].size() == 1 && static_cast<unsigned char>(found[i][0]) >= 0x80) [[unlikely]] {
        to = copied("\uFFFD", to);
        ++totals.broken_bytes;
      } else {
        to = copied(found[i], to);
      }
    }
    out.append(line.data(), to);
    totals.words += std::ssize(found);
    if (end == std::string_view::npos) break;
    out += '\n';
    text.remove_prefix(end + 1);
  }
  return totals;
}

size_t Segmenter::boundary(std::string_view text, size_t position) const {
  if (position >= text.size()) return text.size();
  position = utf8_boundary(text, position);
  Utf8Char next = decode_utf8(text.substr(position));
  while (position > 0) {
    const size_t before = utf8_boundary(text, position - 1);
    const Utf8Char c = decode_utf8(text.substr(before));
    // Behind what is in no word, but for runs of one mark, which may be a word.
    if (!c.valid || (!(about(c.code) & inside) && c.code != next.code)) return position;
    position = before, next = c;
  }
  return 0;
}

bool separates_words(uint32_t code) { return is_space(code) || (code >= 0x1C && code <= 0x1F); }

}  // namespace qd
