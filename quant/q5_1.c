// quant/q5_1.c -- Q5_1: 32 numbers, a scale and a minimum, 5-bit codes.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { N = 32 };

void q5_1_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q5_1 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = f32_from_f16(b->d), m = f32_from_f16(b->m);
        uint8_t code[N];
        bits_unpack_nibbles(b->qs, code);
        bits_unpack_fifth(b->qh, code);
        for (int j = 0; j < N; j++) y[i + j] = d * (float)code[j] + m;
    }
}

static void write_block(void *y, int64_t block, const struct fit_block *b)
{
    struct block_q5_1 *out = (struct block_q5_1 *)y + block;
    out->d = b->d;
    out->m = b->m;
    bits_pack_fifth(out->qh, b->code);
    bits_pack_nibbles(out->qs, b->code);
}

const struct grid q5_1_grid = {
    .block = N, .sub = N, .levels = {.low = 0, .high = 31}, .offset = true, .write = write_block};

void q5_1_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    if (importance)
        fit_blocks_line(y, x, importance, count, 31, write_block);
    else
        fit_round_line(y, x, count, 31, write_block);
}
