// cuda/kernel_source.h -- the sources of the kernels that are compiled while the program runs: the very files that nvcc compiles, in the
// program itself.
#ifndef CUDA_KERNEL_SOURCE_H
#define CUDA_KERNEL_SOURCE_H

// What #include lines name, and the texts behind them. C's headers are all of cuda/standard.h.
extern const char *const kernel_source_names[];
extern const char *const kernel_source_texts[];
extern const int kernel_source_count;

#endif
