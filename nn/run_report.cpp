#include "nn/run_report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/machine.h"
#include "nn/html.h"

namespace qd {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

// What the directory holds, as far as it can be read.
std::string content(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return "";
  try {
    return read_file(path.string());
  } catch (const Error&) {
    return "";
  }
}

ordered_json object_in(const fs::path& path) {
  const auto value = ordered_json::parse(content(path), nullptr, false);
  return value.is_object() ? value : ordered_json::object();
}

std::string text_of(const ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return str(value.get<double>());
  if (!value.is_array()) return value.is_primitive() ? value.dump() : "";
  std::string out;
  for (const ordered_json& one : value)
    if (one.is_primitive()) out += (out.empty() ? "" : ", ") + text_of(one);
  return out;
}

const ordered_json& member(const ordered_json& object, const char* name) {
  static const ordered_json none;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : none;
}
std::string text_in(const ordered_json& object, const char* name) { return member(object, name).is_null() ? "" : text_of(member(object, name)); }

// metrics.jsonl: a curve for each name, and the moment of the last line.
struct Curves {
  std::vector<std::string> names;
  std::map<std::string, std::vector<Point>> points;
  double step = 0, seconds = 0;

  explicit Curves(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      const auto values = ordered_json::parse(line, nullptr, false);   // the last line may be half written
      if (!member(values, "step").is_number()) continue;
      step = std::max(step, values["step"].get<double>());
      if (const auto& s = member(values, "seconds"); s.is_number()) seconds = s.get<double>();
      for (const auto& [name, value] : values.items()) {
        if (name == "step" || name == "seconds" || !(value.is_number() || value.is_null())) continue;
        auto& curve = points[name];
        if (curve.empty()) names.push_back(name);
        curve.push_back({values["step"].get<double>(), value.is_null() ? NAN : value.get<double>()});
      }
    }
    for (auto& curve : points)
      std::stable_sort(curve.second.begin(), curve.second.end(), [](const Point& a, const Point& b) { return a.x < b.x; });
  }
  const std::vector<Point>& operator[](const std::string& name) const {
    static const std::vector<Point> none;
    const auto found = points.find(name);
    return found == points.end() ? none : found->second;
  }
};

bool is_rate(const std::string& name) { return name.ends_with("_per_second"); }

std::string readable(const std::string& name) {
  if (name == "lr") return "learning rate";
  if (name == "grad_norm") return "gradient norm";
  if (name.starts_with("val_")) return "validation " + readable(name.substr(4));
  std::string out = name;
  std::replace(out.begin(), out.end(), '_', ' ');
  return out;
}

