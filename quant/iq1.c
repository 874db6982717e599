// quant/iq1.c -- IQ1_S, IQ1_M: eight numbers a code, each -1, 0 or 1 moved by 1/8 up or down; read only.
#include "quant/formats.h"
#include "quant/iq_tables.h"

static void put_eight(float *y, float scale, uint16_t entry, bool minus)
{
    float delta = minus ? -0.125f : 0.125f;
    for (int j = 0; j < 8; j++) y[j] = scale * ((float)(entry >> 2 * j & 3) - 1 + delta);
}

void iq1_s_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_iq1_s *b = x;
    for (; count > 0; count -= QUANT_SUPER, b++)
        for (int k = 0; k < 32; k++, y += 8) {
            unsigned high = b->qh[k >> 2], code = b->qs[k] | (high >> 3 * (k & 3) & 7) << 8;
            float scale = f32_from_f16(b->d) * (float)(2 * (high >> 12 & 7) + 1);
            put_eight(y, scale, quant_iq1_grid[code], high >> 15);
        }
}

void iq1_m_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_iq1_m *b = x;
    for (; count > 0; count -= QUANT_SUPER, b++) {
        unsigned bits = 0;
        for (int t = 0; t < 4; t++) bits |= (unsigned)(b->scales[t] >> 12) << 4 * t;
        float d = f32_from_f16((uint16_t)bits);
        for (int k = 0; k < 32; k++, y += 8) {
            unsigned high = b->qh[k >> 1] >> 4 * (k & 1), code = b->qs[k] | (high & 7) << 8;
            int sub = k >> 1; // of 16 numbers
            float scale = d * (float)(2 * (b->scales[sub >> 2] >> 3 * (sub & 3) & 7) + 1);
            put_eight(y, scale, quant_iq1_grid[code], high >> 3 & 1);
        }
    }
}
