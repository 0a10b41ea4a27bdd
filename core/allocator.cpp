#include "core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define QD_NO_CACHE true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QD_NO_CACHE true
#endif
#endif
#if !defined(QD_NO_CACHE)
#define QD_NO_CACHE false
#endif

namespace qd {
namespace {

constexpr size_t alignment = 64, huge_page = size_t{2} << 20;

// Size classes: four steps to each power of two, so that at most a fifth of a block is lost. Class c holds (4 + c % 4) * 2^(c / 4 + 4) bytes.
size_t class_of(size_t bytes) {
  const size_t units = (std::max(bytes, alignment) + 15) / 16;                // in steps of 16 bytes, at least 4
  const int shift = std::bit_width(units - 1) - 3;                            // 2^(shift+2) < units <= 2^(shift+3)
  const size_t quarter = shift < 0 ? 0 : (units - 1) >> shift;                // 4 .. 7
  return shift < 0 ? 0 : static_cast<size_t>(shift) * 4 + quarter - 4 + 1;
}
size_t class_bytes(size_t c) { return ((4 + c % 4) << (c / 4)) * 16; }

struct Pool {
  std::mutex mutex;
  std::vector<void*> free[64 * 4];
  MemoryUse use{};

  void clear() {
    for (auto& list : free) {
      for (void* memory : list) std::free(memory);
      list.clear();
    }
    use.cached = 0;
  }
};

// Never destroyed: tensors of static duration may be freed after it would be.
Pool& pool() {
  static Pool& instance = *new Pool;
  return instance;
}

}  // namespace

void* system_memory(size_t bytes) {
  if (bytes < huge_page) return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  void* memory = std::aligned_alloc(huge_page, (bytes + huge_page - 1) / huge_page * huge_page);
  if (memory) madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

void* allocate(size_t bytes) {
  QD_CHECK(bytes < (size_t{1} << 60), "memory", str("expected a size below 2^60 bytes, got ", bytes));
  const size_t c = class_of(bytes), size = QD_NO_CACHE ? std::max(bytes, alignment) : class_bytes(c);
  Pool& p = pool();
  void* memory = nullptr;
  {
    std::lock_guard lock(p.mutex);
    if (auto& list = p.free[c]; !list.empty()) {
      memory = list.back();
      list.pop_back();
      p.use.cached -= static_cast<int64_t>(size);
    } else if (!(memory = system_memory(size))) {
      p.clear();
      memory = system_memory(size);
    }
    if (memory) p.use.peak = std::max(p.use.peak, p.use.active += static_cast<int64_t>(size));
  }
  QD_CHECK(memory, "memory", str("expected ", size >> 20, " MiB more, the system has none; in use: ", memory_use().active >> 20, " MiB"),
           "use a smaller --batch or --context, or --recompute");
#if !defined(NDEBUG)
  std::memset(memory, 0xff, bytes);   // NaN in f32, -1 in i32
#endif
  return memory;
}

void deallocate(void* memory, size_t bytes) noexcept {
  if (!memory) return;
  const size_t c = class_of(bytes), size = QD_NO_CACHE ? std::max(bytes, alignment) : class_bytes(c);
  Pool& p = pool();
  std::lock_guard lock(p.mutex);
  p.use.active -= static_cast<int64_t>(size);
  if (QD_NO_CACHE) {
    std::free(memory);
    return;
  }
  p.use.cached += static_cast<int64_t>(size);
  p.free[c].push_back(memory);   // the list's capacity only grows to the largest number of blocks that were ever free
}

MemoryUse memory_use() {
  std::lock_guard lock(pool().mutex);
  return pool().use;
}

void reset_peak() {
  std::lock_guard lock(pool().mutex);
  pool().use.peak = pool().use.active;
}

void empty_cache() {
  std::lock_guard lock(pool().mutex);
  pool().clear();
}

}  // namespace qd
