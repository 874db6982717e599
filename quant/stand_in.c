#include "quant/stand_in.h"

#include <math.h>

#include "core/rng.h"
#include "quant/quant.h"

void stand_in_draw(const struct tensor *t, float *row)
{
    const int64_t k = t->ne[0], rows = t->ne[1] * t->ne[2] * t->ne[3];
    const float size = sqrtf(3.0f / (float)k);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < k; i++)
            row[i] = size * (float)(2 * rng_uniform(1, (uint64_t)r, (uint64_t)i) - 1);
        quant_types[t->type].quantize(tensor_row(t, r), row, k, NULL);
    }
}
