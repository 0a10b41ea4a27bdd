#include "models/quantizer.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/autograd.h"
#include "core/error.h"
#include "core/ops.h"

namespace qd {
namespace {

constexpr const char* kinds[] = {"vq", "ema", "simvq", "fsq"};

// Rows of z at random places, as (count, D).
Tensor random_rows(const Tensor& z, int64_t count, Random& random) {
  Tensor out = empty({count, z.cols()});
  for (int64_t k = 0; k < count; ++k) {
    const auto row = static_cast<int64_t>(random.uniform() * static_cast<double>(z.rows()));
    std::copy_n(z.data() + row * z.cols(), z.cols(), out.mutable_data() + k * z.cols());
  }
  return out;
}

void count_and_sum(const Tensor& z, const Tensor& ids, Tensor& counts, Tensor& sums) {
  counts = zeros({sums.dim(0)});
  float* n = counts.mutable_data();
  for (const int32_t id : ids.values<int32_t>()) n[id] += 1;
  kernels().scatter_add(z.rows(), z.cols(), ids.data<int32_t>(), z.data(), sums.mutable_data());
}

// Lloyd's algorithm from random rows; a centre that nobody is nearest to stays where it is.
Tensor k_means(const Tensor& z, int64_t codes, int64_t rounds, Random& random) {
  Tensor centres = random_rows(z, codes, random);
  for (int64_t round = 0; round < rounds; ++round) {
    Tensor counts, sums = zeros({codes, z.cols()});
    count_and_sum(z, nearest(z, centres), counts, sums);
    for (int64_t k = 0; k < codes; ++k) {
      const float n = counts.data()[k];
      for (int64_t j = 0; n > 0 && j < z.cols(); ++j) centres.mutable_data()[k * z.cols() + j] = sums.data()[k * z.cols() + j] / n;
    }
  }
  return centres;
}

Tensor both_losses(const Tensor& z, const Tensor& q, const QuantizerConfig& c) {
  return mse(z.detach(), q) * c.beta + mse(z, q.detach()) * c.gamma;
}

}  // namespace

const char* name_of(QuantizerKind kind) { return kinds[static_cast<size_t>(kind)]; }

QuantizerKind quantizer_named(const std::string& name) {
  for (size_t i = 0; i < std::size(kinds); ++i)
    if (name == kinds[i]) return static_cast<QuantizerKind>(i);
  fail("--quantizer", "expected vq, ema, simvq or fsq, got '" + name + "'");
}

std::unique_ptr<Quantizer> make_quantizer(Module& up, std::string name, const QuantizerConfig& c) {
  QD_CHECK(c.codes >= 2 && c.codes <= 1 << 20, "--codes", str("expected 2 to ", 1 << 20, ", got ", c.codes));
  QD_CHECK(c.width >= 1 && c.width <= 1 << 16, "--dim", str("expected 1 to ", 1 << 16, ", got ", c.width));
  switch (c.kind) {
    case QuantizerKind::vq:
      return std::make_unique<VqCodebook>(up, std::move(name), c);
    case QuantizerKind::ema:
      return std::make_unique<EmaCodebook>(up, std::move(name), c);
    case QuantizerKind::simvq:
      return std::make_unique<SimCodebook>(up, std::move(name), c);
    case QuantizerKind::fsq:
      break;
  }
  return std::make_unique<ScalarQuantizer>(up, std::move(name), c);
}

// --- ema

EmaCodebook::EmaCodebook(Module& up, std::string name, const QuantizerConfig& c)
    : Quantizer(up, std::move(name), c),
      counts(*this, "counts", {c.codes}, constant(c.restart || c.kmeans > 0 ? 0 : 1)),
      sums(*this, "sums", {c.codes, c.width}, normal(0.1)) {}

Tensor EmaCodebook::codes() const {
  const double total = kernels().sum(c.codes, counts.value.data());
  const double scale = total / (total + static_cast<double>(c.codes) * c.epsilon);
  Tensor out = empty({c.codes, c.width}), smooth = empty({c.codes});
  for (int64_t k = 0; k < c.codes; ++k)
    smooth.mutable_data()[k] = total > 0 ? static_cast<float>((static_cast<double>(counts.value.data()[k]) + c.epsilon) * scale) : 1.0f;
  kernels().binary(Binary::div, c.codes, c.width, {sums.value.data(), c.width, 1}, {smooth.data(), 1, 0}, out.mutable_data(), false);
  return out;
}

void EmaCodebook::update(const Tensor& z, const Tensor& ids) {
  QD_CHECK(z.cols() == c.width && z.rows() == ids.size(), "codebook",
           str("expected vectors (..., ", c.width, ") and an id for each, got ", z.shape().str(), " and ", ids.shape().str()));
  const float kept = c.decay, fresh = 1 - c.decay;
  Tensor batch_counts, batch_sums = zeros({c.codes, c.width});
  count_and_sum(z, ids, batch_counts, batch_sums);
  const float* chosen = batch_counts.data();
  float *n = counts.value.mutable_data(), *m = sums.value.mutable_data();
  for (int64_t k = 0; k < c.codes; ++k) {
    if (chosen[k] == 0 && !c.restart) continue;   // with a count near 0 the smoothing would draw the code to the origin
    n[k] = kept * n[k] + fresh * chosen[k];
    for (int64_t j = k * c.width; j < (k + 1) * c.width; ++j) m[j] = kept * m[j] + fresh * batch_sums.data()[j];
  }
}

// Before the first batch all codes are new. Later those that are chosen twenty times less often than the average, and in fewer than half of
// the batches, become vectors of this batch, as if chosen once.
void EmaCodebook::begin_anew(const Tensor& z) {
  Random random(random_state().seed, next_stream());
  if (recomputing()) return;
  float* n = counts.value.mutable_data();
  const bool first = kernels().sum(c.codes, n) == 0;
  if (first && c.kmeans > 0) {
    const Tensor centres = k_means(z, c.codes, c.kmeans, random);
    std::copy_n(centres.data(), centres.size(), sums.value.mutable_data());
    std::fill(n, n + c.codes, 1.0f);
  } else if (first || c.restart) {
    const float least = first ? 1 : std::min(0.5f, 0.05f * static_cast<float>(z.rows()) / static_cast<float>(c.codes));
    std::vector<int64_t> dead;
    for (int64_t k = 0; k < c.codes; ++k)
      if (n[k] < least) dead.push_back(k);
    if (dead.empty()) return;
    const Tensor fresh = random_rows(z, std::ssize(dead), random);
    for (size_t i = 0; i < dead.size(); ++i) {
      std::copy_n(fresh.data() + static_cast<int64_t>(i) * c.width, c.width, sums.value.mutable_data() + dead[i] * c.width);
      n[dead[i]] = 1;
    }
  }
}

Quantizer::Result EmaCodebook::operator()(const Tensor& z) {
  if (training()) begin_anew(z.detach());
  if (!recomputing()) codes_ = codes();   // a second run sees the codes of the first, which has moved them
  const Tensor e = codes_, ids = nearest(z.detach(), e), q = embedding(e, ids);
  if (training() && !recomputing()) update(z, ids);
  return {straight_through(z, q), mse(z, q) * c.gamma, ids};
}

Tensor EmaCodebook::encode(const Tensor& z) const { return nearest(z, codes()); }
Tensor EmaCodebook::decode(const Tensor& ids) const { return embedding(codes(), ids); }

// --- vq

VqCodebook::VqCodebook(Module& up, std::string name, const QuantizerConfig& c)
    : Quantizer(up, std::move(name), c),
      codes(*this, "codes", {c.codes, c.width}, uniform(1.0 / static_cast<double>(c.codes))),
      begun(*this, "begun", {1}, constant(0)) {}

Quantizer::Result VqCodebook::operator()(const Tensor& z) {
  if (training() && !recomputing() && c.kmeans > 0 && begun.value.data()[0] == 0) {
    Random random(random_state().seed, next_stream());
    const Tensor centres = k_means(z.detach(), c.codes, c.kmeans, random);
    std::copy_n(centres.data(), centres.size(), codes.value.mutable_data());
    begun.value.mutable_data()[0] = 1;
  }
  const Tensor ids = nearest(z.detach(), codes.value.detach()), q = embedding(codes, ids);
  return {straight_through(z, q), both_losses(z, q, c), ids};
}

Tensor VqCodebook::encode(const Tensor& z) const { return nearest(z, codes.value.detach()); }
Tensor VqCodebook::decode(const Tensor& ids) const { return embedding(codes.value.detach(), ids); }

// --- simvq

SimCodebook::SimCodebook(Module& up, std::string name, const QuantizerConfig& c)
    : Quantizer(up, std::move(name), c),
      fixed(*this, "fixed", {c.codes, c.width}, normal(1 / std::sqrt(static_cast<double>(c.width)))),
      weight(*this, "weight", {c.width, c.width}, xavier(c.width, c.width)) {}

Tensor SimCodebook::codes() const { return matmul(fixed.value, weight); }

Quantizer::Result SimCodebook::operator()(const Tensor& z) {
  const Tensor e = codes(), ids = nearest(z.detach(), e.detach()), q = embedding(e, ids);
  return {straight_through(z, q), both_losses(z, q, c), ids};
}

Tensor SimCodebook::encode(const Tensor& z) const { return nearest(z, codes().detach()); }
Tensor SimCodebook::decode(const Tensor& ids) const { return embedding(codes().detach(), ids); }

// --- fsq

std::vector<int64_t> levels_for(int64_t codes) {
  constexpr int64_t least = 5, most = 64;   // fewer levels learn badly, more are hardly a code
  // The most even product of `count` factors from `from` on.
  const std::function<std::vector<int64_t>(int64_t, int64_t, int64_t)> split = [&](int64_t product, int64_t count, int64_t from) {
    if (count == 1) return product >= from && product <= most ? std::vector<int64_t>{product} : std::vector<int64_t>{};
    std::vector<int64_t> best;
    for (int64_t factor = from; factor <= most && factor * factor <= product; ++factor) {
      if (product % factor != 0) continue;
      std::vector<int64_t> rest = split(product / factor, count - 1, factor);
      if (rest.empty() || (!best.empty() && rest.back() >= best.back())) continue;
      rest.insert(rest.begin(), factor);
      best = std::move(rest);
    }
    return best;
  };
  const auto about = std::max<int64_t>(1, std::llround(std::log2(static_cast<double>(codes)) / 3));   // eight levels each
  for (int64_t away = 0; away <= about + 2; ++away)
    for (const int64_t count : {about - away, about + away})
      if (count >= 1)
        if (std::vector<int64_t> levels = split(codes, count, count == 1 ? 2 : least); !levels.empty()) return levels;
  fail("--codes", str("expected a product of numbers from ", least, " to ", most, " for fsq, got ", codes), "512, 1000 and 1024 are");
}

ScalarQuantizer::ScalarQuantizer(Module& up, std::string name, const QuantizerConfig& c)
    : Quantizer(up, std::move(name), c), levels(levels_for(c.codes)) {}

Tensor ScalarQuantizer::encode(const Tensor& z) const {
  QD_CHECK(z.cols() == width(), "fsq", str("expected (..., ", width(), "), got ", z.shape().str()));
  Tensor ids = empty(z.shape().without_last(), DType::i32);
  const Tensor share = sigmoid(z.detach());
  const float* s = share.data();
  for (int64_t row = 0; row < z.rows(); ++row) {
    int64_t id = 0, place = 1;
    for (const int64_t level : levels) {
      QD_CHECK(*s >= 0, "fsq", "expected numbers, got NaN");
      id += place * std::lround(*s++ * static_cast<float>(level - 1));
      place *= level;
    }
    ids.mutable_data<int32_t>()[row] = static_cast<int32_t>(id);
  }
  return ids;
}

Tensor ScalarQuantizer::decode(const Tensor& ids) const {
  std::vector<int64_t> dims(ids.shape().begin(), ids.shape().end());
  dims.push_back(width());
  Tensor q = empty(Shape(dims));
  float* to = q.mutable_data();
  for (int32_t id : ids.values<int32_t>()) {
    QD_CHECK(id >= 0 && id < c.codes, "fsq", str("expected ids below ", c.codes, ", got ", id));
    for (const int64_t level : levels) {
      const auto l = static_cast<int32_t>(level);
      *to++ = 2.0f * static_cast<float>(id % l) / static_cast<float>(l - 1) - 1;
      id /= l;
    }
  }
  return q;
}

Tensor ScalarQuantizer::unquantised(const Tensor& z) const { return sigmoid(z) * 2 + -1; }

Quantizer::Result ScalarQuantizer::operator()(const Tensor& z) {
  const Tensor ids = encode(z);
  return {straight_through(unquantised(z), decode(ids)), Tensor(), ids};
}

// --- counts

std::vector<int64_t> code_counts(const Tensor& ids, int64_t codes) {
  std::vector<int64_t> counts(static_cast<size_t>(codes));
  for (const int32_t id : ids.values<int32_t>()) {
    QD_CHECK(id >= 0 && id < codes, "codes", str("expected ids below ", codes, ", got ", id));
    ++counts[static_cast<size_t>(id)];
  }
  return counts;
}

double perplexity(const std::vector<int64_t>& counts) {
  double total = 0, sum = 0;
  for (const int64_t n : counts) total += static_cast<double>(n);
  if (total == 0) return 0;
  for (const int64_t n : counts)
    if (n > 0) sum -= static_cast<double>(n) / total * std::log(static_cast<double>(n) / total);
  return std::exp(sum);
}

}  // namespace qd
