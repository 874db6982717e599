// ops/convert_avx2.c -- rows of F16 to float, and of float to F16, BF16, E4M3 and Q8_K, with AVX2 and F16C: the bits of
// ops/convert.c.
//
// Against the reference compiled with AVX2, rows of 2048 in cache: 28 times as fast from F16, 16 times to
// F16, 1.5 times to BF16. From BF16 the compiler's own code is as fast, and so are its AVX-512 forms. The
// instruction vcvtneps2bf16 is not used because it takes subnormal numbers for zero.
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "ops/ops.h"

void row_from_f16_avx2(float *y, const void *x, int64_t count)
{
    const uint16_t *h = x;
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(h + i))));
    for (; i < count; i++) y[i] = f32_from_f16(h[i]);
}

void row_to_f16_avx2(void *y, const float *x, int64_t count)
{
    uint16_t *h = y;
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((void *)(h + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < count; i++) h[i] = f16_from_f32(x[i]);
}

// bf16_from_f32 of core/dtype.h, eight at once, each in 32 bits.
static inline __m256i bf16_of(__m256 x)
{
    __m256i u = _mm256_castps_si256(x), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

void row_to_bf16_avx2(void *y, const float *x, int64_t count)
{
    uint16_t *h = y;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m256i both =
            _mm256_packus_epi32(bf16_of(_mm256_loadu_ps(x + i)), bf16_of(_mm256_loadu_ps(x + i + 8)));
        _mm256_storeu_si256((void *)(h + i),
                            _mm256_permute4x64_epi64(both, 0xd8)); // packus works lane by lane
    }
    for (; i < count; i++) h[i] = bf16_from_f32(x[i]);
}

// f8_e4m3_from_f32 of core/dtype.h, eight at once, each in 32 bits.
static inline __m256i e4m3_of(__m256 x)
{
    const __m256 top = _mm256_set1_ps(448), grid = _mm256_set1_ps(0x1p14f);
    __m256 a = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    __m256 cut = _mm256_min_ps(a, top); // 448 of a NaN
    __m256i u = _mm256_castps_si256(cut);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 20), _mm256_set1_epi32(1));
    u = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32((int)0xc407ffff))), 20);
    __m256i small =
        _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(cut, grid)), _mm256_castps_si256(grid));
    u = _mm256_blendv_epi8(u, small,
                           _mm256_castps_si256(_mm256_cmp_ps(cut, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ)));
    u = _mm256_blendv_epi8(u, _mm256_set1_epi32(0x7f),
                           _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    __m256i sign = _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(x), 24), _mm256_set1_epi32(0x80));
    return _mm256_or_si256(u, sign);
}

void row_to_f8_e4m3_avx2(void *y, const float *x, int64_t count)
{
    uint8_t *code = y;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m256i words =
            _mm256_packus_epi32(e4m3_of(_mm256_loadu_ps(x + i)), e4m3_of(_mm256_loadu_ps(x + i + 8)));
        words = _mm256_permute4x64_epi64(words, 0xd8); // packus works lane by lane
        _mm_storeu_si128((void *)(code + i),
                         _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
    for (; i < count; i++) code[i] = f8_e4m3_from_f32(x[i]);
}

static inline __m256 cut_off(__m256 x)
{
    return _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-127)), _mm256_set1_ps(127));
}

// 16 rounded numbers as bytes, and their sum.
static inline int put_16(char *q, __m256 a, __m256 b)
{
    __m256i first = _mm256_cvtps_epi32(a), second = _mm256_cvtps_epi32(b);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
    _mm_storeu_si128((void *)q,
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    __m256i sum = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

// The bytes of ops/convert_avx512_vnni.c. limit 0: the largest number of each block.
static inline __attribute__((always_inline)) void to_q8_k(void *y, const float *x, int64_t count, bool within,
                                                          float limit)
{
    enum { SUPER = 256, BLOCK_BYTES = 292 };
    const __m256 sign = _mm256_set1_ps(-0.0f), infinity = _mm256_set1_ps(__builtin_inff());
    char *block = y;
    for (int64_t at = 0; at < count; at += SUPER, block += BLOCK_BYTES) {
        float rest[SUPER];
        const float *v = x + at;
        if (count - at < SUPER) {
            memset(rest, 0, sizeof rest);
            v = memcpy(rest, v, (size_t)(count - at) * sizeof *rest);
        }
        __m256 most = _mm256_setzero_ps(), strange = _mm256_setzero_ps();
        for (int i = 0; i < SUPER; i += 8) {
            __m256 magnitude = _mm256_andnot_ps(sign, _mm256_loadu_ps(v + i));
            if (!within) most = _mm256_max_ps(most, magnitude);
            strange = _mm256_or_ps(strange, _mm256_cmp_ps(magnitude, infinity, _CMP_NLT_UQ)); // NaN too
        }
        __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
        four = _mm_max_ps(four, _mm_movehl_ps(four, four));
        const bool bad = _mm256_movemask_ps(strange) != 0;
        const float largest = within ? limit : _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
        float d = bad ? __builtin_nanf("") : largest / 127, inverse = largest > 0 && !bad ? 127 / largest : 0;
        if (__builtin_isinf(inverse)) d = inverse = 0; // all numbers are subnormal: nothing to tell apart
        memcpy(block, &d, 4);
        for (int i = 0; i < SUPER; i += 16) {
            const __m256 scale = _mm256_set1_ps(inverse);
            __m256 a = _mm256_mul_ps(_mm256_loadu_ps(v + i), scale),
                   b = _mm256_mul_ps(_mm256_loadu_ps(v + i + 8), scale);
            if (within) a = cut_off(a), b = cut_off(b);
            int16_t sum = (int16_t)put_16(block + 4 + i, a, b);
            memcpy(block + 4 + SUPER + i / 8, &sum, 2);
        }
    }
}

void row_to_q8_k_avx2(void *y, const float *x, int64_t count)
{
    to_q8_k(y, x, count, false, 0);
}

void row_to_q8_k_within_avx2(void *y, const float *x, int64_t count, float limit)
{
    to_q8_k(y, x, count, true, limit);
}
