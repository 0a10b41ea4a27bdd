// Tables of Fourier transforms: how a length is split, twiddle factors, where each frequency stands. Made in f64, once per length.
#pragma once

#include "core/kernels/table.h"

namespace qd {

// The plan for transforms of length n >= 1, kept for the life of the program; thread-safe. T: float or double.
template <class T>
const kernel::FftPlan<T>& fft_plan(int64_t n);

int64_t fft_size(int64_t n);   // the least 2^a, 3 * 2^a or 5 * 2^a that is at least n: padding up to there is cheap

}  // namespace qd
