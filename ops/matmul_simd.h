// ops/matmul_simd.h -- what the vectors of AVX2 and AVX-512 in the matrix multiplications have in common.
#ifndef OPS_MATMUL_SIMD_H
#define OPS_MATMUL_SIMD_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "ops/ops.h"

#define ALWAYS       __attribute__((always_inline))
#define PRAGMA(text) _Pragma(#text)
// Loops over vectors must be gone before the compiler gives out registers; clang 14 unrolls too late when it
// gets a count.
#ifdef __clang__
#define UNROLL(n) PRAGMA(clang loop unroll(full))
#else
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif

// How weights become steps of k.
enum weights {
    WEIGHTS_F32,   // as they are
    WEIGHTS_F16,   // converted to f32
    WEIGHTS_BF16,  // converted to f32
    WEIGHTS_PAIRS, // bf16, two at a time, for the dot instruction
};

// The same pointer, of which gcc knows nothing more, so that it does not keep sums of strides on the stack.
static inline ALWAYS const char *opaque(const char *p)
{
    __asm__("" : "+r"(p));
    return p;
}

#endif
