#include "nn/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "core/error.h"
#include "nn/html.h"

namespace qd {

double Axis::at(double value) const {
  const auto log_ratio = [&](double v) { return std::log(v) - std::log(low); };   // v / low may be beyond a double
  return logarithmic ? log_ratio(value) / log_ratio(high) : (value - low) / (high - low);
}

std::vector<double> Axis::ticks(int about) const {
  std::vector<double> out;
  if (logarithmic) {
    const int first = static_cast<int>(std::ceil(std::log10(low) - 1e-9)), last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
    const int apart = std::max(1, (last - first) / about + 1);
    for (int power = first; power <= last; power += apart) out.push_back(std::pow(10.0, power));
    return out;
  }
  const double wanted = (high - low) / about, power = std::pow(10.0, std::floor(std::log10(wanted))), lead = wanted / power;
  const double step = (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10) * power;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step && out.size() < 100; ++i) out.push_back(i * step);
  return out;
}

std::string tick_text(double value, double step) {
  if (value == 0) return "0";
  const double size = std::abs(value);
  const char* suffix = "";
  double unit = 1;
  if (size >= 1e15 || step < 1e-4) {
    char text[32];
    std::snprintf(text, sizeof text, "%.0e", value);   // 2e-05
    std::string out = text;
    if (const size_t e = out.find('e'); out[e + 2] == '0') out.erase(e + 2, 1);
    if (const size_t plus = out.find('+'); plus != std::string::npos) out.erase(plus, 1);
    return out;
  }
  if (size >= 1e9) unit = 1e9, suffix = "G";
  else if (size >= 1e6) unit = 1e6, suffix = "M";
  else if (size >= 1e4) unit = 1e3, suffix = "k";
  char text[40];
  const double digits = std::ceil(-std::log10(step / unit) - 1e-9);
  std::snprintf(text, sizeof text, "%.*f", static_cast<int>(std::clamp(digits, 0.0, 9.0)), value / unit);
  std::string out = text;
  if (unit > 1 && out.find('.') != std::string::npos) out.erase(out.find_last_not_of('0') + (out.find_last_not_of('0') == out.find('.') ? 0 : 1));
  return out + suffix;
}

namespace {

// Calls f(begin, end) for the points of each of `buckets` equal parts of the axis, where there are some.
template <class F>
void for_each_bucket(const std::vector<Point>& points, const Axis& x, size_t buckets, F&& f) {
  const auto bucket = [&](const Point& p) {
    return std::min(static_cast<size_t>(std::clamp(x.at(p.x), 0.0, 1.0) * static_cast<double>(buckets)), buckets - 1);
  };
  for (size_t begin = 0, end; begin < points.size(); begin = end) {
    for (end = begin + 1; end < points.size() && bucket(points[end]) == bucket(points[begin]);) ++end;
    f(begin, end);
  }
}

// The middle of each bucket; a gap where it has no value.
std::vector<Point> means(const std::vector<Point>& points, const Axis& x, size_t buckets) {
  std::vector<Point> out;
  for_each_bucket(points, x, buckets, [&](size_t begin, size_t end) {
    double sum_x = 0, sum_y = 0;
    size_t n = 0;
    for (size_t i = begin; i < end; ++i)
      if (std::isfinite(points[i].y)) sum_x += points[i].x, sum_y += points[i].y, ++n;
    out.push_back(n ? Point{sum_x / static_cast<double>(n), sum_y / static_cast<double>(n)} : Point{points[begin].x, NAN});
  });
  return out;
}

}  // namespace

