// quant/q4_k.c -- Q4_K: 256 numbers in 8 sub-blocks with 6-bit scales and minima, 4-bit codes.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { SUB = 32, TOP = 15, MULTIPLE = 63 };

void q4_k_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q4_k *b = x;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        float d = f32_from_f16(b->d), dmin = f32_from_f16(b->dmin);
        uint8_t scale[8], min[8], code[QUANT_SUPER];
        quant_unpack_6bit(b->scales, scale, min);
        bits_unpack_nibbles_64(b->qs, code);
        for (int s = 0; s < 8; s++) {
            float ds = d * (float)scale[s], m = dmin * (float)min[s];
            for (int j = SUB * s; j < SUB * (s + 1); j++) y[i + j] = ds * (float)code[j] - m;
        }
    }
}

static void pack(void *block, const struct grid_block *b)
{
    struct block_q4_k *out = block;
    out->d = b->d;
    out->dmin = b->m;
    bits_pack_6bit(out->scales, b->scale, b->min);
    bits_pack_nibbles_64(out->qs, b->code);
}

const struct grid q4_k_grid = {.block = QUANT_SUPER,
                               .sub = SUB,
                               .levels = {.high = TOP},
                               .offset = true,
                               .high = MULTIPLE,
                               .bytes = sizeof(struct block_q4_k),
                               .pack = pack};

void q4_k_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    grid_quantize(&q4_k_grid, y, x, count, importance);
}
