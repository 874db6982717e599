// cli/limits_avx512.c -- the limits in 512-bit vectors.
#include <immintrin.h>

#include "cli/limits.h"

void limit_read_avx512(const char *data, size_t bytes)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    size_t quarter = bytes / 4;
    for (const char *end = data + quarter; data < end; data += 64) {
        a = _mm512_xor_si512(a, _mm512_load_si512(data));
        b = _mm512_xor_si512(b, _mm512_load_si512(data + quarter));
        c = _mm512_xor_si512(c, _mm512_load_si512(data + 2 * quarter));
        d = _mm512_xor_si512(d, _mm512_load_si512(data + 3 * quarter));
    }
    __asm__ volatile("" ::"v"(a), "v"(b), "v"(c), "v"(d)); // somebody wants the result
}

double limit_fma_avx512(void)
{
    __m512 a[LIMIT_CHAINS], half = _mm512_set1_ps(0.5f);
    LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i++) a[i] = _mm512_setzero_ps();
    for (int k = 0; k < LIMIT_ROUNDS; k++)
        LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS;
                          i++) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(a[i]) : "v"(half));
    return 16 * 2.0 * LIMIT_CHAINS * LIMIT_ROUNDS;
}
