#include "data/bpe_builder.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "data/bpe_letters.h"

namespace qd {
namespace {

constexpr size_t most_ids = 1 << 24;
constexpr const char* damaged = "the file is damaged, or of another kind";
constexpr const char* other_tokenizer = "the files belong to different tokenizers, perhaps";

std::string shown(const std::string& text) { return str("'", printable(text.substr(0, 100)), "'"); }

}  // namespace

void BpeBuilder::add_token(const std::string& where, const std::string& letters, int64_t id) {
  QD_CHECK(id >= 0, where, str("expected an id of at least 0, got ", id));
  QD_CHECK(!letters.empty(), where, "expected tokens of at least one letter, got an empty one", damaged);
  QD_CHECK(tokens_.size() < most_ids, where, str("expected at most ", most_ids, " tokens"));
  QD_CHECK(index_.emplace(letters, tokens_.size()).second, where,
           str("expected every token once, got ", shown(letters), " again"), damaged);
  tokens_.push_back({where, letters, id, letters == end_of_text_literal});
}

void BpeBuilder::add_special(const std::string& where, const std::string& literal, int64_t id) {
  const auto found = index_.find(literal);
  if (found == index_.end()) {
    QD_CHECK(id != -1, where, str("expected a special token of the vocabulary, got ", shown(literal)), other_tokenizer);
    add_token(where, literal, id);
    tokens_.back().special = true;
    return;
  }
  Token& token = tokens_[found->second];
  QD_CHECK(id == -1 || id == token.id, where,
           str("expected id ", token.id, " for ", shown(literal), ", as in ", token.where, ", got ", id), other_tokenizer);
  token.special = true;
}

void BpeBuilder::end_tokens(const std::string& where) {
  const size_t n = tokens_.size();
  vocabulary_.tokens.resize(n);
  std::vector<const Token*> owner(n);
  for (const Token& token : tokens_) {
    QD_CHECK(static_cast<uint64_t>(token.id) < n, token.where,
             str("expected ids from 0 to ", n - 1, " without gaps, as there are ", n, " tokens, got ", token.id, " for ",
                 shown(token.text)),
             "tokens are missing, perhaps in added_tokens.json");
    const auto id = static_cast<size_t>(token.id);
    QD_CHECK(
        !owner[id], token.where,
        str("expected an id for each token, got ", token.id, " for ", shown(token.text), " and for ", shown(owner[id]->text)),
        damaged);
    owner[id] = &token;
    const auto bytes = token.special ? std::optional(token.text) : bytes_of_letters(token.text);
    QD_CHECK(bytes, token.where, str("expected tokens in the letters that GPT-2 has for the 256 bytes, got ", shown(token.text)),
             "this is no byte-level vocabulary, or special tokens are missing in added_tokens.json");
    vocabulary_.tokens[id] = *bytes;
    if (token.special) vocabulary_.specials.push_back({token.text, static_cast<int32_t>(token.id)});
    if (token.text == end_of_text_literal) vocabulary_.end_of_text = static_cast<int32_t>(token.id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string letter = letters_of(std::string(1, static_cast<char>(byte)));
    const auto found = index_.find(letter);
    QD_CHECK(found != index_.end() && !tokens_[found->second].special, where,
             str("expected a token for each of the 256 bytes, got none for byte ", byte, ", '", letter, "'"),
             "a text with this byte could not be encoded");
    vocabulary_.byte_ids[static_cast<size_t>(byte)] = static_cast<int32_t>(tokens_[found->second].id);
  }
  std::sort(vocabulary_.specials.begin(), vocabulary_.specials.end(), [](const auto& a, const auto& b) {
    return a.literal.size() != b.literal.size() ? a.literal.size() > b.literal.size() : a.id < b.id;
  });
}

int32_t BpeBuilder::id_of(const std::string& where, const std::string& letters) const {
  const auto found = index_.find(letters);
  QD_CHECK(found != index_.end(), where, str("expected tokens of the vocabulary, it has no ", shown(letters)), other_tokenizer);
  return static_cast<int32_t>(tokens_[found->second].id);
}

void BpeBuilder::add_merge(const std::string& where, const std::string& left, const std::string& right) {
  const int32_t a = id_of(where, left), b = id_of(where, right), merged = id_of(where, left + right);
  QD_CHECK(seen_.find(a, b) == PairTable::none, where,
           str("expected every merge once, got ", shown(left + " " + right), " again"),
           "take one of them out");
  seen_.insert(a, b, 0);
  vocabulary_.merges.push_back({a, b, merged});
}

void BpeBuilder::note_unreachable(const std::string& where) const {
  std::vector<bool> made(vocabulary_.tokens.size());
  for (const auto& m : vocabulary_.merges) made[static_cast<size_t>(m.merged)] = true;
  for (const int32_t id : vocabulary_.byte_ids) made[static_cast<size_t>(id)] = true;
  for (const auto& s : vocabulary_.specials) made[static_cast<size_t>(s.id)] = true;
  const auto count = std::count(made.begin(), made.end(), false);
  if (count == 0) return;
  const auto first = static_cast<size_t>(std::find(made.begin(), made.end(), false) - made.begin());
  warn(str(where, ": no merge makes ", count, " of the ", made.size(), " tokens, the first is ", shown(letters_of(vocabulary_.tokens[first])),
           "; is the file complete?"));
}

}  // namespace qd
