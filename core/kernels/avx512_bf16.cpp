// Products in bf16, for the AVX-512 table: the engine once more, with tiles of vdpbf16ps and packers that round.
#if !defined(__AVX512BF16__)
#error "expected the compiler flags of this instruction set"
#endif
#include <cstddef>
#include <cstdint>
#include <new>

#include <immintrin.h>

#include "core/allocator.h"
#include "core/kernels/table.h"
#include "core/parallel.h"

#define QD_KERNEL_NAMESPACE avx512_bf16
#define QD_BF16
namespace qd::avx512_bf16 {
using namespace kernel;
namespace {

#include "core/kernels/vec.inl"
#include "core/kernels/common.inl"
#include "core/kernels/gemm_block.inl"
#include "core/kernels/gemm_pack.inl"
#include "core/kernels/gemm_pack_bf16.inl"
#include "core/kernels/gemm_out.inl"
#include "core/kernels/gemm.inl"
#include "core/kernels/conv_pack.inl"
#include "core/kernels/conv.inl"
#include "core/kernels/conv_gradient.inl"

}  // namespace

extern const Products products;
const Products products = {.multiply_adds = multiply_adds, .gemm = gemm, .convolution = convolution,
                           .convolution_input_gradient = convolution_input_gradient,
                           .convolution_weight_gradient = convolution_weight_gradient};

}  // namespace qd::avx512_bf16
