// Memory for tensors: freed blocks are kept by size class and handed out again, because a training step asks for the same sizes every time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qd {

// 64-byte aligned memory of at least `bytes`; thread-safe. When the system has none left the cache is emptied and the request tried again;
// then throws Error. Debug builds fill it with NaN, sanitizer builds cache nothing, so that a stale read is seen.
void* allocate(size_t bytes);
void deallocate(void* memory, size_t bytes) noexcept;   // `bytes` as it was asked for

// The same straight from the system, neither kept nor counted: in huge pages where it is large, null where there is none. free() gives it back.
void* system_memory(size_t bytes);

struct MemoryUse {
  int64_t active;   // bytes handed out now, rounded up to their size classes
  int64_t peak;     // the largest `active` since the start or reset_peak()
  int64_t cached;   // bytes kept for reuse
};
MemoryUse memory_use();
void reset_peak();
void empty_cache();   // gives cached memory back to the system

}  // namespace qd
