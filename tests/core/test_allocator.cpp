#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/allocator.h"
#include "core/error.h"
#include "core/tensor.h"

using namespace qd;

namespace {

// The sanitizers see every block by itself, and end the program where the system has no memory.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool cached = false;
#elif defined(__has_feature)
constexpr bool cached = !__has_feature(address_sanitizer);
#else
constexpr bool cached = true;
#endif

}  // namespace

TEST_CASE("allocator: aligned, large enough, counted") {
  const MemoryUse before = memory_use();
  std::vector<std::pair<void*, size_t>> blocks;
  size_t asked = 0;
  for (size_t bytes = 0; bytes < 5'000'000; bytes = bytes * 5 / 4 + 1) {
    void* memory = allocate(bytes);
    CHECK(reinterpret_cast<uintptr_t>(memory) % 64 == 0);
    std::memset(memory, static_cast<int>(blocks.size()), bytes);   // under the sanitizer: all of it is ours
    blocks.emplace_back(memory, bytes);
    asked += std::max<size_t>(bytes, 64);
    const auto active = static_cast<size_t>(memory_use().active - before.active);
    CHECK(active >= asked);
    CHECK(active <= asked + asked / 4 + 64 * blocks.size());   // a fifth of a block is lost at most
  }
  bool apart = true;
  for (size_t i = 0; i < blocks.size(); ++i)
    for (size_t j = 0; j < blocks[i].second; ++j) apart = apart && static_cast<unsigned char*>(blocks[i].first)[j] == i;
  CHECK(apart);
  for (const auto& [memory, bytes] : blocks) deallocate(memory, bytes);
  CHECK(memory_use().active == before.active);
  CHECK(memory_use().peak >= before.active + static_cast<int64_t>(asked));
  reset_peak();
  CHECK(memory_use().peak == memory_use().active);
  empty_cache();
  CHECK(memory_use().cached == 0);
  deallocate(nullptr, 10);   // nothing
}

TEST_CASE("allocator: a freed block is handed out again to whom it fits") {
  if (!cached) return;
  empty_cache();
  void* first = allocate(10'000);
  deallocate(first, 10'000);
  CHECK(memory_use().cached >= 10'000);
  void* second = allocate(9'999);   // of the same size class
  CHECK(second == first);
  CHECK(memory_use().cached == 0);
  deallocate(second, 9'999);
}

TEST_CASE("allocator: what cannot be had is an error with a hint, and the cache is given back first") {
  CHECK_THROWS_WITH_AS(allocate(size_t{1} << 61), doctest::Contains("[memory] expected a size below"), Error);
  CHECK_THROWS_AS(empty({int64_t{1} << 40, int64_t{1} << 40}), Error);   // the product overflows
  if (!cached) return;
  deallocate(allocate(1 << 20), 1 << 20);
  CHECK(memory_use().cached > 0);
  std::string message, hint;
  try {
    allocate(size_t{1} << 55);
  } catch (const Error& error) {
    message = error.what(), hint = error.hint();
  }
  CHECK(message.find("[memory] expected") != std::string::npos);
  CHECK(hint.find("--batch") != std::string::npos);
  CHECK(memory_use().cached == 0);
  const int64_t tensors = live_storages();
  CHECK_THROWS_AS(empty({int64_t{1} << 50}), Error);
  CHECK(live_storages() == tensors);
}

TEST_CASE("allocator: many threads") {
  const int64_t before = memory_use().active;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> team;
  for (int t = 0; t < 4; ++t)
    team.emplace_back([t, &wrong] {
      for (int i = 0; i < 2000; ++i) {
        const size_t bytes = static_cast<size_t>(64 + (i * 37 + t * 11) % 5000);
        auto* memory = static_cast<unsigned char*>(allocate(bytes));
        std::memset(memory, t, bytes);
        for (size_t at = 0; at < bytes; ++at) wrong += memory[at] != t;
        deallocate(memory, bytes);
      }
    });
  for (std::thread& thread : team) thread.join();
  CHECK(wrong == 0);
  CHECK(memory_use().active == before);
}

#if !defined(NDEBUG)
TEST_CASE("allocator: debug builds fill fresh memory with NaN") {
  auto* data = static_cast<float*>(allocate(400));
  for (int i = 0; i < 100; ++i) CHECK(std::isnan(data[i]));
  deallocate(data, 400);
}
#endif
