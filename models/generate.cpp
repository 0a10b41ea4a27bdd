#include "models/generate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "core/autograd.h"
#include "core/error.h"
#include "models/gpt.h"

namespace qd {

void check(const GenerateOptions& o) {
  QD_CHECK(o.tokens >= 0, "--tokens", str("expected a number of tokens, got ", o.tokens));
  QD_CHECK(o.temperature >= 0 && std::isfinite(o.temperature), "--temperature",
           str("expected a number of at least 0, got ", o.temperature));
  QD_CHECK(o.top_k >= 0, "--top-k", str("expected a whole number of at least 0, got ", o.top_k));
  QD_CHECK(o.top_p > 0 && o.top_p <= 1, "--top-p", str("expected a number above 0 and at most 1, got ", o.top_p));
}

int32_t choose(std::span<const float> logits, const GenerateOptions& o, Random& random) {
  float top = -std::numeric_limits<float>::infinity();
  for (const float x : logits) top = x > top || std::isnan(x) ? x : top;
  QD_CHECK(std::isfinite(top), "generate", str("expected finite logits, the largest is ", top),
           "the weights are not finite, perhaps");
  if (o.temperature == 0) return static_cast<int32_t>(std::find(logits.begin(), logits.end(), top) - logits.begin());

  // The candidates, most probable first where only some of them count.
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  const bool some = o.top_k > 0 && o.top_k < std::ssize(ids);
  if (some) {
    std::nth_element(ids.begin(), ids.begin() + o.top_k, ids.end(), before);
    ids.resize(static_cast<size_t>(o.top_k));
  }
  if (some || o.top_p < 1) std::sort(ids.begin(), ids.end(), before);

  std::vector<double> weight(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) weight[i] = std::exp((static_cast<double>(logits[ids[i]]) - top) / o.temperature);
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  if (o.top_p < 1) {
    size_t kept = 0;
    double sum = 0;
    while (kept < ids.size() && sum < o.top_p * total) sum += weight[kept++];
    ids.resize(kept), weight.resize(kept), total = sum;
  }
  double left = random.uniform() * total;
  size_t chosen = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (weight[i] > 0) chosen = i;   // rounding may leave something beyond the last one
    if ((left -= weight[i]) < 0) break;
  }
  return ids[chosen];
}

std::vector<int32_t> generate(const GPT& model, std::vector<int32_t> ids, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& on_token) {
  check(options);
  QD_CHECK(!ids.empty(), "generate", "expected at least one token to continue, got none", "give a prompt");
  const NoGrad off;
  const size_t given = ids.size();
  Random random(options.seed, stream_of("generate"));
  const auto context = static_cast<size_t>(model.c.context);
  std::optional<Cache> cache;
  if (model.c.mask == Mask::causal) {
    const int64_t longest = std::min(std::ssize(ids), model.c.context) + std::min(options.tokens, model.c.context);
    cache = model.cache(1, std::min(longest, model.c.context));
  }
  for (int64_t i = 0; i < options.tokens; ++i) {
    auto seen = std::span(ids).last(std::min(ids.size(), context));
    if (cache) {
      if (seen.size() < ids.size()) cache->clear();   // an id left the window, and all that was computed from it
      seen = seen.subspan(static_cast<size_t>(cache->length()));
    }
    const Tensor logits = model.next(tensor(seen, {1, std::ssize(seen)}), cache ? &*cache : nullptr);   // (1,V)
    ids.push_back(choose(logits.values(), options, random));
    if (on_token && !on_token(ids.back())) break;
  }
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(given));
  return ids;
}

}  // namespace qd
