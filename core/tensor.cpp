#include "core/tensor.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/allocator.h"
#include "core/autograd.h"
#include "core/error.h"

namespace qd {
namespace {

std::atomic<int64_t> storages{0};

}  // namespace

int64_t bytes_of(DType dtype) { return dtype == DType::u8 ? 1 : 4; }
const char* name_of(DType dtype) { return dtype == DType::f32 ? "F32" : dtype == DType::i32 ? "I32" : "U8"; }
int64_t live_storages() { return storages; }

Ref<Storage> Storage::allocate(int64_t bytes) {
  auto* storage = new Storage;
  ++storages;
  storage->bytes = bytes;
  storage->data = nullptr;
  Ref<Storage> out(storage);
  storage->data = qd::allocate(static_cast<size_t>(bytes));
  return out;
}

Ref<Storage> Storage::window(const Ref<Storage>& arena, int64_t offset, int64_t bytes) {
  QD_CHECK(offset >= 0 && bytes >= 0 && offset + bytes <= arena->bytes, "storage", "expected a window inside the arena");
  auto* storage = new Storage;
  ++storages;
  storage->bytes = bytes;
  storage->data = static_cast<char*>(arena->data) + offset;
  storage->arena = arena;
  return Ref<Storage>(storage);
}

void free_storage(Storage* storage) noexcept {
  if (!storage->arena) deallocate(storage->data, static_cast<size_t>(storage->bytes));
  delete storage;
  --storages;
}

Tensor::Tensor(Ref<Storage> storage, Shape shape, DType dtype, int64_t offset)
    : storage_(std::move(storage)), offset_(offset), shape_(shape), dtype_(dtype) {
  QD_CHECK(offset >= 0 && offset <= storage_->bytes / bytes_of(dtype) - shape.size(), "tensor",
           str("expected storage for ", shape.str(), " at offset ", offset, ", got ", storage_->bytes, " bytes"));
}

void Tensor::wrong_type(DType expected) const {
  QD_CHECK(defined(), "tensor", str("expected a tensor of type ", name_of(expected), ", got an undefined one"));
  fail("tensor", str("expected type ", name_of(expected), ", got ", name_of(dtype_), " ", shape_.str()));
}

float Tensor::item() const {
  QD_CHECK(defined() && size() == 1, "item", str("expected a tensor of one element, got ", shape_.str()));
  return *data();
}

Tensor Tensor::reshape(const Shape& shape) const {
  QD_CHECK(shape.size() == size(), "reshape", str("expected ", size(), " elements as in ", shape_.str(), ", got ", shape.str()));
  Tensor y = detach();
  y.shape_ = shape;
  if (dtype_ != DType::f32) return y;
  return record("reshape", y, {*this}, [before = shape_](const Tensor& dy, Sink& to) {
    if (to.wants(0)) to.give(0, dy.reshape(before));
  });
}

Tensor Tensor::row_range(int64_t begin, int64_t end) const {
  QD_CHECK(rank() > 0 && begin >= 0 && begin <= end && end <= dim(0), "row_range",
           str("expected 0 <= begin <= end <= ", rank() ? dim(0) : 0, ", got ", begin, " and ", end));
  std::vector<int64_t> dims(shape_.begin(), shape_.end());
  const int64_t row = dim(0) ? size() / dim(0) : 0;
  dims[0] = end - begin;
  Tensor y(storage_, Shape(dims), dtype_, offset_ + begin * row);
  if (dtype_ != DType::f32) return y;
  return record("row_range", y, {*this}, [begin, end, row, total = size()](const Tensor& dy, Sink& to) {
    if (!to.wants(0)) return;
    auto [dx, add] = to.into(0);
    if (!add) std::memset(dx, 0, static_cast<size_t>(total) * sizeof(float));
    const float* from = dy.data();
    for (int64_t i = begin * row; i < end * row; ++i) dx[i] += *from++;
  });
}

Tensor Tensor::detach() const {
  Tensor out;
  out.storage_ = storage_;
  out.offset_ = offset_;
  out.shape_ = shape_;
  out.dtype_ = dtype_;
  return out;
}

Tensor Tensor::clone() const {
  Tensor out = empty(shape_, dtype_);
  out.copy_from(*this);
  return out;
}

void Tensor::copy_from(const Tensor& other) {
  QD_CHECK(defined() && other.defined() && other.shape_ == shape_ && other.dtype_ == dtype_, "copy_from",
           str("expected ", name_of(dtype_), " ", shape_.str(), ", got ", name_of(other.dtype_), " ", other.shape_.str()));
  QD_CHECK(!node_ || node_->leaf, "copy_from", "expected a parameter or a tensor outside of the graph: its gradient would belong to other numbers",
           "detach() it");
  const auto bytes = bytes_of(dtype_);
  ++storage_->writes;
  std::memmove(static_cast<char*>(storage_->data) + offset_ * bytes, static_cast<const char*>(other.storage_->data) + other.offset_ * bytes,
               static_cast<size_t>(size() * bytes));
}

Tensor empty(const Shape& shape, DType dtype) { return Tensor(Storage::allocate(shape.size() * bytes_of(dtype)), shape, dtype); }

Tensor zeros(const Shape& shape, DType dtype) {
  Tensor out = empty(shape, dtype);
  std::memset(out.storage()->data, 0, static_cast<size_t>(shape.size() * bytes_of(dtype)));
  return out;
}

Tensor full(const Shape& shape, float value) {
  Tensor out = empty(shape);
  std::fill_n(out.mutable_data(), out.size(), value);
  return out;
}

namespace {

template <class T>
Tensor copy_of(std::span<const T> values, const Shape& shape) {
  QD_CHECK(static_cast<int64_t>(values.size()) == shape.size(), "tensor",
           str("expected ", shape.size(), " values for ", shape.str(), ", got ", values.size()));
  Tensor out = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), out.mutable_data<T>());
  return out;
}

}  // namespace

Tensor tensor(std::span<const float> values, const Shape& shape) { return copy_of(values, shape); }
Tensor tensor(std::span<const int32_t> values, const Shape& shape) { return copy_of(values, shape); }

}  // namespace qd
