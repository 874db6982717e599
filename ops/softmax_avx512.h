// ops/softmax_avx512.h -- what kernels over the probabilities of a row of logits share, with AVX-512: parts of rows, the largest number,
// sums in double.
#ifndef OPS_SOFTMAX_AVX512_H
#define OPS_SOFTMAX_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

enum { LANES = 16 };

static inline __mmask16 mask_of(int64_t count)
{
    return count >= LANES ? (__mmask16)-1 : (__mmask16)((1 << count) - 1);
}

static inline float largest(const float *x, int64_t count)
{
    __m512 top[4];
    for (int c = 0; c < 4; c++) top[c] = _mm512_set1_ps(-INFINITY);
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
        for (int c = 0; c < 4; c++) top[c] = _mm512_max_ps(top[c], _mm512_loadu_ps(x + i + c * LANES));
    for (; i < count; i += LANES)
        top[0] = _mm512_mask_max_ps(top[0], mask_of(count - i), top[0],
                                    _mm512_maskz_loadu_ps(mask_of(count - i), x + i));
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

static inline void add_doubles(__m512d sum[2], __m512 e)
{
    sum[0] = _mm512_add_pd(sum[0], _mm512_cvtps_pd(_mm512_castps512_ps256(e)));
    sum[1] = _mm512_add_pd(sum[1], _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1)));
}

#endif
