// cli/limits_avx_vnni.c -- the peak of int8 dot products in 256-bit vectors.
#include <immintrin.h>

#include "cli/limits.h"

double limit_int8_avx_vnni(void)
{
    __m256i a[LIMIT_CHAINS], one = _mm256_set1_epi8(1);
    LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i++) a[i] = _mm256_setzero_si256();
    for (int k = 0; k < LIMIT_ROUNDS; k++)
        LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS;
                          i++) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(a[i]) : "x"(one));
    return 8 * 8.0 * LIMIT_CHAINS * LIMIT_ROUNDS;
}
