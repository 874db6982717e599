// ops/glu.c -- activations, alone and gated, the reference.
//
//     SiLU        x sigmoid(x) = x / (1 + exp(-x))                              (Elfwing et al., arXiv 1702.03118)
//     GELU        x Phi(x) = x erfc(-x / sqrt 2) / 2, which keeps its digits    (Hendrycks and Gimpel, arXiv 1606.08415)
//                 far below 0, where 1 + erf(x / sqrt 2) loses them
//     its tanh    x (1 + tanh(z)) / 2 = x sigmoid(2 z),  z = sqrt(2 / pi) (x + 0.044715 x^3)
//     gated       y = act(gate) up                                              (Shazeer, arXiv 2002.05202)
//     gpt-oss     g = min(gate, 7), u = clamp(up, -7, 7):  y = g sigmoid(1.702 g) (u + 1)
//
// Where exp(-x) overflows the quotient is 0: there is nothing to guard against.
#include <tgmath.h>

#include "ops/ops.h"

static real act(real x, enum activation kind)
{
    switch (kind) {
    case ACT_SILU: return x / (1 + exp(-x));
    case ACT_GELU: return x * (erfc(-x * (real)M_SQRT1_2) / 2);
    case ACT_GELU_TANH: return x / (1 + exp(-2 * (real)GELU_SCALE * (x + (real)GELU_CUBE * x * x * x)));
    case ACT_RELU: return x < 0 ? 0 : x; // a NaN stays one
    case ACT_RELU_SQUARED: return x < 0 ? 0 : x * x;
    case ACT_SWIGLU_CLAMPED: break;
    }
    TLM_ASSERT(!"an activation");
    return 0;
}

void REF(activation_fwd)(real *y, const real *x, int64_t count, enum activation kind)
{
    for (int64_t i = 0; i < count; i++) y[i] = act(x[i], kind);
}

static real clamped(real gate, real up)
{
    const real limit = SWIGLU_LIMIT;
    real g = gate > limit ? limit : gate, u = up > limit ? limit : up < -limit ? -limit : up;
    return g / (1 + exp(-(real)SWIGLU_ALPHA * g)) * (u + 1);
}

void REF(glu_fwd)(real *y, const real *gate, const real *up, int64_t count, enum activation kind)
{
    if (kind == ACT_SWIGLU_CLAMPED)
        for (int64_t i = 0; i < count; i++) y[i] = clamped(gate[i], up[i]);
    else
        for (int64_t i = 0; i < count; i++) y[i] = act(gate[i], kind) * up[i];
}

// y = c tanh(x / c)
void REF(softcap_fwd)(real *y, const real *x, int64_t count, double cap)
{
    for (int64_t i = 0; i < count; i++) y[i] = (real)cap * tanh(x[i] / (real)cap);
}

// act'(x). SiLU: s + x s (1 - s), s = sigmoid(x). GELU: Phi(x) + x phi(x). Its tanh: s + 2 x s (1 - s) z'(x), s = sigmoid(2 z).
static real slope(real x, enum activation kind)
{
    switch (kind) {
    case ACT_SILU: {
        real s = 1 / (1 + exp(-x));
        return s + x * s * (1 - s);
    }
    case ACT_GELU:
        return erfc(-x * (real)M_SQRT1_2) / 2 + x * exp(-x * x / 2) * (real)(M_SQRT1_2 * M_2_SQRTPI / 2);
    case ACT_GELU_TANH: {
        real s = 1 / (1 + exp(-2 * (real)GELU_SCALE * (x + (real)GELU_CUBE * x * x * x)));
        return s + 2 * x * s * (1 - s) * (real)GELU_SCALE * (1 + 3 * (real)GELU_CUBE * x * x);
    }
    case ACT_RELU: return x < 0 ? 0 : 1;
    case ACT_RELU_SQUARED: return x < 0 ? 0 : 2 * x;
    case ACT_SWIGLU_CLAMPED: break;
    }
    TLM_ASSERT(!"an activation");
    return 0;
}

void REF(activation_dx)(real *dx, const real *dy, const real *x, int64_t count, enum activation kind)
{
    for (int64_t i = 0; i < count; i++) dx[i] = dy[i] * slope(x[i], kind);
}

// Where a clamp holds, nothing flows back.
static void clamped_dx(real *dgate, real *dup, real dy, real gate, real up)
{
    const real limit = SWIGLU_LIMIT, a = (real)SWIGLU_ALPHA;
    real g = gate > limit ? limit : gate, u = up > limit ? limit : up < -limit ? -limit : up;
    real s = 1 / (1 + exp(-a * g));
    *dgate = gate > limit ? 0 : dy * (u + 1) * (s + a * g * s * (1 - s));
    *dup = up > limit || up < -limit ? 0 : dy * g * s;
}

void REF(glu_dx)(real *dgate, real *dup, const real *dy, const real *gate, const real *up, int64_t count,
                 enum activation kind)
{
    for (int64_t i = 0; i < count; i++) {
        if (kind == ACT_SWIGLU_CLAMPED) {
            clamped_dx(dgate + i, dup + i, dy[i], gate[i], up[i]);
        } else {
            real d = dy[i];
            dgate[i] = d * slope(gate[i], kind) * up[i];
            dup[i] = d * act(gate[i], kind);
        }
    }
}

void REF(softcap_dx)(real *dx, const real *dy, const real *y, int64_t count, double cap)
{
    for (int64_t i = 0; i < count; i++) {
        real t = y[i] / (real)cap;
        dx[i] = dy[i] * (1 - t * t);
    }
}
