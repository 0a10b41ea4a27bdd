// What the readers of Hugging Face's tokenizer files share. No part of the library's interface: data/bpe.h has that.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "data/bpe.h"

namespace qd {

BpeVocabulary read_fast_bpe(const std::string& path);   // a tokenizer.json; throws Error

// Values of files. Each throws Error naming `where` when the value is something else.
std::string text_in(const std::string& where, const nlohmann::json& value);
int64_t id_in(const std::string& where, const nlohmann::json& value);   // at least 0
std::string added_token_content(const std::string& where, const nlohmann::json& token);   // {"content": ..., "lstrip": false, ...}
void expect_one_of(const std::string& path, const nlohmann::json& object, const char* key,
                   std::initializer_list<nlohmann::json> accepted);       // or the key is missing

}  // namespace qd
