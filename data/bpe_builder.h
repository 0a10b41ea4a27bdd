// Puts a vocabulary together from what tokenizer files say, and checks all of it. First all tokens, then the special ones, then the merges.
// `where` names the file and the line or key in errors.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/bpe.h"

namespace qd {

class BpeBuilder {
 public:
  void add_token(const std::string& where, const std::string& letters, int64_t id);
  // A text that is taken whole wherever it stands: a token already, then `id` must be its own or -1, or one more.
  void add_special(const std::string& where, const std::string& literal, int64_t id = -1);
  void end_tokens(const std::string& where);   // ids without gaps, all letters known, all 256 bytes there
  void add_merge(const std::string& where, const std::string& left, const std::string& right);   // in letters, of known tokens
  void note_unreachable(const std::string& where) const;   // warns of tokens that nothing is encoded as: other programs would not either
  BpeVocabulary finish() { return std::move(vocabulary_); }

 private:
  struct Token {
    std::string where, text;   // as it stands in the file
    int64_t id;
    bool special;
  };
  int32_t id_of(const std::string& where, const std::string& letters) const;

  std::vector<Token> tokens_;
  std::unordered_map<std::string, size_t> index_;   // by text
  PairTable seen_;
  BpeVocabulary vocabulary_;
};

}  // namespace qd
