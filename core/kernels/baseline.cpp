// The kernel table for baseline; the compiler flags for it are in the Makefile.
#define QD_KERNEL_NAMESPACE baseline
#define QD_KERNEL_NAME "baseline"
#include "core/kernels/all.inl"
