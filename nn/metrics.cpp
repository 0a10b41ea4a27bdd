#include "nn/metrics.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

namespace qd {

const double* find(const Values& values, const std::string& name) {
  const auto found = std::find_if(values.begin(), values.end(), [&](const auto& value) { return value.first == name; });
  return found == values.end() ? nullptr : &found->second;
}

void put(State& to, const std::string& prefix, const Values& values) {
  for (const auto& [name, value] : values) to.put(prefix + name, value);
}

Values values_in(const State& from, const std::string& prefix) {
  Values out;
  for (auto at = from.texts.lower_bound(prefix); at != from.texts.end() && at->first.starts_with(prefix); ++at)
    out.emplace_back(at->first.substr(prefix.size()), from.real(at->first));
  return out;
}

std::string describe(const Values& values) {
  std::ostringstream out;
  for (const auto& [name, value] : values) out << (out.tellp() > 0 ? ", " : "") << name << " " << std::setprecision(5) << value;
  return out.str();
}

void MetricsFile::append(int64_t step, const Values& values) {
  nlohmann::ordered_json line;
  line["step"] = step;
  for (const auto& [name, value] : values) line[name] = value;   // a value that is not finite becomes null
  file_.append(line.dump() + "\n");
}

}  // namespace qd
