// ops/matmul_simd.h -- what the vectors of AVX2 and AVX-512 in the matrix multiplications have in common.
#ifndef OPS_MATMUL_SIMD_H
#define OPS_MATMUL_SIMD_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "ops/ops.h"

// Sanitizers would put a check beside every instruction of the unrolled loops, which takes minutes to
// compile. The tests put inaccessible pages around the buffers instead.
#define UNCHECKED    __attribute__((no_sanitize("address", "undefined")))
#define ALWAYS       UNCHECKED __attribute__((always_inline))
#define PRAGMA(text) _Pragma(#text)
// A loop over vectors, which must be gone before the compiler gives out registers; i = 0, step, 2 step ... <
// n. clang 14 unrolls too late when it gets a count.
#ifdef __clang__
#define EACH(i, n, step) PRAGMA(clang loop unroll(full)) for (int i = 0; i < (n); i += (step))
#else
#define EACH(i, n, step) PRAGMA(GCC unroll 32) for (int i = 0; i < (n); i += (step))
#endif

// A dword of x, at any address: a row of bf16 may begin at an odd element.
typedef float step __attribute__((aligned(1), may_alias));

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
