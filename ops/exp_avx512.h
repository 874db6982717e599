// ops/exp_avx512.h -- exp and tanh of 16 floats, for the AVX-512 forms.
//
//     exp(x) = 2^n exp(r),   n = round(x / ln 2),   r = x - n ln 2 in two steps,   |r| <= ln 2 / 2
//
// exp(r) = 1 + r + r^2 (c0 + c1 r + ... + c4 r^4), the minimax polynomial of relative error (3.1e-9, found by
// Remez exchange). Within 1.01 ulp of the true value everywhere, subnormal results included; exp(0) is
// exactly 1, exp(-inf) is 0, above 88.73 comes inf, and a NaN stays a NaN.
//
//     tanh(x) = sign(x) -e / (2 + e),   e = exp(-2 |x|) - 1 = 2^n (exp(r) - 1) + (2^n - 1)
//
// which loses no digits near 0, unlike the difference of exp(-2 |x|) and 1: within 2.5 ulp.
#ifndef OPS_EXP_AVX512_H
#define OPS_EXP_AVX512_H

#include <immintrin.h>

// exp(r) - 1, and n.
static inline __m512 exp_parts_avx512(__m512 *power, __m512 x)
{
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x); // n * 0x1.62e4 is exact
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(0x1.6a23d0p-10f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.123a20p-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5558f2p-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.555492p-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.fffffcp-2f));
    *power = n;
    return _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
}

static inline __m512 exp_avx512(__m512 x)
{
    // Beyond these the result is 0 or inf in any case. min and max return their second operand where one is a
    // NaN.
    x = _mm512_min_ps(_mm512_set1_ps(89), _mm512_max_ps(_mm512_set1_ps(-104), x));
    __m512 n, p = exp_parts_avx512(&n, x);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1)), n); // rounds once, also to subnormals
}

// 2^x = 2^n 2^r, n = round(x), where r = x - n is exact: for scores that come in units of ln 2. Of a polynomial with relative error
// 3.0e-9, found likewise; 2^0 is exactly 1, 2^-inf is 0, a NaN stays a NaN. Not for inf.
static inline __m512 exp2_avx512(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-160), x);
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
           r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(0x1.416b50p-13f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5f082ep-10f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.3b2de0p-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.c6af7cp-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ebfbdcp-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62e430p-1f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, r, _mm512_set1_ps(1)), n);
}

static inline __m512 tanh_avx512(__m512 x)
{
    // From 9.02 on the result is 1.
    __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f)), size = _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x);
    __m512 n,
        p = exp_parts_avx512(&n, _mm512_mul_ps(_mm512_set1_ps(-2), _mm512_min_ps(_mm512_set1_ps(10), size)));
    __m512 scale = _mm512_scalef_ps(_mm512_set1_ps(1), n);
    __m512 e = _mm512_fmadd_ps(p, scale, _mm512_sub_ps(scale, _mm512_set1_ps(1)));
    // e is 0 or less, so the quotient has the sign of a minus.
    __m512 minus = _mm512_div_ps(e, _mm512_add_ps(e, _mm512_set1_ps(2)));
    return _mm512_or_ps(_mm512_andnot_ps(_mm512_set1_ps(-0.0f), minus), sign);
}

#endif
