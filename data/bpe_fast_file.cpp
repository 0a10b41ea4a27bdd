// tokenizer.json, the format of Hugging Face's tokenizers library: a whole pipeline. Read where that is GPT-2's and nothing else.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_file.h"
#include "data/bpe_builder.h"
#include "data/bpe_files.h"

namespace qd {
namespace {

using nlohmann::json;

const json nothing = nullptr;

const json& part(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

// A stage of the pipeline that must be the byte-level one.
void expect_byte_level(const std::string& path, const json& file, const char* key, bool required) {
  const json& stage = part(file, key);
  if (stage.is_null() && !required) return;
  const std::string where = str(path, ": '", key, "'");
  QD_CHECK(stage.is_object() && part(stage, "type") == "ByteLevel", where,
           "expected an object of the type ByteLevel, got " + shown(stage), "GPT-2's encoding alone is supported here");
  if (!required) return;
  expect_one_of(where, stage, "add_prefix_space", {false});
  expect_one_of(where, stage, "use_regex", {true});
}

}  // namespace

BpeVocabulary read_fast_bpe(const std::string& path) {
  const json file = read_json_object(path);
  for (const char* key : {"truncation", "padding", "normalizer"}) expect_one_of(path, file, key, {nullptr});
  expect_byte_level(path, file, "pre_tokenizer", true);
  expect_byte_level(path, file, "post_processor", false);
  expect_byte_level(path, file, "decoder", false);

  const json& model = part(file, "model");
  const std::string where = path + ": 'model'";
  QD_CHECK(model.is_object(), where, "expected an object, got " + shown(model));
  expect_one_of(where, model, "type", {"BPE"});
  expect_one_of(where, model, "dropout", {nullptr, 0.0});
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) expect_one_of(where, model, key, {nullptr, ""});
  for (const char* key : {"byte_fallback", "ignore_merges"}) expect_one_of(where, model, key, {nullptr, false});
  const json &vocab = part(model, "vocab"), &merges = part(model, "merges"), &added = part(file, "added_tokens");
  const std::string vocab_there = path + ": 'model/vocab'", added_there = path + ": 'added_tokens'";
  QD_CHECK(vocab.is_object(), vocab_there, "expected an object of tokens and their ids, got " + shown(vocab));
  QD_CHECK(merges.is_array(), path + ": 'model/merges'", "expected a list, got " + shown(merges));
  QD_CHECK(added.is_array() || added.is_null(), added_there, "expected a list, got " + shown(added));

  BpeBuilder builder;
  for (const auto& [letters, id] : vocab.items()) builder.add_token(vocab_there, letters, id_in(vocab_there, id));
  for (const json& token : added) {
    const std::string content = added_token_content(added_there, token);
    builder.add_special(added_there, content, id_in(added_there, part(token, "id")));
  }
  builder.end_tokens(vocab_there);
  int64_t number = 0;
  for (const json& merge : merges) {   // "a b", or ["a", "b"] as newer files have it
    const std::string here = str(path, ": merge ", number++);
    std::string left, right;
    if (merge.is_string()) {
      const auto text = merge.get<std::string>();
      const size_t blank = text.find(' ');
      if (blank != std::string::npos) left = text.substr(0, blank), right = text.substr(blank + 1);
    } else if (merge.is_array() && merge.size() == 2) {
      left = text_in(here, merge[0]), right = text_in(here, merge[1]);
    }
    QD_CHECK(!left.empty() && !right.empty() && right.find(' ') == std::string::npos, here,
             "expected two tokens, got " + shown(merge));
    builder.add_merge(here, left, right);
  }
  builder.note_unreachable(path);
  BpeVocabulary vocabulary = builder.finish();
  QD_CHECK(in_order(vocabulary), where, "expected merges that make a token before those that use it",
           "where they are not in this order the tokenizers library and GPT-2's own program disagree");
  return vocabulary;
}

}  // namespace qd
