// cli/limits_avx512_vnni.c -- the peak of int8 dot products: four products and four additions a lane of 32 bits.
#include <immintrin.h>

#include "cli/limits.h"

double limit_int8_avx512_vnni(void)
{
    __m512i a[LIMIT_CHAINS], one = _mm512_set1_epi8(1);
    LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i++) a[i] = _mm512_setzero_si512();
    for (int k = 0; k < LIMIT_ROUNDS; k++)
        LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS;
                          i++) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(a[i]) : "v"(one));
    return 16 * 8.0 * LIMIT_CHAINS * LIMIT_ROUNDS;
}
