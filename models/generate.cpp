#include "models/generate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "core/autograd.h"
#include "core/error.h"
#include "core/parallel.h"
#include "models/gpt.h"

namespace qd {

void check(const GenerateOptions& o) {
  QD_CHECK(o.tokens >= 0, "--tokens", str("expected a number of tokens, got ", o.tokens));
  QD_CHECK(o.temperature >= 0 && std::isfinite(o.temperature), "--temperature",
           str("expected a number of at least 0, got ", o.temperature));
  QD_CHECK(o.top_k >= 0, "--top-k", str("expected a whole number of at least 0, got ", o.top_k));
  QD_CHECK(o.top_p > 0 && o.top_p <= 1, "--top-p", str("expected a number above 0 and at most 1, got ", o.top_p));
  QD_CHECK(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "--repetition-penalty",
           str("expected a number above 0, got ", o.repetition_penalty));
}

void penalise(std::span<float> logits, std::span<const int32_t> seen, double penalty) {
  if (penalty == 1) return;
  std::vector<bool> done(logits.size());
  for (const int32_t id : seen) {
    const auto i = static_cast<size_t>(id);
    if (done[i]) continue;
    done[i] = true;
    logits[i] = static_cast<float>(logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty);
  }
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
  size_t ranked = 0;   // so many stand in order already
  const auto rank = [&](size_t count) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(ranked), end = ids.begin() + static_cast<std::ptrdiff_t>(count);
    if (end != ids.end()) std::nth_element(begin, end, ids.end(), before);
    std::sort(begin, end, before);
    ranked = count;
  };
  if (o.top_k > 0 && o.top_k < std::ssize(ids)) {
    rank(static_cast<size_t>(o.top_k));
    ids.resize(static_cast<size_t>(o.top_k));
  }
  std::vector<double> weight(logits.size());   // by id
  double total = 0;
  for (const int32_t id : ids) total += weight[id] = std::exp((static_cast<double>(logits[id]) - top) / o.temperature);
  if (o.top_p < 1) {
    const double wanted = o.top_p * total;
    size_t kept = 0;
    total = 0;
    for (; kept < ids.size() && total < wanted; total += weight[ids[kept++]])
      if (kept == ranked) rank(std::min(ids.size(), 4 * ranked + 64));   // few are enough, mostly
    ids.resize(kept);
  }
  double left = random.uniform() * total;
  int32_t chosen = ids.front();
  for (const int32_t id : ids) {
    if (weight[id] > 0) chosen = id;   // rounding may leave something beyond the last one
    if ((left -= weight[id]) < 0) break;
  }
  return chosen;
}

int64_t window(int64_t length, int64_t context) {
  if (length <= context) return length;
  const int64_t half = std::max<int64_t>(1, context / 2), forgotten = (length - context + half - 1) / half * half;
  return length - forgotten;
}

