// ops/glu_avx2.c -- activations with AVX2 and FMA; the formulas are in ops/glu.c. As fast as the reference compiled for AVX2: SwiGLU 8
// times, GELU by erf 14 times, softcap 12 times. Gradients from memory: 5 times.
#include <math.h>

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

// Phi(x), and exp(-x^2 / 2) in *bell: see ops/glu_avx512.c.
static inline __m256 normal(__m256 *bell, __m256 x)
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
    *bell = e;
    return phi;
}

static inline __m256 gelu(__m256 x)
{
    __m256 bell;
    return _mm256_mul_ps(x, normal(&bell, x));
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

// ---- gradients ----------------------------------------------------------------------------------------

// act(x) = x gate, act'(x) = slope.
struct bend {
    __m256 gate, slope;
};

// s = sigmoid(z) and, as the slope, s (1 - s) = e / (1 + e)^2, e = exp(-|z|): nothing cancels and nothing overflows.
static inline struct bend sigmoid(__m256 z)
{
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    __m256 e = exp_avx2(_mm256_or_ps(z, sign)), t = _mm256_div_ps(one, _mm256_add_ps(one, e));
    __m256 other = _mm256_mul_ps(e, t);
    __m256 below = _mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_LT_OQ);
    return (struct bend){_mm256_blendv_ps(t, other, below), _mm256_mul_ps(other, t)};
}

// Numbers so large that the slope is 0 or 1 are taken for smaller ones, lest their powers overflow. min and max return their second
// operand where one is a NaN.
static inline __m256 within(__m256 x, float limit)
{
    return _mm256_min_ps(_mm256_set1_ps(limit), _mm256_max_ps(_mm256_set1_ps(-limit), x));
}

static inline struct bend bend(__m256 x, const enum activation kind)
{
    const __m256 one = _mm256_set1_ps(1);
    if (kind == ACT_SILU) {
        __m256 z = within(x, 104);
        struct bend s = sigmoid(z);
        return (struct bend){s.gate, _mm256_fmadd_ps(z, s.slope, s.gate)};
    }
    if (kind == ACT_GELU) {
        __m256 bell, phi = normal(&bell, x), z = within(x, 15);
        __m256 density = _mm256_mul_ps(_mm256_set1_ps((float)(M_SQRT1_2 * M_2_SQRTPI / 2)), bell);
        return (struct bend){phi, _mm256_fmadd_ps(z, density, phi)};
    }
    __m256 z = within(x, 12), square = _mm256_mul_ps(z, z),
           twice = _mm256_mul_ps(_mm256_set1_ps((float)(2 * GELU_SCALE)), z);
    struct bend s =
        sigmoid(_mm256_mul_ps(twice, _mm256_fmadd_ps(_mm256_set1_ps((float)GELU_CUBE), square, one)));
    __m256 inner = _mm256_mul_ps(twice, _mm256_fmadd_ps(_mm256_set1_ps((float)(3 * GELU_CUBE)), square, one));
    return (struct bend){s.gate, _mm256_fmadd_ps(inner, s.slope, s.gate)};
}

// Where a clamp holds, nothing flows back.
static inline void clamped_dx(__m256 *dgate, __m256 *dup, __m256 dy, __m256 gate, __m256 up)
{
    const __m256 limit = _mm256_set1_ps(SWIGLU_LIMIT), low = _mm256_set1_ps(-SWIGLU_LIMIT);
    __m256 g = _mm256_min_ps(limit, gate), u = _mm256_max_ps(low, _mm256_min_ps(limit, up));
    struct bend s = bend(_mm256_mul_ps(_mm256_set1_ps((float)SWIGLU_ALPHA), g), ACT_SILU);
    __m256 by_gate = _mm256_mul_ps(_mm256_mul_ps(dy, _mm256_add_ps(u, _mm256_set1_ps(1))), s.slope);
    __m256 by_up = _mm256_mul_ps(dy, _mm256_mul_ps(g, s.gate));
    __m256 free = _mm256_cmp_ps(gate, limit, _CMP_NGT_UQ);
    *dgate = _mm256_and_ps(free, by_gate);
    free = _mm256_cmp_ps(up, u, _CMP_EQ_UQ);
    *dup = _mm256_and_ps(free, by_up);
}

static inline __attribute__((always_inline)) void activation_rows(float *dx, const float *dy, const float *x,
                                                                  int64_t count, const enum activation kind)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        _mm256_storeu_ps(dx + i,
                         _mm256_mul_ps(_mm256_loadu_ps(dy + i), bend(_mm256_loadu_ps(x + i), kind).slope));
    if (i < count) {
        __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        __m256i some = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count - i)), number);
        __m256 d = _mm256_maskload_ps(dy + i, some);
        _mm256_maskstore_ps(dx + i, some,
                            _mm256_mul_ps(d, bend(_mm256_maskload_ps(x + i, some), kind).slope));
    }
}

void activation_dx_avx2(float *dx, const float *dy, const float *x, int64_t count, enum activation kind)
{
    if (kind == ACT_SILU)
        activation_rows(dx, dy, x, count, ACT_SILU);
    else if (kind == ACT_GELU)
        activation_rows(dx, dy, x, count, ACT_GELU);
    else if (kind == ACT_GELU_TANH)
        activation_rows(dx, dy, x, count, ACT_GELU_TANH);
    else
        activation_dx_ref(dx, dy, x, count, kind);
}

static inline __attribute__((always_inline)) void gated_dx(__m256 *dgate, __m256 *dup, __m256 dy, __m256 gate,
                                                           __m256 up, const enum activation kind)
{
    if (kind == ACT_SWIGLU_CLAMPED) {
        clamped_dx(dgate, dup, dy, gate, up);
    } else {
        struct bend b = bend(gate, kind);
        *dgate = _mm256_mul_ps(_mm256_mul_ps(dy, b.slope), up);
        *dup = _mm256_mul_ps(dy, _mm256_mul_ps(gate, b.gate));
    }
}

static inline __attribute__((always_inline)) void glu_rows(float *dgate, float *dup, const float *dy,
                                                           const float *gate, const float *up, int64_t count,
                                                           const enum activation kind)
{
    __m256 dg, du;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        gated_dx(&dg, &du, _mm256_loadu_ps(dy + i), _mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i), kind);
        _mm256_storeu_ps(dgate + i, dg), _mm256_storeu_ps(dup + i, du);
    }
    if (i < count) {
        __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        __m256i some = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count - i)), number);
        gated_dx(&dg, &du, _mm256_maskload_ps(dy + i, some), _mm256_maskload_ps(gate + i, some),
                 _mm256_maskload_ps(up + i, some), kind);
        _mm256_maskstore_ps(dgate + i, some, dg);
        _mm256_maskstore_ps(dup + i, some, du);
    }
}

void glu_dx_avx2(float *dgate, float *dup, const float *dy, const float *gate, const float *up, int64_t count,
                 enum activation kind)
{
    if (kind == ACT_SILU)
        glu_rows(dgate, dup, dy, gate, up, count, ACT_SILU);
    else if (kind == ACT_GELU)
        glu_rows(dgate, dup, dy, gate, up, count, ACT_GELU);
    else if (kind == ACT_GELU_TANH)
        glu_rows(dgate, dup, dy, gate, up, count, ACT_GELU_TANH);
    else if (kind == ACT_SWIGLU_CLAMPED)
        glu_rows(dgate, dup, dy, gate, up, count, ACT_SWIGLU_CLAMPED);
    else
        glu_dx_ref(dgate, dup, dy, gate, up, count, kind);
}
