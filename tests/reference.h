// Plain definitions of the ops: loops over numbers as a textbook writes them. The tests run them in f64 and compare the f32 ops
// with the values, and their gradients with central differences (tests/check_op.h). Nothing here is fast, shared with core, or
// clever.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "core/ops.h"

namespace qd::reference {

// A row-major tensor of T.
template <class T>
struct Array {
  Shape shape;
  std::vector<T> values;

  Array() : Array(Shape()) {}
  explicit Array(const Shape& shape, T value = 0) : shape(shape), values(static_cast<size_t>(shape.size()), value) {}
  T& operator[](int64_t i) { return values[static_cast<size_t>(i)]; }
  const T& operator[](int64_t i) const { return values[static_cast<size_t>(i)]; }
  int64_t size() const { return shape.size(); }
  int64_t rows() const { return shape.rows(); }
  int64_t cols() const { return shape.cols(); }
  int64_t dim(int i) const { return shape[i]; }
};

// --- elementwise

template <class T>
T square(T x) {
  return x * x;
}
template <class T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}
template <class T>
T relu(T x) {
  return x > 0 ? x : 0;
}
template <class T>
T silu(T x) {
  return x * sigmoid(x);
}
template <class T>
T gelu(T x) {
  return x / 2 * (1 + std::tanh(std::sqrt(T(2) / T(M_PI)) * (x + T(0.044715) * x * x * x)));
}
template <class T>
T gelu_erf(T x) {
  return x / 2 * std::erfc(-x / std::sqrt(T(2)));
}   // x Phi(x)
template <class T>
T activate(Activation f, T x) {
  switch (f) {
    case Activation::none:
      return x;
    case Activation::relu:
      return relu(x);
    case Activation::gelu:
      return gelu(x);
    case Activation::gelu_erf:
      return gelu_erf(x);
    case Activation::silu:
      return silu(x);
  }
  return x;
}

template <class T, class F>
Array<T> map(const Array<T>& x, F f) {
  Array<T> y(x.shape);
  for (int64_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
  return y;
}

// The smaller operand is repeated: a scalar or a trailing shape is met again after its last element.
template <class T, class F>
Array<T> meet(const Array<T>& a, const Array<T>& b, F f) {
  const bool a_is_large = a.shape.rank() > b.shape.rank() || (a.shape.rank() == b.shape.rank() && b.size() == 1);
  Array<T> y(a_is_large ? a.shape : b.shape);
  for (int64_t i = 0; i < y.size(); ++i) y[i] = f(a[i % a.size()], b[i % b.size()]);
  return y;
}

// --- rows

template <class T>
Array<T> sum(const Array<T>& x) {
  Array<T> y;
  for (const T& value : x.values) y[0] += value;
  return y;
}

template <class T>
Array<T> sum_last(const Array<T>& x) {
  Array<T> y(x.shape.without_last());
  for (int64_t r = 0; r < x.rows(); ++r)
    for (int64_t c = 0; c < x.cols(); ++c) y[r] += x[r * x.cols() + c];
  return y;
}

// y = exp(x - max) / sum exp(x - max); a row without a finite number gives zeros.
template <class T>
Array<T> softmax(const Array<T>& x) {
  Array<T> y(x.shape);
  const int64_t n = x.cols();
  for (int64_t r = 0; r < x.rows(); ++r) {
    T largest = -std::numeric_limits<T>::infinity(), total = 0;
    for (int64_t c = 0; c < n; ++c) largest = std::max(largest, x[r * n + c]);
    if (std::isinf(largest)) continue;
    for (int64_t c = 0; c < n; ++c) total += std::exp(x[r * n + c] - largest);
    for (int64_t c = 0; c < n; ++c) y[r * n + c] = std::exp(x[r * n + c] - largest) / total;
  }
  return y;
}

// weight (x - mean) / sqrt(variance + epsilon) + bias; with rms the mean is taken as 0. weight and bias may be null.
template <class T>
Array<T> norm(const Array<T>& x, const Array<T>* weight, const Array<T>* bias, NormOptions options = {}) {
  Array<T> y(x.shape);
  const int64_t n = x.cols();
  for (int64_t r = 0; r < x.rows(); ++r) {
    T mean = 0, variance = 0;
    for (int64_t c = 0; c < n && !options.rms; ++c) mean += x[r * n + c] / T(n);
    for (int64_t c = 0; c < n; ++c) variance += square(x[r * n + c] - mean) / T(n);
    for (int64_t c = 0; c < n; ++c)
      y[r * n + c] = (x[r * n + c] - mean) / std::sqrt(variance + T(options.epsilon)) * (weight ? (*weight)[c] : 1) +
                     (bias ? (*bias)[c] : 0);
  }
  return y;
}

// --- products

// c[i,j] = sum over p of a[i,p] b[p,j], for each matrix of the batch; b may be one for all.
template <class T>
Array<T> matmul(const Array<T>& a, const Array<T>& b, bool transpose_a = false, bool transpose_b = false) {
  const int64_t m = a.dim(transpose_a ? -1 : -2), k = a.dim(transpose_a ? -2 : -1), n = b.dim(transpose_b ? -2 : -1);
  std::vector<int64_t> dims(a.shape.begin(), a.shape.end() - 2);
  int64_t batch = 1;
  for (const int64_t dim : dims) batch *= dim;
  dims.insert(dims.end(), {m, n});
  Array<T> c{Shape(dims)};
  const bool shared = b.shape.rank() == 2;
  for (int64_t s = 0; s < batch; ++s)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t p = 0; p < k; ++p) {
        const T left = a[s * m * k + (transpose_a ? p * m + i : i * k + p)];
        for (int64_t j = 0; j < n; ++j)
          c[(s * m + i) * n + j] += left * b[(shared ? 0 : s * k * n) + (transpose_b ? j * k + p : p * n + j)];
      }
  return c;
}

