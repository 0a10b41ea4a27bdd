// Transforms along time, long convolutions and rational kernels against sums in f64, on every instruction set; the kernels' f64 versions
// against the same definitions much more tightly; PyTorch.
#include <doctest/doctest.h>

#include "core/fft_plan.h"
#include "tests/check_op.h"
#include "tests/reference_spectral.h"

using namespace qd;
using namespace qd::test;

namespace {

void check_rfft(int64_t batch, int64_t time, int64_t channels, int64_t n) {
  check_op(
      str("rfft ", n), [=](const Tensors& x) { return rfft(x[0], n); }, [=](const Arrays& x) { return reference::rfft(x[0], n); },
      {normal({batch, time, channels})});
}
void check_irfft(int64_t batch, int64_t n, int64_t channels) {
  check_op(
      str("irfft ", n), [=](const Tensors& x) { return irfft(x[0], n); }, [=](const Arrays& x) { return reference::irfft(x[0], n); },
      {normal({batch, n / 2 + 1, 2, channels})});
}
void check_long_convolution(int64_t batch, int64_t time, int64_t channels, int64_t taps, bool with_skip) {
  Arrays inputs{normal({batch, time, channels}), normal({taps, channels})};
  if (with_skip) inputs.push_back(normal({channels}));
  check_op(
      "long_convolution", [](const Tensors& x) { return long_convolution(x[0], x[1], x.size() > 2 ? x[2] : Tensor()); },
      [](const Arrays& x) { return reference::long_convolution(x[0], x[1], x.size() > 2 ? &x[2] : nullptr); }, inputs);
}
// |a| sums to at most 0.8: the denominator stays away from zero, and an error is not magnified by more than some tens.
Arrays coefficients(int64_t channels, int64_t order) {
  const double bound = order ? 0.8 / static_cast<double>(order) : 0;
  return {uniform({channels, order}, {-bound, bound}), normal({channels, order})};
}
void check_rational_kernel(int64_t channels, int64_t order, int64_t length) {
  check_op(
      str("rational_kernel ", length), [=](const Tensors& x) { return rational_kernel(x[0], x[1], length); },
      [=](const Arrays& x) { return reference::rational_kernel(x[0], x[1], length); }, coefficients(channels, order), {2e-6, 5e-6});
}

double difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) error += reference::square(a[i] - b[i]), size += b[i] * b[i];
  return std::sqrt(size > 0 ? error / size : error);
}
double difference(const std::vector<double>& gradient, const Derivative& expected) {   // along axes and random directions, as check_op does
  double error = 0, size = 0;
  for (size_t k = 0; k < expected.along.size(); ++k) {
    double along = 0;
    for (size_t i = 0; i < gradient.size(); ++i) along += gradient[i] * expected.directions[k].values[i];
    error += reference::square(along - expected.along[k]), size += reference::square(expected.along[k]);
  }
  return std::sqrt(error / size);
}

}  // namespace

TEST_CASE("fft: real transforms of any length") {
  for (const int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 16, 17, 20, 24, 30, 32, 63, 64, 97, 100, 128, 250, 256}) {
    check_rfft(1, n, 1, n);
    check_irfft(1, n, 1);
  }
  struct Case {
    int64_t batch, time, channels, n;
  };
  const Case cases[] = {{2, 5, 3, 8},     {3, 7, 15, 7},   {1, 9, 16, 16},     {2, 16, 17, 20},   {3, 3, 33, 13},      {7, 10, 5, 10},
                        {9, 6, 2, 12},    {2, 0, 3, 4},    {0, 4, 3, 4},       {2, 4, 0, 4},      {2, 1000, 2, 1000},  {1, 1000, 1, 1024},
                        {1, 1024, 3, 1024}};
  for (const Case& c : cases) {
    check_rfft(c.batch, c.time, c.channels, c.n);
    check_irfft(c.batch, c.n, c.channels);
  }
}

TEST_CASE("fft: long lengths, there and back" * doctest::test_suite("slow")) {
  for (const int64_t n : {4096, 4097, 5000, 6144, 65'536, 65'537}) {
    const Tensor x = to_tensor(normal({2, n, 1}));
    on_every_table([&](const std::string& table) {
      CAPTURE(table);
      CAPTURE(n);
      CHECK(test::difference(irfft(rfft(x, n), n), x) < 1e-6);
    });
  }
}

