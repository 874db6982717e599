// generate/sample_math.h -- e^x and ln x of basic operations alone, so of the same bits on every machine:
// those of the C library take other paths on processors with fused multiply-add, and differ in the last bit.
#ifndef GENERATE_SAMPLE_MATH_H
#define GENERATE_SAMPLE_MATH_H

#include <math.h>
#include <string.h>

#include "core/error.h"

#define LN2 0x1.62e42fefa39efp-1

// e^x to an ulp or two: x = k ln 2 + r, |r| <= ln 2 / 2, and the Taylor series of e^r to r^13 / 13!, in pairs
// of terms, which do not wait for each other. 0 below the normal numbers.
static inline double sampler_exp(double x)
{
    if (!(x > -708)) return 0;
    TLM_ASSERT(x < 709);
    int64_t k = (int64_t)(x * (1 / LN2) + (x < 0 ? -0.5 : 0.5));
    // ln 2 in two parts, the first with few enough bits that k times it is exact
    double r = x - (double)k * 0x1.62e42feep-1 - (double)k * 0x1.a39ef35793c76p-33;
    double r2 = r * r, r4 = r2 * r2;
    double terms_0 = (1 + r) + (1.0 / 2 + r * (1.0 / 6)) * r2;
    double terms_4 = (1.0 / 24 + r * (1.0 / 120)) + (1.0 / 720 + r * (1.0 / 5040)) * r2;
    double terms_8 = (1.0 / 40320 + r * (1.0 / 362880)) + (1.0 / 3628800 + r * (1.0 / 39916800)) * r2;
    double terms_12 = 1.0 / 479001600 + r * (1.0 / 6227020800);
    uint64_t bits = (uint64_t)(k + 1023) << 52; // 2^k
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return (terms_0 + (terms_4 + (terms_8 + terms_12 * r4) * r4) * r4) * scale;
}

// ln x, x > 0: x = 2^k m with m about 1, and ln m = 2 artanh((m - 1) / (m + 1)).
static inline double sampler_log(double x)
{
    int k;
    double m = frexp(x, &k);
    if (m < 0.70710678118654752) m *= 2, k--;
    double s = (m - 1) / (m + 1), sum = 0;
    for (int i = 23; i > 0; i -= 2) sum = sum * (s * s) + 1.0 / i;
    return k * LN2 + 2 * s * sum;
}

#endif
