// The kernel table for avx512; the compiler flags for it are in the Makefile.
#if !defined(__AVX512F__)
#error "expected the compiler flags of this instruction set"
#endif
#define QD_KERNEL_NAMESPACE avx512
#define QD_KERNEL_NAME "avx512"
#include "core/kernels/all.inl"
