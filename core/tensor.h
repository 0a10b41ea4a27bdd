// Tensor: a shared handle to dense, row-major, contiguous numbers. Copying shares; reshape and row ranges share storage.
// There are no strides: transposes and head splits happen inside the op that needs them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/counted.h"
#include "core/shape.h"

namespace qd {

struct Node;                     // the graph: autograd.h
void retain(Node* node);
void release(Node* node) noexcept;

enum class DType : uint8_t { f32, i32, u8 };   // f32 for everything differentiable, i32 for ids, u8 for pictures and masks
int64_t bytes_of(DType dtype);
const char* name_of(DType dtype);              // "F32", "I32", "U8": the names of safetensors
template <class T> constexpr DType dtype_of = DType::f32;
template <> inline constexpr DType dtype_of<int32_t> = DType::i32;
template <> inline constexpr DType dtype_of<uint8_t> = DType::u8;

// Memory, who owns it, and how often it was written: backward compares the count with the one it saw when the tensor was saved.
struct Storage : Counted {
  void* data;
  int64_t bytes;
  uint32_t writes = 0;
  Ref<Storage> arena;   // set when this is a window on another storage's memory
  static Ref<Storage> allocate(int64_t bytes);
  static Ref<Storage> window(const Ref<Storage>& arena, int64_t offset, int64_t bytes);
};
inline void retain(Storage* storage) { storage->add_owner(); }
void free_storage(Storage* storage) noexcept;
inline void release(Storage* storage) noexcept {
  if (storage->drop_owner()) free_storage(storage);
}
int64_t live_storages();   // for leak tests

class Tensor {
 public:
  Tensor() = default;                                                    // undefined
  Tensor(Ref<Storage> storage, Shape shape, DType dtype, int64_t offset = 0);   // offset in elements

  bool defined() const { return static_cast<bool>(storage_); }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  int rank() const { return shape_.rank(); }
  int64_t size() const { return shape_.size(); }
  int64_t dim(int i) const { return shape_[i]; }                         // negative i counts from the end
  int64_t rows() const { return shape_.rows(); }                         // all dimensions but the last
  int64_t cols() const { return shape_.cols(); }                         // the last dimension

  template <class T = float> const T* data() const {
    expect(dtype_of<T>);
    return static_cast<const T*>(storage_->data) + offset_;
  }
  template <class T = float> T* mutable_data() {                         // counts as a write
    expect(dtype_of<T>);
    ++storage_->writes;
    return static_cast<T*>(storage_->data) + offset_;
  }
  template <class T = float> std::span<const T> values() const { return {data<T>(), static_cast<size_t>(size())}; }
  float item() const;                                                    // the value of a tensor of one element; throws otherwise

  Tensor reshape(const Shape& shape) const;                              // same size, shared storage, differentiable
  Tensor row_range(int64_t begin, int64_t end) const;                    // along the first dimension, shared storage, differentiable
  Tensor detach() const;                                                 // the same numbers, outside the graph
  Tensor clone() const;                                                  // a detached copy
  void copy_from(const Tensor& other);                                   // overwrites the numbers; same shape and dtype

  // Gradients (autograd.h has the machinery)
  Tensor& require_gradient();                                            // makes this a leaf whose gradient is kept
  bool needs_gradient() const { return static_cast<bool>(node_); }
  Tensor gradient() const;                                               // of a leaf; zeros where nothing has arrived yet
  void clear_gradient();
  void backward() const;                                                 // of a scalar; throws when no gradient leads anywhere

  const Ref<Node>& node() const { return node_; }
  void set_node(Ref<Node> node) { node_ = std::move(node); }
  const Ref<Storage>& storage() const { return storage_; }
  int64_t offset() const { return offset_; }                             // in elements

 private:
  void expect(DType dtype) const {
    if (dtype != dtype_ || !storage_) [[unlikely]] wrong_type(dtype);
  }
  [[noreturn]] void wrong_type(DType expected) const;

  Ref<Storage> storage_;
  Ref<Node> node_;
  int64_t offset_ = 0;
  Shape shape_;
  DType dtype_ = DType::f32;
};

Tensor empty(const Shape& shape, DType dtype = DType::f32);              // not initialised
Tensor full(const Shape& shape, float value);
Tensor zeros(const Shape& shape, DType dtype = DType::f32);
Tensor tensor(std::span<const float> values, const Shape& shape);        // copies; the number of values must fit
Tensor tensor(std::span<const int32_t> values, const Shape& shape);
inline Tensor tensor(const std::vector<float>& values) { return tensor(values, {static_cast<int64_t>(values.size())}); }
inline Tensor empty_like(const Tensor& x) { return empty(x.shape(), x.dtype()); }

}  // namespace qd
