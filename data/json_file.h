// JSON files that may be anything: hostile, damaged, enormous.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace qd {

// The object in a regular file of at most 64 MiB. Throws Error naming the file: none there, no JSON object, a key that is there twice.
nlohmann::json read_json_object(const std::string& path);

std::string shown(const nlohmann::json& value);   // for messages: one line, not long

}  // namespace qd
