// quant/methods/gptq_sub.h -- the levels of one sub-block of several rows, found together with its scales.
#ifndef QUANT_METHODS_GPTQ_SUB_H
#define QUANT_METHODS_GPTQ_SUB_H

#include "quant/grid.h"

// Columns of a sub-block in the order in which they are rounded, FIT_LANES rows side by side. x: what each should be, all that was
// rounded before being made up for. A column that is rounded to q changes those behind it by (q - x) u; the error is the sum of
// d (q - x)^2. With V the inverse of u: zx = x V, z1 = 1 V.
struct gptq_sub {
    const struct grid *grid;
    int n;
    float x[FIT_NUMBERS][FIT_LANES], u[FIT_NUMBERS][FIT_NUMBERS], d[FIT_NUMBERS];
    float zx[FIT_NUMBERS][FIT_LANES], z1[FIT_NUMBERS];
};

// What came out: the codes, and q - x of each column when its turn came.
struct gptq_levels {
    float scale[FIT_LANES], offset[FIT_LANES], error[FIT_LANES];
    float change[FIT_NUMBERS][FIT_LANES];
    uint8_t code[FIT_NUMBERS][FIT_LANES];
};

// Works out zx and z1.
void gptq_sub_prepare(struct gptq_sub *s);
// The best of scales and codes that a search finds, which begins with the scales that sub-block `at` of each lane's block has and leaves
// there what it found.
void gptq_sub_round(const struct gptq_sub *s, struct grid_block *const block[FIT_LANES], int at,
                    struct gptq_levels *best);

#endif