// activation(x W + bias)
template <class T>
Array<T> linear(const Array<T>& x, const Array<T>& weight, const Array<T>* bias, Layout layout = Layout::out_in,
                Activation f = Activation::none) {
  const int64_t out = weight.dim(layout == Layout::out_in ? 0 : 1);
  Array<T> rows = x;
  rows.shape = {x.rows(), x.cols()};
  Array<T> y = matmul(rows, weight, false, layout == Layout::out_in);
  y.shape = x.shape.with_last(out);
  for (int64_t i = 0; i < y.size(); ++i) y[i] = activate(f, y[i] + (bias ? (*bias)[i % out] : 0));
  return y;
}

// --- tables and losses

template <class T>
Array<T> embedding(const Array<T>& table, const std::vector<int32_t>& ids) {
  Array<T> y({static_cast<int64_t>(ids.size()), table.cols()});
  for (int64_t r = 0; r < y.rows(); ++r)
    for (int64_t c = 0; c < y.cols(); ++c) y[r * y.cols() + c] = table[ids[static_cast<size_t>(r)] * table.cols() + c];
  return y;
}

// The mean of -log softmax(x)[target] over the targets that count; 0 where none does.
template <class T>
Array<T> cross_entropy(const Array<T>& logits, const std::vector<int32_t>& targets, int32_t ignored_target = ignored) {
  const int64_t n = logits.cols();
  Array<T> loss;
  int64_t count = 0;
  for (int64_t r = 0; r < logits.rows(); ++r) {
    const int32_t target = targets[static_cast<size_t>(r)];
    if (target == ignored_target) continue;
    const T* row = &logits[r * n];
    const T largest = *std::max_element(row, row + n);
    T total = 0;
    for (int64_t c = 0; c < n; ++c) total += std::exp(row[c] - largest);
    loss[0] += std::log(total) + largest - row[target];
    ++count;
  }
  if (count) loss[0] /= T(count);
  return loss;
}

template <class T>
Array<T> mse(const Array<T>& a, const Array<T>& b) {
  Array<T> y;
  for (int64_t i = 0; i < a.size(); ++i) y[0] += square(a[i] - b[i]) / T(a.size());
  return y;
}

// --- attention

// One of q, k, v, as in core/ops.h.
template <class T>
struct Heads {
  const Array<T>& x;
  int64_t column = 0;
};

inline bool sees(const AttentionOptions& o, int64_t sequence, int64_t head, int64_t query, int64_t key) {
  if (!o.lengths.empty() && key >= o.lengths[static_cast<size_t>(sequence)]) return false;
  switch (o.mask) {
    case Mask::bidirectional:
      return true;
    case Mask::causal:
      return key <= query;
    case Mask::prefix:
      return key <= query || key < o.prefix[static_cast<size_t>(sequence)];
    case Mask::mixed:
      return head < o.heads / 2 ? key <= query : key >= query;
  }
  return false;
}

