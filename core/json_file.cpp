#include "core/json_file.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"

namespace qd {

using nlohmann::json;

json read_json(const std::string& path, size_t longest) {
  const InputFile file(path);
  QD_CHECK(file.size() <= longest, path, str("expected at most ", longest, " bytes, got ", file.size()));
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read(text.data(), text.size(), 0);
  std::vector<std::set<std::string>> keys;   // of the objects that are open
  const auto look = [&](int, json::parse_event_t event, const json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      QD_CHECK(keys.back().insert(key).second, path, str("expected each key once, got '", printable(key.substr(0, 100)), "' twice"),
               "take one of them out");
    }
    return true;
  };
  try {
    return json::parse(text, look);
  } catch (const json::exception& error) {
    fail(path, str("expected JSON: ", error.what()), "the file is damaged, or of another kind");
  }
}

json read_json_object(const std::string& path, size_t longest) {
  json value = read_json(path, longest);
  QD_CHECK(value.is_object(), path, "expected a JSON object, got " + shown(value), "the file is damaged, or of another kind");
  return value;
}

std::string shown(const json& value) {
  if (value.is_structured()) return value.type_name();   // however deep it is
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 60) + "..." : text;
}

}  // namespace qd
