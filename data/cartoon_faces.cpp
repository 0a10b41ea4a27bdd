#include "data/cartoon_faces.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/random.h"

namespace qd {
namespace {

struct Colour {
  double r = 0, g = 0, b = 0;
  Colour operator*(double k) const { return {r * k, g * k, b * k}; }
};
Colour mix(Colour a, Colour b, double t) { return {a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t}; }

constexpr std::array<Colour, 6> skins{{{0.98, 0.86, 0.75}, {0.95, 0.78, 0.64}, {0.88, 0.68, 0.50}, {0.76, 0.54, 0.37}, {0.58, 0.39, 0.26}, {0.40, 0.26, 0.17}}};
constexpr std::array<Colour, 7> hairs{{{0.10, 0.08, 0.08}, {0.25, 0.15, 0.09}, {0.42, 0.26, 0.13}, {0.62, 0.44, 0.22}, {0.86, 0.72, 0.42}, {0.62, 0.25, 0.12}, {0.70, 0.70, 0.72}}};
constexpr std::array<Colour, 5> irises{{{0.26, 0.15, 0.08}, {0.40, 0.26, 0.12}, {0.24, 0.44, 0.62}, {0.28, 0.46, 0.30}, {0.45, 0.48, 0.52}}};

// In units of half the picture's side: x to the right, y down, (0, 0) in the middle.
struct Point {
  double x, y;
};

// Everything that is random about a face.
struct Face {
  Colour skin, hair, iris, shirt, top, bottom;   // top, bottom: of the background
  double width, height, tilt, turn, x, y, scale; // the head's radii; turn moves the features sideways
  double light, shade;                           // direction in radians, strength
  double eye_gap, eye_size, eye_open, gaze, brow_height, brow_slope, brow_weight;
  double nose, mouth_width, smile, mouth_open, lip, cheeks, neck;
  double hairline, parting, hair_volume, hair_length;
  int hair_style;   // 0 none, 1 short, 2 long, 3 a bun, 4 curls
  bool glasses, beard, ear_rings;
};

Face random_face(uint64_t seed, int64_t i) {
  Random random(seed, (uint64_t{1} << 61) + static_cast<uint64_t>(i));
  const auto between = [&](double a, double b) { return a + (b - a) * random.uniform(); };
  const auto about = [&](double middle, double deviation) { return middle + deviation * std::clamp(random.normal(), -2.2, 2.2); };
  const auto any = [&] { return Colour{between(0.15, 0.95), between(0.15, 0.95), between(0.15, 0.95)}; };
  const auto of = [&](const auto& colours) {   // between two neighbours
    const double place = random.uniform() * static_cast<double>(colours.size() - 1);
    const auto k = static_cast<size_t>(place);
    return mix(colours[k], colours[k + 1], place - static_cast<double>(k));
  };
  Face f{};
  f.skin = of(skins), f.hair = of(hairs), f.iris = of(irises), f.shirt = any();
  f.top = any(), f.bottom = mix(f.top, any(), between(0.1, 0.6));
  f.width = about(0.46, 0.025), f.height = about(0.60, 0.03);
  f.tilt = about(0, 0.09), f.turn = about(0, 0.06), f.x = about(0, 0.035), f.y = about(0.04, 0.03), f.scale = about(1, 0.05);
  f.light = between(0, 2 * std::numbers::pi), f.shade = between(0.08, 0.32);
  f.eye_gap = about(0.20, 0.012), f.eye_size = about(0.088, 0.009), f.eye_open = std::clamp(about(0.62, 0.13), 0.15, 1.0), f.gaze = about(0, 0.25);
  f.brow_height = about(0.145, 0.015), f.brow_slope = about(0, 0.16), f.brow_weight = between(0.012, 0.032);
  f.nose = about(0.17, 0.025), f.mouth_width = about(0.17, 0.03), f.smile = about(0.05, 0.045);
  f.mouth_open = std::max(0.0, about(0.0, 0.045)), f.lip = between(0.1, 0.7), f.cheeks = between(0, 0.35), f.neck = about(0.20, 0.02);
  f.hairline = about(0.30, 0.05), f.parting = about(0, 0.2), f.hair_volume = about(1.13, 0.035), f.hair_length = between(0.25, 0.95);
  const double style = random.uniform();
  f.hair_style = style < 0.06 ? 0 : style < 0.42 ? 1 : style < 0.76 ? 2 : style < 0.87 ? 3 : 4;
  f.glasses = random.uniform() < 0.16, f.beard = f.hair_style < 2 && random.uniform() < 0.35;
  f.ear_rings = f.hair_style >= 2 && random.uniform() < 0.25;
  return f;
}

// One point of the picture, painted over by one shape after another.
struct Painter {
  double pixel;   // its width: what lies nearer than half of it to an edge is covered in part
  Colour colour;

