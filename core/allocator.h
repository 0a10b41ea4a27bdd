// Memory for tensors: freed blocks are kept by size class and handed out again, because a training step asks for the same sizes every time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

namespace qd {

// 64-byte aligned memory of at least `bytes`; thread-safe. When the system has none left the cache is emptied and the request tried again;
// then throws Error. Debug builds fill it with NaN, sanitizer builds cache nothing, so that a stale read is seen.
void* allocate(size_t bytes);
void deallocate(void* memory, size_t bytes) noexcept;   // `bytes` as it was asked for

// The same straight from the system, neither kept nor counted: in huge pages where it is large, null where there is none. free() gives it back.
void* system_memory(size_t bytes);

// A vector in such memory. Elements that are made without a value stay as the memory was.
template <class T>
struct SystemAllocator {
  using value_type = T;
  SystemAllocator() = default;
  template <class U>
  SystemAllocator(const SystemAllocator<U>&) {}
  T* allocate(size_t count) {
    void* memory = system_memory(count * sizeof(T));
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t) { std::free(memory); }
  template <class U>
  void construct(U* place) {
    ::new (static_cast<void*>(place)) U;
  }
  template <class U, class... Arguments>
  void construct(U* place, Arguments&&... arguments) {
    ::new (static_cast<void*>(place)) U(std::forward<Arguments>(arguments)...);
  }
  friend bool operator==(const SystemAllocator&, const SystemAllocator&) { return true; }
};
template <class T>
using LargeVector = std::vector<T, SystemAllocator<T>>;

struct MemoryUse {
  int64_t active;   // bytes handed out now, rounded up to their size classes
  int64_t peak;     // the largest `active` since the start or reset_peak()
  int64_t cached;   // bytes kept for reuse
};
MemoryUse memory_use();
void reset_peak();
void empty_cache();   // gives cached memory back to the system

}  // namespace qd
