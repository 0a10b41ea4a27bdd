// vocab.json, merges.txt and the small files beside them, as GPT-2 and Hugging Face's GPT2Tokenizer have them.
#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/json_file.h"
#include "core/log.h"
#include "data/bpe.h"
#include "data/bpe_builder.h"
#include "data/bpe_files.h"
#include "data/bpe_letters.h"

namespace qd {
namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;
namespace {

constexpr const char* vocab_name = "vocab.json";
constexpr const char* merges_name = "merges.txt";
constexpr const char* fast_name = "tokenizer.json";
constexpr const char* damaged = "the file is damaged, or of another kind";
constexpr const char* config_name = "tokenizer_config.json";
constexpr const char* special_name = "special_tokens_map.json";
constexpr const char* added_name = "added_tokens.json";
constexpr std::string_view version_line = "#version: ";

std::string path_in(const std::string& folder, const char* name) { return (fs::path(folder) / name).string(); }

std::string key_in(const std::string& path, const std::string& key) {
  return str(path, ": '", printable(key.substr(0, 100)), "'");
}

// A special token is a text, or an object with the text as its content.
void read_special(const std::string& where, const json& value, BpeBuilder& builder) {
  if (value.is_null()) return;
  builder.add_special(where, value.is_object() ? added_token_content(where, value) : text_in(where, value));
}

// Keys such as "pad_token", and "additional_special_tokens".
void read_specials(const std::string& path, const json& object, BpeBuilder& builder) {
  for (const auto& [key, value] : object.items()) {
    const std::string where = key_in(path, key);
    if (key.ends_with("_token") && !value.is_boolean()) read_special(where, value, builder);
    if (key != "additional_special_tokens" || value.is_null()) continue;
    QD_CHECK(value.is_array(), where, "expected a list, got " + shown(value));
    for (const json& one : value) read_special(where, one, builder);
  }
}

// What these files say about special tokens, and that nothing in them asks for other ids than GPT-2's.
void read_configuration(const std::string& folder, BpeBuilder& builder) {
  if (const std::string path = path_in(folder, added_name); is_there(path)) {
    const json object = read_json_object(path);
    for (const auto& [literal, id] : object.items())
      builder.add_special(key_in(path, literal), literal, id_in(key_in(path, literal), id));
  }
  if (const std::string path = path_in(folder, config_name); is_there(path)) {
    const json object = read_json_object(path);
    expect_one_of(path, object, "tokenizer_class", {nullptr, "GPT2Tokenizer", "GPT2TokenizerFast"});
    for (const char* key : {"add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens"})
      expect_one_of(path, object, key, {nullptr, false});
    if (object.contains("added_tokens_decoder")) {
      const json& added = object["added_tokens_decoder"];
      QD_CHECK(added.is_object(), key_in(path, "added_tokens_decoder"), "expected an object, got " + shown(added));
      for (const auto& [id, token] : added.items()) {
        const std::string where = key_in(path, "added_tokens_decoder/" + id);
        builder.add_special(where, added_token_content(where, token), id_in(where, json::parse(id, nullptr, false)));
      }
    }
    read_specials(path, object, builder);
  }
  if (const std::string path = path_in(folder, special_name); is_there(path))
    read_specials(path, read_json_object(path), builder);
}

// Lines of two tokens in letters with one blank between them, the pair that was learned first at the top.
void read_merges(const std::string& path, BpeBuilder& builder) {
  constexpr uint64_t longest = 64 << 20;   // bytes
  const InputFile file(path);
  QD_CHECK(file.size() <= longest, path, str("expected at most ", longest, " bytes, got ", file.size()));
  std::string text(file.size(), '\0');
  file.read(text.data(), text.size(), 0);
  QD_CHECK(!text.empty(), path, "expected merges, got an empty file", "the file is damaged: nothing could be merged");
  std::string_view rest = text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::string where = str(path, ": line ", number);
    const auto got = [&] { return str(", got '", printable(line.substr(0, 100)), "'"); };
    if (number == 1) {   // some programs skip the first line whatever it holds, others read it
      QD_CHECK(line.starts_with(version_line), where, str("expected '", version_line, "0.2'", got()), "is it the merges.txt of a GPT-2?");
      continue;
    }
    const size_t blank = line.find(' ');
    QD_CHECK(std::count(line.begin(), line.end(), ' ') == 1 && blank > 0 && blank + 1 < line.size(), where,
             str("expected two tokens with one blank between them", got()), damaged);
    builder.add_merge(where, std::string(line.substr(0, blank)), std::string(line.substr(blank + 1)));
  }
}

}  // namespace

