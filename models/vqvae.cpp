#include "models/vqvae.h"

#include "core/error.h"

namespace qd {

Tensor Codebook::codes() const {
  const double total = kernels().sum(c.codes, counts.value.data());
  const double scale = total / (total + static_cast<double>(c.codes) * c.epsilon);
  Tensor out = empty({c.codes, c.code_width}), smooth = empty({c.codes});
  for (int64_t k = 0; k < c.codes; ++k)
    smooth.mutable_data()[k] = static_cast<float>((static_cast<double>(counts.value.data()[k]) + c.epsilon) * scale);
  kernels().binary(Binary::div, c.codes, c.code_width, {sums.value.data(), c.code_width, 1}, {smooth.data(), 1, 0}, out.mutable_data(), false);
  return out;
}

void Codebook::update(const Tensor& z, const Tensor& ids) {
  QD_CHECK(z.cols() == c.code_width && z.rows() == ids.size(), "codebook",
           str("expected vectors (..., ", c.code_width, ") and an id for each, got ", z.shape().str(), " and ", ids.shape().str()));
  const float kept = c.decay, fresh = 1 - c.decay;
  Tensor batch_counts = zeros({c.codes}), batch_sums = zeros({c.codes, c.code_width});
  float* n = batch_counts.mutable_data();
  for (const int32_t id : ids.values<int32_t>()) n[id] += 1;
  kernels().scatter_add(z.rows(), z.cols(), ids.data<int32_t>(), z.data(), batch_sums.mutable_data());
  kernels().combine(c.codes, kept, counts.value.data(), fresh, n, counts.value.mutable_data());
  kernels().combine(sums.value.size(), kept, sums.value.data(), fresh, batch_sums.data(), sums.value.mutable_data());
}

}  // namespace qd
