// cuda/e4m3.h -- numbers of E4M3, which caches may hold (core/dtype.h has the format).
//
// Compute capability 8.9 has instructions for them. Before it a code that is shifted into place is a number of f16, only 2^8 too small.
#ifndef CUDA_E4M3_H
#define CUDA_E4M3_H

#include "cuda/device.h"

struct e4m3 {
    uint8_t bits;
};

// Two codes, the first in the low byte, as two numbers of f16, exactly.
__device__ inline uint32_t e4m3_halves(uint16_t codes)
{
#if CUDA_E4M3
    return e4m3x2_to_f16x2(codes);
#else
    const uint32_t apart = (codes & 0xffu) << 8 | (codes & 0xff00u) << 16, x = apart >> 1 & 0x3f803f80;
    // 0x7f, NaN, is 1.875 here and 480 then; what it alone carries over makes the exponent's bits whole
    return mul_f16x2(x, 0x5c005c00) | (apart & 0x80008000) | ((x + 0x00800080) >> 1 & 0x20002000);
#endif
}

__device__ inline float to_f32(e4m3 x)
{
    return to_f32(f16{(uint16_t)e4m3_halves(x.bits)});
}

// As f8_e4m3_from_f32() in core/dtype.h
__device__ inline void from_f32(e4m3 *y, float x)
{
#if CUDA_E4M3
    y->bits = (uint8_t)f32x2_to_e4m3x2(x, x);
#else
    const unsigned u = f32_to_bits(x), sign = u >> 24 & 0x80;
    unsigned a = u & 0x7fffffff;
    if (a > 0x7f800000)
        a = 0x7f;
    else if (a < 0x3c800000)
        a = f32_to_bits(bits_to_f32(a) + 16384.0f) - 0x46800000;
    else
        a = ((a < 0x43e00000 ? a : 0x43e00000) + 0xc407ffff + (a >> 20 & 1)) >> 20;
    y->bits = (uint8_t)(sign | a);
#endif
}

#endif
