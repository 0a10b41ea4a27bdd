#include "core/fft_plan.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace qd {
namespace {

constexpr double tau = 6.283185307179586476925286766559;

// 2^a 3^b 5^c as radices: an eight first, because the pieces behind it fit the caches; the odd ones; then fours and eights, since the last
// level needs no twiddle factors and is best a wide one. Empty where another prime is left.
std::vector<int> radices_of(int64_t n) {
  std::vector<int> odd, even;
  int twos = 0;
  for (; n % 5 == 0; n /= 5) odd.push_back(5);
  for (; n % 3 == 0; n /= 3) odd.push_back(3);
  for (; n % 2 == 0; n /= 2) ++twos;
  if (n != 1) return {};
  int eights = twos / 3, fours = 0;
  const int rest = twos % 3;
  if (rest == 1 && eights > 0) --eights, fours = 2;   // 16 = 4 * 4
  if (rest == 2) fours = 1;
  std::vector<int> out;
  if (eights > 0) --eights, out.push_back(8);
  out.insert(out.end(), odd.begin(), odd.end());
  out.insert(out.end(), static_cast<size_t>(fours), 4);
  out.insert(out.end(), static_cast<size_t>(eights), 8);
  if (rest == 1 && fours == 0) out.push_back(2);
  if (out.empty()) out.push_back(1);
  return out;
}

// The frequency in place q of a butterfly: built from radix 2, eights and fours leave their results in bit-reversed order.
int frequency_of(int radix, int q) {
  constexpr int of_4[] = {0, 2, 1, 3}, of_8[] = {0, 4, 2, 6, 1, 5, 3, 7};
  return radix == 8 ? of_8[q] : radix == 4 ? of_4[q] : q;
}

using Complex = std::complex<double>;

// exp(-2 pi i k / n) for k >= 0
Complex root(int64_t k, int64_t n) { return std::polar(1.0, -tau * static_cast<double>(k % n) / static_cast<double>(n)); }

constexpr int64_t longest = int64_t{1} << 30;   // squares of indices fit 64 bits

// The transform in f64 as the definition of a plan reads, its results in the places that the kernels use.
std::vector<Complex> transform(std::vector<Complex> x) {
  int64_t n = static_cast<int64_t>(x.size());
  for (const int radix : radices_of(n)) {
    const int64_t m = n / radix;
    for (size_t block = 0; block < x.size(); block += static_cast<size_t>(n))
      for (int64_t j = 0; j < m; ++j) {
        std::vector<Complex> z(static_cast<size_t>(radix));
        for (int q = 0; q < radix; ++q) {
          const int f = frequency_of(radix, q);
          for (int i = 0; i < radix; ++i) z[static_cast<size_t>(q)] += x[block + static_cast<size_t>(j + i * m)] * root(f * i, radix);
          z[static_cast<size_t>(q)] *= root(f * j, n);
        }
        for (int q = 0; q < radix; ++q) x[block + static_cast<size_t>(j + q * m)] = z[static_cast<size_t>(q)];
      }
    n = m;
  }
  return x;
}

// A plan and the memory that it points to.
template <class T>
struct Owned {
  kernel::FftPlan<T> plan{};
  std::vector<std::vector<T>> tables;
  std::vector<int32_t> position, mate;

  const T* keep(const std::vector<Complex>& numbers) {
    std::vector<T>& table = tables.emplace_back();
    for (const Complex& z : numbers) table.insert(table.end(), {static_cast<T>(z.real()), static_cast<T>(z.imag())});
    return table.data();
  }

  explicit Owned(int64_t n) : position(static_cast<size_t>(n)), mate(static_cast<size_t>(n)) {
    plan.n = n;
    std::vector<int64_t> frequency(1);       // of the places; of one place, before the first level
    const std::vector<int> radices = radices_of(n);
    if (radices.empty()) {
      through_convolution();
      frequency.resize(static_cast<size_t>(n));
      std::iota(frequency.begin(), frequency.end(), 0);
    }
    plan.size[0] = n;
    for (const int radix : radices) {
      const int64_t size = plan.size[plan.levels], m = size / radix;
      std::vector<Complex> twiddles;
      for (int64_t j = 0; j < m; ++j)
        for (int q = 1; q < radix; ++q) twiddles.push_back(root(j * frequency_of(radix, q), size));
      std::vector<int64_t> next;             // f = f of the levels before + (product of their radices) * f of this level
      for (const int64_t before : frequency)
        for (int q = 0; q < radix; ++q) next.push_back(before + n / size * frequency_of(radix, q));
      frequency = std::move(next);
      plan.radix[plan.levels] = radix;
      plan.twiddles[plan.levels++] = keep(twiddles);
      plan.size[plan.levels] = m;
    }
    for (size_t p = 0; p < position.size(); ++p) position[static_cast<size_t>(frequency[p])] = static_cast<int32_t>(p);
    for (size_t p = 0; p < mate.size(); ++p) mate[p] = position[static_cast<size_t>((n - frequency[p]) % n)];
    plan.position = position.data(), plan.mate = mate.data();
  }

  // f t = (f^2 + t^2 - (f - t)^2) / 2: a transform is a convolution with exp(i pi j^2 / n), j from -n + 1 to n - 1.
  void through_convolution() {
    const int64_t n = plan.n, padded = fft_size(2 * n - 1);
    plan.inner = &fft_plan<T>(padded);
    std::vector<Complex> chirp, both_ends(static_cast<size_t>(padded));
    for (int64_t j = 0; j < n; ++j) {
      chirp.push_back(root(j * j, 2 * n));
      both_ends[static_cast<size_t>(j)] = both_ends[static_cast<size_t>((padded - j) % padded)] = std::conj(chirp.back()) / static_cast<double>(padded);
    }
    plan.chirp = keep(chirp);
    plan.chirp_spectrum = keep(transform(std::move(both_ends)));
  }
};

}  // namespace

template <class T>
const kernel::FftPlan<T>& fft_plan(int64_t n) {
  QD_CHECK(n >= 1 && n <= longest, "fft_plan", str("expected a length from 1 to 2^30, got ", n));
  static std::recursive_mutex& mutex = *new std::recursive_mutex;   // never destroyed, like the plans; recursive: a plan may need an inner one
  static auto& plans = *new std::map<int64_t, std::unique_ptr<Owned<T>>>;
  const std::lock_guard lock(mutex);
  auto& plan = plans[n];
  if (!plan) plan = std::make_unique<Owned<T>>(n);
  return plan->plan;
}
template const kernel::FftPlan<float>& fft_plan(int64_t);
template const kernel::FftPlan<double>& fft_plan(int64_t);

int64_t fft_size(int64_t n) {
  int64_t best = 1;
  while (best < n) best *= 2;
  for (const int64_t odd : {3, 5}) {
    int64_t size = odd;
    while (size < n) size *= 2;
    best = std::min(best, size);
  }
  return best;
}

}  // namespace qd
