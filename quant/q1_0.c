// quant/q1_0.c -- Q1_0: 128 numbers, a scale, the sign of each number.
#include "quant/formats.h"

enum { N = 128 };

void q1_0_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q1_0 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = f32_from_f16(b->d);
        for (int j = 0; j < N; j++) y[i + j] = b->qs[j >> 3] >> (j & 7) & 1 ? d : -d;
    }
}
