// Tokenizers turn text into ids and back. All of them are lossless: decode(encode(x)) == x for any bytes.
//   byte   ids 0..255 are the bytes
//   char   ids 0..255 are the bytes (all of ASCII is therefore there), then every other character of the training text, most
//          frequent first; a character that it has never seen becomes its bytes
//   word   the bytes, the words of a dictionary, the other characters of the training text (data/word_tokenizer.h)
//   bpe    byte-level byte-pair encoding, as GPT-2's (data/bpe.h): 256 bytes, merged pairs of them, <|endoftext|>
// A new kind implements the pure virtual functions and gets its line in make_tokenizer() and load_tokenizer().
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qd {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::string kind() const = 0;                              // "byte", "char", "word", "bpe"
  virtual int64_t size() const = 0;                                  // number of ids, the model's vocabulary
  virtual std::string_view bytes(int32_t id) const = 0;              // of one id, a part of a character perhaps. Not checked
  virtual void save(const std::string& folder) const = 0;            // into a run directory; throws Error
  virtual int32_t end_of_text() const { return -1; }                 // the id that ends a document; -1 where there is none

  // The last place <= position where a text may be cut without changing its ids.
  virtual size_t boundary(std::string_view text, size_t position) const;

  std::vector<int32_t> encode(std::string_view text) const;          // in parallel; the same ids on any number of threads
  std::string decode(std::span<const int32_t> ids) const;            // throws Error: an id outside of the vocabulary

 protected:
  virtual std::vector<int32_t> encode_piece(std::string_view text) const = 0;
};

// `kind` is byte, char, bpe:SIZE with a number of ids, word:FILE with a dictionary, or a folder with a tokenizer. The vocabulary comes from `training` alone; warns
// where the text gives fewer merges than asked for. Throws Error: an unknown kind, with the list of those accepted; a size below 257.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind, std::span<const std::string_view> training);

// The tokenizer that save() left in a folder, or that of Hugging Face's files (data/bpe.h says which). Throws Error: no tokenizer there,
// or a file that is not what save() writes.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder);
bool has_tokenizer(const std::string& folder);   // whether load_tokenizer() finds anything to read

}  // namespace qd
