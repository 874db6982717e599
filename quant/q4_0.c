// quant/q4_0.c -- Q4_0: 32 numbers, a scale, 4-bit codes from -8 to 7.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { N = 32 };

void q4_0_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q4_0 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = f32_from_f16(b->d);
        uint8_t code[N];
        bits_unpack_nibbles(b->qs, code);
        for (int j = 0; j < N; j++) y[i + j] = d * (float)(code[j] - 8);
    }
}

static void write_block(void *y, int64_t block, const struct fit_block *b)
{
    struct block_q4_0 *out = (struct block_q4_0 *)y + block;
    out->d = b->d;
    bits_pack_nibbles(out->qs, b->code);
}

const struct grid q4_0_grid = {.block = N, .sub = N, .levels = {.low = -8, .high = 7}, .write = write_block};

void q4_0_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    if (importance)
        fit_blocks_scale(y, x, importance, count, &q4_0_grid.levels, write_block);
    else
        fit_round_scale(y, x, count, 8, write_block);
}
