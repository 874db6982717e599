// quant/q6_k.c -- Q6_K: 256 numbers in 16 sub-blocks with 8-bit scales, 6-bit codes from -32 to 31.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { SUB = 16, SUBS = QUANT_SUPER / SUB };

static void unpack_codes(const struct block_q6_k *b, uint8_t code[QUANT_SUPER])
{
    bits_unpack_pairs(b->qh, code);
    for (int h = 0; h < 2; h++)
        for (int j = 0; j < 64; j++) {
            uint8_t *c = code + 128 * h + j, low = b->ql[64 * h + j];
            c[0] = (uint8_t)((low & 15) | c[0] << 4);
            c[64] = (uint8_t)(low >> 4 | c[64] << 4);
        }
}

static void pack_codes(struct block_q6_k *b, const uint8_t code[QUANT_SUPER])
{
    uint8_t high[QUANT_SUPER];
    for (int j = 0; j < QUANT_SUPER; j++) high[j] = code[j] >> 4;
    bits_pack_pairs(b->qh, high);
    for (int h = 0; h < 2; h++)
        for (int j = 0; j < 64; j++) {
            const uint8_t *c = code + 128 * h + j;
            b->ql[64 * h + j] = (uint8_t)((c[0] & 15) | c[64] << 4);
        }
}

void q6_k_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q6_k *b = x;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        float d = f32_from_f16(b->d);
        uint8_t code[QUANT_SUPER];
        unpack_codes(b, code);
        for (int s = 0; s < SUBS; s++) {
            float ds = d * (float)b->scales[s];
            for (int j = SUB * s; j < SUB * (s + 1); j++) y[i + j] = ds * (float)(code[j] - 32);
        }
    }
}

static void pack(void *block, const struct grid_block *b)
{
    struct block_q6_k *out = block;
    out->d = b->d;
    for (int s = 0; s < SUBS; s++) out->scales[s] = (int8_t)b->scale[s];
    pack_codes(out, b->code);
}

const struct grid q6_k_grid = {.block = QUANT_SUPER,
                               .sub = SUB,
                               .levels = {.low = -32, .high = 31},
                               .low = -128,
                               .high = 127,
                               .bytes = sizeof(struct block_q6_k),
                               .pack = pack};

void q6_k_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    grid_quantize(&q6_k_grid, y, x, count, importance);
}
