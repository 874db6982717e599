// ops/softmax_avx2.h -- what ops/softmax_avx512.h has, with AVX2.
#ifndef OPS_SOFTMAX_AVX2_H
#define OPS_SOFTMAX_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

enum { LANES = 8 };

static inline __m256i mask_of(int64_t count)
{
    int some = count < LANES ? (int)count : LANES;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(some), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline float largest(const float *x, int64_t count)
{
    __m256 top[4];
    for (int c = 0; c < 4; c++) top[c] = _mm256_set1_ps(-INFINITY);
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
        for (int c = 0; c < 4; c++) top[c] = _mm256_max_ps(top[c], _mm256_loadu_ps(x + i + c * LANES));
    top[0] = _mm256_max_ps(_mm256_max_ps(top[0], top[1]), _mm256_max_ps(top[2], top[3]));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(top[0]), _mm256_extractf128_ps(top[0], 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    float most = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
    for (; i < count; i++) most = x[i] > most ? x[i] : most;
    return most;
}

static inline void add_doubles(__m256d sum[2], __m256 e)
{
    sum[0] = _mm256_add_pd(sum[0], _mm256_cvtps_pd(_mm256_castps256_ps128(e)));
    sum[1] = _mm256_add_pd(sum[1], _mm256_cvtps_pd(_mm256_extractf128_ps(e, 1)));
}

static inline double lanes_total(__m256d all)
{
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(all), _mm256_extractf128_pd(all, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#endif
