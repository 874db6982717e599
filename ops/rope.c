// ops/rope.c -- rotary position embedding: the table of angles, and the rotation of queries and keys by it.
//
// Pair i of a head at position p turns by the angle p * freq[i] (Su et al., arXiv 2104.09864):
//
//     y0 = x0 cos - x1 sin,   y1 = x1 cos + x0 sin
//
// Angles are computed in double: at position 100,000 a float angle would be off by 0.004. The scaling rules
// (linear, YaRN, Llama 3, LongRoPE) are all in `freq` and `magnitude`.
#include <math.h>
#include <string.h>

#include "ops/ops.h"

void REF(rope_table_fwd)(real *table, const int32_t *pos, const double *freq, int64_t rows, int32_t pairs,
                         double magnitude)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < pairs; i++, table += 2) {
            double angle = pos[r] * freq[i];
            table[0] = (real)(cos(angle) * magnitude);
            table[1] = (real)(sin(angle) * magnitude);
        }
    }
}

// x and y: (rows, heads, head_dim); table: (rows, pairs, 2). y may be x.
void REF(rope_fwd)(real *y, const real *x, const real *table, int64_t rows, int32_t heads, int32_t head_dim,
                   int32_t pairs, enum rope_pairing pairing)
{
    int32_t step = pairing == ROPE_ADJACENT ? 2 : 1;      // from a pair's first number to the next pair's
    int32_t apart = pairing == ROPE_ADJACENT ? 1 : pairs; // from a pair's first number to its second
    for (int64_t r = 0; r < rows; r++, table += 2 * pairs) {
        for (int32_t h = 0; h < heads; h++, x += head_dim, y += head_dim) {
            for (int32_t i = 0; i < pairs; i++) {
                real c = table[2 * i], s = table[2 * i + 1];
                real x0 = x[i * step], x1 = x[i * step + apart];
                y[i * step] = x0 * c - x1 * s;
                y[i * step + apart] = x1 * c + x0 * s;
            }
            if (y != x) memcpy(y + 2 * pairs, x + 2 * pairs, (size_t)(head_dim - 2 * pairs) * sizeof *y);
        }
    }
}