std::vector<Point> thinned(const std::vector<Point>& points, const Axis& x, size_t buckets) {
  if (points.size() <= 2 * buckets) return points;
  std::vector<Point> out;
  for_each_bucket(points, x, buckets, [&](size_t begin, size_t end) {
    size_t least = begin, greatest = begin, gap = points.size();
    for (size_t i = begin; i < end; ++i) {
      const double y = points[i].y;
      if (!std::isfinite(y)) {
        gap = i;
        continue;
      }
      if (!(points[least].y <= y)) least = i;   // also where it is none
      if (!(points[greatest].y >= y)) greatest = i;
    }
    std::vector<size_t> kept = {least, greatest};
    if (gap < points.size()) kept.push_back(gap);
    if (begin == 0) kept.push_back(0);
    if (end == points.size()) kept.push_back(end - 1);
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const size_t i : kept) out.push_back(points[i]);
  });
  return out;
}

namespace {

constexpr int grid = 10000;   // units of the drawing along each side

int on_grid(double share) { return static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * grid)); }

std::string per_cent(double share) {
  char text[16];
  std::snprintf(text, sizeof text, "%.2f%%", 100 * std::clamp(share, 0.0, 1.0));
  return text;
}

// The range of all values, with some air; logarithmic where one would see nothing otherwise.
Axis y_axis(const Chart& chart) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Series& series : chart.series) {
    for (const Point& p : series.points)
      if (std::isfinite(p.y)) low = std::min(low, p.y), high = std::max(high, p.y);
  }
  if (low > high) return {};
  constexpr double too_wide = 200;
  if (!chart.from_zero && low > 0 && high / low > too_wide) return {low / 1.3, high * 1.3, true};
  if (chart.from_zero) low = std::min(low, 0.0), high = std::max(high, 0.0);
  double air = 0.06 * (high - low);
  if (!(air > 1e-9 * std::max(std::abs(low), std::abs(high)))) air = std::max(std::abs(high), 1e-6) / 10;
  return {chart.from_zero && low == 0 ? 0 : low - air, high + air};
}

std::string line_path(const std::vector<Point>& points, const Axis& x, const Axis& y, bool dots) {
  std::string path;
  bool drawing = false;
  for (const Point& p : points) {
    if (!std::isfinite(p.y)) {
      drawing = false;
      continue;
    }
    path += str(drawing ? 'L' : 'M', on_grid(x.at(p.x)), ' ', grid - on_grid(y.at(p.y)));
    if (dots) path += "h0";   // with round ends a line of no length is a dot
    drawing = !dots;
  }
  return path;
}

// A number with the digits that the eye and the hover need.
std::string json_number(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", value);
  return text;
}

std::string json_points(const std::vector<Point>& points) {
  std::string x = "[", y = "[";
  for (size_t i = 0; i < points.size(); ++i) {
    char step[32];
    std::snprintf(step, sizeof step, "%.15g", points[i].x);
    x += str(i ? "," : "", step);
    y += str(i ? "," : "", json_number(points[i].y));
  }
  return str("[", x, "],", y, "]]");
}

