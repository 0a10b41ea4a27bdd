#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/json_file.h"
#include "core/log.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/bpe.h"
#include "data/text.h"
#include "data/word_tokenizer.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

// Not called tokenizer.json: that name belongs to another format, which may lie in the same directory.
constexpr const char* file_name = "qiudao_tokenizer.json";
constexpr const char* format = "qiudao tokenizer";
constexpr int version = 1;
constexpr size_t longest_file = 16 << 20;   // bytes; all of Unicode takes 4.4 million, a large dictionary as much

constexpr uint32_t codes = 0x110000;
constexpr int32_t byte_count = 256;
constexpr const char* kinds = "byte, char, bpe:SIZE, word:DICTIONARY, or a folder that holds a tokenizer";

std::string path_in(const std::string& folder) { return (fs::path(folder) / file_name).string(); }

const std::string& all_bytes() {
  static const std::string bytes = [] {
    std::string all(byte_count, '\0');
    for (int i = 0; i < byte_count; ++i) all[static_cast<size_t>(i)] = static_cast<char>(i);
    return all;
  }();
  return bytes;
}

class ByteTokenizer final : public Tokenizer {
 public:
  std::string kind() const override { return "byte"; }
  int64_t size() const override { return byte_count; }
  std::string_view bytes(int32_t id) const override { return std::string_view(all_bytes()).substr(static_cast<size_t>(id), 1); }
  void save(const std::string& folder) const override { write_tokenizer(folder, {{"kind", "byte"}}); }

 protected:
  std::vector<int32_t> encode_piece(std::string_view text) const override {
    std::vector<int32_t> ids(text.size());
    std::transform(text.begin(), text.end(), ids.begin(), [](char byte) { return static_cast<unsigned char>(byte); });
    return ids;
  }
};

class CharTokenizer final : public Tokenizer {
 public:
  // The distinct characters beyond ASCII in the order of their ids. `where` is named when they are not that.
  CharTokenizer(const std::string& characters, const std::string& where) : text_(all_bytes() + characters), id_of_(codes, -1) {
    for (size_t i = 0; i <= byte_count; ++i) begin_.push_back(i);   // the last one begins the characters
    for (size_t at = byte_count; at < text_.size(); at = begin_.back()) {
      const Utf8Char c = decode_utf8(std::string_view(text_).substr(at));
      const auto id = static_cast<int32_t>(begin_.size() - 1);
      QD_CHECK(c.valid && c.code >= 0x80, where, str("expected characters beyond ASCII, got something else as id ", id));
      QD_CHECK(id_of_[c.code] < 0, where,
               str("expected every character once, ids ", id_of_[c.code], " and ", id, " are the same"));
      id_of_[c.code] = id;
      begin_.push_back(at + static_cast<size_t>(c.length));
    }
    const auto last = std::find_if(id_of_.rbegin(), id_of_.rend(), [](int32_t id) { return id >= 0; });
    id_of_.resize(static_cast<size_t>(id_of_.rend() - last));
  }

  std::string kind() const override { return "char"; }
  int64_t size() const override { return static_cast<int64_t>(begin_.size()) - 1; }
  std::string_view bytes(int32_t id) const override {
    const auto i = static_cast<size_t>(id);
    return std::string_view(text_).substr(begin_[i], begin_[i + 1] - begin_[i]);
  }
  void save(const std::string& folder) const override {
    write_tokenizer(folder, {{"kind", "char"}, {"characters", text_.substr(byte_count)}});
  }

 protected:
  std::vector<int32_t> encode_piece(std::string_view text) const override {
    std::vector<int32_t> ids(text.size());
    size_t count = 0;
    for (size_t at = 0; at < text.size();) {
      const auto byte = [&] { return static_cast<unsigned char>(text[at]); };
      if (byte() < 0x80) {
        ids[count++] = byte(), ++at;
        continue;
      }
      const Utf8Char c = decode_utf8(text.substr(at));
      const int32_t id = c.valid && c.code < id_of_.size() ? id_of_[c.code] : -1;
      if (id >= 0) {
        ids[count++] = id, at += static_cast<size_t>(c.length);
      } else {
        for (const size_t end = at + static_cast<size_t>(c.length); at < end; ++at) ids[count++] = byte();
      }
    }
    ids.resize(count);
    return ids;
  }

 private:
  std::string text_;             // the bytes of all ids, one after another
  std::vector<size_t> begin_;    // where each id's bytes begin in it, and the end
  std::vector<int32_t> id_of_;   // by code point; -1 where there is none
};

// Distinct characters beyond ASCII, most frequent first, then by code point.
std::string characters_of(std::span<const std::string_view> training) {
  std::vector<int64_t> count(codes);
  for (const std::string_view part : training) {
    for (size_t at = 0; at < part.size();) {
      if (static_cast<unsigned char>(part[at]) < 0x80) {
        ++at;
        continue;
      }
      const Utf8Char c = decode_utf8(part.substr(at));
      count[c.code] += c.valid;
      at += static_cast<size_t>(c.length);
    }
  }
  std::vector<uint32_t> seen;
  for (uint32_t code = 0x80; code < codes; ++code) {
    if (count[code] > 0) seen.push_back(code);
  }
  std::stable_sort(seen.begin(), seen.end(), [&](uint32_t a, uint32_t b) { return count[a] > count[b]; });
  std::string characters;
  for (const uint32_t code : seen) append_utf8(characters, code);
  return characters;
}

