// Any bytes as a dictionary, and the dictionary's own text cut with it.
#include <cstdlib>

#include "core/error.h"
#include "data/segment.h"

using namespace qd;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto words = parse_word_counts(text, "dictionary");
    const Dictionary dictionary(words);
    for (size_t i = 0; i < words.size() && words.size() < 100; ++i) {
      bool again = false;
      for (size_t j = i + 1; j < words.size(); ++j) again |= words[j].word == words[i].word;
      if (!again && (dictionary.weight(words[i].word) > -1e300) != (words[i].count > 0)) std::abort();
    }
    const Automaton automaton(dictionary);
    int32_t node = Dictionary::root;
    for (const char c : text) node = automaton.step(node, dictionary.letter(static_cast<unsigned char>(c)));
    if (size % 32 > 4) return 0;   // a segmenter takes a hundred times as long as the rest
    const Segmenter segmenter(Dictionary(words), static_cast<SegmentMethod>(size % 32));
    std::vector<std::string_view> cut;
    segmenter.words(text, cut);
    size_t bytes = 0;
    for (const auto word : cut) bytes += word.size();
    if (bytes > size || segmenter.boundary(text, size / 2) > size) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
