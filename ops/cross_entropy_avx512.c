// ops/cross_entropy_avx512.c -- the loss of a row of logits and its gradient with AVX-512; the formula is in ops/cross_entropy.c.
//
// Three passes over a row, of which the last two find it in L2: the maximum; exponentials and their sum; the factor. Doubles add up
// number i in sum i % 32, the sums as a tree. The loss does not depend on whether the gradient is wanted.
// 8 times as fast as the reference; the exponentials take longer than the memory.
#include "ops/exp_avx512.h"
#include "ops/ops.h"
#include "ops/softmax_avx512.h"

// The sum of exp(x - top), which also go to `to` unless it is NULL.
static inline __attribute__((always_inline)) double sum_of_exp(float *to, const float *x, float top,
                                                               int64_t count)
{
    const __m512 base = _mm512_set1_ps(top);
    __m512d sum[4];
    for (int c = 0; c < 4; c++) sum[c] = _mm512_setzero_pd();
    int64_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        __m512 a = exp_avx512(_mm512_sub_ps(_mm512_loadu_ps(x + i), base));
        __m512 b = exp_avx512(_mm512_sub_ps(_mm512_loadu_ps(x + i + LANES), base));
        if (to) _mm512_storeu_ps(to + i, a), _mm512_storeu_ps(to + i + LANES, b);
        add_doubles(sum, a), add_doubles(sum + 2, b);
    }
    for (int c = 0; i < count; i += LANES, c += 2) {
        __mmask16 some = mask_of(count - i);
        __m512 e =
            _mm512_maskz_mov_ps(some, exp_avx512(_mm512_sub_ps(_mm512_maskz_loadu_ps(some, x + i), base)));
        if (to) _mm512_mask_storeu_ps(to + i, some, e);
        add_doubles(sum + c, e);
    }
    return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_add_pd(sum[0], sum[1]), _mm512_add_pd(sum[2], sum[3])));
}

double cross_entropy_avx512(float *dx, const float *x, int32_t target, int64_t vocab, double factor)
{
    if (target < 0) return cross_entropy_ref(dx, x, target, vocab, factor);
    const float top = largest(x, vocab), aim = x[target];
    const double sum = dx ? sum_of_exp(dx, x, top, vocab) : sum_of_exp(NULL, x, top, vocab);
    const __m512 scale = _mm512_set1_ps((float)(factor / sum));
    int64_t i = 0;
    for (; dx && i + LANES <= vocab; i += LANES)
        _mm512_storeu_ps(dx + i, _mm512_mul_ps(_mm512_loadu_ps(dx + i), scale));
    for (; dx && i < vocab; i++) dx[i] *= _mm512_cvtss_f32(scale);
    if (dx) dx[target] -= (float)factor;
    return log(sum) + (double)top - (double)aim;
}
