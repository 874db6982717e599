// quant/q8_0.c -- Q8_0: 32 numbers, a scale, bytes.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { N = 32, TOP = 127 };

void q8_0_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q8_0 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = f32_from_f16(b->d);
        for (int j = 0; j < N; j++) y[i + j] = d * (float)b->qs[j];
    }
}

static void write_block(void *y, int64_t block, const struct fit_block *b)
{
    struct block_q8_0 *out = (struct block_q8_0 *)y + block;
    out->d = b->d;
    for (int j = 0; j < N; j++) out->qs[j] = (int8_t)(b->code[j] - TOP);
}

// -128 is left out, as in rounding: kernels may rely on it.
const struct grid q8_0_grid = {
    .block = N, .sub = N, .levels = {.low = -TOP, .high = TOP}, .write = write_block};

// The number of largest size becomes 127 or -127; halves go away from zero.
static void round_block(struct block_q8_0 *b, const float *x)
{
    float peak = 0;
    for (int j = 0; j < N; j++) peak = fabsf(x[j]) > peak ? fabsf(x[j]) : peak;
    float d = peak / TOP, inverse = d == 0 ? 0 : 1 / d;
    b->d = f16_from_f32(d);
    for (int j = 0; j < N; j++) b->qs[j] = (int8_t)bits_byte(roundf(x[j] * inverse));
}

void q8_0_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    struct block_q8_0 *b = y;
    if (importance)
        fit_blocks_scale(y, x, importance, count, &q8_0_grid.levels, write_block);
    else
        for (int64_t i = 0; i < count; i += N) round_block(b + i / N, x + i);
}
