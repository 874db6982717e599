// quant/q4_1.c -- Q4_1: 32 numbers, a scale and a minimum, 4-bit codes.
#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/formats.h"

enum { N = 32 };

void q4_1_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_q4_1 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = f32_from_f16(b->d), m = f32_from_f16(b->m);
        uint8_t code[N];
        bits_unpack_nibbles(b->qs, code);
        for (int j = 0; j < N; j++) y[i + j] = d * (float)code[j] + m;
    }
}

static void write_block(void *y, int64_t block, const struct fit_block *b)
{
    struct block_q4_1 *out = (struct block_q4_1 *)y + block;
    out->d = b->d;
    out->m = b->m;
    bits_pack_nibbles(out->qs, b->code);
}

// The smallest number becomes 0, the largest 15.
static void round_block(struct fit_block *b, const float *x)
{
    float low = x[0], high = x[0];
    for (int j = 1; j < N; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
    }
    float d = (high - low) / 15, inverse = d == 0 ? 0 : 1 / d;
    b->d = f16_from_f32(d);
    b->m = f16_from_f32(low);
    for (int j = 0; j < N; j++) {
        uint8_t q = bits_byte((x[j] - low) * inverse + 0.5f);
        b->code[j] = q < 15 ? q : 15;
    }
}

void q4_1_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    if (importance) {
        fit_blocks_line(y, x, importance, count, 15, write_block);
        return;
    }
    for (int64_t i = 0; i < count; i += N) {
        struct fit_block b;
        round_block(&b, x + i);
        write_block(y, i / N, &b);
    }
}