  double cover(double distance) const { return std::clamp(0.5 - distance / pixel, 0.0, 1.0); }
  void paint(Colour c, double distance, double opacity = 1) { colour = mix(colour, c, cover(distance) * opacity); }
};

// Signed distances, negative inside; that of the ellipse is right near its edge.
double ellipse(Point p, Point middle, double rx, double ry) {
  const double x = (p.x - middle.x) / rx, y = (p.y - middle.y) / ry, r = std::hypot(x, y);
  if (r < 1e-9) return -std::min(rx, ry);
  const double slope = std::hypot(x / rx, y / ry) / r;
  return (r - 1) / slope;
}
double segment(Point p, Point a, Point b, double radius) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double t = std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / (dx * dx + dy * dy + 1e-12), 0.0, 1.0);
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy) - radius;
}

void hair_behind(const Face& f, Painter& to, Point p) {
  const Colour dark = f.hair * 0.72;
  if (f.hair_style == 2) {
    const double sides = std::max(std::abs(p.x) - f.width * (1.14 + 0.10 * f.hair_length), p.y - f.height * (0.2 + f.hair_length));
    to.paint(dark, std::max(sides, -0.1 - p.y));
    to.paint(dark, ellipse(p, {0, -0.08}, f.width * 1.2, f.height * 1.12));
  } else if (f.hair_style == 3) {
    to.paint(f.hair, ellipse(p, {0.1 * f.parting, -f.height * 1.18}, 0.17, 0.15));
  } else if (f.hair_style == 4) {
    for (int k = 0; k < 13; ++k) {
      const double a = std::numbers::pi * (1.0 + (k + 0.5) / 13) + 0.0, swell = 1.08 + 0.05 * f.parting;
      to.paint(mix(dark, f.hair, 0.5 + 0.5 * std::sin(k * 2.4)), ellipse(p, {std::cos(a) * f.width * swell, std::sin(a) * f.height * swell - 0.02}, 0.16, 0.16));
    }
  }
}

void hair_in_front(const Face& f, Painter& to, Point p) {
  if (f.hair_style == 0) return;
  const double top = ellipse(p, {0, -0.02}, f.width * f.hair_volume * 0.97, f.height * f.hair_volume);
  // Below the hairline, a curve that is highest at the parting, the face is free.
  const double across = (p.x - f.parting * f.width) / f.width;
  const double line = -f.height * (1 - f.hairline) + (f.hair_style == 2 ? 0.42 : 0.27) * across * across;
  double free = p.y - line;
  if (f.hair_style == 1) free = std::max(free, p.y + 0.02 - 0.25 * std::abs(across));
  const double shine = 0.12 * std::exp(-18 * std::pow(p.y + f.height * 0.86, 2)) * (1 + 0.4 * std::sin(36 * p.x + 9 * p.y));
  to.paint(mix(f.hair, {1, 1, 1}, std::max(0.0, shine)), std::max(top, free));
}

