// quant/q5_0.c -- Q5_0: 32 numbers, a scale, 5-bit codes from -16 to 15.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { N = 32 };

void q5_0_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q5_0 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = f32_from_f16(b->d);
        uint8_t code[N];
        bits_unpack_nibbles(b->qs, code);
        bits_unpack_fifth(b->qh, code);
        for (int j = 0; j < N; j++) y[i + j] = d * (float)(code[j] - 16);
    }
}

static void write_block(void *y, int64_t block, const struct fit_block *b)
{
    struct block_q5_0 *out = (struct block_q5_0 *)y + block;
    out->d = b->d;
    bits_pack_fifth(out->qh, b->code);
    bits_pack_nibbles(out->qs, b->code);
}

const struct grid q5_0_grid = {
    .block = N, .sub = N, .levels = {.low = -16, .high = 15}, .write = write_block};

void q5_0_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    if (importance)
        fit_blocks_scale(y, x, importance, count, &q5_0_grid.levels, write_block);
    else
        fit_round_scale(y, x, count, 16, write_block);
}
