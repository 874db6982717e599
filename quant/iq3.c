// quant/iq3.c -- IQ3_XXS, IQ3_S: four numbers a code, eight magnitudes; read only.
#include "quant/formats.h"
#include "quant/iq_tables.h"

static void put_four(float *y, float scale, const float magnitude[8], uint16_t entry, unsigned signs)
{
    for (int j = 0; j < 4; j++) {
        float value = scale * magnitude[entry >> 4 * j & 7];
        y[j] = signs >> j & 1 ? -value : value;
    }
}

void iq3_xxs_dequantize(float *y, const void *x, int64_t count)
{
    static const float magnitude[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    const struct block_iq3_xxs *b = x;
    for (; count > 0; count -= QUANT_SUPER, b++)
        for (int s = 0; s < 8; s++) {
            uint32_t rest;
            memcpy(&rest, b->signs + 4 * s, 4);
            float scale = f32_from_f16(b->d) * (0.5f + (float)(rest >> 28)) * 0.5f;
            for (int k = 0; k < 8; k++, y += 4) {
                uint8_t signs = quant_iq_signs(rest >> 7 * (k >> 1) & 127);
                put_four(y, scale, magnitude, quant_iq3_xxs_grid[b->qs[8 * s + k]], signs >> 4 * (k & 1));
            }
        }
}

void iq3_s_dequantize(float *y, const void *x, int64_t count)
{
    static const float magnitude[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    const struct block_iq3_s *b = x;
    for (; count > 0; count -= QUANT_SUPER, b++)
        for (int k = 0; k < 64; k++, y += 4) {
            int code = b->qs[k] | (b->qh[k >> 3] >> (k & 7) & 1) << 8;
            float scale = f32_from_f16(b->d) * (float)(1 + 2 * (b->scales[k >> 4] >> (k & 8 ? 4 : 0) & 15));
            put_four(y, scale, magnitude, quant_iq3_s_grid[code], b->signs[k >> 1] >> 4 * (k & 1));
        }
}
