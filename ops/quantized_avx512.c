// ops/quantized_avx512.c -- rows of bitsandbytes' 4-bit types as floats with AVX-512: a register is the table of values. The bits are those
// of quant/bnb.c.
#include <immintrin.h>

#include "ops/ops.h"
#include "quant/quant.h"

static inline void from_4bit(float *y, const void *x, int64_t count, const float values[16])
{
    const struct block_nf4 *b = x;
    const __m512 table = _mm512_loadu_ps(values);
    const __m512i front = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i back = _mm512_add_epi32(front, _mm512_set1_epi32(8));
    for (int64_t i = 0; i < count; i += QUANT_BNB, b++) {
        const __m512 scale = _mm512_set1_ps(b->absmax);
        for (int j = 0; j < 32; j += 16) {
            __m512i pairs = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(b->qs + j)));
            // The permutation looks at the low four bits alone.
            __m512 first = _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(pairs, 4), table), scale);
            __m512 second = _mm512_mul_ps(_mm512_permutexvar_ps(pairs, table), scale);
            _mm512_storeu_ps(y + i + 2 * j, _mm512_permutex2var_ps(first, front, second));
            _mm512_storeu_ps(y + i + 2 * j + 16, _mm512_permutex2var_ps(first, back, second));
        }
    }
}

void row_from_nf4_avx512(float *y, const void *x, int64_t count)
{
    from_4bit(y, x, count, quant_nf4_values);
}

void row_from_fp4_avx512(float *y, const void *x, int64_t count)
{
    from_4bit(y, x, count, quant_bnb_fp4_values);
}
