// ops/dropout.c -- dropout by a counter, the reference: Srivastava et al., JMLR 15 (2014). The draws are core/rng.h's, so what is computed again
// on the way back sees the same ones.
#include "core/rng.h"
#include "ops/ops.h"

void REF(dropout_fwd)(real *y, const real *x, int64_t count, uint64_t seed, uint64_t stream, uint64_t first,
                      uint32_t limit, double factor)
{
    for (int64_t i = 0; i < count; i += 4) {
        uint32_t draw[4];
        rng_philox(seed, stream, first + (uint64_t)i / 4, draw);
        for (int64_t j = i; j < count && j < i + 4; j++) y[j] = draw[j - i] < limit ? 0 : x[j] * (real)factor;
    }
}
