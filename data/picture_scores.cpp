#include "data/picture_scores.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"

namespace qd {
namespace {

std::vector<double> brightness(const Picture& p) {
  std::vector<double> values;
  values.reserve(p.bytes.size() / 3);
  for (size_t i = 0; i < p.bytes.size(); i += 3) values.push_back(0.299 * p.bytes[i] + 0.587 * p.bytes[i + 1] + 0.114 * p.bytes[i + 2]);
  return values;
}

// The window's mean at every place where it fits, by rows and then by columns.
std::vector<double> blurred(const std::vector<double>& x, int64_t width, int64_t height, const std::vector<double>& window) {
  const auto n = std::ssize(window);
  const int64_t w = width - n + 1, h = height - n + 1;
  std::vector<double> rows(static_cast<size_t>(w * height)), out(static_cast<size_t>(w * h));
  for (int64_t y = 0; y < height; ++y)
    for (int64_t i = 0; i < w; ++i)
      for (int64_t k = 0; k < n; ++k) rows[static_cast<size_t>(y * w + i)] += window[static_cast<size_t>(k)] * x[static_cast<size_t>(y * width + i + k)];
  for (int64_t y = 0; y < h; ++y)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t i = 0; i < w; ++i) out[static_cast<size_t>(y * w + i)] += window[static_cast<size_t>(k)] * rows[static_cast<size_t>((y + k) * w + i)];
  return out;
}

}  // namespace

double picture_mse(std::span<const float> a, std::span<const float> b) {
  QD_CHECK(a.size() == b.size() && !a.empty(), "psnr", str("expected pictures of one size, got ", a.size(), " and ", b.size(), " values"));
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = (std::clamp(a[i], -1.0f, 1.0f) - std::clamp(b[i], -1.0f, 1.0f)) * 0.5;
    sum += d * d;
  }
  return sum / static_cast<double>(a.size());
}

double picture_mse(const Picture& a, const Picture& b) {
  QD_CHECK(a.bytes.size() == b.bytes.size() && !a.empty(), "psnr", str("expected pictures of one size, got ", a.bytes.size(), " and ", b.bytes.size(), " values"));
  double sum = 0;
  for (size_t i = 0; i < a.bytes.size(); ++i) {
    const double d = (a.bytes[i] - b.bytes[i]) / 255.0;
    sum += d * d;
  }
  return sum / static_cast<double>(a.bytes.size());
}

double jpeg_size(std::span<const Picture> pictures, double wanted) {
  const auto bytes_of = [&](int quality) {   // mean bytes; 0: not near enough
    double decibels = 0, bytes = 0;
    for (const Picture& p : pictures) {
      const std::string file = jpeg_bytes(p, quality);
      bytes += static_cast<double>(file.size());
      decibels += psnr(picture_mse(p, decode_picture(file, "jpeg")));
    }
    const auto n = static_cast<double>(pictures.size());
    return decibels / n >= wanted ? bytes / n : 0;
  };
  if (pictures.empty()) return 0;
  double best = 0;
  for (int low = 1, high = 100; low <= high;) {
    const int middle = (low + high) / 2;
    const double bytes = bytes_of(middle);
    if (bytes > 0) best = bytes;
    bytes > 0 ? high = middle - 1 : low = middle + 1;
  }
  return best;
}

double psnr(double mse) { return std::min(100.0, -10 * std::log10(std::max(mse, 1e-300))); }

double ssim(const Picture& a, const Picture& b) {
  QD_CHECK(a.width == b.width && a.height == b.height && !a.empty(), "ssim",
           str("expected pictures of one size, got ", a.width, " x ", a.height, " and ", b.width, " x ", b.height));
  int64_t n = std::min<int64_t>({11, a.width, a.height});
  n -= n % 2 == 0;
  std::vector<double> window;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto d = static_cast<double>(i - n / 2);
    window.push_back(std::exp(-d * d / (2 * 1.5 * 1.5)));
    sum += window.back();
  }
  for (double& w : window) w /= sum;
  const std::vector<double> x = brightness(a), y = brightness(b);
  std::vector<double> xx, yy, xy;
  for (size_t i = 0; i < x.size(); ++i) xx.push_back(x[i] * x[i]), yy.push_back(y[i] * y[i]), xy.push_back(x[i] * y[i]);
  const auto mean = [&](const std::vector<double>& values) { return blurred(values, a.width, a.height, window); };
  const auto mx = mean(x), my = mean(y), mxx = mean(xx), myy = mean(yy), mxy = mean(xy);
  constexpr double c1 = 0.01 * 255 * 0.01 * 255, c2 = 0.03 * 255 * 0.03 * 255;
  double total = 0;
  for (size_t i = 0; i < mx.size(); ++i) {
    const double vx = mxx[i] - mx[i] * mx[i], vy = myy[i] - my[i] * my[i], cov = mxy[i] - mx[i] * my[i];
    total += (2 * mx[i] * my[i] + c1) * (2 * cov + c2) / ((mx[i] * mx[i] + my[i] * my[i] + c1) * (vx + vy + c2));
  }
  return total / static_cast<double>(mx.size());
}

}  // namespace qd
