// ops/draw_math.h -- what drawing a token computes with: the same bits on every machine and device.
//
// e^x and ln x are made of basic operations alone: those of the C library take other paths on processors with fused multiply-add, and
// differ in the last bit. Sums of weights are sums of integers, so that their order does not matter.
#ifndef OPS_DRAW_MATH_H
#define OPS_DRAW_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/host_device.h"

#define LN2 0x1.62e42fefa39efp-1

// e^x to an ulp or two: x = k ln 2 + r, |r| <= ln 2 / 2, and the Taylor series of e^r to r^13 / 13!, in pairs
// of terms, which do not wait for each other. 0 below the normal numbers, infinite above them.
HOST_DEVICE static inline double draw_exp(double x)
{
    if (!(x > -708)) return 0;
    if (!(x < 709)) return INFINITY;
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
HOST_DEVICE static inline double draw_log(double x)
{
    int k;
    double m = frexp(x, &k);
    if (m < 0.70710678118654752) m *= 2, k--;
    double s = (m - 1) / (m + 1), sum = 0;
    for (int i = 23; i > 0; i -= 2) sum = sum * (s * s) + 1.0 / i;
    return k * LN2 + 2 * s * sum;
}

// Weights from 0 to 1 as integers: what 1 becomes, a power of two, so that `vocab` of them fit into 62 bits.
HOST_DEVICE static inline double draw_unit(int64_t vocab)
{
    double unit = 0x1p62;
    for (int64_t n = 1; n < vocab; n *= 2) unit /= 2;
    return unit;
}

HOST_DEVICE static inline uint64_t draw_weight(double weight, double unit)
{
    return (uint64_t)(int64_t)(weight * unit + 0.5);
}

#endif
