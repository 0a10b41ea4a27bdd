// Chooses the kernel table once, from what the processor has or QD_ISA asks for.
#include <atomic>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/kernels/table.h"
#include "core/parallel.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace qd {

namespace baseline { extern const Kernels table; }
#if !defined(QD_BASELINE_ONLY)
namespace avx2 { extern const Kernels table; }
namespace avx512 {
extern const Kernels table;
extern const Products* bf16;   // null until the processor is known to have the instruction
}
namespace avx512_bf16 { extern const Products products; }
#endif

namespace {

std::atomic<const Kernels*> current{nullptr};
std::atomic<Precision> product_precision{Precision::f32};

// AVX512-BF16: leaf 7, sub-leaf 1, bit 5 of EAX (compilers know no name for it before GCC 13).
bool has_instruction_bf16() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
#else
  return false;
#endif
}

const Kernels* choose() {
  flush_denormals();
  const Kernels* supported[4];
  const int count = supported_kernels(supported);
  const char* wanted = std::getenv("QD_ISA");
  if (!wanted || !*wanted) return supported[count - 1];
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (std::string(supported[i]->name) == wanted) return supported[i];
    names += str(i ? ", " : "", supported[i]->name);
  }
  fail("QD_ISA", str("expected one of ", names, ", got ", wanted), "unset QD_ISA to use the best this processor has");
}

}  // namespace

int supported_kernels(const Kernels* out[4]) {
  int count = 0;
  out[count++] = &baseline::table;
#if !defined(QD_BASELINE_ONLY)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out[count++] = &avx2::table;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    out[count++] = &avx512::table;
    if (has_instruction_bf16()) avx512::bf16 = &avx512_bf16::products;
  }
#endif
  return count;
}

const Kernels& kernels() {
  const Kernels* table = current.load(std::memory_order_relaxed);
  if (!table) [[unlikely]] current = table = choose();
  return *table;
}

void use_kernels(const Kernels& table) { current = &table; }

Precision precision() { return product_precision.load(std::memory_order_relaxed); }
void set_precision(Precision p) { product_precision = p; }

const Products* bf16_products() {
#if !defined(QD_BASELINE_ONLY)
  if (kernels().multiply_adds == avx512::table.multiply_adds) return avx512::bf16;   // a table that is profiled is a copy
#endif
  return nullptr;
}

bool multiplies_bf16() { return precision() == Precision::bf16 && bf16_products(); }

}  // namespace qd