TEST_CASE("fft: one frequency is one number") {
  for (const int64_t n : {16'384, 20'000, 12'289}) {   // 8s and 4; with 5s; a prime
    Array x({1, n, 1});
    constexpr int64_t frequency = 1234;
    for (int64_t t = 0; t < n; ++t) x[t] = std::cos(2 * M_PI * double(frequency * t % n) / double(n) + 0.5);
    Array expected({1, n / 2 + 1, 2, 1});
    expected[2 * frequency] = std::cos(0.5) * double(n) / 2, expected[2 * frequency + 1] = std::sin(0.5) * double(n) / 2;
    on_every_table([&](const std::string& table) {
      CAPTURE(table);
      CAPTURE(n);
      CHECK(test::difference(rfft(to_tensor(x), n), expected) < 1e-6);
    });
  }
}

TEST_CASE("long_convolution: against the sum") {
  for (const int64_t time : {1, 2, 3, 5, 7, 16, 17, 63, 64, 100})
    for (const auto& [batch, channels] : {std::pair<int64_t, int64_t>{1, 1}, {2, 3}, {3, 15}, {1, 16}, {2, 17}})
      check_long_convolution(batch, time, channels, time, time % 2 == 0);
  check_long_convolution(5, 12, 4, 7, true);      // shorter kernels; several pairs of items in one vector, and an odd one left over
  check_long_convolution(33, 9, 1, 1, true);
  check_long_convolution(20, 6, 2, 3, false);
  check_long_convolution(21, 40, 16, 40, true);   // many items: their sums are cut in runs
  check_long_convolution(21, 2040, 3, 40, true);  // ... of more than one piece
  check_long_convolution(0, 4, 3, 2, true);
  check_long_convolution(2, 4, 0, 2, true);
  check_long_convolution(2, 0, 3, 1, true);
  check_long_convolution(2, 1000, 3, 1000, true);
  check_long_convolution(2, 4096, 1, 10, true);   // pieces within pieces, with vectors of eight as well
}

TEST_CASE("long_convolution: the gradient needs u, and for du the spectrum of k as it was") {
  const Tensor u0 = to_tensor(normal({3, 50, 5})), k0 = to_tensor(normal({20, 5}));
  const auto gradients = [&](bool writes_u, bool writes_k) {
    Tensor u = u0.clone(), k = k0.clone();
    u.require_gradient();
    k.require_gradient();
    const Tensor y = long_convolution(u, k);
    if (writes_u) u.mutable_data()[3] += 1;
    if (writes_k) k.mutable_data()[3] += 1;
    backward(sum(y));
    return Tensors{u.gradient().detach(), k.gradient().detach()};
  };
  CHECK(same_bits(gradients(false, true), gradients(false, false)));
  CHECK(contains(error_of([&] { gradients(true, false); }), "written since"));
}

TEST_CASE("long_convolution: thousands of steps" * doctest::test_suite("slow")) {
  check_long_convolution(1, 1024, 17, 1024, true);
  check_long_convolution(2, 4097, 1, 4097, true);
}

TEST_CASE("rational_kernel: against the recurrence") {
  for (const int64_t length : {1, 2, 3, 5, 7, 16, 17, 63, 64, 100})
    for (const int64_t channels : {1, 3, 16, 17}) check_rational_kernel(channels, 3, length);   // below 4 steps the coefficients wrap around
  check_rational_kernel(2, 1, 8);
  check_rational_kernel(2, 9, 11);
  check_rational_kernel(3, 0, 4);
  check_rational_kernel(0, 3, 4);
  check_rational_kernel(1, 6, 1000);
  check_rational_kernel(3, 4, 1024);
}

TEST_CASE("rational_kernel: any finite kernel, unstable poles, a pole on the circle") {
  // a = 0: k is b
  const Tensor b = to_tensor(normal({2, 5}));
  const Tensor k = rational_kernel(zeros({2, 5}), b, 9);
  for (int64_t t = 0; t < 9; ++t)
    for (int64_t c = 0; c < 2; ++c) CHECK(std::abs(k.data()[t * 2 + c] - (t < 5 ? b.data()[c * 5 + t] : 0)) < 1e-6);
  // a pole at 1.02: what the recurrence does with C = b / (1 - 1.02^32)
  const Tensor unstable = rational_kernel(tensor({-1.02f}).reshape({1, 1}), tensor({1.0f}).reshape({1, 1}), 32);
  for (int64_t t = 0; t < 32; ++t) {
    const double expected = std::pow(1.02, double(t)) / (1 - std::pow(1.02, 32.0));
    CHECK(std::abs(unstable.data()[t] - expected) < 1e-5 * std::abs(expected));
  }
  // a pole at 1: not finite, and not hidden
  CHECK(!std::isfinite(rational_kernel(tensor({-1.0f}).reshape({1, 1}), tensor({1.0f}).reshape({1, 1}), 8).data()[3]));
}

// The case of kexue.fm/archives/10180 in which the published read-out fails: 128 states, coefficients from U(-1/sqrt n, 1/sqrt n), no constraint.
TEST_CASE("rational_transfer: convolution and recurrence are one, 128 states, 1024 steps") {
  constexpr int64_t order = 128, length = 1024;
  const double bound = 1 / std::sqrt(double(order));
  const Arrays ab{uniform({1, order}, {-bound, bound}), uniform({1, order}, {-bound, bound})};
  const Array expected = reference::rational_kernel(ab[0], ab[1], length);
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    CHECK(test::difference(rational_kernel(to_tensor(ab[0]), to_tensor(ab[1]), length), expected) < 1e-4);
    std::vector<double> k(length);
    kernels().spectral_f64.rational_kernel({&fft_plan<double>(length), 1, order, ab[0].values.data(), ab[1].values.data(), k.data()});
    CHECK(difference(k, expected.values) < 1e-11);
  });
}

