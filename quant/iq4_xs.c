// quant/iq4_xs.c -- IQ4_XS: 256 numbers in 8 sub-blocks with 6-bit scales, codes as in IQ4_NL.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { SUB = 32, SUBS = QUANT_SUPER / SUB };

void iq4_xs_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_iq4_xs *b = x;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        float d = f32_from_f16(b->d);
        for (int s = 0; s < SUBS; s++) {
            int low = b->scales_l[s / 2] >> 4 * (s & 1) & 15, high = b->scales_h >> 2 * s & 3;
            float ds = d * (float)((low | high << 4) - 32);
            uint8_t code[SUB];
            bits_unpack_nibbles(b->qs + 16 * s, code);
            for (int j = 0; j < SUB; j++) y[i + SUB * s + j] = ds * (float)quant_iq4_values[code[j]];
        }
    }
}

static void pack(void *block, const struct grid_block *b)
{
    struct block_iq4_xs *out = block;
    unsigned high = 0;
    memset(out->scales_l, 0, sizeof out->scales_l);
    for (int s = 0; s < SUBS; s++) {
        unsigned value = (unsigned)(b->scale[s] + 32);
        out->scales_l[s / 2] |= (uint8_t)((value & 15) << 4 * (s & 1));
        high |= value >> 4 << 2 * s;
        bits_pack_nibbles(out->qs + 16 * s, b->code + SUB * s);
    }
    out->d = b->d;
    out->scales_h = (uint16_t)high;
}

const struct grid iq4_xs_grid = {.block = QUANT_SUPER,
                                 .sub = SUB,
                                 .levels = {.low = -127, .high = 113, .iq4 = true},
                                 .low = -32,
                                 .high = 31,
                                 .bytes = sizeof(struct block_iq4_xs),
                                 .pack = pack};

void iq4_xs_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    grid_quantize(&iq4_xs_grid, y, x, count, importance);
}