namespace {

// Rows of a product whose bits do not depend on their number (core/kernels/gemm_skinny.inl): so many texts are made together.
constexpr int64_t most_together = 8;

struct Text {
  int64_t number;
  std::vector<int32_t> ids;
  Random random;
};

// The logits (B, V) of what follows B texts of the same length, each row computed as for this text alone. `alike`: all are still the prompt.
Tensor next_of(const GPT& model, std::span<const Text> texts, Cache* cache, bool alike) {
  const int64_t batch = std::ssize(texts), seen = window(std::ssize(texts[0].ids), model.c.context);
  if (cache && cache->length() == seen - 1 && !alike) {
    std::vector<int32_t> last;
    for (const Text& text : texts) last.push_back(text.ids.back());
    return model.next(tensor(last, {batch, 1}), cache);
  }
  Tensor logits = empty({batch, model.c.vocab});   // of the prompt, or of what the window holds now that it has moved
  for (int64_t b = 0; b < batch; ++b) {
    float* row = logits.mutable_data() + b * model.c.vocab;
    if (b > 0 && alike) {
      std::copy_n(logits.data(), model.c.vocab, row);
      if (cache) cache->copy_sequence(0, b);
      continue;
    }
    std::optional<Cache> own;
    if (cache) own = cache->sequences(b, b + 1), own->set_length(0);
    const auto ids = std::span(texts[static_cast<size_t>(b)].ids).last(static_cast<size_t>(seen));
    const Tensor next = model.next(tensor(ids, {1, seen}), own ? &*own : nullptr);
    std::copy_n(next.data(), model.c.vocab, row);
    if (cache) cache->set_length(seen);
  }
  return logits;
}

// Texts that begin alike, until all have ended. False where on_token wants no more.
bool continue_together(const GPT& model, std::vector<Text> texts, const GenerateOptions& options,
                       const std::function<bool(int64_t, int32_t)>& on_token) {
  std::optional<Cache> cache;
  if (model.c.mask == Mask::causal) {
    const int64_t longest = std::ssize(texts[0].ids) + std::min(options.tokens, model.c.context);
    cache = model.cache(std::ssize(texts), std::min(longest, model.c.context));
  }
  for (int64_t i = 0; i < options.tokens && !texts.empty(); ++i) {
    Tensor logits = next_of(model, texts, cache ? &*cache : nullptr, i == 0);
    std::vector<int32_t> chosen(texts.size());
    parallel_tasks(std::ssize(texts), [&, data = logits.mutable_data()](int64_t b) {
      Text& text = texts[static_cast<size_t>(b)];
      const std::span<float> row(data + b * model.c.vocab, static_cast<size_t>(model.c.vocab));
      penalise(row, text.ids, options.repetition_penalty);
      chosen[static_cast<size_t>(b)] = choose(row, options, text.random);
    });
    for (size_t b = 0; b < texts.size(); ++b) {
      if (chosen[b] == options.end_of_text) continue;
      texts[b].ids.push_back(chosen[b]);
      if (!on_token(texts[b].number, chosen[b])) return false;
    }
    for (size_t b = texts.size(); b-- > 0;) {
      if (chosen[b] != options.end_of_text) continue;
      const size_t last = texts.size() - 1;
      if (b < last) {   // the last one takes the place of the one that has ended
        texts[b] = std::move(texts[last]);
        if (cache) cache->copy_sequence(static_cast<int64_t>(last), static_cast<int64_t>(b));
      }
      texts.pop_back();
      if (cache) cache = cache->sequences(0, static_cast<int64_t>(last));
    }
  }
  return true;
}

}  // namespace

std::vector<std::vector<int32_t>> generate_several(const GPT& model, std::vector<int32_t> ids, int64_t count, const GenerateOptions& options,
                                                   const std::function<bool(int64_t, int32_t)>& on_token) {
  check(options);
  QD_CHECK(count >= 1, "--samples", str("expected a number of texts of at least 1, got ", count));
  QD_CHECK(!ids.empty(), "generate", "expected at least one token to continue, got none", "give a prompt");
  const NoGrad off;
  if (std::ssize(ids) > model.c.context) ids.erase(ids.begin(), ids.end() - model.c.context);
  std::vector<std::vector<int32_t>> made(static_cast<size_t>(count));
  const auto keep = [&](int64_t i, int32_t id) {
    made[static_cast<size_t>(i)].push_back(id);
    return !on_token || on_token(i, id);
  };
  const uint64_t stream = stream_of("generate");
  for (int64_t i = 0; i < count;) {
    std::vector<Text> texts;
    for (; i < count && std::ssize(texts) < most_together; ++i) texts.push_back({i, ids, Random(options.seed, stream + static_cast<uint64_t>(i))});
    if (!continue_together(model, std::move(texts), options, keep)) break;
  }
  return made;
}

std::vector<int32_t> generate(const GPT& model, std::vector<int32_t> ids, const GenerateOptions& options, const std::function<bool(int32_t)>& on_token) {
  const auto of_first = [&](int64_t, int32_t id) { return !on_token || on_token(id); };
  return std::move(generate_several(model, std::move(ids), 1, options, of_first).front());
}

}  // namespace qd
