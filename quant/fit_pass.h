// quant/fit_pass.h -- the inner loops of the search: round all numbers of a group by given scales, and sum
// up.
//
// One pass gives both the error of the scales it was called with and the sums from which the least squares
// formulas find the scales that are best for the codes it took.
#ifndef QUANT_FIT_PASS_H
#define QUANT_FIT_PASS_H

#include <math.h>
#include <string.h>

#include "quant/fit.h"
#include "quant/quant.h"

extern const uint8_t fit_iq4_codes[481];

struct fit_trial {
    float scale[FIT_LANES], offset[FIT_LANES], error[FIT_LANES];
};

// Sums over the numbers of each lane, w the weight, q the level that was taken.
struct fit_sums {
    float error[FIT_LANES];             // w (x - what the level stands for)^2
    float xq[FIT_LANES], qq[FIT_LANES]; // w x q, w q q
    float q[FIT_LANES];                 // w q; only of fit_line_pass
};

// The whole number from low to high that is nearest to x (a NaN: low); x is of any size.
static inline int fit_whole(float x, int low, int high)
{
    float lo = (float)low, hi = (float)high;
    x = x > lo ? x : lo;
    x = x < hi ? x : hi;
    return (int)((x + 0x1.8p23f) - 0x1.8p23f); // rounds to even at half
}

// The f16 next to x, but no infinity.
static inline uint16_t fit_f16(float x)
{
    x = x < 65504 ? x : 65504;
    x = x > -65504 ? x : -65504;
    return f16_from_f32(x);
}

// 1 / scale; where that would be infinite, 0, so that all numbers take the level next to 0.
static inline float fit_reciprocal(float scale)
{
    float inverse = 1 / scale;
    return fabsf(inverse) < 0x1p126f ? inverse : 0;
}

static inline void fit_reciprocals(const float *scale, float *inverse)
{
    for (int l = 0; l < FIT_LANES; l++) inverse[l] = fit_reciprocal(scale[l]);
}

static inline void fit_whole_pass(const struct fit_group *g, const struct fit_levels *levels,
                                  const float *scale, struct fit_sums *out)
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

static inline void fit_iq4_pass(const struct fit_group *g, const float *scale, struct fit_sums *out)
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

static inline void fit_scale_pass(const struct fit_group *g, const struct fit_levels *levels,
                                  const float *scale, struct fit_sums *out)
{
    if (levels->iq4)
        fit_iq4_pass(g, scale, out);
    else
        fit_whole_pass(g, levels, scale, out);
}

static inline void fit_line_pass(const struct fit_group *g, float top, const float *scale,
                                 const float *offset, struct fit_sums *out)
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

// The error alone, which is cheaper.
static inline void fit_line_error(const struct fit_group *g, float top, const float *scale,
                                  const float *offset, float *out)
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

#endif
