// Elementwise operations and their gradients.
#include <algorithm>

#include "core/error.h"
#include "core/ops.h"
#include "core/random.h"

namespace qd {
namespace {

// How two operands meet: as (rows, cols), where the smaller one is a single number or one row.
struct Meeting {
  Shape shape;
  int64_t rows, cols;
  bool small_a = false, small_b = false;   // a scalar, or a row that is repeated

  Strided a(const float* data) const { return strided(data, small_a); }
  Strided b(const float* data) const { return strided(data, small_b); }
  Strided full(const float* data) const { return {data, cols, 1}; }

 private:
  Strided strided(const float* data, bool small) const {
    return small ? Strided{data, 0, rows == 1 ? 0 : 1} : full(data);   // a scalar meets everything as one row
  }
};

bool is_trailing(const Shape& small, const Shape& large) {
  return small.rank() <= large.rank() && std::equal(small.begin(), small.end(), large.end() - small.rank());
}

Meeting meet(const char* op, const Shape& a, const Shape& b) {
  if (a == b) return {a, 1, a.size()};
  const bool b_is_small = a.rank() > b.rank() || (a.rank() == b.rank() && b.size() == 1);
  const Shape &large = b_is_small ? a : b, &small = b_is_small ? b : a;
  const bool scalar = small.size() == 1;
  QD_CHECK(scalar || is_trailing(small, large), op, str("expected one shape, a scalar or a trailing shape, got ", a.str(), " and ", b.str()),
           "reshape one of them");
  const int64_t cols = scalar ? large.size() : small.size();
  // One repeated row that is met once would look like a scalar to Meeting: then the shapes differ in leading ones only.
  return {large, scalar ? 1 : (cols ? large.size() / cols : 0), cols, !b_is_small && (scalar || large.size() != cols),
          b_is_small && (scalar || large.size() != cols)};
}

// Sends f(p, q), elements of the meeting, to input i; summed to its shape where the input was the small operand.
void send(Sink& to, int i, const Meeting& m, bool small, Binary f, Strided p, Strided q) {
  auto [dx, add] = to.into(i);
  if (!small) return kernels().binary(f, m.rows, m.cols, p, q, dx, add);
  const Tensor whole = empty(m.shape);
  kernels().binary(f, m.rows, m.cols, p, q, static_cast<float*>(whole.storage()->data), false);
  if (m.rows == 1) {
    *dx = static_cast<float>(kernels().sum(m.cols, whole.data())) + (add ? *dx : 0);
  } else {
    kernels().sum_rows(m.rows, m.cols, whole.data(), dx, add);
  }
}

constexpr float one = 1, minus_one = -1;

Tensor forward(Binary f, const Meeting& m, const Tensor& a, const Tensor& b) {
  Tensor y = empty(m.shape);
  kernels().binary(f, m.rows, m.cols, m.a(a.data()), m.b(b.data()), y.mutable_data(), false);
  return y;
}

// a + sign b; the gradient is dy itself, shared with both where no sum is needed.
Tensor add(const char* name, Binary f, const float* sign, const Tensor& a, const Tensor& b) {
  const Meeting m = meet(name, a.shape(), b.shape());
  return record(name, forward(f, m, a, b), {a, b}, [m, sign, as = a.shape(), bs = b.shape()](const Tensor& dy, Sink& to) {
    const Strided g = m.full(dy.data());
    if (to.wants(0)) m.small_a ? send(to, 0, m, true, Binary::mul, g, {&one, 0, 0}) : to.give(0, dy.reshape(as));
    if (!to.wants(1)) return;
    m.small_b || sign != &one ? send(to, 1, m, m.small_b, Binary::mul, g, {sign, 0, 0}) : to.give(1, dy.reshape(bs));
  });
}

Tensor unary(const char* name, Unary f, const Tensor& x) {
  Tensor y = empty_like(x);
  kernels().unary(f, x.size(), x.data(), y.mutable_data());
  return record(name, y, {x}, [f, saved = Saved(saves_output(f) ? y : x)](const Tensor& dy, Sink& to) {
    auto [dx, add] = to.into(0);
    kernels().unary_gradient(f, dy.size(), saved->data(), dy.data(), dx, add);
  });
}

}  // namespace

Tensor operator+(const Tensor& a, const Tensor& b) { return add("add", Binary::add, &one, a, b); }
Tensor operator-(const Tensor& a, const Tensor& b) { return add("sub", Binary::sub, &minus_one, a, b); }

// da = dy b, db = dy a
Tensor operator*(const Tensor& a, const Tensor& b) {
  const Meeting m = meet("mul", a.shape(), b.shape());
  return record("mul", forward(Binary::mul, m, a, b), {a, b}, [m, a = Saved(a), b = Saved(b)](const Tensor& dy, Sink& to) {
    const Strided g = m.full(dy.data());
    if (to.wants(0)) send(to, 0, m, m.small_a, Binary::mul, g, m.b(b->data()));
    if (to.wants(1)) send(to, 1, m, m.small_b, Binary::mul, g, m.a(a->data()));
  });
}

// y = a / b: da = dy / b, db = -dy y / b
Tensor operator/(const Tensor& a, const Tensor& b) {
  const Meeting m = meet("div", a.shape(), b.shape());
  Tensor y = forward(Binary::div, m, a, b);
  return record("div", y, {a, b}, [m, y = Saved(y), b = Saved(b)](const Tensor& dy, Sink& to) {
    if (to.wants(0)) send(to, 0, m, m.small_a, Binary::div, m.full(dy.data()), m.b(b->data()));
    if (!to.wants(1)) return;
    Tensor t = empty_like(dy);
    kernels().binary(Binary::mul, m.rows, m.cols, m.full(dy.data()), m.full(y->data()), t.mutable_data(), false);
    kernels().combine(t.size(), -1, t.data(), 0, nullptr, t.mutable_data());
    send(to, 1, m, m.small_b, Binary::div, m.full(t.data()), m.b(b->data()));
  });
}

Tensor operator+(const Tensor& a, float b) { return a + full({}, b); }
Tensor operator-(const Tensor& a) { return a * -1.0f; }

Tensor operator*(const Tensor& a, float b) {
  Tensor y = empty_like(a);
  kernels().combine(a.size(), b, a.data(), 0, nullptr, y.mutable_data());
  return record("scale", y, {a}, [b](const Tensor& dy, Sink& to) {
    auto [dx, add] = to.into(0);
    add ? kernels().scale_add(dy.size(), b, dy.data(), dx) : kernels().combine(dy.size(), b, dy.data(), 0, nullptr, dx);
  });
}

Tensor residual(const Tensor& x, float alpha, const Tensor& f) {
  QD_CHECK(x.shape() == f.shape(), "residual", str("expected one shape, got ", x.shape().str(), " and ", f.shape().str()));
  Tensor y = empty_like(x);
  kernels().combine(x.size(), alpha, x.data(), 1, f.data(), y.mutable_data());
  return record("residual", y, {x, f}, [alpha](const Tensor& dy, Sink& to) {
    if (to.wants(1)) to.give(1, dy);
    if (!to.wants(0)) return;
    auto [dx, add] = to.into(0);
    add ? kernels().scale_add(dy.size(), alpha, dy.data(), dx) : kernels().combine(dy.size(), alpha, dy.data(), 0, nullptr, dx);
  });
}

Tensor exp(const Tensor& x) { return unary("exp", Unary::exp, x); }
Tensor log(const Tensor& x) { return unary("log", Unary::log, x); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", Unary::sqrt, x); }
Tensor square(const Tensor& x) { return unary("square", Unary::square, x); }
Tensor reciprocal(const Tensor& x) { return unary("reciprocal", Unary::reciprocal, x); }
Tensor absolute(const Tensor& x) { return unary("absolute", Unary::absolute, x); }
Tensor tanh(const Tensor& x) { return unary("tanh", Unary::tanh, x); }
Tensor sigmoid(const Tensor& x) { return unary("sigmoid", Unary::sigmoid, x); }
Tensor relu(const Tensor& x) { return unary("relu", Unary::relu, x); }
Tensor silu(const Tensor& x) { return unary("silu", Unary::silu, x); }
Tensor gelu(const Tensor& x) { return unary("gelu", Unary::gelu, x); }
Tensor gelu_erf(const Tensor& x) { return unary("gelu_erf", Unary::gelu_erf, x); }

Tensor activate(Activation f, const Tensor& x) {
  switch (f) {
    case Activation::none: return x;
    case Activation::relu: return relu(x);
    case Activation::gelu: return gelu(x);
    case Activation::gelu_erf: return gelu_erf(x);
    case Activation::silu: return silu(x);
  }
  return x;
}

// The mask is not kept: the gradient draws it again from the same stream.
Tensor dropout(const Tensor& x, float p) {
  QD_CHECK(p >= 0 && p < 1, "dropout", str("expected a probability in [0, 1), got ", p));
  if (p == 0) return x;
  const uint64_t seed = random_state().seed, stream = next_stream();
  Tensor y = empty_like(x);
  kernels().dropout(x.size(), p, seed, stream, x.data(), y.mutable_data(), false);
  return record("dropout", y, {x}, [p, seed, stream](const Tensor& dy, Sink& to) {
    auto [dx, add] = to.into(0);
    kernels().dropout(dy.size(), p, seed, stream, dy.data(), dx, add);
  });
}

}  // namespace qd
