// cuda/standard.h -- what kernels and their headers use of C's own headers, for the compiler of cuda/nvrtc.h, which has none: it finds this
// file under all their names.
#ifndef CUDA_STANDARD_H
#define CUDA_STANDARD_H

typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long uint64_t;
typedef unsigned long uintptr_t;
typedef struct opaque_file FILE;

#define INT32_MAX 0x7fffffff
#define INT64_MAX 0x7fffffffffffffffL
#define INFINITY  __int_as_float(0x7f800000)
#ifndef NULL
#define NULL 0
#endif

#endif
