// quant/q5_k.c -- Q5_K: 256 numbers in 8 sub-blocks with 6-bit scales and minima, 5-bit codes.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { SUB = 32, TOP = 31, MULTIPLE = 63 };

void q5_k_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q5_k *b = x;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        float d = f32_from_f16(b->d), dmin = f32_from_f16(b->dmin);
        uint8_t scale[8], min[8], code[QUANT_SUPER];
        quant_unpack_6bit(b->scales, scale, min);
        bits_unpack_nibbles_64(b->qs, code);
        for (int s = 0; s < 8; s++) {
            float ds = d * (float)scale[s], m = dmin * (float)min[s];
            for (int j = 0; j < SUB; j++) {
                int q = code[SUB * s + j] | (b->qh[j] >> s & 1) << 4;
                y[i + SUB * s + j] = ds * (float)q - m;
            }
        }
    }
}

static void pack(void *block, const struct grid_block *b)
{
    struct block_q5_k *out = block;
    out->d = b->d;
    out->dmin = b->m;
    bits_pack_6bit(out->scales, b->scale, b->min);
    bits_pack_nibbles_64(out->qs, b->code);
    bits_pack_planes(out->qh, b->code, 4);
}

const struct grid q5_k_grid = {.block = QUANT_SUPER,
                               .sub = SUB,
                               .levels = {.high = TOP},
                               .offset = true,
                               .high = MULTIPLE,
                               .bytes = sizeof(struct block_q5_k),
                               .pack = pack};

void q5_k_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    grid_quantize(&q5_k_grid, y, x, count, importance);
}