TEST_CASE("fft: the f64 kernels") {
  struct Case {
    int64_t batch, time, channels, taps;
  };
  for (const Case& c : {Case{1, 1, 1, 1}, {3, 7, 2, 7}, {2, 50, 3, 20}, {1, 128, 1, 128}}) {
    const Arrays x{normal({c.batch, c.time, c.channels}), normal({c.taps, c.channels}), normal({c.channels})};
    const auto definition = [](const Arrays& a) { return reference::long_convolution(a[0], a[1], &a[2]); };
    const Array y = definition(x), dy = uniform(y.shape, {-0.5, 1.5});
    std::vector<Derivative> derivatives;
    for (size_t i = 0; i < 3; ++i) derivatives.push_back(differentiate(definition, x, i, dy));
    const Arrays ab = coefficients(c.channels, 4);
    const auto kernel_of = [&](const Arrays& a) { return reference::rational_kernel(a[0], a[1], c.time); };
    const Array k = kernel_of(ab), dk = uniform(k.shape, {-0.5, 1.5});
    std::vector<Derivative> of_kernel;
    for (size_t i = 0; i < 2; ++i) of_kernel.push_back(differentiate(kernel_of, ab, i, dk));

    on_every_table([&](const std::string& table) {
      CAPTURE(table);
      const auto& f64 = kernels().spectral_f64;
      std::vector<double> out(y.values.size());
      const auto& padded = fft_plan<double>(fft_size(c.time + c.taps - 1));
      std::vector<double> spectrum_of_k(static_cast<size_t>(2 * padded.n * c.channels));
      const kernel::LongConvolution<double> call{&padded, c.batch, c.time, c.channels, c.taps, x[0].values.data(), x[1].values.data(),
                                                 x[2].values.data(), out.data(), spectrum_of_k.data()};
      f64.long_convolution(call);
      CHECK(difference(out, y.values) < 1e-14);
      std::vector<double> gradients[3];
      for (size_t i = 0; i < 3; ++i) gradients[i].resize(x[i].values.size());
      f64.long_convolution_gradient(call, {dy.values.data(), gradients[0].data(), false, gradients[1].data(), false, gradients[2].data(), false});
      for (size_t i = 0; i < 3; ++i) CHECK(difference(gradients[i], derivatives[i]) < 1e-8);

      std::vector<double> kernel_out(k.values.size()), da(ab[0].values.size()), db(ab[1].values.size());
      const kernel::RationalKernel<double> rational{&fft_plan<double>(c.time), c.channels, 4, ab[0].values.data(), ab[1].values.data(), kernel_out.data()};
      f64.rational_kernel(rational);
      CHECK(difference(kernel_out, k.values) < 1e-13);
      f64.rational_kernel_gradient(rational, {dk.values.data(), da.data(), db.data(), false, false});
      CHECK(difference(da, of_kernel[0]) < 1e-8);
      CHECK(difference(db, of_kernel[1]) < 1e-8);

      std::vector<double> spectrum(static_cast<size_t>(c.batch * (c.time / 2 + 1) * 2 * c.channels)), back(x[0].values.size());
      const auto& plan = fft_plan<double>(c.time);
      const double part = 1 / static_cast<double>(c.time);
      f64.rfft({&plan, c.batch, c.time, c.channels, 1, 1, x[0].values.data(), spectrum.data(), false});
      CHECK(difference(spectrum, reference::rfft(x[0], c.time).values) < 1e-13);
      f64.irfft({&plan, c.batch, c.time, c.channels, part, 2 * part, spectrum.data(), back.data(), false});
      CHECK(difference(back, x[0].values) < 1e-13);
    });
  }
}

