#include "data/word_tokenizer.h"

#include "core/error.h"
#include "core/utf8.h"

namespace qd {

WordTokenizer::WordTokenizer(const std::vector<WordCount>& dictionary, std::string_view characters, const std::string& where)
    : characters_(characters), segmenter_(Dictionary(dictionary, where), SegmentMethod::unigram) {
  for (int byte = 0; byte < 256; ++byte) begin_.push_back(text_.size()), text_ += static_cast<char>(byte);
  const auto add = [&](std::string_view token) { begin_.push_back(text_.size()), text_ += token; };
  for (const WordCount& w : dictionary) {
    dictionary_ += str(w.word, ' ', w.count, '\n');
    if (w.count > 0 && w.word.size() > 1) add(w.word);
  }
  for (size_t at = 0; at < characters.size();) {
    const Utf8Char c = decode_utf8(characters.substr(at));
    QD_CHECK(c.valid, where, "expected characters in UTF-8, got other bytes", "the file is damaged, or of another kind");
    add(characters.substr(at, static_cast<size_t>(c.length)));
    at += static_cast<size_t>(c.length);
  }
  begin_.push_back(text_.size());
  for (auto id = static_cast<int32_t>(size()); id-- > 256;) id_of_[bytes(id)] = id;   // of the same word twice, the first
}

void WordTokenizer::save(const std::string& folder) const {
  write_tokenizer(folder, {{"kind", "word"}, {"dictionary", dictionary_}, {"characters", characters_}});
}

std::vector<int32_t> WordTokenizer::encode_piece(std::string_view text) const {
  std::vector<std::string_view> words;
  segmenter_.words(text, words);
  std::vector<int32_t> ids;
  ids.reserve(words.size() + words.size() / 2);
  const auto add_bytes = [&](std::string_view some) {
    for (const char byte : some) ids.push_back(static_cast<unsigned char>(byte));
  };
  const auto known = [&](std::string_view token) {
    const auto found = id_of_.find(token);
    if (found != id_of_.end()) ids.push_back(found->second);
    return found != id_of_.end();
  };
  size_t at = 0;
  for (const std::string_view word : words) {
    const auto begin = static_cast<size_t>(word.data() - text.data());
    add_bytes(text.substr(at, begin - at));   // white space
    at = begin + word.size();
    if (known(word)) continue;
    for (std::string_view left = word; !left.empty();) {
      const auto character = left.substr(0, static_cast<size_t>(decode_utf8(left).length));
      if (!known(character)) add_bytes(character);
      left.remove_prefix(character.size());
    }
  }
  add_bytes(text.substr(at));
  return ids;
}

}  // namespace qd
