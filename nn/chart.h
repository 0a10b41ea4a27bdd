// Line charts as SVG. One is drawn at any width: lines stretch, letters do not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace qd {

struct Point {
  double x, y;                                       // a y that is not finite is a gap
};

struct Series {
  std::string name;                                  // "training"
  std::vector<Point> points;                         // x ascending
  bool dots = false;                                 // few values: a dot each, and a broken line between them
};

struct Chart {
  std::string title;                                 // "Loss"
  std::string unit = {};                             // "nats per token"
  std::vector<Series> series = {};                   // at most three: what tells them apart is colour, width and dots
  bool from_zero = false;                            // 0 belongs to the picture
  bool large = false;                                // the chart that one looks at first; it can be seen with a logarithmic x as well
};

// A range of numbers along an axis.
struct Axis {
  double low = 0, high = 1;
  bool logarithmic = false;                          // low > 0
  double at(double value) const;                     // 0 at low, 1 at high
  std::vector<double> ticks(int about) const;        // round numbers in it: 1, 2 or 5 times a power of ten apart
};
std::string tick_text(double value, double step);    // with as many digits as `step` needs: 0.5, 20k

// At most about 2 `buckets` points of a line along `x`: of each part of the axis the least and the greatest value, and one gap where it
// has some. The first and the last point stay.
std::vector<Point> thinned(const std::vector<Point>& points, const Axis& x, size_t buckets);

// The chart as HTML with its data for the page's script, over the steps 0 .. last.
std::string drawn(const Chart& chart, double last);

}  // namespace qd
