// quant/fit_pass.c -- the passes in plain C, and which form of them runs.
#include "quant/fit_pass.h"

void fit_whole_pass_ref(const struct fit_group *g, const struct fit_levels *levels, const float *scale,
                        struct fit_sums *out)
{
    float inverse[FIT_LANES], error[FIT_LANES] = {0}, xq[FIT_LANES] = {0}, qq[FIT_LANES] = {0};
    const float low = levels->low, high = levels->high;
    fit_reciprocals(scale, inverse);
    for (int i = 0; i < g->n; i++) {
        const float *x = g->x[i], *w = g->w[i];
        for (int l = 0; l < FIT_LANES; l++) {
            float q = x[l] * inverse[l];
            q = q > low ? q : low;
            q = q < high ? q : high;
            q = (q + 0x1.8p23f) - 0x1.8p23f; // to the nearest whole number
            float r = x[l] - scale[l] * q, wq = w[l] * q;
            error[l] += w[l] * r * r;
            xq[l] += wq * x[l];
            qq[l] += wq * q;
        }
    }
    memcpy(out->error, error, sizeof error);
    memcpy(out->xq, xq, sizeof xq);
    memcpy(out->qq, qq, sizeof qq);
}

static void iq4_pass(const struct fit_group *g, const float *scale, struct fit_sums *out)
{
    float inverse[FIT_LANES], error[FIT_LANES] = {0}, xq[FIT_LANES] = {0}, qq[FIT_LANES] = {0};
    fit_reciprocals(scale, inverse);
    for (int i = 0; i < g->n; i++) {
        const float *x = g->x[i], *w = g->w[i];
        int32_t index[FIT_LANES];
        float level[FIT_LANES];
        for (int l = 0; l < FIT_LANES; l++) {
            float t = x[l] * inverse[l];
            t = t > -127 ? t : -127;
            t = t < 113 ? t : 113;
            index[l] = (int32_t)(2 * t + 254);
        }
        for (int l = 0; l < FIT_LANES; l++) level[l] = quant_iq4_values[fit_iq4_codes[index[l]]];
        for (int l = 0; l < FIT_LANES; l++) {
            float q = level[l], r = x[l] - scale[l] * q, wq = w[l] * q;
            error[l] += w[l] * r * r;
            xq[l] += wq * x[l];
            qq[l] += wq * q;
        }
    }
    memcpy(out->error, error, sizeof error);
    memcpy(out->xq, xq, sizeof xq);
    memcpy(out->qq, qq, sizeof qq);
}

void fit_line_pass_ref(const struct fit_group *g, float top, const float *scale, const float *offset,
                       struct fit_sums *out)
{
    float inverse[FIT_LANES], error[FIT_LANES] = {0}, xq[FIT_LANES] = {0}, qq[FIT_LANES] = {0};
    float sum_q[FIT_LANES] = {0};
    fit_reciprocals(scale, inverse);
    for (int i = 0; i < g->n; i++) {
        const float *x = g->x[i], *w = g->w[i];
        for (int l = 0; l < FIT_LANES; l++) {
            float q = (x[l] - offset[l]) * inverse[l];
            q = q > 0 ? q : 0;
            q = q < top ? q : top;
            q = (q + 0x1.8p23f) - 0x1.8p23f;
            float r = x[l] - (scale[l] * q + offset[l]), wq = w[l] * q;
            error[l] += w[l] * r * r;
            xq[l] += wq * x[l];
            qq[l] += wq * q;
            sum_q[l] += wq;
        }
    }
    memcpy(out->error, error, sizeof error);
    memcpy(out->xq, xq, sizeof xq);
    memcpy(out->qq, qq, sizeof qq);
    memcpy(out->q, sum_q, sizeof sum_q);
}

void fit_line_error_ref(const struct fit_group *g, float top, const float *scale, const float *offset,
                        float *out)
{
    float inverse[FIT_LANES], error[FIT_LANES] = {0};
    fit_reciprocals(scale, inverse);
    for (int i = 0; i < g->n; i++) {
        const float *x = g->x[i], *w = g->w[i];
        for (int l = 0; l < FIT_LANES; l++) {
            float q = (x[l] - offset[l]) * inverse[l];
            q = q > 0 ? q : 0;
            q = q < top ? q : top;
            q = (q + 0x1.8p23f) - 0x1.8p23f;
            float r = x[l] - (scale[l] * q + offset[l]);
            error[l] += w[l] * r * r;
        }
    }
    memcpy(out, error, sizeof error);
}

// ---- which form ---------------------------------------------------------------------------------------

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

void fit_scale_pass(const struct fit_group *g, const struct fit_levels *levels, const float *scale,
                    struct fit_sums *out)
{
    if (levels->iq4)
        iq4_pass(g, scale, out);
    else
        (has_avx2() ? fit_whole_pass_avx2 : fit_whole_pass_ref)(g, levels, scale, out);
}

void fit_line_pass(const struct fit_group *g, float top, const float *scale, const float *offset,
                   struct fit_sums *out)
{
    (has_avx2() ? fit_line_pass_avx2 : fit_line_pass_ref)(g, top, scale, offset, out);
}

void fit_line_error(const struct fit_group *g, float top, const float *scale, const float *offset, float *out)
{
    (has_avx2() ? fit_line_error_avx2 : fit_line_error_ref)(g, top, scale, offset, out);
}
