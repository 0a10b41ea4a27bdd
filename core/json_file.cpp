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
      QD_CHECK(keys.back().insert(key).second, path, str("expected each key once, got '", printable(key.substr(0, 100)), "' twice"));
    }
    return true;
  };
  try {
    return json::parse(text, look);
  } catch (const json::exception& error) {
    fail(path, str("expected JSON: ", error.what()));
  }
}

}  // namespace qd
