// Byte-level byte-pair encoding. Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; on bytes as
// in GPT-2, Radford et al. 2019. Text is split into pieces (data/pretokenize.h); a piece begins as its bytes, and of all pairs of
// neighbours the one that was learned first is merged, everywhere in the piece, until no pair is left that was learned.
//
//   read in this order: pretokenize (pieces), bpe.cpp (encoding), bpe_train.cpp (learning), bpe_files.cpp (Hugging Face's files)
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/pair_table.h"
#include "data/tokenizer.h"

namespace qd {

inline constexpr std::string_view end_of_text_literal = "<|endoftext|>";

struct BpeVocabulary {
  struct Merge {
    int32_t left, right, merged;         // ids; the bytes of `merged` are those of left and right
  };
  struct Special {
    std::string literal;                 // taken whole wherever it stands in a text
    int32_t id;
  };
  std::vector<std::string> tokens;       // the bytes of each id
  std::vector<Merge> merges;             // in the order in which they were learned: the index is the rank
  std::array<int32_t, 256> byte_ids{};   // the id of each single byte
  std::vector<Special> specials;         // <|endoftext|> and others that files add, the longest first
  int32_t end_of_text = -1;              // the id of <|endoftext|>; -1 where there is none
};
bool in_order(const BpeVocabulary& vocabulary);   // all merges that make a token come before those that use it, as learned ones do

// A vocabulary of `size` ids learned from text: the 256 bytes in GPT-2's order, one id for each merge, `<|endoftext|>` as the last.
// Each merge takes the most frequent pair of neighbours, among equals the one with the smaller left id, then the smaller right id;
// pairs that occur once are not merged, nor those whose bytes are a token already. Where no pair is left the vocabulary is smaller. The
// literal `<|endoftext|>` in the text is not learned from. The result does not depend on the number of threads.
// Throws Error: size below 257, more than 2 GiB of distinct pieces.
BpeVocabulary train_bpe(std::span<const std::string_view> training, int64_t size);

// Hugging Face's files: vocab.json and merges.txt with tokenizer_config.json, special_tokens_map.json and added_tokens.json beside them,
// or, where the first two are missing, a tokenizer.json. Throws Error naming file, line or key: not what the format says, a byte
// without a token, or something that would be encoded differently elsewhere (a prefix space, other classes of tokenizers, stripping
// special tokens, normalisation).
BpeVocabulary read_bpe(const std::string& folder);
void write_bpe(const std::string& folder, const BpeVocabulary& vocabulary);   // all but tokenizer.json
bool has_bpe(const std::string& folder);                                       // one of these files is there

// Encodes as GPT-2 does; special texts such as `<|endoftext|>` become their ids where the vocabulary has them, the leftmost first and of
// those the longest.
class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeVocabulary vocabulary);
  ~BpeTokenizer() override;

  std::string kind() const override { return "bpe"; }
  int64_t size() const override { return static_cast<int64_t>(vocabulary_.tokens.size()); }
  std::string_view bytes(int32_t id) const override { return vocabulary_.tokens[static_cast<size_t>(id)]; }
  void save(const std::string& folder) const override { write_bpe(folder, vocabulary_); }
  int32_t end_of_text() const override { return vocabulary_.end_of_text; }
  size_t boundary(std::string_view text, size_t position) const override;
  const BpeVocabulary& vocabulary() const { return vocabulary_; }

 protected:
  std::vector<int32_t> encode_piece(std::string_view text) const override;

 private:
  struct Workspace;
  void encode_word(std::string_view word, Workspace& work, std::vector<int32_t>& ids) const;
  void merge_word(std::string_view word, Workspace& work, std::vector<int32_t>& ids) const;
  void merge_pairs(std::vector<int32_t>& ids, size_t begin, Workspace& work) const;
  bool joins_parts(unsigned char left, unsigned char right) const { return joins_parts_[left * size_t{256} + right]; }
  void find_joined_parts();

  BpeVocabulary vocabulary_;
  PairTable ranks_;
  std::vector<bool> joins_parts_;   // for two bytes that end and begin characters: a token may hold both and only a part of one
  mutable std::mutex lock_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;   // one for each thread that has encoded
};

}  // namespace qd
