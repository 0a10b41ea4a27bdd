// The table of a file's tensors: type and shape as stored, and what their numbers are like.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/inspect/inspect.h"
#include "apps/options.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json_file.h"
#include "core/number_types.h"
#include "models/gpt_config.h"

namespace qd {
namespace fs = std::filesystem;
using nlohmann::ordered_json;
namespace {

// Of the finite numbers of a tensor.
struct Statistics {
  int64_t finite = 0, not_finite = 0;
  double low = INFINITY, high = -INFINITY, mean = 0;
  long double squares = 0, deviations = 0;   // long: the squares of an F64 may be beyond it

  void add(double x) {   // Welford 1962
    if (!std::isfinite(x)) {
      ++not_finite;
      return;
    }
    ++finite;
    low = std::min(low, x), high = std::max(high, x);
    squares += static_cast<long double>(x) * x;
    const double from_mean = x - mean;
    mean += from_mean / static_cast<double>(finite);
    deviations += static_cast<long double>(from_mean) * (x - mean);
  }
  double norm() const { return static_cast<double>(std::sqrt(squares)); }
  double deviation() const { return static_cast<double>(std::sqrt(deviations / static_cast<long double>(finite))); }
};

// What config.json says, in one line: numbers and texts.
std::string config_line(const ordered_json& config) {
  std::string line;
  for (const auto& [key, value] : config.items()) {
    if (value.is_object() && key == "qiudao") line += (line.empty() ? "" : ", ") + config_line(value);
    if (!value.is_primitive() || value.is_null()) continue;
    const std::string text = value.is_string() ? value.template get<std::string>() : value.dump();
    line += str(line.empty() ? "" : ", ", key, ' ', text.substr(0, 60));
  }
  return line;
}

// config.json, and whether bin/lm can use the directory; nothing for other directories and for files.
ordered_json config_of(const std::string& path) {
  std::error_code ignored;
  const std::string file = (fs::path(path) / "config.json").string();
  ordered_json about;
  if (!fs::is_directory(path, ignored) || !is_there(file)) return about;
  try {
    about["config"] = read_json(file, 1 << 20);
    if (!about["config"].is_object()) about.erase("config");
    read_config(path);
  } catch (const Error& error) {
    about["problem"] = error.what();
  }
  return about;
}

}  // namespace

int describe(const std::string& path, bool json) {
  const StoredState state = open_safetensors(path);
  ordered_json result = {{"path", path}, {"tensors", ordered_json::array()}};
  std::vector<std::vector<std::string>> rows = {{"name", "type", "shape", "count", "norm", "mean", "std", "min", "max", ""}};
  int64_t numbers = 0, not_finite = 0;
  uint64_t bytes = 0;
  {
    Progress line("reading");
    size_t done = 0;
    for (const StoredTensor* t : in_order(state)) {
      line.update(static_cast<double>(done++) / static_cast<double>(state.tensors.size()), t->name);
      Statistics s;
      for_each_piece(*t, [&](const std::vector<double>& piece) {
        for (const double x : piece) s.add(x);
      });
      ordered_json row = {{"name", t->name}, {"type", t->type}, {"shape", std::vector<int64_t>(t->shape.begin(), t->shape.end())},
                          {"count", t->shape.size()}, {"bytes", t->bytes}};
      rows.push_back({printable(t->name), printable(t->type), t->shape.str(), str(t->shape.size())});
      for (const auto& [name, value] : {std::pair("norm", s.norm()), {"mean", s.mean}, {"std", s.deviation()}, {"min", s.low}, {"max", s.high}}) {
        const bool known = t->number && s.finite > 0;
        rows.back().push_back(known ? shown(value) : "-");
        if (known) row[name] = value;
        else row[name] = nullptr;
      }
      row["not_finite"] = s.not_finite;
      rows.back().push_back(s.not_finite > 0 ? str("!! ", s.not_finite, " not finite") : "");
      result["tensors"].push_back(std::move(row));
      numbers += t->shape.size(), bytes += t->bytes, not_finite += s.not_finite;
    }
  }
  result["parameters"] = numbers;
  result["bytes"] = bytes;
  result["not_finite"] = not_finite;
  result["metadata"] = state.texts;
  const ordered_json config = config_of(path);
  result.update(config.is_null() ? ordered_json::object() : config);
  if (json) {
    print(result.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
    return 0;
  }
  std::string text = rows.size() > 1 ? table(rows, 3) + "\n" : "";
  text += str(state.tensors.size(), " tensors, ", numbers, " parameters, ", bytes, " bytes",
              not_finite > 0 ? str(", ", not_finite, " of them not finite") : "", "\n");
  for (const auto& [name, value] : state.texts) text += printable(str("metadata: ", name, " = ", value.substr(0, 200))) + "\n";
  if (config.contains("config")) text += printable("config.json: " + config_line(config["config"])) + "\n";
  if (config.contains("problem")) text += printable("bin/lm cannot use it: " + config["problem"].get<std::string>()) + "\n";
  print(text);
  return 0;
}

void for_each_piece(const StoredTensor& t, const std::function<void(const std::vector<double>&)>& f) {
  constexpr int64_t piece = 1 << 16;
  if (!t.number) return;
  std::vector<char> bytes;
  std::vector<double> values;
  for (int64_t begin = 0; begin < t.shape.size(); begin += piece) {
    const int64_t count = std::min(piece, t.shape.size() - begin);
    bytes.resize(static_cast<size_t>(count * t.number->bytes));
    values.resize(static_cast<size_t>(count));
    t.read_bytes(static_cast<uint64_t>(begin * t.number->bytes), bytes);
    t.number->to_f64(bytes.data(), count, values.data());
    f(values);
  }
}

namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }

// Digits in a row count as one number, by their length first.
bool counts_before(const std::string& a, const std::string& b) {
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    size_t m = i, n = j;
    while (m < a.size() && digit(a[m])) ++m;
    while (n < b.size() && digit(b[n])) ++n;
    if (m > i && n > j) {
      if (m - i != n - j) return m - i < n - j;
      if (const int order = a.compare(i, m - i, b, j, n - j)) return order < 0;
      i = m, j = n;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

}  // namespace

std::vector<const StoredTensor*> in_order(const StoredState& state) {
  std::vector<const StoredTensor*> order;
  for (const auto& [name, tensor] : state.tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return counts_before(a->name, b->name); });
  return order;
}

std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string table(const std::vector<std::vector<std::string>>& rows, size_t left) {
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - row[i].size(), ' ');
      line += (i ? "  " : "") + (i < left ? row[i] + blanks : blanks + row[i]);
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace qd
