// JSON from files that nobody vouches for.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace qd {

// The value in a regular file. Throws Error naming it: more than `longest` bytes, not JSON, an object with a key twice (programs differ in
// which of the two they take). Values may be nested deeply: a dump() of one that is not primitive may need a deep stack.
nlohmann::json read_json(const std::string& path, size_t longest = 64 << 20);
nlohmann::json read_json_object(const std::string& path, size_t longest = 64 << 20);   // throws Error as well where it is no object

std::string shown(const nlohmann::json& value);   // for messages: a short line; of arrays and objects the type alone

}  // namespace qd
