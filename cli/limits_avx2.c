// cli/limits_avx2.c -- the limits in 256-bit vectors.
#include <immintrin.h>

#include "cli/limits.h"

static __m256i load(const char *data)
{
    return _mm256_load_si256((const __m256i *)data);
}

void limit_read_avx2(const char *data, size_t bytes)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    size_t quarter = bytes / 4;
    for (const char *end = data + quarter; data < end; data += 32) {
        a = _mm256_xor_si256(a, load(data));
        b = _mm256_xor_si256(b, load(data + quarter));
        c = _mm256_xor_si256(c, load(data + 2 * quarter));
        d = _mm256_xor_si256(d, load(data + 3 * quarter));
    }
    __asm__ volatile("" ::"x"(a), "x"(b), "x"(c), "x"(d)); // somebody wants the result
}

double limit_fma_avx2(void)
{
    __m256 a[LIMIT_CHAINS], half = _mm256_set1_ps(0.5f);
    LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i++) a[i] = _mm256_setzero_ps();
    for (int k = 0; k < LIMIT_ROUNDS; k++)
        LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS;
                          i++) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+x"(a[i]) : "x"(half));
    return 8 * 2.0 * LIMIT_CHAINS * LIMIT_ROUNDS;
}

// Without vpdpbusd three instructions for 32 products: pairs of bytes, pairs of these, the sum.
double limit_int8_avx2(void)
{
    __m256i a[LIMIT_CHAINS], one = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i++) a[i] = _mm256_setzero_si256();
    for (int k = 0; k < LIMIT_ROUNDS; k++) LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i++)
        {
            __m256i t;
            __asm__ volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"
                             : "+x"(a[i]), "=&x"(t)
                             : "x"(one), "x"(ones));
        }
    return 8 * 8.0 * LIMIT_CHAINS * LIMIT_ROUNDS;
}
