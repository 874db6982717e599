// cli/limits_avx512_bf16.c -- the peak of bf16 dot products: two products and two additions a lane of 32
// bits.
#include <immintrin.h>

#include "cli/limits.h"

double limit_bf16_avx512_bf16(void)
{
    __m512 a[LIMIT_CHAINS];
    __m512i half = _mm512_set1_epi16(0x3f00); // 0.5 in bf16
    LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i++) a[i] = _mm512_setzero_ps();
    for (int k = 0; k < LIMIT_ROUNDS; k++)
        LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS;
                          i++) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(a[i]) : "v"(half));
    return 16 * 4.0 * LIMIT_CHAINS * LIMIT_ROUNDS;
}