void eye(const Face& f, Painter& to, Point p, double side) {
  const double near = 1 - 0.9 * side * f.turn;   // the far eye is narrower
  const Point middle{side * f.eye_gap + f.turn, -0.07};
  const double rx = f.eye_size * near, ry = f.eye_size * f.eye_open;
  const double white = ellipse(p, middle, rx, ry);
  to.paint(f.skin * 0.72, ellipse(p, middle, rx * 1.12, ry * 1.22), 0.55);
  to.paint({0.97, 0.97, 0.96}, white);
  const Point pupil{middle.x + f.gaze * 0.35 * rx, middle.y};
  to.paint(f.iris, std::max(white, ellipse(p, pupil, f.eye_size * 0.50, f.eye_size * 0.50)));
  to.paint({0.04, 0.04, 0.05}, std::max(white, ellipse(p, pupil, f.eye_size * 0.24, f.eye_size * 0.24)));
  to.paint({1, 1, 1}, std::max(white, ellipse(p, {pupil.x - 0.018, pupil.y - 0.018}, 0.013, 0.013)), 0.9);
  to.paint({0.12, 0.08, 0.07}, std::max(std::abs(white) - 0.010, p.y - middle.y + 0.1 * ry), 0.85);   // the upper lid
  const Point inner{middle.x - side * rx * 0.95, middle.y - f.brow_height - side * f.brow_slope * -0.12 * side};
  const Point outer{middle.x + side * rx * 1.15, middle.y - f.brow_height + f.brow_slope * 0.2 + 0.02};
  to.paint(mix(f.hair, {0.08, 0.06, 0.05}, 0.35), segment(p, inner, outer, f.brow_weight), 0.9);
  if (f.glasses) {
    to.paint({0.10, 0.10, 0.13}, std::abs(ellipse(p, middle, 0.152, 0.128)) - 0.013);
    to.paint({0.10, 0.10, 0.13}, segment(p, {middle.x + side * 0.15, middle.y - 0.01}, {side * f.width, middle.y - 0.05}, 0.010));
  }
}

void mouth(const Face& f, Painter& to, Point p) {
  const double x = (p.x - 1.1 * f.turn) / f.mouth_width;
  if (std::abs(x) > 1.35) return;
  const double bend = 0.30 - f.smile * x * x + f.smile * 0.4;   // of the line between the lips
  const double thick = std::sqrt(std::max(0.0, 1 - x * x));
  const Colour lips = mix(mix(f.skin, {0.70, 0.22, 0.24}, 0.45), {0.80, 0.12, 0.20}, f.lip * 0.6);
  const double ends = (std::abs(x) - 1) * f.mouth_width;
  to.paint(lips, std::max(ends, std::max(p.y - bend - (0.032 + f.mouth_open) * thick, bend - 0.026 * thick - p.y)));
  to.paint({0.28, 0.07, 0.09}, std::max(ends, std::max(p.y - bend - f.mouth_open * thick * 0.9, bend - 0.005 - p.y)));
  if (f.mouth_open > 0.03) to.paint({0.96, 0.95, 0.92}, std::max(ends + 0.03, std::max(p.y - bend - f.mouth_open * thick * 0.45, bend - p.y)));
}

