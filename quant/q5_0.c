// quant/q5_0.c -- Q5_0: 32 numbers, a scale, 5-bit codes from -16 to 15.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { N = 32 };

void q5_0_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q5_0 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = f32_from_f16(b->d);
        uint8_t code[N];
        bits_unpack_nibbles(b->qs, code);
        bits_unpack_fifth(b->qh, code);
        for (int j = 0; j < N; j++) y[i + j] = d * (float)(code[j] - 16);
    }
}

static void write_block(void *y, int64_t block, const struct fit_block *b)
{
    struct block_q5_0 *out = (struct block_q5_0 *)y + block;
    out->d = b->d;
    bits_pack_fifth(out->qh, b->code);
    bits_pack_nibbles(out->qs, b->code);
}

// The number of largest size becomes -16, whatever its sign.
static void round_block(struct fit_block *b, const float *x)
{
    float peak = x[0]; // where all are zero, the first tells the sign of d
    for (int j = 1; j < N; j++) peak = fabsf(x[j]) > fabsf(peak) ? x[j] : peak;
    float d = peak / -16, inverse = d == 0 ? 0 : 1 / d;
    b->d = f16_from_f32(d);
    for (int j = 0; j < N; j++) {
        uint8_t q = bits_byte(x[j] * inverse + 16.5f);
        b->code[j] = q < 31 ? q : 31;
    }
}

void q5_0_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    static const struct fit_levels levels = {.low = -16, .high = 15};
    if (importance) {
        fit_blocks_scale(y, x, importance, count, &levels, write_block);
        return;
    }
    for (int64_t i = 0; i < count; i += N) {
        struct fit_block b;
        round_block(&b, x + i);
        write_block(y, i / N, &b);
    }
}
