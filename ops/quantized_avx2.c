// ops/quantized_avx2.c -- rows of bitsandbytes' types as floats with AVX2: the 16 values of 4 bits in two registers. The bits are those of
// quant/bnb.c, at several times its speed.
#include <immintrin.h>

#include "ops/ops.h"
#include "quant/quant.h"

struct table {
    __m256 low, high; // values 0 ... 7, 8 ... 15
};

// The values of codes in the low four bits of dwords.
static inline __m256 look_up(const struct table *t, __m256i codes)
{
    __m256 low = _mm256_permutevar8x32_ps(t->low, codes), high = _mm256_permutevar8x32_ps(t->high, codes);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28))); // by bit 3
}

static inline void from_4bit(float *y, const void *x, int64_t count, const float values[16])
{
    const struct block_nf4 *b = x;
    const struct table t = {_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)};
    for (int64_t i = 0; i < count; i += QUANT_BNB, b++) {
        const __m256 scale = _mm256_set1_ps(b->absmax);
        for (int j = 0; j < 32; j += 8) {
            __m256i pairs = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(b->qs + j)));
            __m256 first = _mm256_mul_ps(look_up(&t, _mm256_srli_epi32(pairs, 4)), scale);
            __m256 second = _mm256_mul_ps(look_up(&t, _mm256_and_si256(pairs, _mm256_set1_epi32(15))), scale);
            __m256 low = _mm256_unpacklo_ps(first, second), high = _mm256_unpackhi_ps(first, second);
            _mm256_storeu_ps(y + i + 2 * j, _mm256_permute2f128_ps(low, high, 0x20));
            _mm256_storeu_ps(y + i + 2 * j + 8, _mm256_permute2f128_ps(low, high, 0x31));
        }
    }
}

void row_from_nf4_avx2(float *y, const void *x, int64_t count)
{
    from_4bit(y, x, count, quant_nf4_values);
}

void row_from_fp4_avx2(float *y, const void *x, int64_t count)
{
    from_4bit(y, x, count, quant_bnb_fp4_values);
}

void row_from_int8_avx2(float *y, const void *x, int64_t count)
{
    const struct block_int8 *b = x;
    for (int64_t i = 0; i < count; i += QUANT_BNB, b++) {
        const __m256 absmax = _mm256_set1_ps(b->absmax), middle = _mm256_set1_ps(b->middle);
        for (int j = 0; j < QUANT_BNB; j += 8) {
            __m256i codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(b->qs + j)));
            __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(codes), absmax),
                                          _mm256_set1_ps(QUANT_INT8_STEP));
            _mm256_storeu_ps(y + i + j, _mm256_add_ps(scaled, middle));
        }
        for (int o = 0; o < QUANT_OUTLIERS; o++)
            if (b->column[o] < QUANT_BNB) y[i + b->column[o]] = f32_from_f16(b->outlier[o]);
    }
}
