// quant/iq4_nl.c -- IQ4_NL: 32 numbers, a scale, 4-bit codes for values that lie closer together near zero.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { N = 32 };

const int8_t quant_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

void iq4_nl_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_iq4_nl *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = f32_from_f16(b->d);
        uint8_t code[N];
        bits_unpack_nibbles(b->qs, code);
        for (int j = 0; j < N; j++) y[i + j] = d * (float)quant_iq4_values[code[j]];
    }
}

static void write_block(void *y, int64_t block, const struct fit_block *b)
{
    struct block_iq4_nl *out = (struct block_iq4_nl *)y + block;
    out->d = b->d;
    bits_pack_nibbles(out->qs, b->code);
}

const struct grid iq4_nl_grid = {
    .block = N, .sub = N, .levels = {.low = -127, .high = 113, .iq4 = true}, .write = write_block};

void iq4_nl_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    fit_blocks_scale(y, x, importance, count, &iq4_nl_grid.levels, write_block);
}
