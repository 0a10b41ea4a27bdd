#include "data/loader.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace qd {
namespace {

constexpr size_t batches_ahead = 8;
constexpr uint64_t first_stream = uint64_t{1} << 62;   // of random numbers: far from those that dropout uses with the same seed

std::span<int32_t> row_of(std::vector<int32_t>& ids, int64_t row, int64_t length) {
  return {ids.data() + row * length, static_cast<size_t>(length)};
}

// Rows of T + 1 ids, as inputs and targets.
Batch split_rows(const std::vector<int32_t>& ids, int64_t rows, int64_t context) {
  Batch batch{empty({rows, context}, DType::i32), empty({rows, context}, DType::i32)};
  int32_t* inputs = batch.inputs.mutable_data<int32_t>();
  int32_t* targets = batch.targets.mutable_data<int32_t>();
  for (int64_t r = 0; r < rows; ++r) {
    const int32_t* row = ids.data() + r * (context + 1);
    std::copy_n(row, context, inputs + r * context);
    std::copy_n(row + 1, context, targets + r * context);
  }
  return batch;
}

}  // namespace

WindowLoader::WindowLoader(TokenStream tokens, const WindowOptions& o)
    : tokens_(std::move(tokens)), options_(o), prefetch_([this](int64_t index) { return make(index); }, batches_ahead) {
  QD_CHECK(o.batch >= 1 && o.context >= 1, "loader",
           str("expected batch and context of at least 1, got ", o.batch, " and ", o.context));
  QD_CHECK(o.world >= 1 && o.rank >= 0 && o.rank < o.world, "loader", str("expected a rank below ", o.world, ", got ", o.rank));
  QD_CHECK(tokens_.size() > o.context, "loader",
           str("expected a corpus of at least context + 1 = ", o.context + 1, " tokens, got ", tokens_.size()),
           str("use more text", tokens_.size() >= 2 ? str(", or --context ", tokens_.size() - 1, " or less") : ""));
}

std::vector<int32_t> WindowLoader::make(int64_t index) const {
  const int64_t row_length = options_.context + 1, starts = tokens_.size() - options_.context;
  std::vector<int32_t> ids(static_cast<size_t>(options_.batch * row_length));
  for (int64_t r = 0; r < options_.batch; ++r) {
    const int64_t sample = (index * options_.world + options_.rank) * options_.batch + r;
    Random random(options_.seed, first_stream + static_cast<uint64_t>(sample));
    const int64_t start = std::min(static_cast<int64_t>(random.uniform() * static_cast<double>(starts)), starts - 1);
    tokens_.read(start, row_of(ids, r, row_length));
  }
  return ids;
}

// The thread hands over plain ids. Tensors are made here: the memory they use does not depend on how far the thread is ahead.
Batch WindowLoader::next() { return split_rows(prefetch_.next(), options_.batch, options_.context); }

void WindowLoader::save(State& to, const std::string& prefix) const {
  to.put(prefix + "consumed", prefetch_.position());
  to.put(prefix + "tokens", tokens_.size());
}

void WindowLoader::load(const State& from, const std::string& prefix) {
  const int64_t tokens = from.integer(prefix + "tokens"), consumed = from.integer(prefix + "consumed");
  QD_CHECK(tokens == tokens_.size(), "loader",
           str("expected the corpus of the saved run, ", tokens, " tokens, got ", tokens_.size()), "the text has changed since");
  QD_CHECK(consumed >= 0, "loader", str("expected a number of batches, got ", consumed));
  prefetch_.seek(consumed);
}

WindowSequence::WindowSequence(const TokenStream& tokens, int64_t batch, int64_t context)
    : tokens_(tokens), batch_(batch), context_(context), windows_((tokens.size() - 1) / std::max<int64_t>(context, 1)) {
  QD_CHECK(batch >= 1 && context >= 1, "windows", str("expected batch and context of at least 1, got ", batch, " and ", context));
  QD_CHECK(tokens.size() >= 2, "windows", str("expected at least 2 tokens to predict one from the other, got ", tokens.size()),
           "use more text");
}

int64_t WindowSequence::size() const { return (windows_ + batch_ - 1) / batch_ + (targets() % context_ > 0); }

Batch WindowSequence::operator[](int64_t i) const {
  QD_CHECK(i >= 0 && i < size(), "windows", str("expected a batch below ", size(), ", got ", i));
  const int64_t first = i * batch_;
  const bool tail = first >= windows_;
  const int64_t rows = tail ? 1 : std::min(batch_, windows_ - first), length = tail ? targets() % context_ : context_;
  std::vector<int32_t> ids(static_cast<size_t>(rows * (length + 1)));
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t window = tail ? windows_ : first + r;
    tokens_.read(window * context_, row_of(ids, r, length + 1));
  }
  return split_rows(ids, rows, length);
}

}  // namespace qd
