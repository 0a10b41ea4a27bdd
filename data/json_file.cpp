#include "data/json_file.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"

namespace qd {

using nlohmann::json;

json read_json_object(const std::string& path) {
  constexpr uint64_t longest = 64 << 20;   // bytes
  const InputFile file(path);
  QD_CHECK(file.size() <= longest, path, str("expected at most ", longest, " bytes, got ", file.size()));
  std::string text(file.size(), '\0');
  file.read(text.data(), text.size(), 0);

  std::vector<std::set<std::string>> keys;   // of the objects that are open
  std::string twice;
  const auto note_keys = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      twice = parsed.get<std::string>();
    return true;
  };
  json object;
  try {
    object = json::parse(text, note_keys);
  } catch (const json::exception& error) {
    fail(path, str("expected JSON: ", printable(error.what())));
  }
  QD_CHECK(object.is_object(), path, "expected a JSON object, got " + shown(object));
  QD_CHECK(twice.empty(), path, str("expected every key once, got '", printable(twice), "' again"));
  return object;
}

std::string shown(const json& value) {
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= 100 ? text : text.substr(0, 97) + "...";
}

}  // namespace qd
