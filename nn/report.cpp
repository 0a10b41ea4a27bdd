#include "nn/report.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "nn/html.h"
#include "nn/report_page.h"

namespace qd {
namespace {

bool is_number(const std::string& text) {
  return text.find_first_of("0123456789") != std::string::npos && text.find_first_not_of("0123456789.,+-–e %") == std::string::npos;
}

std::string row(const std::vector<Cell>& cells, const std::vector<bool>& numeric, bool named) {
  std::string out = "<tr>";
  for (size_t i = 0; i < cells.size(); ++i) {
    const bool head = named && i == 0;
    std::string kind = i < numeric.size() && numeric[i] ? "number" : "";
    if (cells[i].tone != Cell::Tone::plain) kind = cells[i].tone == Cell::Tone::good ? "verdict good" : "verdict bad";
    out += str(head ? "<th scope=\"row\"" : "<td", kind.empty() ? "" : str(" class=\"", kind, "\""), "><span>", escaped(cells[i].text), "</span>", head ? "</th>" : "</td>");
  }
  return out + "</tr>\n";
}

// A token as a label: what cannot be seen becomes a sign.
std::string visible(const std::string& token) {
  std::string out;
  for (const char c : token) out += c == '\n' ? "↵" : c == '\t' ? "→" : c == ' ' ? "·" : std::string(1, c);
  return out;
}

}  // namespace

Report::Report(std::string title, std::string subtitle) : title_(std::move(title)), subtitle_(std::move(subtitle)) {}

Report& Report::add(const std::string& part) {
  if (!section_.empty()) body_ += str("<h2>", escaped(section_), "</h2>\n");
  section_.clear();
  body_ += part;
  return *this;
}

Report& Report::section(std::string title) {
  section_ = std::move(title);
  return *this;
}

Report& Report::note(std::string_view text) { return add(str("<p>", escaped(text), "</p>\n")); }

Report& Report::figures(const std::vector<Figure>& figures) {
  if (figures.empty()) return *this;
  std::string out = "<dl class=\"figures\">";
  for (const Figure& f : figures) {
    out += str("<div><dt>", escaped(f.name), "</dt><dd>", escaped(f.value));
    if (!f.remark.empty()) out += str("<small>", escaped(f.remark), "</small>");
    out += "</dd></div>\n";
  }
  return add(out + "</dl>\n");
}

Report& Report::charts(const std::vector<Chart>& charts) {
  if (charts.empty()) return *this;
  double last = 0;
  for (const Chart& chart : charts) {
    for (const Series& series : chart.series)
      if (!series.points.empty() && std::isfinite(series.points.back().x)) last = std::max(last, series.points.back().x);
  }
  std::string out = "<div class=\"charts\">\n";
  for (const Chart& chart : charts) out += drawn(chart, last);
  return add(out + "</div>\n");
}

Report& Report::table(const Table& table) {
  if (table.rows.empty()) return *this;
  std::vector<bool> numeric;
  for (size_t column = 0; column < table.rows.front().size(); ++column)
    numeric.push_back(!table.columns.empty() && std::all_of(table.rows.begin(), table.rows.end(), [&](const std::vector<Cell>& cells) {
      return column >= cells.size() || cells[column].text.empty() || is_number(cells[column].text);
    }));
  std::string out = "<div class=\"table\">";
  if (!table.title.empty()) out += str("<h3>", escaped(table.title), "</h3>");
  out += "<table>\n";
  if (!table.columns.empty()) {
    out += "<thead><tr>";
    for (size_t i = 0; i < table.columns.size(); ++i)
      out += str("<th scope=\"col\"", i < numeric.size() && numeric[i] ? " class=\"number\"" : "", ">", escaped(table.columns[i]), "</th>");
    out += "</tr></thead>\n";
  }
  out += "<tbody>\n";
  for (const auto& cells : table.rows) out += row(cells, numeric, table.columns.empty());
  out += "</tbody></table></div>\n";
  const std::string end = "</div><!--tables-->\n";
  if (section_.empty() && body_.ends_with(end)) {
    body_.resize(body_.size() - end.size());
    return add(out + end);
  }
  return add(str("<div class=\"tables\">", out, end));
}

Report& Report::samples(const std::vector<Sample>& samples) {
  for (size_t i = 0; i < samples.size(); ++i) {
    if (!samples[i].png.empty()) {
      picture(samples[i].png, samples[i].title);
      continue;
    }
    std::string text = samples[i].text;
    for (size_t at; (at = text.find("\r\n")) != std::string::npos;) text.erase(at, 1);
    // A line end right after <pre> belongs to no text.
    add(str("<details", i == 0 ? " open" : "", "><summary>", escaped(samples[i].title), "</summary><pre>\n", escaped(text), "</pre></details>\n"));
  }
  return *this;
}

Report& Report::heatmaps(const Heatmaps& maps) {
  const size_t n = maps.labels.size();
  if (n == 0 || maps.groups.empty()) return *this;
  std::string out = "<div class=\"maps\"><div class=\"looking\"><div class=\"strip\">";
  for (const std::string& label : maps.labels) out += str("<span>", escaped(visible(label)), "</span>");
  out += "</div><output class=\"said\">Point at a map: a row shows what its token looks at.</output></div>\n<div class=\"groups\">\n";
  for (const Heatmaps::Group& group : maps.groups) {
    out += str("<div><h3>", escaped(group.title), "</h3><div class=\"group\">\n");
    for (const Heatmaps::Map& map : group.maps) {
      QD_CHECK(map.values.size() == n * n, "report", str("expected a map of ", n, " x ", n, " values, got ", map.values.size()));
      std::string bytes;
      for (const float v : map.values) bytes += static_cast<char>(std::lround(255 * (v > 0 ? std::min(v, 1.0f) : 0.0f)));
      const std::string title = escaped(map.title);
      out += str("<figure><canvas width=\"", n, "\" height=\"", n, "\" data-map=\"", base64(bytes), "\" data-title=\"", escaped(group.title), ", ", title,
                 "\" role=\"img\" aria-label=\"", title, "\"></canvas><figcaption>", title, "</figcaption></figure>\n");
    }
    out += "</div></div>\n";
  }
  return add(out + "</div></div>\n");
}

Report& Report::picture(std::string_view png, std::string_view caption) {
  const std::string text = escaped(caption);
  return add(str("<figure class=\"picture\"><img src=\"", picture_uri(png), "\" alt=\"", text, "\"><figcaption>", text, "</figcaption></figure>\n"));
}

Report& Report::command(std::string_view line) { return add(str("<pre class=\"command\">\n", escaped(line), "</pre>\n")); }

std::string Report::html() const {
  const std::string title = escaped(title_), subtitle = subtitle_.empty() ? "" : str("<p class=\"subtitle\">", escaped(subtitle_), "</p>\n");
  return str(page_begin(title), "<h1>", title, "</h1>\n", subtitle, "</header>\n<main>\n", body_, "</main>\n", page_end());
}

}  // namespace qd
