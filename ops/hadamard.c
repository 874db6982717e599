// ops/hadamard.c -- blocks of numbers times a Hadamard matrix, reference.
//
// Quantized types lose most where one number of a block is much larger than the others. An orthogonal rotation spreads such a number over
// all of them, and q.k stays what it was when both sides are rotated (Ashkboos et al., "QuaRot", arXiv 2404.00456).
#include <math.h>
#include <string.h>

#include "ops/ops.h"

void REF(hadamard_fwd)(real *y, const real *x, int64_t count, int64_t block)
{
    const real scale = (real)(1 / sqrt((double)block));
    for (int64_t at = 0; at < count; at += block) {
        real *b = y + at;
        memmove(b, x + at, (size_t)block * sizeof *b);
        for (int64_t half = 1; half < block; half *= 2)
            for (int64_t i = 0; i < block; i += 2 * half)
                for (int64_t j = i; j < i + half; j++) {
                    real low = b[j], high = b[j + half];
                    b[j] = low + high;
                    b[j + half] = low - high;
                }
        for (int64_t i = 0; i < block; i++) b[i] *= scale;
    }
}
