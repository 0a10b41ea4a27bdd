// Fourier transforms along time, convolutions as long as the signal, kernels of rational transfer functions.
#include <algorithm>

#include "core/error.h"
#include "core/fft_plan.h"
#include "core/ops_shared.h"

namespace qd {
namespace {

Destination wanted(Sink& to, int input) { return to.wants(input) ? to.into(input) : Destination{nullptr, false}; }

}  // namespace

// X_f = sum over t of x_t exp(-2 pi i f t / n).   dx_t = sum over f of Re(dX_f exp(2 pi i f t / n)), dX_f = dRe + i dIm
Tensor rfft(const Tensor& x, int64_t n) {
  QD_CHECK(x.rank() == 3, "rfft", str("expected a signal (B, T, C), got ", x.shape().str()));
  const int64_t batch = x.dim(0), time = x.dim(1), channels = x.cols();
  QD_CHECK(n >= 1 && n >= time, "rfft", str("expected a length of at least ", std::max<int64_t>(time, 1), ", got ", n));
  const auto& plan = fft_plan<float>(n);
  Tensor y = empty({batch, n / 2 + 1, 2, channels});
  kernels().spectral.rfft({&plan, batch, time, channels, 1, 1, x.data(), y.mutable_data(), false});
  return record("rfft", y, {x}, [=, &plan](const Tensor& dy, Sink& to) {
    if (!to.wants(0)) return;
    const auto [dx, add] = to.into(0);
    kernels().spectral.irfft({&plan, batch, time, channels, 1, 1, dy.data(), dx, add});
  });
}

// x_t = (1/n) sum over all n frequencies, those above n/2 being conjugates of those below: all but 0 and n/2 count twice.
// dX_f = (1/n or 2/n) sum over t of dx_t exp(-2 pi i f t / n)
Tensor irfft(const Tensor& x, int64_t n) {
  QD_CHECK(n >= 1, "irfft", str("expected a length of at least 1, got ", n));
  QD_CHECK(x.rank() == 4 && x.dim(1) == n / 2 + 1 && x.dim(2) == 2, "irfft",
           str("expected a spectrum (B, ", n / 2 + 1, ", 2, C) of ", n, " time steps, got ", x.shape().str()));
  const int64_t batch = x.dim(0), channels = x.cols();
  const auto& plan = fft_plan<float>(n);
  const float part = 1 / static_cast<float>(n);
  Tensor y = empty({batch, n, channels});
  kernels().spectral.irfft({&plan, batch, n, channels, part, 2 * part, x.data(), y.mutable_data(), false});
  return record("irfft", y, {x}, [=, &plan](const Tensor& dy, Sink& to) {
    if (!to.wants(0)) return;
    const auto [dx, add] = to.into(0);
    kernels().spectral.rfft({&plan, batch, n, channels, part, 2 * part, dy.data(), dx, add});
  });
}

// Keeps u, whose spectrum would be twice as large, and for du the spectrum of k: four times k (of whole vectors of channels), so for B items
// 4/B times u. That of u again is a fifth of the transforms, that of k would be 4 % of a step.
Tensor long_convolution(const Tensor& u, const Tensor& k, const Tensor& skip) {
  QD_CHECK(u.rank() == 3, "long_convolution", str("expected a signal (B, T, C), got ", u.shape().str()));
  const int64_t batch = u.dim(0), time = u.dim(1), channels = u.cols();
  QD_CHECK(k.rank() == 2 && k.cols() == channels && k.dim(0) >= 1 && k.dim(0) <= std::max<int64_t>(time, 1), "long_convolution",
           str("expected a kernel of 1 to ", time, " steps (steps, ", channels, "), got ", k.shape().str()));
  QD_CHECK(!skip.defined() || skip.shape() == Shape({channels}), "long_convolution", str("expected a skip (", channels, "), got ", skip.shape().str()));
  Tensor y = empty_like(u);
  const auto& plan = fft_plan<float>(fft_size(time + k.dim(0) - 1));
  const int lanes = kernels().lanes;
  Tensor spectrum = empty({(channels + lanes - 1) / lanes * lanes, plan.n, 2});   // in the order of the kernels
  const kernel::LongConvolution<float> call{&plan, batch, time, channels, k.dim(0), u.data(), k.data(), data_of(skip), y.mutable_data(),
                                            spectrum.mutable_data()};
  kernels().spectral.long_convolution(call);
  if (!u.needs_gradient()) spectrum = {};
  return record("long_convolution", y, {u, k, skip}, [call, lanes, u = Saved(u), spectrum](const Tensor& dy, Sink& to) {
    QD_CHECK(kernels().lanes == lanes, "long_convolution", str("expected vectors of ", lanes, " numbers as in the forward pass, got ", kernels().lanes));
    kernel::LongConvolution<float> again = call;
    again.u = u->data(), again.k = again.skip = nullptr, again.y = nullptr;
    if (!spectrum.defined()) again.spectrum = nullptr;
    const Destination du = wanted(to, 0), dk = wanted(to, 1), dskip = wanted(to, 2);
    kernels().spectral.long_convolution_gradient(again, {dy.data(), du.data, du.add, dk.data, dk.add, dskip.data, dskip.add});
  });
}

Tensor rational_kernel(const Tensor& a, const Tensor& b, int64_t length) {
  QD_CHECK(a.rank() == 2 && a.shape() == b.shape(), "rational_kernel",
           str("expected coefficients a and b (C, N), got ", a.shape().str(), " and ", b.shape().str()));
  QD_CHECK(length >= 1, "rational_kernel", str("expected a length of at least 1, got ", length));
  const int64_t channels = a.dim(0), order = a.cols();
  Tensor k = empty({length, channels});
  const kernel::RationalKernel<float> call{&fft_plan<float>(length), channels, order, a.data(), b.data(), k.mutable_data()};
  kernels().spectral.rational_kernel(call);
  return record("rational_kernel", k, {a, b}, [call, a = Saved(a), b = Saved(b)](const Tensor& dk, Sink& to) {
    kernel::RationalKernel<float> again = call;
    again.a = a->data(), again.b = b->data();
    const Destination da = wanted(to, 0), db = wanted(to, 1);
    kernels().spectral.rational_kernel_gradient(again, {dk.data(), da.data, db.data, da.add, db.add});
  });
}

Tensor rational_transfer(const Tensor& u, const Tensor& a, const Tensor& b, const Tensor& skip) {
  QD_CHECK(u.rank() == 3 && u.dim(1) >= 1, "rational_transfer", str("expected a signal (B, T, C) of at least one step, got ", u.shape().str()));
  return long_convolution(u, rational_kernel(a, b, u.dim(1)), skip);
}

}  // namespace qd