std::string text_in(const std::string& where, const json& value) {
  QD_CHECK(value.is_string(), where, "expected a text, got " + shown(value), damaged);
  return value.get<std::string>();
}

int64_t id_in(const std::string& where, const json& value) {
  const bool fits = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
  QD_CHECK(fits && value.get<int64_t>() >= 0, where, "expected an id of at least 0, got " + shown(value), damaged);
  return value.get<int64_t>();
}

void expect_one_of(const std::string& path, const json& object, const char* key, std::initializer_list<json> accepted) {
  const auto found = object.find(key);
  if (found == object.end() || std::find(accepted.begin(), accepted.end(), *found) != accepted.end()) return;
  std::string names;
  for (const json& one : accepted) names += (names.empty() ? "" : " or ") + shown(one);
  fail(key_in(path, key), str("expected ", names, ", got ", shown(*found)), "GPT-2's encoding alone is supported here");
}

std::string added_token_content(const std::string& where, const json& token) {
  QD_CHECK(token.is_object() && token.contains("content"), where, "expected an object with 'content', got " + shown(token));
  for (const char* key : {"lstrip", "rstrip", "single_word"}) expect_one_of(where, token, key, {nullptr, false});
  return text_in(where, token["content"]);
}

bool has_bpe(const std::string& folder) {
  return is_there(path_in(folder, vocab_name)) || is_there(path_in(folder, merges_name)) || is_there(path_in(folder, fast_name));
}

BpeVocabulary read_bpe(const std::string& folder) {
  const std::string path = path_in(folder, vocab_name), merges = path_in(folder, merges_name), fast = path_in(folder, fast_name);
  if (!is_there(path) && !is_there(merges)) return read_fast_bpe(fast);
  BpeBuilder builder;
  const json tokens = read_json_object(path);
  for (const auto& [letters, id] : tokens.items()) builder.add_token(path, letters, id_in(key_in(path, letters), id));
  read_configuration(folder, builder);
  builder.end_tokens(path);
  read_merges(merges, builder);
  builder.note_unreachable(merges);
  return builder.finish();
}

void write_bpe(const std::string& folder, const BpeVocabulary& v) {
  std::vector<bool> special(v.tokens.size());
  ordered_json added = ordered_json::object(), config = {{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", false}},
               names = ordered_json::object();
  for (const auto& s : v.specials) {
    special[static_cast<size_t>(s.id)] = true;
    if (s.id != v.end_of_text) added[s.literal] = s.id;
  }
  if (v.end_of_text >= 0)
    for (const char* name : {"bos_token", "eos_token", "unk_token"}) config[name] = names[name] = end_of_text_literal;

  std::string tokens, merges = str(version_line, "0.2\n");
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    const std::string text = special[id] ? v.tokens[id] : letters_of(v.tokens[id]);
    if (!added.contains(text)) tokens += str(tokens.empty() ? "{" : ", ", json(text).dump(), ": ", id);
  }
  for (const auto& m : v.merges)
    merges += letters_of(v.tokens[static_cast<size_t>(m.left)]) + ' ' + letters_of(v.tokens[static_cast<size_t>(m.right)]) + '\n';
  write_file(path_in(folder, vocab_name), tokens + "}\n");
  write_file(path_in(folder, merges_name), merges);
  write_file(path_in(folder, config_name), config.dump(2) + "\n");
  write_file(path_in(folder, special_name), names.dump(2) + "\n");
  if (!added.empty()) write_file(path_in(folder, added_name), added.dump(2) + "\n");
}

}  // namespace qd