// Raffel et al. 2020, as in the Mesh TensorFlow source that the paper points to.
inline int64_t bucket(int64_t key_minus_query, bool both_directions, int64_t buckets, int64_t max_distance) {
  int64_t n = -key_minus_query, first = 0;
  if (both_directions) {
    buckets /= 2;
    if (n < 0) first = buckets;
    n = n < 0 ? -n : n;
  } else {
    n = std::max<int64_t>(n, 0);
  }
  const int64_t exact = buckets / 2;
  if (n < exact) return first + n;
  const double part = std::log(double(n) / double(exact)) / std::log(double(max_distance) / double(exact));
  return first + std::min(exact + static_cast<int64_t>(part * double(buckets - exact)), buckets - 1);
}

// Component i of a head, rotated by its position: the pair (i, i + r/2) turns by position * base^(-2i/r). Su et al. 2021
template <class T>
T rotated(const T* head, int64_t i, int64_t position, int64_t rotary_dim, double base = 10000) {
  if (i >= rotary_dim) return head[i];
  const int64_t half = rotary_dim / 2, pair = i % half;
  const double angle = double(position) * std::pow(base, -2.0 * double(pair) / double(rotary_dim));
  const T a = head[pair], b = head[pair + half], cosine = T(std::cos(angle)), sine = T(std::sin(angle));
  return i < half ? a * cosine - b * sine : b * cosine + a * sine;
}

// (B, heads, Tq, Tk). The T5 table is an argument, because a definition is differentiated by its arrays; o.rotary says only how
// many dimensions turn.
template <class T>
Array<T> attention_probabilities(Heads<T> q, Heads<T> k, const AttentionOptions& o, const Array<T>* table = nullptr) {
  const int64_t batch = q.x.dim(0), queries = q.x.dim(1), keys = k.x.dim(1), d = o.head_dim;
  const int64_t group = o.kv_heads ? o.heads / o.kv_heads : 1, turned = o.rotary.defined() ? o.rotary.cols() : 0;
  const T scale = o.scale != 0 ? T(o.scale) : 1 / std::sqrt(T(d));
  Array<T> scores({batch, o.heads, queries, keys}, -std::numeric_limits<T>::infinity());
  std::vector<T> left(static_cast<size_t>(d)), right(static_cast<size_t>(keys * d));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < o.heads; ++h) {
      for (int64_t j = 0; j < keys; ++j)
        for (int64_t i = 0; i < d; ++i)
          right[static_cast<size_t>(j * d + i)] =
              rotated(&k.x[(b * keys + j) * k.x.cols() + k.column + h / group * d], i, j, turned);
      for (int64_t t = 0; t < queries; ++t) {
        const int64_t position = t + o.query_offset;
        for (int64_t i = 0; i < d; ++i)
          left[static_cast<size_t>(i)] = rotated(&q.x[(b * queries + t) * q.x.cols() + q.column + h * d], i, position, turned);
        for (int64_t j = 0; j < keys; ++j) {
          if (!sees(o, b, h, position, j)) continue;
          T dot = 0;
          for (int64_t i = 0; i < d; ++i) dot += left[static_cast<size_t>(i)] * right[static_cast<size_t>(j * d + i)];
          T& score = scores[((b * o.heads + h) * queries + t) * keys + j];
          score = scale * dot;
          if (!o.slopes.empty()) score -= T(o.slopes[static_cast<size_t>(h)]) * T(std::abs(position - j));
          if (table) score += (*table)[bucket(j - position, o.mask != Mask::causal, table->dim(0), o.max_distance) * o.heads + h];
        }
      }
    }
  return softmax(scores);
}

// softmax(scores) v. `kept` (B, heads, Tq, Tk), where given, multiplies the weights: 0 where dropout dropped one, 1/(1 - p)
// elsewhere.
template <class T>
Array<T> attention(Heads<T> q, Heads<T> k, Heads<T> v, const AttentionOptions& o, const Array<T>* table = nullptr,
                   const Array<T>* kept = nullptr) {
  const int64_t batch = q.x.dim(0), queries = q.x.dim(1), keys = k.x.dim(1), d = o.head_dim,
                group = o.kv_heads ? o.heads / o.kv_heads : 1;
  const Array<T> p = attention_probabilities(q, k, o, table);
  Array<T> y({batch, queries, o.heads * d});
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < o.heads; ++h)
      for (int64_t t = 0; t < queries; ++t)
        for (int64_t j = 0; j < keys; ++j) {
          const int64_t at = ((b * o.heads + h) * queries + t) * keys + j;
          const T weight = p[at] * (kept ? (*kept)[at] : 1);
          if (weight == 0) continue;
          const T* value = &v.x[(b * keys + j) * v.x.cols() + v.column + h / group * d];
          for (int64_t i = 0; i < d; ++i) y[(b * queries + t) * o.heads * d + h * d + i] += weight * value[i];
        }
  return y;
}

}  // namespace qd::reference