std::string plot(const Chart& chart, const Axis& x, const Axis& y) {
  const size_t buckets = chart.large ? 500 : 200;
  std::string lines, labels, data;
  size_t longest = 1;
  const auto y_ticks = y.ticks(chart.large ? 5 : 3), x_ticks = x.ticks(chart.large ? 6 : 4);
  for (const double tick : y_ticks) {
    const int from_top = grid - on_grid(y.at(tick));
    lines += str("M0 ", from_top, "H", grid);
    const std::string text = tick_text(tick, y_ticks.size() > 1 && !y.logarithmic ? y_ticks[1] - y_ticks[0] : std::abs(tick));
    longest = std::max(longest, text.size());
    labels += str("<span class=\"y\" style=\"top:", per_cent(1 - y.at(tick)), "\">", text, "</span>");
  }
  for (const double tick : x_ticks) {
    const double at = x.at(tick);
    const std::string text = tick_text(tick, x_ticks.size() > 1 && !x.logarithmic ? x_ticks[1] - x_ticks[0] : std::max(tick, 1.0));
    lines += str("M", on_grid(at), " ", grid, "v-", 150);
    labels += str("<span class=\"x", at > 0.95 ? " end" : "", "\" style=\"left:", per_cent(at), "\">", text, "</span>");
  }
  std::string svg = str("<path class=\"grid\" d=\"", lines, "\"/><path class=\"base\" d=\"M0 ", grid, "H", grid, "\"/>");
  for (size_t i = 0; i < chart.series.size(); ++i) {
    std::vector<Point> inside;
    for (const Point& p : chart.series[i].points)
      if (std::isfinite(p.x) && (!x.logarithmic || p.x >= x.low)) inside.push_back(p);
    const std::vector<Point> few = thinned(inside, x, buckets);
    const bool dots = chart.series[i].dots || few.size() == 1;
    const bool dense = few.size() < inside.size();   // a band of extremes, with the mean in it
    svg += str("<path class=\"line s", i + 1, chart.series[i].dots ? " broken" : "", dense ? " pale" : "", "\" d=\"", line_path(few, x, y, false), "\"/>");
    if (dense) svg += str("<path class=\"line s", i + 1, "\" d=\"", line_path(means(inside, x, buckets / 4), x, y, false), "\"/>");
    if (dots && few.size() <= 40) svg += str("<path class=\"dots s", i + 1, "\" d=\"", line_path(few, x, y, true), "\"/>");
    data += str(i ? "," : "", json_points(few));
  }
  return str("<div class=\"plot", x.logarithmic ? " log" : " linear", "\" tabindex=\"0\" role=\"img\" aria-label=\"", escaped(chart.title),
             " over steps; left and right move along it\" style=\"--gutter:", longest, "ch\" data-x=\"", json_number(x.low), " ", json_number(x.high), "\" data-y=\"",
             json_number(y.low), " ", json_number(y.high), " ", y.logarithmic ? 1 : 0, "\">\n<svg viewBox=\"0 0 ", grid, " ", grid,
             "\" preserveAspectRatio=\"none\" aria-hidden=\"true\">", svg, "</svg>", labels, "<script type=\"application/json\">[", data, "]</script></div>\n");
}

std::string last_value(const Series& series) {
  for (auto p = series.points.rbegin(); p != series.points.rend(); ++p)
    if (std::isfinite(p->y)) return shown(p->y);
  return "–";
}

}  // namespace

std::string drawn(const Chart& chart, double last) {
  const Axis y = y_axis(chart);
  std::string out = str("<figure class=\"chart", chart.large ? " large" : "", "\"><figcaption><b>", escaped(chart.title), "</b>");
  if (!chart.unit.empty()) out += str(" <small>", escaped(chart.unit), "</small>");
  if (chart.large) out += "<label class=\"toggle\"><input type=\"checkbox\">log steps</label>";
  out += "</figcaption><div class=\"readout\">";
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series& series = chart.series[i];
    out += "<span>";
    if (chart.series.size() > 1)
      out += str("<svg class=\"key\" viewBox=\"0 0 24 10\" aria-hidden=\"true\"><path class=\"line s", i + 1, series.dots ? " broken" : "", "\" d=\"M0 5H24\"/>",
                 series.dots ? str("<path class=\"dots s", i + 1, "\" d=\"M12 5h0\"/>") : "", "</svg>");
    out += str(escaped(series.name), chart.series.size() > 1 ? " " : "", "<output>", last_value(series), "</output></span>");
  }
  out += str("<span class=\"step\">step <output>", with_commas(std::llround(last)), "</output></span></div>\n");
  out += plot(chart, {0, std::max(last, 1.0)}, y);
  double first = last;
  for (const Series& series : chart.series) {
    for (const Point& p : series.points)
      if (p.x > 0) first = std::min(first, p.x);
  }
  if (chart.large) out += plot(chart, {std::max(first, 1e-9), std::max(last, 2 * first), true}, y);
  return out + "</figure>\n";
}

}  // namespace qd
