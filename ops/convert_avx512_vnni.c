// ops/convert_avx512_vnni.c -- rows of activations to Q8_K, which the integer products of ops/matmul_int8_avx512_vnni.c take.
#include "ops/matmul_simd.h"

enum { SUPER = 256, BLOCK_BYTES = 292 };

// y: ceil(count / 256) blocks, the last padded with zeros; d = largest magnitude / 127, codes rounded to nearest even. A row with
// a NaN or an infinity keeps one in d, so that nothing is hidden.
void row_to_q8_k_avx512_vnni(void *y, const float *x, int64_t count)
{
    char *block = y;
    for (int64_t at = 0; at < count; at += SUPER, block += BLOCK_BYTES) {
        __m512 v[16], most = _mm512_setzero_ps();
        __mmask16 strange = 0;
        EACH (i, 16, 1) {
            int64_t left = count - at - 16 * i;
            __mmask16 some = left >= 16 ? (__mmask16)-1 : left <= 0 ? 0 : (__mmask16)((1 << left) - 1);
            v[i] = _mm512_maskz_loadu_ps(some, x + at + 16 * i);
            most = _mm512_max_ps(most, _mm512_abs_ps(v[i]));
            strange |= _mm512_fpclass_ps_mask(v[i], 0x99); // quiet NaN, +inf, -inf, signalling NaN
        }
        float largest = _mm512_reduce_max_ps(most);
        float d = strange ? __builtin_nanf("") : largest / 127,
              inverse = largest > 0 && !strange ? 127 / largest : 0;
        if (__builtin_isinf(inverse)) d = inverse = 0; // all numbers are subnormal: nothing to tell apart
        memcpy(block, &d, 4);
        EACH (i, 16, 1) {
            __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v[i], _mm512_set1_ps(inverse)));
            _mm_storeu_si128((__m128i *)(block + 4 + 16 * i), _mm512_cvtsepi32_epi8(q));
            int16_t sum = (int16_t)_mm512_reduce_add_epi32(q);
            memcpy(block + 4 + SUPER + 2 * i, &sum, 2);
        }
    }
}
