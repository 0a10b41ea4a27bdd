// The kernel table for avx2; the compiler flags for it are in the Makefile.
#define QD_KERNEL_NAMESPACE avx2
#define QD_KERNEL_NAME "avx2"
#include "core/kernels/all.inl"
