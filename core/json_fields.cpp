#include "core/json_fields.h"

#include "core/error.h"
#include "core/json_file.h"
#include "core/log.h"

namespace qd {

using nlohmann::json;

JsonFields::JsonFields(const json& object, std::string where, std::string hint) : object_(object), where_(std::move(where)), hint_(std::move(hint)) {
  QD_CHECK(object_.is_object(), where_, "expected a JSON object, got " + shown(object_), hint_);
}

bool JsonFields::has(const char* key) const {
  asked_.insert(key);
  return object_.contains(key) && !object_[key].is_null();
}

const json& JsonFields::at(const char* key) const {
  QD_CHECK(has(key), where_, str("expected the key '", key, "', there is none"), hint_);
  return object_[key];
}

int64_t JsonFields::size(const char* key, int64_t least, int64_t most) const {
  const json& value = at(key);
  const bool fits = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(most));
  QD_CHECK(fits && value.get<int64_t>() >= least && value.get<int64_t>() <= most, where_,
           str("expected '", key, "' to be a whole number from ", least, " to ", most, ", got ", shown(value)), hint_);
  return value.get<int64_t>();
}

double JsonFields::real(const char* key) const {
  QD_CHECK(at(key).is_number(), where_, str("expected '", key, "' to be a number, got ", shown(at(key))), hint_);
  return at(key).get<double>();
}

std::string JsonFields::text(const char* key) const {
  QD_CHECK(at(key).is_string(), where_, str("expected '", key, "' to be a text, got ", shown(at(key))), hint_);
  return at(key).get<std::string>();
}

void JsonFields::expect_no_others(const std::function<bool(const std::string&)>& known) const {
  for (const auto& [key, value] : object_.items())
    QD_CHECK(value.is_null() || asked_.contains(key) || known(key), where_,
             str("expected only keys whose meaning is known, got '", printable(key.substr(0, 100)), "': ", shown(value)),
             "it may change what the model computes; if it does not, take it out of the file");
}

}  // namespace qd
