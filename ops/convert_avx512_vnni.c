// ops/convert_avx512_vnni.c -- rows of activations to Q8_K, which the integer products of ops/matmul_int8_avx512_vnni.c take.
#include "ops/matmul_simd.h"

enum { SUPER = 256, BLOCK_BYTES = 292 };

// 64 rounded numbers as bytes, and four sums of 16: a product of bytes adds up four, shuffles the fours of a lane of 128 bits.
static inline void put_64(char *code, char *sums, const __m512i q[4])
{
    // Packing leaves number 4 l .. 4 l + 3 of q[i] in dword i of lane l.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
    bytes = _mm512_permutexvar_epi32(order, bytes);
    _mm512_storeu_si512(code, bytes);
    __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), bytes);
    sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, 0x4e));
    sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, 0xb1));
    __m128i four = _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, sum));
    _mm_storel_epi64((__m128i *)sums, _mm_packs_epi32(four, four));
}

// y: ceil(count / 256) blocks, the last padded with zeros; d = largest magnitude / 127, or limit / 127 with larger numbers cut off; codes
// rounded to nearest even. A row with a NaN or an infinity keeps one in d, so that nothing is hidden.
static inline __attribute__((always_inline)) void to_q8_k(void *y, const float *x, int64_t count, bool within,
                                                          float limit)
{
    const __m512 top = _mm512_set1_ps(127), bottom = _mm512_set1_ps(-127);
    char *block = y;
    for (int64_t at = 0; at < count; at += SUPER, block += BLOCK_BYTES) {
        __m512 v[16], most = _mm512_setzero_ps();
        __mmask16 strange = 0;
        EACH (i, 16, 1) {
            int64_t left = count - at - 16 * i;
            __mmask16 some = left >= 16 ? (__mmask16)-1 : left <= 0 ? 0 : (__mmask16)((1 << left) - 1);
            v[i] = _mm512_maskz_loadu_ps(some, x + at + 16 * i);
            if (!within) most = _mm512_max_ps(most, _mm512_abs_ps(v[i]));
            strange |= _mm512_fpclass_ps_mask(v[i], 0x99); // quiet NaN, +inf, -inf, signalling NaN
        }
        float largest = within ? limit : _mm512_reduce_max_ps(most);
        float d = strange ? __builtin_nanf("") : largest / 127,
              inverse = largest > 0 && !strange ? 127 / largest : 0;
        if (__builtin_isinf(inverse)) d = inverse = 0; // all numbers are subnormal: nothing to tell apart
        memcpy(block, &d, 4);
        EACH (i, 4, 1) {
            __m512i q[4];
            EACH (j, 4, 1) {
                __m512 scaled = _mm512_mul_ps(v[4 * i + j], _mm512_set1_ps(inverse));
                if (within) scaled = _mm512_min_ps(_mm512_max_ps(scaled, bottom), top);
                q[j] = _mm512_cvtps_epi32(scaled);
            }
            put_64(block + 4 + 64 * i, block + 4 + SUPER + 8 * i, q);
        }
    }
}

void row_to_q8_k_avx512_vnni(void *y, const float *x, int64_t count)
{
    to_q8_k(y, x, count, false, 0);
}

void row_to_q8_k_within_avx512_vnni(void *y, const float *x, int64_t count, float limit)
{
    to_q8_k(y, x, count, true, limit);
}