Colour paint_face(const Face& f, Point at, double pixel) {
  Painter to{pixel / f.scale, mix(f.top, f.bottom, std::clamp(at.y * 0.5 + 0.5, 0.0, 1.0))};
  const double c = std::cos(f.tilt), s = std::sin(f.tilt), u = (at.x - f.x) / f.scale, v = (at.y - f.y) / f.scale;
  const Point p{c * u + s * v, -s * u + c * v};   // the head's own axes
  hair_behind(f, to, p);

  to.paint(f.skin * 0.80, std::max(std::abs(p.x) - f.neck, std::max(0.3 - p.y, p.y - 1.2)));
  to.paint(f.shirt, ellipse({u, v}, {0, 1.32}, 0.92, 0.50));
  to.paint(f.shirt * 0.82, std::abs(ellipse({u, v}, {0, 0.86}, f.neck * 1.25, 0.13)) - 0.018, 0.8);
  for (const double side : {-1.0, 1.0}) {
    to.paint(f.skin * 0.9, ellipse(p, {side * f.width * 0.99, 0.02}, 0.075, 0.12));
    if (f.ear_rings) to.paint({0.95, 0.82, 0.35}, ellipse(p, {side * f.width * 1.03, 0.17}, 0.03, 0.04));
  }

  // The head: round above, a chin below, lit from one side.
  const double narrow = p.y > 0 ? 1 - 0.20 * std::pow(p.y / f.height, 2) : 1;
  const double head = ellipse({p.x / narrow, p.y}, {0, 0}, f.width, f.height);
  const double lit = (std::cos(f.light) * p.x / f.width + std::sin(f.light) * p.y / f.height) * f.shade;
  const double rim = 0.14 * std::pow(std::clamp(1 + head / f.width, 0.0, 1.0), 3);
  to.paint(f.skin * std::clamp(1 + lit - rim, 0.5, 1.25), head);
  for (const double side : {-1.0, 1.0}) {
    const double d = std::hypot(p.x - side * 0.25 - f.turn, p.y - 0.16);
    to.colour = mix(to.colour, {0.90, 0.42, 0.38}, head < 0 ? f.cheeks * std::exp(-60 * d * d) : 0);
  }
  if (f.beard) {
    const double jaw = std::max(head, 0.12 - p.y - 0.25 * std::abs(p.x));
    to.paint(mix(f.hair, f.skin, 0.25), std::max(jaw, -ellipse(p, {f.turn, 0.29}, f.mouth_width * 1.2, 0.075)), 0.85);
  }

  // The nose is a shadow beside its bridge, on the side away from the light, and two nostrils.
  const double away = std::cos(f.light) > 0 ? -1.0 : 1.0;
  to.paint(f.skin * 0.78, segment(p, {1.3 * f.turn + away * 0.025, -0.02}, {1.5 * f.turn + away * 0.045, f.nose - 0.02}, 0.014), 0.55);
  to.paint(f.skin * 0.70, ellipse(p, {1.5 * f.turn, f.nose + 0.012}, 0.062, 0.022), 0.75);
  for (const double side : {-1.0, 1.0}) to.paint(f.skin * 0.38, ellipse(p, {1.5 * f.turn + side * 0.030, f.nose + 0.014}, 0.013, 0.009), 0.8);
  for (const double side : {-1.0, 1.0}) eye(f, to, p, side);
  if (f.glasses) to.paint({0.10, 0.10, 0.13}, segment(p, {f.turn - 0.055, -0.08}, {f.turn + 0.055, -0.08}, 0.011));
  mouth(f, to, p);
  hair_in_front(f, to, p);
  return to.colour;
}

uint8_t to_byte(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 1.0) * 255 + 0.5); }

}  // namespace

CartoonFaces::CartoonFaces(int64_t size, int64_t side, uint64_t seed) : PictureSet(size, side, int64_t{4} << 30), seed_(seed) {}

std::string CartoonFaces::name(int64_t i) const { return str("face ", i); }

Picture CartoonFaces::make(int64_t i) const {
  const Face face = random_face(seed_, i);
  Picture picture{side(), side(), {}};
  picture.bytes.reserve(static_cast<size_t>(side() * side() * 3));
  const double pixel = 2.0 / static_cast<double>(side());
  for (int64_t y = 0; y < side(); ++y)
    for (int64_t x = 0; x < side(); ++x) {
      const Colour c = paint_face(face, {(static_cast<double>(x) + 0.5) * pixel - 1, (static_cast<double>(y) + 0.5) * pixel - 1}, pixel);
      for (const double value : {c.r, c.g, c.b}) picture.bytes.push_back(to_byte(value));
    }
  return picture;
}

}  // namespace qd
