#include "data/dictionary.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/utf8.h"

namespace qd {
namespace {

constexpr const char* hint = "a dictionary has lines of a word, a blank and a count, as bin/words discover writes them";

std::string shown_line(std::string_view line) {   // short enough for a message
  return printable(line.size() > 60 ? str(line.substr(0, utf8_boundary(line, 60)), "...") : std::string(line));
}

// What words become: letters one after another, words in the order of their characters.
struct Spelled {
  std::vector<uint16_t> letters;
  std::vector<size_t> begin;   // of each word, and the end
  std::vector<double> weight;
  size_t length(size_t word) const { return begin[word + 1] - begin[word]; }
};

// Places for the children of nodes. A bit says whether a place is taken, so that 64 places are tried at once.
class Places {
 public:
  Places(std::vector<Dictionary::Node>& nodes, size_t letters, size_t expected) : nodes_(nodes), letters_(letters) {
    room_for(2 * letters + expected);
    single_ = several_ = letters / 64 + 1;   // the root's children stand at their letters
  }

  void take(int32_t place, int32_t parent) {
    const auto at = static_cast<size_t>(place);
    nodes_[at].parent = parent;
    taken_[at / 64] |= uint64_t{1} << at % 64;
  }

  // A base at which all of these letters are free: the first one behind a cursor, which moves on where it is crowded. Nodes with one
  // child have a cursor of their own and fill the gaps.
  int32_t base_for(const std::vector<uint16_t>& letters) {
    const size_t least = *std::min_element(letters.begin(), letters.end());
    size_t& cursor = letters.size() == 1 ? single_ : several_;
    for (size_t block = cursor;; ++block) {   // the least letter goes to 64 block + 0 .. 63
      room_for(64 * (block + 2) + letters_);
      uint64_t taken = taken_[block];
      for (size_t i = 0; i < letters.size() && ~taken != 0; ++i) {
        const size_t at = 64 * block + (letters[i] - least), shift = at % 64;
        taken |= taken_[at / 64] >> shift | (shift > 0 ? taken_[at / 64 + 1] << (64 - shift) : 0);
      }
      if (~taken == 0) continue;
      if (letters.size() == 1)
        cursor = block;
      else if (block - cursor > 256)
        cursor += (block - cursor) / 8;
      return static_cast<int32_t>(64 * block + static_cast<size_t>(std::countr_one(taken)) - least);
    }
  }

 private:
  void room_for(size_t places) {
    if (places + letters_ + 128 <= nodes_.size()) return;
    nodes_.resize(std::max(places + letters_ + 128, nodes_.size() + nodes_.size() / 2));
    taken_.resize(nodes_.size() / 64 + 1);
  }

  std::vector<Dictionary::Node>& nodes_;
  std::vector<uint64_t> taken_;
  const size_t letters_;
  size_t single_ = 0, several_ = 0;   // blocks of 64 places
};

// Nodes level by level; each stands for the words that begin with the same letters, which lie side by side.
std::vector<Dictionary::Node> build(const Spelled& words, size_t letter_count) {
  std::vector<Dictionary::Node> nodes;
  Places places(nodes, letter_count, words.letters.size() / 2);
  places.take(Dictionary::root, 0);
  nodes[0].parent = Dictionary::none;   // so that no child of the root is found at letter 0
  struct Group {
    int32_t node;
    size_t begin, end, depth;
  };
  std::vector<Group> level = {{Dictionary::root, 0, words.weight.size(), 0}}, next;
  std::vector<uint16_t> letters;
  std::vector<size_t> starts;
  for (; !level.empty(); level.swap(next), next.clear()) {
    for (Group g : level) {
      if (words.length(g.begin) == g.depth) nodes[static_cast<size_t>(g.node)].weight = words.weight[g.begin++];
      if (g.begin == g.end) continue;
      letters.clear(), starts.clear();
      for (size_t word = g.begin; word < g.end; ++word) {
        const uint16_t letter = words.letters[words.begin[word] + g.depth];
        if (letters.empty() || letters.back() != letter) letters.push_back(letter), starts.push_back(word);
      }
      const int32_t base = g.node == Dictionary::root ? 0 : places.base_for(letters);
      nodes[static_cast<size_t>(g.node)].children = base;
      for (size_t i = 0; i < letters.size(); ++i) {
        const int32_t child = base + letters[i];
        places.take(child, g.node);
        next.push_back({child, starts[i], i + 1 < letters.size() ? starts[i + 1] : g.end, g.depth + 1});
      }
    }
  }
  while (nodes.back().parent == Dictionary::none) nodes.pop_back();
  nodes.resize(nodes.size() + letter_count + 1);   // where letters are looked for that are not there
  return nodes;
}

}  // namespace

std::vector<WordCount> parse_word_counts(std::string_view text, const std::string& where) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  QD_CHECK(count_invalid_utf8(text) == 0, where, "expected UTF-8, got bytes that are not", hint);
  std::vector<WordCount> words;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    constexpr std::string_view blanks = " \t\r\v\f";
    const size_t first = line.find_first_not_of(blanks);
    if (first == std::string_view::npos) continue;
    line = line.substr(first, line.find_last_not_of(blanks) + 1 - first);

