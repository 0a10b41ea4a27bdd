// vocab.json and merges.txt, as GPT-2 and Hugging Face have them.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "data/bpe.h"
#include "data/bpe_letters.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

constexpr size_t longest_file = 64 << 20;   // bytes; GPT-2's vocabulary takes one million
constexpr int64_t most_ids = 1 << 24;
constexpr std::string_view version_line = "#version: ";
using Ids = std::unordered_map<std::string, int32_t>;   // by the bytes of a token

std::string path_in(const std::string& folder, const char* name) { return (fs::path(folder) / name).string(); }

bool is_there(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

MappedFile open(const std::string& path) {
  MappedFile file(path);
  QD_CHECK(file.text().size() <= longest_file, path, str("expected at most ", longest_file, " bytes, got ", file.text().size()));
  return file;
}

// The object {token in letters: id}.
void read_tokens(const std::string& path, BpeVocabulary& vocabulary, Ids& ids) {
  const MappedFile file = open(path);
  const auto object = nlohmann::json::parse(file.text(), nullptr, false);
  QD_CHECK(object.is_object() && !object.empty(), path, "expected a JSON object of tokens and their ids");
  const auto n = static_cast<int64_t>(object.size());
  QD_CHECK(n <= most_ids, path, str("expected at most ", most_ids, " tokens, got ", n));
  vocabulary.tokens.resize(static_cast<size_t>(n));
  for (const auto& [letters, value] : object.items()) {
    const std::string where = str(path, ": '", printable(letters), "'");
    QD_CHECK(value.is_number_integer() && (value.is_number_unsigned() || value.get<int64_t>() >= 0), where,
             str("expected an id of at least 0, got ", printable(value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 60))));
    QD_CHECK(value.get<uint64_t>() < static_cast<uint64_t>(n), where,
             str("expected an id below ", n, ", the number of tokens, got ", value.get<uint64_t>()), "ids must have no gaps");
    const auto bytes = bytes_of_letters(letters);
    QD_CHECK(bytes && !bytes->empty(), where, "expected a token in the letters that GPT-2 has for the 256 bytes");
    const auto id = value.get<int32_t>();
    std::string& token = vocabulary.tokens[static_cast<size_t>(id)];
    QD_CHECK(token.empty(), where, str("expected an id of its own, got ", id, ", which '", printable(letters_of(token)), "' has"));
    token = *bytes;
    ids.emplace(token, id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(std::string(1, static_cast<char>(byte)));
    QD_CHECK(found != ids.end(), path,
             str("expected a token for each of the 256 bytes, got none for byte ", byte, ", '", letters_of(std::string(1, static_cast<char>(byte))), "'"));
    vocabulary.byte_ids[static_cast<size_t>(byte)] = found->second;
  }
  const auto end = ids.find(std::string(end_of_text_literal));
  if (end != ids.end()) vocabulary.end_of_text = end->second;
}

// Lines of two tokens in letters, the pair that was learned first at the top.
void read_merges(const std::string& path, BpeVocabulary& vocabulary, const Ids& ids) {
  const MappedFile file = open(path);
  std::string_view rest = file.text();
  PairTable seen;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const std::string where = str(path, ": line ", number);
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (number == 1) {
      QD_CHECK(line.starts_with(version_line), where, str("expected '", version_line, "0.2', got '", printable(line.substr(0, 60)), "'"));
      continue;
    }
    const auto shown = [&] { return printable(line.substr(0, 200)); };
    const size_t blank = line.find(' ');
    QD_CHECK(blank != std::string_view::npos && blank > 0 && blank + 1 < line.size() && line.find(' ', blank + 1) == std::string_view::npos,
             where, str("expected two tokens with one blank between them, got '", shown(), "'"));
    const auto id_of = [&](std::string_view letters) {
      const auto bytes = bytes_of_letters(letters);
      const auto found = bytes ? ids.find(*bytes) : ids.end();
      QD_CHECK(found != ids.end(), where, str("expected tokens of vocab.json, got '", printable(letters.substr(0, 200)), "'"),
               "the two files belong to different tokenizers, perhaps");
      return found->second;
    };
    const int32_t left = id_of(line.substr(0, blank)), right = id_of(line.substr(blank + 1));
    const auto merged = ids.find(vocabulary.tokens[left] + vocabulary.tokens[right]);
    QD_CHECK(merged != ids.end(), where, str("expected a merge whose result vocab.json has, got '", shown(), "'"),
             "the two files belong to different tokenizers, perhaps");
    QD_CHECK(seen.find(left, right) == PairTable::none, where, str("expected every merge once, got '", shown(), "' again"));
    seen.insert(left, right, 0);
    vocabulary.merges.push_back({left, right, merged->second});
  }
}

}  // namespace

bool has_bpe(const std::string& folder) {
  return is_there(path_in(folder, "vocab.json")) || is_there(path_in(folder, "merges.txt"));
}

BpeVocabulary read_bpe(const std::string& folder) {
  BpeVocabulary vocabulary;
  Ids ids;
  read_tokens(path_in(folder, "vocab.json"), vocabulary, ids);
  read_merges(path_in(folder, "merges.txt"), vocabulary, ids);
  return vocabulary;
}

void write_bpe(const std::string& folder, const BpeVocabulary& vocabulary) {
  nlohmann::ordered_json tokenizer = {{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", false}}, special = nlohmann::ordered_json::object();
  if (vocabulary.end_of_text >= 0) {
    for (const char* name : {"bos_token", "eos_token", "unk_token"}) tokenizer[name] = special[name] = end_of_text_literal;
  }
  std::string tokens = "{";
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id)
    tokens += str(id ? ", " : "", nlohmann::json(letters_of(vocabulary.tokens[id])).dump(), ": ", id);
  std::string merges = str(version_line, "0.2\n");
  for (const auto& m : vocabulary.merges)
    merges += letters_of(vocabulary.tokens[m.left]) + ' ' + letters_of(vocabulary.tokens[m.right]) + '\n';
  write_file(path_in(folder, "vocab.json"), tokens + "}\n");
  write_file(path_in(folder, "merges.txt"), merges);
  write_file(path_in(folder, "tokenizer_config.json"), tokenizer.dump(2) + "\n");
  write_file(path_in(folder, "special_tokens_map.json"), special.dump(2) + "\n");
}

}  // namespace qd
