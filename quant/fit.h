// quant/fit.h -- the search behind the quantizers: scales and minima that make the (weighted) sum of squares
// small.
//
// For given codes the best scale is a least squares problem with a closed form, and for a given scale the
// best codes are found by rounding. Taking the two in turn never makes the error larger, so from a handful of
// starts it ends in good, often the best, answers. Eight sub-blocks are searched side by side, number i of
// all in one row of floats, so that plain loops over the lanes become vector instructions without any
// reordering of sums: the result is the same on every machine.
#ifndef QUANT_FIT_H
#define QUANT_FIT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FIT_LANES = 8,
    FIT_NUMBERS = 32, // of a sub-block, at most
    FIT_SUBS = 16,    // sub-blocks of a super-block, at most
};

// Sub-blocks of n numbers and their weights; lanes without a sub-block are all zero.
struct fit_group {
    int n;
    float x[FIT_NUMBERS][FIT_LANES], w[FIT_NUMBERS][FIT_LANES];
    float sum_x[FIT_LANES], sum_w[FIT_LANES]; // of w x and w
};

// `subs` (at most FIT_LANES) sub-blocks of n numbers that follow each other at x; weights w or NULL, which is
// 1 for all.
void fit_gather(struct fit_group *g, const float *x, const float *w, int n, int subs);

// What the codes of a format without minimum stand for: the whole numbers from low to high, or, with `iq4`,
// the 16 values of IQ4 (low and high are their ends).
struct fit_levels {
    float low, high;
    bool iq4;
};

// The code, counted from 0, of the level nearest to t; a NaN gives some code.
uint8_t fit_code(const struct fit_levels *levels, float t);

// For each lane the scale, of any sign, with which x ~ scale * level is best.
void fit_scale(const struct fit_group *g, const struct fit_levels *levels, float scale[FIT_LANES]);
// The same with x ~ scale * q + offset, q = 0 ... top, scale >= 0. With `lower` the offset is at most 0.
void fit_line(const struct fit_group *g, int top, bool lower, float scale[FIT_LANES],
              float offset[FIT_LANES]);

// The same for a run of blocks of 32 numbers, each with an f16 scale (and an f16 offset of any sign), count /
// 32 of them. The codes are those nearest with the scale as it is stored, counted from 0. `write` is called
// for one block after the other, with y as it was given.
struct fit_block {
    uint16_t d, m;
    uint8_t code[32];
};
typedef void fit_write_fn(void *y, int64_t block, const struct fit_block *b);
void fit_blocks_scale(void *y, const float *x, const float *w, int64_t count, const struct fit_levels *levels,
                      fit_write_fn *write);
void fit_blocks_line(void *y, const float *x, const float *w, int64_t count, int top, fit_write_fn *write);

// The same without a search, as the gguf package rounds: the number of largest size becomes -half, whatever its sign, and
// codes go from 0 (-half) to 2 half - 1; or the smallest number becomes code 0, the largest code `top`.
void fit_round_scale(void *y, const float *x, int64_t count, int half, fit_write_fn *write);
void fit_round_line(void *y, const float *x, int64_t count, int top, fit_write_fn *write);

// A super-block without minimum: x ~ d sub[s] level, sub from low to high, d an f16.
struct fit_scales {
    uint16_t d;
    int sub[FIT_SUBS];
};
void fit_super_scale(const float *x, const float *w, int n, const struct fit_levels *levels, int low,
                     int high, struct fit_scales *out);

// A super-block with minimum: x ~ d scale[s] q - dmin min[s], q = 0 ... top, scale and min from 0 to high.
struct fit_lines {
    uint16_t d, dmin;
    int scale[FIT_SUBS], min[FIT_SUBS];
};
void fit_super_line(const float *x, const float *w, int n, int top, int high, struct fit_lines *out);

#endif
