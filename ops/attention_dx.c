// ops/attention_dx.c -- the gradient of attention, the reference: see ops/ops.h for the sums.
//
// Scores are computed again from queries and keys, a row at a time, and become weights by the log-sum-exp that the forward pass kept:
// no (rows, rows) matrix is ever there. Rows in order, heads in order, keys in order: one order of summation for each output.
#include <tgmath.h>

#include "ops/ops.h"

size_t REF(attention_dx_scratch)(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim)
{
    (void)rows, (void)head_count, (void)head_dim, (void)value_dim;
    return 0;
}

static real dot(const real *a, const real *b, int64_t n)
{
    real sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void add_scaled(real *y, const real *x, real weight, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += x[i] * weight;
}

static void row_dx(const struct attention_dx_args *a, int64_t r, int64_t head)
{
    const int64_t d = a->head_dim, d_v = a->value_dim;
    const real *q = (const real *)a->q + (size_t)r * a->q_stride + head * d;
    const real *y = (const real *)a->y + (size_t)r * a->y_stride + head * d_v;
    const real *dy = (const real *)a->dy + (size_t)r * a->y_stride + head * d_v;
    real lse = ((const real *)a->lse)[(size_t)r * a->lse_stride + head];
    real *dq = (real *)a->dq + (size_t)r * a->dx_stride + head * d;
    real slope = a->slopes ? ((const real *)a->slopes)[head] : 0, cap = (real)a->softcap, e = dot(dy, y, d_v);
    if (a->dsinks) ((real *)a->dsinks)[head] -= exp(((const real *)a->sinks)[head] - lse) * e;
    int64_t first = a->window && r >= a->window ? r - a->window + 1 : 0;
    for (int64_t j = first; j <= r; j++) {
        const real *k = (const real *)a->k + (size_t)j * a->k_stride + a->kv_head * d;
        const real *v = (const real *)a->v + (size_t)j * a->v_stride + a->kv_head * d_v;
        real score = dot(q, k, d) * (real)a->scale, through = 1;
        if (cap > 0) {
            real t = tanh(score / cap);
            score = cap * t, through = 1 - t * t;
        }
        real p = exp(score + slope * (real)(j - r) - lse);
        real ds = p * (dot(dy, v, d_v) - e) * through * (real)a->scale;
        add_scaled(dq, k, ds, d);
        add_scaled((real *)a->dk + (size_t)j * a->dx_stride + a->kv_head * d, q, ds, d);
        add_scaled((real *)a->dv + (size_t)j * a->dx_stride + a->kv_head * d_v, dy, p, d_v);
    }
}

void REF(attention_dx)(const struct attention_dx_args *a)
{
    const int64_t d = a->head_dim, d_v = a->value_dim;
    for (int64_t r = 0; r < a->rows; r++) {
        real *dq = (real *)a->dq + (size_t)r * a->dx_stride + a->head_begin * d;
        real *dk = (real *)a->dk + (size_t)r * a->dx_stride + a->kv_head * d;
        real *dv = (real *)a->dv + (size_t)r * a->dx_stride + a->kv_head * d_v;
        for (int64_t i = 0; i < a->head_count * d; i++) dq[i] = 0;
        for (int64_t i = 0; i < d; i++) dk[i] = 0;
        for (int64_t i = 0; i < d_v; i++) dv[i] = 0;
    }
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t h = 0; h < a->head_count; h++) row_dx(a, r, a->head_begin + h);
}
