// The whole kernel table, compiled once per instruction set by baseline.cpp, avx2.cpp and avx512.cpp, each inside a namespace of its own.
// Everything below is in an anonymous namespace and uses no template of the standard library, so that no code for a newer
// processor can be merged by the linker into what older ones run.
#include <cstddef>
#include <cstdint>
#include <new>

#include "core/allocator.h"
#include "core/kernels/table.h"
#include "core/parallel.h"
#include "core/philox.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qd::QD_KERNEL_NAMESPACE {
using namespace kernel;

#if defined(__AVX512F__)
extern const Products* bf16;   // the products of avx512_bf16.cpp, set where the processor has the instruction
const Products* bf16 = nullptr;
#endif

namespace {

#include "core/kernels/vec.inl"           // the vector type: load, store, tail, fma, exp, log, tanh, erf
#include "core/kernels/common.inl"        // loops over vectors, scratch memory
#include "core/kernels/elementwise.inl"   // unary, binary, combine, fill, dropout
#include "core/kernels/reduce.inl"        // sums, softmax, cross-entropy, gather, scatter
#include "core/kernels/norm.inl"          // layer, RMS, batch and group norm
#include "core/kernels/gemm_block.inl"    // register tiles and the serial product of small blocks
#include "core/kernels/gemm_pack.inl"     // packers: how operands reach the tiles
#include "core/kernels/gemm_out.inl"      // how results leave: bias, activation, residual
#include "core/kernels/gemm_skinny.inl"   // products with a few rows or columns
#include "core/kernels/gemm.inl"          // the product engine
#include "core/kernels/attention.inl"     // attention: blocks of keys, online softmax
#include "core/kernels/attention_few.inl"        // the same for a few queries, as in generation
#include "core/kernels/attention_backward.inl"   // its gradient
#include "core/kernels/conv_pack.inl"     // convolution: image patches as operands
#include "core/kernels/conv.inl"          // convolution and the gradient of its input, which is the transposed convolution
#include "core/kernels/conv_gradient.inl" // the gradient of its weight
#include "core/kernels/fft.inl"           // Fourier transforms along time, channels as lanes
#include "core/kernels/long_convolution.inl"     // kernels as long as the signal, and their gradients
#include "core/kernels/rational.inl"      // real transforms, kernels of rational transfer functions
#include "core/kernels/optimiser.inl"     // AdamW, LAMB's direction, momentum

}  // namespace

extern const Kernels table;
const Kernels table = {
    .name = QD_KERNEL_NAME,
    .lanes = W,
    .multiply_adds = multiply_adds,
    .unary = unary,
    .unary_gradient = unary_gradient,
    .binary = binary,
    .combine = combine,
    .scale_add = scale_add,
    .fill = fill,
    .dropout = dropout,
    .all_finite = all_finite,
    .sum = sum,
    .sum_squares = sum_squares,
    .sum_rows = sum_rows,
    .sum_cols = sum_cols,
    .max_cols = max_cols,
    .softmax = softmax,
    .softmax_gradient = softmax_gradient,
    .norm = norm,
    .norm_gradient = norm_gradient,
    .channel_sums = channel_sums,
    .channel_affine = channel_affine,
    .gather = gather,
    .scatter_add = scatter_add,
    .cross_entropy = cross_entropy,
    .gemm = gemm,
    .attention = attention,
    .attention_gradient = attention_gradient,
    .attention_probabilities = attention_probabilities,
    .convolution = convolution,
    .convolution_input_gradient = convolution_input_gradient,
    .convolution_weight_gradient = convolution_weight_gradient,
    .spectral = spectral_kernels<float>,
    .spectral_f64 = spectral_kernels<double>,
    .adamw = adamw,
    .adam_direction = adam_direction,
    .momentum = momentum,
};

}  // namespace qd::QD_KERNEL_NAMESPACE
