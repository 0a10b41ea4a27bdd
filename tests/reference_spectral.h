// Plain definitions along time, in f64 like those of reference.h: Fourier sums, the convolution sum, and the kernel of a rational transfer
// function from its recurrence, which knows nothing of transforms.
#pragma once

#include <complex>

#include "tests/reference.h"

namespace qd::reference {

// exp(2 pi i k / n), k >= 0
template <class T>
std::complex<T> root(int64_t k, int64_t n) {
  return std::polar(T(1), T(2 * M_PI) * T(k % n) / T(n));
}

// x (B, T, C) -> (B, n/2 + 1, 2, C)
template <class T>
Array<T> rfft(const Array<T>& x, int64_t n) {
  const int64_t time = x.dim(1), channels = x.cols();
  Array<T> y({x.dim(0), n / 2 + 1, 2, channels});
  for (int64_t b = 0; b < x.dim(0); ++b)
    for (int64_t f = 0; f <= n / 2; ++f)
      for (int64_t t = 0; t < time; ++t) {
        const std::complex<T> w = std::conj(root<T>(f * t, n));
        for (int64_t c = 0; c < channels; ++c) {
          y[((b * (n / 2 + 1) + f) * 2 + 0) * channels + c] += x[(b * time + t) * channels + c] * w.real();
          y[((b * (n / 2 + 1) + f) * 2 + 1) * channels + c] += x[(b * time + t) * channels + c] * w.imag();
        }
      }
  return y;
}

// x (B, n/2 + 1, 2, C) -> (B, n, C): the real part of the sum over all n frequencies, divided by n
template <class T>
Array<T> irfft(const Array<T>& x, int64_t n) {
  const int64_t channels = x.cols();
  Array<T> y({x.dim(0), n, channels});
  for (int64_t b = 0; b < x.dim(0); ++b)
    for (int64_t t = 0; t < n; ++t)
      for (int64_t f = 0; f < n; ++f) {
        const int64_t half = std::min(f, n - f);
        const std::complex<T> w = root<T>(f * t, n);
        for (int64_t c = 0; c < channels; ++c) {
          const T re = x[((b * (n / 2 + 1) + half) * 2 + 0) * channels + c], im = x[((b * (n / 2 + 1) + half) * 2 + 1) * channels + c];
          y[(b * n + t) * channels + c] += (re * w.real() - (f <= n / 2 ? im : -im) * w.imag()) / T(n);
        }
      }
  return y;
}

// y_t = sum over j <= t of k_j u_{t-j} + skip u_t
template <class T>
Array<T> long_convolution(const Array<T>& u, const Array<T>& k, const Array<T>* skip = nullptr) {
  const int64_t time = u.dim(1), channels = u.cols(), taps = k.dim(0);
  Array<T> y(u.shape);
  for (int64_t b = 0; b < u.dim(0); ++b)
    for (int64_t t = 0; t < time; ++t)
      for (int64_t j = 0; j <= std::min(t, taps - 1); ++j)
        for (int64_t c = 0; c < channels; ++c) {
          const T weight = k[j * channels + c] + (skip && j == 0 ? (*skip)[c] : 0);
          y[(b * time + t) * channels + c] += weight * u[(b * time + t - j) * channels + c];
        }
  return y;
}

// Solves m x = y for a dense m (n, n), by elimination with pivots.
template <class T>
std::vector<T> solve(std::vector<T> m, std::vector<T> y) {
  const size_t n = y.size();
  for (size_t i = 0; i < n; ++i) {
    size_t pivot = i;
    for (size_t r = i + 1; r < n; ++r)
      if (std::abs(m[r * n + i]) > std::abs(m[pivot * n + i])) pivot = r;
    std::swap(y[i], y[pivot]);
    for (size_t c = 0; c < n; ++c) std::swap(m[i * n + c], m[pivot * n + c]);
    for (size_t r = i + 1; r < n; ++r) {
      const T factor = m[r * n + i] / m[i * n + i];
      for (size_t c = i; c < n; ++c) m[r * n + c] -= factor * m[i * n + c];
      y[r] -= factor * y[i];
    }
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t c = i + 1; c < n; ++c) y[i] -= m[i * n + c] * y[c];
    y[i] /= m[i * n + i];
  }
  return y;
}

// k_j = C A^j B: A has the first row -a and ones below its diagonal, B = e_1, C (I - A^length) = b. a, b (C, N) -> (length, C)
template <class T>
Array<T> rational_kernel(const Array<T>& a, const Array<T>& b, int64_t length) {
  const int64_t channels = a.dim(0), n = a.cols();
  const auto at = [](int64_t i) { return static_cast<size_t>(i); };
  Array<T> k({length, channels});
  for (int64_t c = 0; c < channels && n > 0; ++c) {
    std::vector<T> states(at(n * n));        // row i: A^t e_i
    for (int64_t i = 0; i < n; ++i) states[at(i * n + i)] = 1;
    std::vector<T> first(at(length * n));    // A^t e_1
    for (int64_t t = 0; t < length; ++t) {
      std::copy(states.begin(), states.begin() + n, first.begin() + t * n);
      for (int64_t i = 0; i < n; ++i) {
        T next = 0;
        for (int64_t j = 0; j < n; ++j) next -= a[c * n + j] * states[at(i * n + j)];
        for (int64_t j = n - 1; j > 0; --j) states[at(i * n + j)] = states[at(i * n + j - 1)];
        states[at(i * n)] = next;
      }
    }
    std::vector<T> m(at(n * n)), right(at(n));   // (I - A^length)^T C = b: row i of `states` is column i of A^length
    for (int64_t i = 0; i < n; ++i) {
      right[at(i)] = b[c * n + i];
      for (int64_t j = 0; j < n; ++j) m[at(i * n + j)] = (i == j ? 1 : 0) - states[at(i * n + j)];
    }
    const std::vector<T> read = solve(m, right);
    for (int64_t t = 0; t < length; ++t)
      for (int64_t i = 0; i < n; ++i) k[t * channels + c] += read[at(i)] * first[at(t * n + i)];
  }
  return k;
}

}  // namespace qd::reference
