#include "nn/positions.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace qd {
namespace {

constexpr int64_t t5_buckets = 32;
constexpr double deviation = 0.02;   // of embeddings at the start: a fixed table is given the same size, or it would drown them

// Row t: sin(t f_0), cos(t f_0), sin(t f_1), ...,  f_i = 10000^(-2i/C)
Tensor sinusoidal_table(int64_t rows, int64_t width) {
  Tensor out = empty({rows, width});
  float* x = out.mutable_data();
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t i = 0; i < width; ++i) {
      const double angle = static_cast<double>(t) * std::pow(10000.0, -static_cast<double>(i / 2 * 2) / static_cast<double>(width));
      *x++ = static_cast<float>(std::sqrt(2.0) * deviation * (i % 2 ? std::cos(angle) : std::sin(angle)));
    }
  return out;
}

}  // namespace

Positions::Positions(Module& up, std::string name, const Options& options) : Module(up, std::move(name)), o(options) {
  if (o.kind == PositionKind::learned) weight.emplace(*this, "weight", Shape{o.context, o.width}, normal(deviation));
  if (o.kind == PositionKind::grid) {
    QD_CHECK(o.columns > 0 && o.context % o.columns == 0, "positions", str("expected a grid of whole rows, got ", o.context, " cells in ", o.columns, " columns"));
    row.emplace(*this, "row", Shape{o.context / o.columns, o.width}, normal(deviation));
    column.emplace(*this, "column", Shape{o.columns, o.width}, normal(deviation));
  }
  if (o.kind == PositionKind::t5) relative_bias.emplace(*this, "relative_bias", Shape{t5_buckets, o.heads}, normal(deviation));
}

const Tensor& Positions::table(int64_t rows) const {
  if (!table_.defined() || table_.dim(0) < rows) {
    rows = std::max(rows, o.context);
    table_ = o.kind == PositionKind::rotary ? rotary_table(rows, o.rotary_dims) : sinusoidal_table(rows, o.width);
  }
  return table_;
}

Tensor Positions::add(const Tensor& x, int64_t first) const {
  const int64_t length = first + x.dim(1);
  if (o.kind == PositionKind::sinusoidal) return x + table(length).row_range(first, length);
  if (o.kind != PositionKind::learned && o.kind != PositionKind::grid) return x;
  QD_CHECK(length <= o.context, "positions", str("expected at most ", o.context, " tokens, as many as positions were learned, got ", length),
           "use a smaller --context, or train with --positions rope, alibi, t5 or none");
  if (o.kind == PositionKind::learned) return x + weight->value.row_range(first, length);
  std::vector<int32_t> rows, columns;
  for (int64_t t = first; t < length; ++t) rows.push_back(static_cast<int32_t>(t / o.columns)), columns.push_back(static_cast<int32_t>(t % o.columns));
  const Shape shape{x.dim(1)};
  return x + (embedding(*row, tensor(rows, shape)) + embedding(*column, tensor(columns, shape)));
}

void Positions::describe(AttentionOptions& attention, int64_t keys) const {
  if (o.kind == PositionKind::rotary) attention.rotary = table(keys);
  if (o.kind == PositionKind::alibi) attention.slopes = alibi_slopes(o.heads);
  if (o.kind == PositionKind::t5) attention.table = relative_bias->value;
}

}  // namespace qd