    const size_t blank = line.find(' ');
    WordCount entry{std::string(line.substr(0, blank)), 1};
    if (blank != std::string_view::npos) {
      const std::string_view count = line.substr(blank + 1, line.find(' ', blank + 1) - blank - 1);
      const auto [stop, error] = std::from_chars(count.data(), count.data() + count.size(), entry.count);
      QD_CHECK(error == std::errc() && stop == count.data() + count.size() && entry.count >= 0, str(where, ", line ", number),
               str("expected a word, one blank and a count from 0 on, got '", shown_line(line), "'"), hint);
    }
    words.push_back(std::move(entry));
  }
  QD_CHECK(!words.empty(), where, "expected words, got an empty dictionary", hint);
  return words;
}

std::vector<WordCount> read_word_counts(const std::string& path) {
  const MappedFile file(path);
  return parse_word_counts(file.text(), path);
}

Dictionary::Dictionary(std::span<const WordCount> words, const std::string& where) {
  QD_CHECK(!words.empty(), where, "expected words, got none", hint);
  std::vector<const WordCount*> sorted;
  sorted.reserve(words.size());
  std::vector<int64_t> uses;   // by code point
  for (const WordCount& w : words) {
    QD_CHECK(!w.word.empty(), where, "expected words, got an empty one", hint);
    QD_CHECK(w.count >= 0 && total_ <= std::numeric_limits<int64_t>::max() - w.count, where,
             str("expected counts whose sum is below 2^63, got ", w.count, " for ", shown_line(w.word)), hint);
    total_ += w.count;
    sorted.push_back(&w);
    for (size_t at = 0; at < w.word.size();) {
      const Utf8Char c = decode_utf8(std::string_view(w.word).substr(at));
      QD_CHECK(c.valid, where, str("expected UTF-8, got a word with other bytes: '", shown_line(w.word), "'"), hint);
      if (c.code >= uses.size()) uses.resize(c.code + 1);
      ++uses[c.code], at += static_cast<size_t>(c.length);
    }
  }
  QD_CHECK(total_ > 0, where, "expected counts above 0, got none", hint);
  log_total_ = std::log(static_cast<double>(total_));

  std::vector<uint32_t> codes;
  for (uint32_t code = 0; code < uses.size(); ++code)
    if (uses[code] > 0) codes.push_back(code);
  QD_CHECK(codes.size() < 65535, where, str("expected at most 65,534 distinct characters, got ", codes.size()));
  std::stable_sort(codes.begin(), codes.end(), [&](uint32_t a, uint32_t b) { return uses[a] > uses[b]; });
  characters_ = codes.size();
  letters_.resize(uses.size());
  for (size_t i = 0; i < codes.size(); ++i) letters_[codes[i]] = static_cast<uint16_t>(i + 1);

  // In the order of their bytes, the words below each node lie side by side.
  const auto before = [](const WordCount* a, const WordCount* b) { return a->word < b->word; };
  if (!std::is_sorted(sorted.begin(), sorted.end(), before)) std::stable_sort(sorted.begin(), sorted.end(), before);
  Spelled spelled{.letters = {}, .begin = {0}, .weight = {}};
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (i + 1 < sorted.size() && sorted[i]->word == sorted[i + 1]->word) continue;   // the later line counts
    const std::string_view word = sorted[i]->word;
    for (size_t at = 0; at < word.size();) {
      const Utf8Char c = decode_utf8(word.substr(at));
      spelled.letters.push_back(letter(c.code)), at += static_cast<size_t>(c.length);
    }
    const int64_t count = sorted[i]->count;
    spelled.begin.push_back(spelled.letters.size());
    spelled.weight.push_back(count > 0 ? std::log(static_cast<double>(count)) - log_total_
                                       : -std::numeric_limits<double>::infinity());
    size_ += count > 0;
    longest_ = std::max(longest_, static_cast<int32_t>(spelled.length(spelled.weight.size() - 1)));
  }
  const std::vector<Node> nodes = build(spelled, codes.size());
  nodes_.assign(nodes.begin(), nodes.end());
}

double Dictionary::weight(std::string_view word) const {
  int32_t node = root;
  while (!word.empty() && node != none) {
    const Utf8Char c = decode_utf8(word);
    const uint16_t l = letter(c.code);
    node = l == 0 ? none : child(node, l);
    word.remove_prefix(static_cast<size_t>(c.length));
  }
  return node == none ? -std::numeric_limits<double>::infinity() : nodes_[static_cast<size_t>(node)].weight;
}

}  // namespace qd
