// quant/grid.h -- formats as grids of levels, for rounding that goes number by number: a block's scales are found first, then each number
// takes its level, while those behind it make up for what was rounded before.
#ifndef QUANT_GRID_H
#define QUANT_GRID_H

#include "quant/fit.h"
#include "quant/quant.h"

// A block as it will be stored. With a = f16 d, b = f16 m and the multiples of sub-block s, number i stands for
//
//     blocks of 32           a level(code[i]) + b              b only where the grid has an offset
//     super-blocks           a scale[s] level(code[i]) - b min[s]
struct grid_block {
    uint16_t d, m;
    int scale[FIT_SUBS], min[FIT_SUBS];
    uint8_t code[QUANT_SUPER];
};

struct grid {
    int block, sub;           // numbers of a block and of a sub-block; equal where it has none
    struct fit_levels levels; // of codes, which count from 0: level of code 0 is levels.low
    bool offset;
    int low, high;                                         // of the multiples
    fit_write_fn *write;                                   // of blocks of 32
    size_t bytes;                                          // of a super-block
    void (*pack)(void *block, const struct grid_block *b); // of super-blocks
};

// Rounds count numbers into super-blocks, by the search alone: codes are those nearest with the scales as they are stored. w may be NULL.
void grid_quantize(const struct grid *g, void *y, const float *x, int64_t count, const float *w);
void grid_pack(const struct grid *g, void *block, const struct grid_block *b);

// The f16 numbers and multiples that make the weighted sum of squares small, for count <= FIT_LANES blocks, numbers of each side by
// side in x and w. Codes are left alone.
void grid_fit(const struct grid *g, const float *x, const float *w, int count, struct grid_block *out);
// The multiples (and f16 numbers of blocks without sub-blocks) nearest to a scale and an offset that sub-block s would like.
void grid_near(const struct grid *g, struct grid_block *b, int s, float scale, float offset);
// What sub-block s stands for: number = *scale * level + *offset.
static inline void grid_line(const struct grid *g, const struct grid_block *b, int s, float *scale,
                             float *offset)
{
    float d = f32_from_f16(b->d), m = g->offset ? f32_from_f16(b->m) : 0;
    *scale = g->sub < g->block ? d * (float)b->scale[s] : d;
    *offset = g->sub < g->block ? -(m * (float)b->min[s]) : m;
}
static inline float grid_level(const struct grid *g, int code)
{
    return g->levels.iq4 ? (float)quant_iq4_values[code] : g->levels.low + (float)code;
}

#endif
