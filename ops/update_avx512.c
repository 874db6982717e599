// ops/update_avx512.c -- the updates with AVX-512: the vectors; what is done with them is in ops/update_simd.h.
//
// In cache 0.35, 0.60 and 1.7 ns a number for AdamW's f32, bf16 and 8-bit moments, 1.4 times as fast as AVX2; from memory f32 is
// bound by it, 8 bits by their coding.
#include <float.h>

#include "ops/matmul_simd.h"
#include "ops/update.h"
#include "ops/update_codes.h"

enum { LANES = 16 };
typedef __m512 vf;
typedef __m512i vi;

#define vf_set             _mm512_set1_ps
#define vf_load            _mm512_loadu_ps
#define vf_store           _mm512_storeu_ps
#define vf_add             _mm512_add_ps
#define vf_sub             _mm512_sub_ps
#define vf_mul             _mm512_mul_ps
#define vf_div             _mm512_div_ps
#define vf_fma             _mm512_fmadd_ps
#define vf_sqrt            _mm512_sqrt_ps
#define vf_min             _mm512_min_ps
#define vf_max             _mm512_max_ps
#define vf_abs             _mm512_abs_ps
#define vf_reduce_max      _mm512_reduce_max_ps
#define vf_of_int          _mm512_cvtepi32_ps
#define vf_of_bits         _mm512_castsi512_ps
#define vi_of_float        _mm512_cvttps_epi32
#define vi_bits            _mm512_castps_si512
#define vi_set             _mm512_set1_epi32
#define vi_add             _mm512_add_epi32
#define vi_sub             _mm512_sub_epi32
#define vi_mul             _mm512_mullo_epi32
#define vi_and             _mm512_and_si512
#define vi_or              _mm512_or_si512
#define vi_xor             _mm512_xor_si512
#define vi_max             _mm512_max_epi32
#define vi_shift_left      _mm512_slli_epi32
#define vi_shift_right     _mm512_srli_epi32
#define vi_sign(x)         _mm512_srai_epi32(x, 31)
#define vi_load_u8(p)      _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define vi_store_u8(p, x)  _mm_storeu_si128((__m128i *)(p), _mm512_cvtepi32_epi8(x))
#define vi_load_u16(p)     _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p)))
#define vi_store_u16(p, x) _mm256_storeu_si256((__m256i *)(p), _mm512_cvtepi32_epi16(x))

static inline ALWAYS vi vi_counting(void)
{
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// x + 1 where a > b
static inline ALWAYS vi vi_count_greater(vi x, vf a, vf b)
{
    return _mm512_mask_add_epi32(x, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), x, vi_set(1));
}

static inline ALWAYS vi vi_where_nan(vf x, vi then, vi otherwise)
{
    return _mm512_mask_mov_epi32(otherwise, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), then);
}

// 1, 0 or -1
static inline ALWAYS vf vf_sign(vf x)
{
    vf zero = vf_set(0), sign = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, zero, _CMP_GT_OQ), vf_set(1));
    return _mm512_mask_mov_ps(sign, _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ), vf_set(-1));
}

// table[i % 8]
static inline ALWAYS vf vf_lookup(const float table[8], vi i)
{
    return _mm512_permutexvar_ps(i, _mm512_broadcast_f32x8(_mm256_loadu_ps(table)));
}

#include "ops/update_simd.h"

FORMS(adamw, avx512)
FORMS(lion, avx512)
FORMS(sgd, avx512)

double sum_squares_avx512(const float *x, int64_t count)
{
    __m512d part[4];
    for (int j = 0; j < 4; j++) part[j] = _mm512_setzero_pd();
    int64_t i = 0;
    for (; i + 32 <= count; i += 32) {
        for (int j = 0; j < 4; j++) {
            __m512d v = _mm512_cvtps_pd(_mm256_loadu_ps(x + i + 8 * j));
            part[j] = _mm512_fmadd_pd(v, v, part[j]);
        }
    }
    for (int j = 0; i < count; i += 8, j++) {
        __mmask8 some = count - i >= 8 ? 0xff : (__mmask8)((1 << (count - i)) - 1);
        __m512d v = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(some, x + i));
        part[j] = _mm512_fmadd_pd(v, v, part[j]);
    }
    __m512d all = _mm512_add_pd(_mm512_add_pd(part[0], part[2]), _mm512_add_pd(part[1], part[3]));
    __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(all), _mm512_extractf64x4_pd(all, 1));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
