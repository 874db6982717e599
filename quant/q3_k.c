// quant/q3_k.c -- Q3_K: 256 numbers in 16 sub-blocks with 6-bit scales, 3-bit codes from -4 to 3.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { SUB = 16, SUBS = QUANT_SUPER / SUB };

void q3_k_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q3_k *b = x;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        float d = f32_from_f16(b->d);
        int8_t scale[SUBS];
        uint8_t code[QUANT_SUPER];
        quant_unpack_q3_k(b->scales, scale);
        bits_unpack_pairs(b->qs, code);
        for (int s = 0; s < SUBS; s++) {
            float ds = d * (float)scale[s];
            for (int j = SUB * s; j < SUB * (s + 1); j++) {
                int q = code[j] | (b->hmask[j & 31] >> (j >> 5) & 1) << 2;
                y[i + j] = ds * (float)(q - 4);
            }
        }
    }
}

static void pack_scales(uint8_t packed[12], const int sub[SUBS])
{
    memset(packed, 0, 12);
    for (int s = 0; s < SUBS; s++) {
        int value = sub[s] + 32;
        packed[s & 7] |= (uint8_t)((value & 15) << (s < 8 ? 0 : 4));
        packed[8 + (s & 3)] |= (uint8_t)(value >> 4 << 2 * (s >> 2));
    }
}

static void pack(void *block, const struct grid_block *b)
{
    struct block_q3_k *out = block;
    out->d = b->d;
    pack_scales(out->scales, b->scale);
    bits_pack_pairs(out->qs, b->code);
    bits_pack_planes(out->hmask, b->code, 2);
}

const struct grid q3_k_grid = {.block = QUANT_SUPER,
                               .sub = SUB,
                               .levels = {.low = -4, .high = 3},
                               .low = -32,
                               .high = 31,
                               .bytes = sizeof(struct block_q3_k),
                               .pack = pack};

void q3_k_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    grid_quantize(&q3_k_grid, y, x, count, importance);
}
