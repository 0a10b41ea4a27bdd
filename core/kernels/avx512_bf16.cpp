// Products in bf16, for the AVX-512 table: the engine once more, with tiles of vdpbf16ps and packers that round.
#if !defined(__AVX512BF16__)
#error "expected the compiler flags of this instruction set"
#endif
#include <cstddef>
#include <cstdint>
#include <new>

#include <immintrin.h>

#include "core/kernels/table.h"
#include "core/parallel.h"

#define QD_KERNEL_NAMESPACE avx512_bf16
#define QD_BF16
namespace qd::avx512_bf16 {
namespace {

#include "core/kernels/vec.inl"
#include "core/kernels/common.inl"
#include "core/kernels/gemm_block.inl"
#include "core/kernels/gemm_pack.inl"
#include "core/kernels/gemm_pack_bf16.inl"
#include "core/kernels/gemm_out.inl"
#include "core/kernels/gemm.inl"

}  // namespace

extern const Products products;
const Products products = {.multiply_adds = multiply_adds, .gemm = gemm};

}  // namespace qd::avx512_bf16
