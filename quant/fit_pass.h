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

// Rounds to whole numbers.
typedef void fit_whole_pass_fn(const struct fit_group *g, const struct fit_levels *levels, const float *scale,
                               struct fit_sums *out);
typedef void fit_line_pass_fn(const struct fit_group *g, float top, const float *scale, const float *offset,
                              struct fit_sums *out);
// The error alone, which is cheaper.
typedef void fit_line_error_fn(const struct fit_group *g, float top, const float *scale, const float *offset,
                               float *out);
fit_whole_pass_fn fit_whole_pass_ref, fit_whole_pass_avx2;
fit_line_pass_fn fit_line_pass_ref, fit_line_pass_avx2;
fit_line_error_fn fit_line_error_ref, fit_line_error_avx2;

// The best form for this processor; all have the same bits.
void fit_scale_pass(const struct fit_group *g, const struct fit_levels *levels, const float *scale,
                    struct fit_sums *out);
fit_line_pass_fn fit_line_pass;
fit_line_error_fn fit_line_error;

#endif
