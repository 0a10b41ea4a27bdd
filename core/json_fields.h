// Fields of a JSON object from a file that nobody vouches for, read strictly: errors name the file and the key, and say what was found.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace qd {

class JsonFields {
 public:
  // Keeps a reference to the object. where: the file, or a place in it; hint: what it may be instead. Throws Error: no object.
  JsonFields(const nlohmann::json& object, std::string where, std::string hint);

  bool has(const char* key) const;                  // null says as much as no key at all
  const nlohmann::json& at(const char* key) const;  // this and the following throw Error: there is none, or it is of another kind
  int64_t size(const char* key, int64_t least, int64_t most) const;
  double real(const char* key) const;
  std::string text(const char* key) const;
  // Throws Error for keys that were never asked for, unless `known` knows them.
  void expect_no_others(const std::function<bool(const std::string&)>& known) const;

 protected:
  const nlohmann::json& object_;
  const std::string where_, hint_;

 private:
  mutable std::set<std::string> asked_;
};

}  // namespace qd