int64_t bpe_size(const std::string& kind) {   // of "bpe:4096"
  int64_t size = 0;
  const char* end = kind.data() + kind.size();
  const auto [stop, error] = std::from_chars(kind.data() + std::string_view("bpe:").size(), end, size);
  QD_CHECK(error == std::errc() && stop == end, str("--tokenizer ", kind), "expected a number of ids behind 'bpe:'",
           "e.g. bpe:4096");
  return size;
}

// The characters beyond ASCII of the training text that the dictionary does not have.
std::unique_ptr<Tokenizer> word_tokenizer(const std::string& path, std::span<const std::string_view> training) {
  QD_CHECK(!path.empty(), "--tokenizer word:", "expected a dictionary behind 'word:'", "bin/words discover text.txt --out dict.txt makes one");
  const auto words = read_word_counts(path);
  const Dictionary dictionary(words, path);
  std::string others;
  const std::string all = characters_of(training);
  for (size_t at = 0; at < all.size();) {
    const auto length = static_cast<size_t>(decode_utf8(std::string_view(all).substr(at)).length);
    const std::string_view character = std::string_view(all).substr(at, length);
    if (std::isinf(dictionary.weight(character))) others += character;
    at += length;
  }
  return std::make_unique<WordTokenizer>(words, others, path);
}

}  // namespace

void write_tokenizer(const std::string& folder, const std::vector<std::pair<std::string, std::string>>& fields) {
  nlohmann::ordered_json file = {{"format", format}, {"version", version}};
  for (const auto& [name, value] : fields) file[name] = value;
  write_file(path_in(folder), file.dump(1) + "\n");
}

size_t Tokenizer::boundary(std::string_view text, size_t position) const { return utf8_boundary(text, position); }

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  constexpr size_t piece = 1 << 18;
  if (text.size() <= piece) return encode_piece(text);
  const auto pieces = cut_text(text, piece, [this](std::string_view t, size_t position) { return boundary(t, position); });
  std::vector<std::vector<int32_t>> parts(pieces.size());
  parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t i) { parts[i] = encode_piece(pieces[i]); });

  size_t total = 0;
  for (const auto& part : parts) total += part.size();
  std::vector<int32_t> ids;
  ids.reserve(total);
  for (const auto& part : parts) ids.insert(ids.end(), part.begin(), part.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    QD_CHECK(id >= 0 && id < size(), "decode", str("expected ids from 0 to ", size() - 1, ", got ", id),
             "the model and the tokenizer belong to different runs, perhaps");
    text += bytes(id);
  }
  return text;
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind, std::span<const std::string_view> training) {
  if (kind == "byte") return std::make_unique<ByteTokenizer>();
  if (kind == "char") return std::make_unique<CharTokenizer>(characters_of(training), "tokenizer");
  if (kind.starts_with("bpe:")) {
    BpeVocabulary vocabulary = train_bpe(training, bpe_size(kind));
    if (const auto size = std::ssize(vocabulary.tokens); size < bpe_size(kind))
      warn(str("the text gives a vocabulary of ", size, " ids, not ", bpe_size(kind), ": no pair is left that occurs twice"));
    return std::make_unique<BpeTokenizer>(std::move(vocabulary));
  }
  if (kind.starts_with("word:")) return word_tokenizer(kind.substr(std::string_view("word:").size()), training);
  std::error_code ignored;
  if (fs::is_directory(kind, ignored)) return load_tokenizer(kind);
  fail("tokenizer", str("expected ", kinds, "; got '", kind, "'"));
}

bool has_tokenizer(const std::string& folder) { return is_there(path_in(folder)) || has_bpe(folder); }

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  const std::string path = path_in(folder);
  const bool is_own = is_there(path);
  if (!is_own && has_bpe(folder)) return std::make_unique<BpeTokenizer>(read_bpe(folder));
  QD_CHECK(is_own, folder, str("expected a folder with a tokenizer, got none of ", file_name, ", vocab.json and tokenizer.json"),
           "bin/tok train makes one, and every run of a language model holds its own");
  try {
    const nlohmann::json fields = read_json_object(path, longest_file);
    QD_CHECK(fields.value("format", "") == format, path,
             str("expected a file of the format '", format, "'"), "the file is damaged, or of another kind");
    QD_CHECK(fields.at("version") == version, path, str("expected version ", version, ", got ", fields.at("version").dump()),
             "the file was written by a newer program");
    const auto kind = fields.at("kind").get<std::string>();
    if (kind == "byte") return std::make_unique<ByteTokenizer>();
    if (kind == "char") return std::make_unique<CharTokenizer>(fields.at("characters").get<std::string>(), path);
    if (kind == "word")
      return std::make_unique<WordTokenizer>(parse_word_counts(fields.at("dictionary").get<std::string>(), path), fields.at("characters").get<std::string>(), path);
    fail(path, str("expected the kind byte, char or word, got '", printable(kind.substr(0, 100)), "'"), "the file is damaged, or was written by a newer program");
  } catch (const nlohmann::json::exception& error) {
    fail(path, str("expected the JSON that a run writes: ", error.what()), "the file is damaged, or of another kind");
  }
}

}  // namespace qd
