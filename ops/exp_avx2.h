// ops/exp_avx2.h -- exp and tanh of 8 floats, for the AVX2 forms: the formulas of ops/exp_avx512.h, which has the
// comment.
//
// The one difference: without vscalefps the power 2^n, n from -150 to 129, is two factors that are each a
// normal float. Subnormal results are so rounded twice and stay within 1 unit of 2^-149.
#ifndef OPS_EXP_AVX2_H
#define OPS_EXP_AVX2_H

#include <immintrin.h>

// exp(r) - 1, and n.
static inline __m256 exp_parts_avx2(__m256 *power, __m256 x)
{
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(0x1.6a23d0p-10f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.123a20p-7f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.5558f2p-5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555492p-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
    *power = n;
    return _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
}

static inline __m256 exp_avx2(__m256 x)
{
    x = _mm256_min_ps(_mm256_set1_ps(89), _mm256_max_ps(_mm256_set1_ps(-104), x));
    __m256 n, p = exp_parts_avx2(&n, x);
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), one = _mm256_set1_epi32(127);
    __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23));
    __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), one), 23));
    return _mm256_mul_ps(_mm256_mul_ps(_mm256_add_ps(p, _mm256_set1_ps(1)), a), b);
}

static inline __m256 tanh_avx2(__m256 x)
{
    __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f)), size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    __m256 n,
        p = exp_parts_avx2(&n, _mm256_mul_ps(_mm256_set1_ps(-2), _mm256_min_ps(_mm256_set1_ps(10), size)));
    __m256 scale = _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
    __m256 e = _mm256_fmadd_ps(p, scale, _mm256_sub_ps(scale, _mm256_set1_ps(1)));
    __m256 minus = _mm256_div_ps(e, _mm256_add_ps(e, _mm256_set1_ps(2)));
    return _mm256_or_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), minus), sign);
}

#endif