TEST_CASE("rational_transfer: PyTorch") {
  const State file = golden("rational_transfer");
  for (const char* name : {"odd.", "even.", "prime.", "one."})
    on_every_table([&](const std::string& table) {
      CAPTURE(table);
      CAPTURE(name);
      const Golden g{file, name};
      const Tensor u = g.leaf("u"), a = g.leaf("a"), b = g.leaf("b"), skip = g.leaf("skip");
      const Tensor y = rational_transfer(u, a, b, skip);
      CHECK(test::difference(y, g["y"]) < 1e-6);
      backward(y, g["dy"]);
      CHECK(test::difference(u.gradient(), g["du"]) < 1e-6);
      CHECK(test::difference(a.gradient(), g["da"]) < 5e-6);
      CHECK(test::difference(b.gradient(), g["db"]) < 2e-6);
      CHECK(test::difference(skip.gradient(), g["dskip"]) < 2e-6);
    });
}

TEST_CASE("fft: what cannot be is refused") {
  CHECK(contains(error_of([] { rfft(zeros({4, 3}), 4); }), "[rfft] expected a signal (B, T, C), got (4, 3)"));
  CHECK(contains(error_of([] { rfft(zeros({1, 4, 3}), 3); }), "[rfft] expected a length of at least 4, got 3"));
  CHECK(contains(error_of([] { rfft(zeros({1, 0, 3}), 0); }), "[rfft] expected a length of at least 1, got 0"));
  CHECK(contains(error_of([] { irfft(zeros({1, 3, 2, 3}), 6); }), "[irfft] expected a spectrum (B, 4, 2, C) of 6 time steps, got (1, 3, 2, 3)"));
  CHECK(contains(error_of([] { irfft(zeros({1, 3, 1, 3}), 4); }), "[irfft]"));
  CHECK(contains(error_of([] { irfft(zeros({1, 1, 2, 3}), 0); }), "[irfft]"));
  CHECK(contains(error_of([] { rfft(zeros({1, 1, 0}), int64_t{1} << 40); }), "[fft_plan] expected a length from 1 to 2^30"));
  CHECK(contains(error_of([] { long_convolution(zeros({4, 3}), zeros({4, 3})); }), "[long_convolution] expected a signal"));
  CHECK(contains(error_of([] { long_convolution(zeros({1, 4, 3}), zeros({5, 3})); }),
                 "[long_convolution] expected a kernel of 1 to 4 steps (steps, 3), got (5, 3)"));
  CHECK(contains(error_of([] { long_convolution(zeros({1, 4, 3}), zeros({0, 3})); }), "[long_convolution]"));
  CHECK(contains(error_of([] { long_convolution(zeros({1, 4, 3}), zeros({4, 2})); }), "[long_convolution]"));
  CHECK(contains(error_of([] { long_convolution(zeros({1, 4, 3}), zeros({4, 3}), zeros({2})); }), "[long_convolution] expected a skip (3), got (2)"));
  CHECK(contains(error_of([] { rational_kernel(zeros({3, 4}), zeros({3, 5}), 8); }), "[rational_kernel] expected coefficients a and b (C, N), got (3, 4) and (3, 5)"));
  CHECK(contains(error_of([] { rational_kernel(zeros({3}), zeros({3}), 8); }), "[rational_kernel]"));
  CHECK(contains(error_of([] { rational_kernel(zeros({3, 4}), zeros({3, 4}), 0); }), "[rational_kernel] expected a length of at least 1, got 0"));
  CHECK(contains(error_of([] { rational_transfer(zeros({1, 0, 3}), zeros({3, 4}), zeros({3, 4})); }), "[rational_transfer]"));
  CHECK(contains(error_of([] { rational_transfer(zeros({1, 5, 2}), zeros({3, 4}), zeros({3, 4})); }), "[long_convolution]"));
}
