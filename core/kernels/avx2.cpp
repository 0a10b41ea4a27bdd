// The kernel table for avx2; the compiler flags for it are in the Makefile.
#if !defined(__AVX2__)
#error "expected the compiler flags of this instruction set"
#endif
#define QD_KERNEL_NAMESPACE avx2
#define QD_KERNEL_NAME "avx2"
#include "core/kernels/all.inl"
