// quant/iq2.c -- IQ2_XXS, IQ2_XS, IQ2_S: eight numbers a code, magnitudes 8, 25 and 43; read only.
#include "quant/formats.h"
#include "quant/iq_tables.h"

// Eight numbers: scale times the magnitudes of `entry`, minus where a bit of `signs` is set.
static void put_eight(float *y, float scale, uint16_t entry, uint8_t signs)
{
    static const float magnitude[4] = {8, 25, 43, 0}; // entries have no 3
    for (int j = 0; j < 8; j++) {
        float value = scale * magnitude[entry >> 2 * j & 3];
        y[j] = signs >> j & 1 ? -value : value;
    }
}

static float sub_scale(float d, unsigned scale)
{
    return d * (0.5f + (float)scale) * 0.25f;
}

void iq2_xxs_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_iq2_xxs *b = x;
    for (; count > 0; count -= QUANT_SUPER, b++)
        for (int s = 0; s < 8; s++) {
            const uint16_t codes[2] = {b->qs[4 * s], b->qs[4 * s + 1]};
            uint32_t rest = b->qs[4 * s + 2] | (uint32_t)b->qs[4 * s + 3] << 16;
            float scale = sub_scale(f32_from_f16(b->d), rest >> 28);
            for (int k = 0; k < 4; k++, y += 8)
                put_eight(y, scale, quant_iq2_xxs_grid[codes[k >> 1] >> 8 * (k & 1) & 255],
                          quant_iq_signs(rest >> 7 * k & 127));
        }
}

void iq2_xs_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_iq2_xs *b = x;
    for (; count > 0; count -= QUANT_SUPER, b++)
        for (int k = 0; k < 32; k++, y += 8) {
            float scale = sub_scale(f32_from_f16(b->d), b->scales[k >> 2] >> (k & 2 ? 4 : 0) & 15);
            put_eight(y, scale, quant_iq2_xs_grid[b->qs[k] & 511], quant_iq_signs(b->qs[k] >> 9));
        }
}

void iq2_s_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_iq2_s *b = x;
    for (; count > 0; count -= QUANT_SUPER, b++)
        for (int k = 0; k < 32; k++, y += 8) {
            float scale = sub_scale(f32_from_f16(b->d), b->scales[k >> 2] >> (k & 2 ? 4 : 0) & 15);
            int code = b->qs[k] | (b->qh[k >> 2] >> 2 * (k & 3) & 3) << 8;
            put_eight(y, scale, quant_iq2_s_grid[code], b->signs[k]);
        }
}
