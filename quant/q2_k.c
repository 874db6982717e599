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

void q2_k_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    struct block_q2_k *b = y;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        struct fit_lines fit;
        uint8_t code[QUANT_SUPER];
        fit_super_line(x + i, importance ? importance + i : NULL, SUB, TOP, MULTIPLE, &fit);
        fit_line_codes(x + i, SUB, TOP, &fit, code);
        b->d = fit.d;
        b->dmin = fit.dmin;
        for (int s = 0; s < QUANT_SUPER / SUB; s++) b->scales[s] = (uint8_t)(fit.scale[s] | fit.min[s] << 4);
        bits_pack_pairs(b->qs, code);
    }
}
