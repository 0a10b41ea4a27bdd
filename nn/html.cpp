#include "nn/html.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "core/log.h"

namespace qd {
namespace {

template <class... Values>
std::string formatted(const char* format, Values... values) {
  char text[64];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t three = 0;
    for (size_t k = 0; k < 3; ++k) three = three << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? digits[three >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string picture_uri(std::string_view png) { return "data:image/png;base64," + base64(png); }

std::string with_commas(int64_t number) {
  std::string out = std::to_string(number);
  for (auto at = std::ssize(out) - 3; at > (number < 0); at -= 3) out.insert(out.begin() + at, ',');
  return out;
}

std::string shown(double value) {
  if (!std::isfinite(value)) return "–";
  if (value == 0) return "0";
  const std::string rounded = formatted("%.3e", value);   // 1.872e+00
  const size_t e = rounded.find('e');
  const int exponent = std::atoi(rounded.c_str() + e + 1);
  if (exponent < -4 || exponent > 14) return formatted("%.2f", std::atof(rounded.substr(0, e).c_str())) + "e" + std::to_string(exponent);
  return exponent > 2 ? with_commas(std::llround(value)) : formatted("%.*f", 3 - exponent, value);
}

std::string shown_time(double seconds) {
  if (!(seconds >= 0) || seconds > 1e12) return "–";
  const auto s = std::llround(seconds);
  if (seconds < 99.5) return formatted("%.*f s", seconds < 9.95 ? 2 : 1, seconds);
  if (s < 3600) return formatted("%lld min %02lld s", s / 60, s % 60);
  return formatted("%lld h %02lld min", s / 3600, s / 60 % 60);
}

}  // namespace qd
