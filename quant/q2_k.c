// quant/q2_k.c -- Q2_K: 256 numbers in 16 sub-blocks with 4-bit scales and minima, 2-bit codes.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { SUB = 16, TOP = 3, MULTIPLE = 15 };

void q2_k_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q2_k *b = x;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        float d = f32_from_f16(b->d), dmin = f32_from_f16(b->dmin);
        uint8_t code[QUANT_SUPER];
        bits_unpack_pairs(b->qs, code);
        for (int s = 0; s < QUANT_SUPER / SUB; s++) {
            float scale = d * (float)(b->scales[s] & 15), min = dmin * (float)(b->scales[s] >> 4);
            for (int j = SUB * s; j < SUB * (s + 1); j++) y[i + j] = scale * (float)code[j] - min;
        }
    }
}

static void pack(void *block, const struct grid_block *b)
{
    struct block_q2_k *out = block;
    out->d = b->d;
    out->dmin = b->m;
    for (int s = 0; s < QUANT_SUPER / SUB; s++) out->scales[s] = (uint8_t)(b->scale[s] | b->min[s] << 4);
    bits_pack_pairs(out->qs, b->code);
}

const struct grid q2_k_grid = {.block = QUANT_SUPER,
                               .sub = SUB,
                               .levels = {.high = TOP},
                               .offset = true,
                               .high = MULTIPLE,
                               .bytes = sizeof(struct block_q2_k),
                               .pack = pack};

void q2_k_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    grid_quantize(&q2_k_grid, y, x, count, importance);
}
