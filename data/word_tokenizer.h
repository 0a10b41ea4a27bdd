// Words as tokens: ids 0..255 are the bytes, then the words of a dictionary in its order, then the other characters beyond ASCII of the
// training text, most frequent first. Text is cut by data/segment.h; a word that has no id becomes its characters, a character that has
// none its bytes, and so do blanks: nothing is lost.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/segment.h"
#include "data/tokenizer.h"

namespace qd {

class WordTokenizer final : public Tokenizer {
 public:
  // Throws Error naming `where`: no dictionary, characters that are not UTF-8.
  WordTokenizer(const std::vector<WordCount>& dictionary, std::string_view characters, const std::string& where);

  std::string kind() const override { return "word"; }
  int64_t size() const override { return static_cast<int64_t>(begin_.size()) - 1; }
  std::string_view bytes(int32_t id) const override {
    const auto i = static_cast<size_t>(id);
    return std::string_view(text_).substr(begin_[i], begin_[i + 1] - begin_[i]);
  }
  void save(const std::string& folder) const override;
  size_t boundary(std::string_view text, size_t position) const override { return segmenter_.boundary(text, position); }

 protected:
  std::vector<int32_t> encode_piece(std::string_view text) const override;

 private:
  std::string dictionary_, characters_;   // as they are saved
  Segmenter segmenter_;
  std::string text_;                                      // the bytes of all ids, one after another
  std::vector<size_t> begin_;                             // where each id's bytes begin in it, and the end
  std::unordered_map<std::string_view, int32_t> id_of_;   // words and characters
};

// What data/tokenizer.cpp and its kinds share: qiudao_tokenizer.json with these fields.
void write_tokenizer(const std::string& folder, const std::vector<std::pair<std::string, std::string>>& fields);

}  // namespace qd