std::string title_case(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

std::vector<Chart> charts_of(const Curves& curves, const std::string& loss_unit) {
  std::vector<Chart> charts;
  Chart loss{.title = "Loss", .unit = loss_unit, .large = true};
  if (!curves["loss"].empty()) loss.series.push_back({"training", curves["loss"]});
  if (!curves["val_loss"].empty()) loss.series.push_back({"validation", curves["val_loss"], true});
  if (!loss.series.empty()) charts.push_back(loss);
  for (const std::string& name : curves.names) {
    if (name == "loss" || name == "val_loss") continue;
    const std::string title = is_rate(name) ? "throughput" : readable(name), unit = is_rate(name) ? readable(name) : "";
    charts.push_back({title_case(title), unit, {{"", curves[name]}}, is_rate(name) || name == "lr"});
  }
  return charts;
}

// The headline: the evaluation with the lowest validation loss, then `extra`, then how far the run is and how fast.
std::vector<Figure> headline(const Curves& curves, const ordered_json& options, const std::vector<Figure>& extra) {
  std::vector<Figure> figures;
  const auto& evaluations = curves["val_loss"];
  const auto best = std::min_element(evaluations.begin(), evaluations.end(), [](const Point& a, const Point& b) { return std::isnan(b.y) || a.y < b.y; });
  if (best != evaluations.end() && std::isfinite(best->y)) {
    figures.push_back({"validation loss", shown(best->y), "lowest, at step " + with_commas(std::llround(best->x))});
    for (const std::string& name : curves.names) {   // what else was evaluated at that step
      if (name == "val_loss" || curves[name].size() != evaluations.size()) continue;
      const auto same = std::find_if(curves[name].begin(), curves[name].end(), [&](const Point& p) { return p.x == best->x; });
      if (same != curves[name].end() && curves[name].front().x == evaluations.front().x && !is_rate(name) && name != "loss" && name != "lr" && name != "grad_norm")
        figures.push_back({readable(name), shown(same->y), "at the same step"});
    }
  } else if (!curves["loss"].empty()) {
    figures.push_back({"training loss", shown(curves["loss"].back().y)});
  }
  figures.insert(figures.end(), extra.begin(), extra.end());
  const auto &steps = member(options, "steps"), &limit = member(options, "max-seconds");
  figures.push_back({"steps", with_commas(std::llround(curves.step)),
                     steps.is_number() && steps.get<double>() > 0 ? "of " + with_commas(steps.get<int64_t>()) : ""});
  figures.push_back({"training time", shown_time(curves.seconds),
                     limit.is_number() && limit.get<double>() > 0 ? "of " + shown_time(limit.get<double>()) : ""});
  for (const std::string& name : curves.names) {
    if (!is_rate(name)) continue;
    std::vector<double> rates;
    for (const Point& p : curves[name])
      if (std::isfinite(p.y)) rates.push_back(p.y);
    if (rates.empty()) continue;
    std::nth_element(rates.begin(), rates.begin() + std::ssize(rates) / 2, rates.end());
    figures.push_back({readable(name), shown(rates[rates.size() / 2]), "median"});
  }
  return figures;
}

// samples/step-000100.txt and so on, or .png, the latest first; of many some, spread over the run.
std::vector<Sample> samples_of(const fs::path& folder, const std::string& extension, size_t most, const Curves& curves) {
  constexpr size_t longest = 8000;
  std::map<int64_t, fs::path, std::greater<>> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string stem = entry.path().stem().string(), digits = stem.starts_with("step-") && entry.path().extension() == extension ? stem.substr(5) : "";
    if (!digits.empty() && digits.size() < 19 && digits.find_first_not_of("0123456789") == std::string::npos) files[std::stoll(digits)] = entry.path();
  }
  std::vector<Sample> samples;
  size_t number = 0;
  for (const auto& [step, path] : files) {
    const size_t i = number++, n = files.size();
    if (n > most && i != 0 && i * (most - 1) / (n - 1) == (i - 1) * (most - 1) / (n - 1)) continue;
    Sample sample{.title = "step " + with_commas(step), .text = content(path)};
    for (const Point& p : curves["val_loss"])
      if (p.x == static_cast<double>(step)) sample.title += ", validation loss " + shown(p.y);
    if (extension == ".png") {
      if (!sample.text.starts_with("\x89PNG")) continue;
      sample.png.swap(sample.text);
    } else {
      sample.text.erase(sample.text.find_last_not_of(" \n") + 1);
      sample.text.erase(0, sample.text.find_first_not_of('\n'));
      if (sample.text.size() > longest) sample.text = sample.text.substr(0, longest) + " …";
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

Table table_of(const std::string& title, const ordered_json& object) {
  Table table{.title = title};
  const auto add = [&](const std::string& name, const ordered_json& value) {
    const std::string text = text_of(value);
    if (!text.empty()) table.rows.push_back({name, text});
  };
  for (const auto& [name, value] : object.items()) {
    if (!value.is_object()) {
      add(name, value);
      continue;
    }
    for (const auto& [inner, one] : value.items()) add(inner, one);
  }
  return table;
}

Table machine_of(const ordered_json& run) {
  Table table{.title = "Machine"};
  const ordered_json& machine = member(run, "machine");
  const auto say = [&](const char* what, const std::string& value) {
    if (!value.empty()) table.rows.push_back({what, value});
  };
  say("processor", text_in(machine, "processor"));
  say("processors", text_in(machine, "processors"));
  say("threads used", text_in(run, "threads"));
  say("instruction set", text_in(run, "instruction_set"));
  say("products computed in", text_in(run, "precision"));
  if (const auto& gib = member(machine, "memory_gib"); gib.is_number()) say("memory", shown(gib.get<double>()) + " GiB");
  say("system", text_in(machine, "system"));
  say("compiler", text_in(machine, "compiler"));
  say("version", text_in(run, "version").empty() ? "" : "Qiudao " + text_in(run, "version"));
  say("begun", text_in(run, "started"));
  say("report written", utc_time());
  return table;
}

std::string subtitle_of(const ordered_json& run) {
  std::string out = text_in(run, "app");
  std::string data;
  if (const auto& files = member(member(run, "options"), "data"); files.is_array()) {
    for (const ordered_json& file : files)
      if (file.is_string()) data += (data.empty() ? "" : ", ") + fs::path(file.get<std::string>()).filename().string();
  }
  if (!data.empty()) out += (out.empty() ? "" : " on ") + data;
  return out;
}

std::string in_shell(const std::string& path) {
  std::string out;
  for (const char c : path) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return path.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == std::string::npos ? out : "'" + out + "'";
}

void commands_of(Report& page, const ordered_json& run, const std::string& folder) {
  const std::string command = text_in(run, "command"), app = text_in(run, "app");
  if (command.empty()) return;
  page.section("To repeat it").command(command);
  if (const auto& resumed = member(run, "resumed"); resumed.is_array()) {
    for (const ordered_json& line : resumed)
      if (line.is_string()) page.command(line.get<std::string>());
  }
  page.note("With every option as it was, in a new directory:").command("bin/" + app + " --config " + in_shell(folder + "/run.json"));
}

}  // namespace

void write_run_report(const std::string& folder, const ReportExtras& extras) {
  const fs::path at(folder);
  const ordered_json run = object_in(at / "run.json"), config = object_in(at / "config.json");
  const Curves curves(content(at / "metrics.jsonl"));
  std::error_code ignored;
  Report page(fs::absolute(at, ignored).lexically_normal().filename().string(), subtitle_of(run));
  page.figures(headline(curves, member(run, "options"), extras.figures));
  page.charts(charts_of(curves, extras.loss_unit));
  page.section("Samples").samples(samples_of(at / "samples", ".png", 10, curves)).samples(samples_of(at / "samples", ".txt", 40, curves));
  page.section("");
  if (extras.sections) extras.sections(page);
  page.section("Configuration").table(table_of("Model", config)).table(table_of("Options", member(run, "options"))).table(machine_of(run));
  commands_of(page, run, folder);
  write_file((at / "report.html").string(), page.html());
}

}  // namespace qd
