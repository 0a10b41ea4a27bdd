// Objects that count their owners, and the handle that does the counting.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace qd {

struct Counted {
  std::atomic<int32_t> owners{0};
  void add_owner() { owners.fetch_add(1, std::memory_order_relaxed); }
  bool drop_owner() { return owners.fetch_sub(1, std::memory_order_acq_rel) == 1; }   // true for the last one
};

// Ref<T> shares a T through two functions beside T, so that T may be incomplete here:
// retain(T*) adds an owner, release(T*) drops one and frees the object with the last.
template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* p) : p_(p) {
    if (p_) retain(p_);
  }
  Ref(const Ref& other) : Ref(other.p_) {}
  Ref(Ref&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~Ref() {
    if (p_) release(p_);
  }
  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }

 private:
  T* p_ = nullptr;
};

}  // namespace qd
