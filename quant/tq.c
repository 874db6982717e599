// quant/tq.c -- TQ1_0 and TQ2_0: 256 numbers, a scale, codes for -1, 0, 1; for models trained that way.
#include "quant/bits.h"
#include "quant/formats.h"

// ---- the codes ----------------------------------------------------------------------------------------

static float rounding_scale(const float *x)
{
    float peak = 0;
    for (int i = 0; i < QUANT_SUPER; i++) peak = fabsf(x[i]) > peak ? fabsf(x[i]) : peak;
    return peak;
}

// The best scale of the numbers that are at least half of `d`, which are those that get the codes -1 and 1;
// and the weighted error that it takes away from the error of all zeros.
static float refit(const float *x, const float *w, float d, float *gain)
{
    float sum = 0, weight = 0;
    for (int i = 0; i < QUANT_SUPER; i++) {
        bool one = fabsf(x[i]) >= 0.5f * d;
        sum += one ? w[i] * fabsf(x[i]) : 0;
        weight += one ? w[i] : 0;
    }
    *gain = weight > 0 ? sum * sum / weight : 0;
    return weight > 0 ? sum / weight : d;
}

static float weighted_scale(const float *x, const float *w)
{
    enum { STARTS = 8, ROUNDS = 6 };
    float peak = rounding_scale(x), best = peak, best_gain = -1;
    for (int start = 1; start <= STARTS; start++) {
        float d = peak * (float)start / STARTS;
        for (int round = 0; round < ROUNDS; round++) {
            float gain, next = refit(x, w, d, &gain);
            if (gain > best_gain) best_gain = gain, best = next;
            d = next;
        }
    }
    return best;
}

// Codes 0, 1, 2 with the scale d, which is a positive number or 0; a weighted scale may leave numbers beyond
// the ends.
static void find_codes(const float *x, float d, uint8_t code[QUANT_SUPER])
{
    float inverse = 1 / d < INFINITY ? 1 / d : 0;
    for (int i = 0; i < QUANT_SUPER; i++) {
        float q = roundf(x[i] * inverse);
        q = q < 1 ? q : 1;
        q = q > -1 ? q : -1;
        code[i] = (uint8_t)(q + 1);
    }
}

static uint16_t quantize(const float *x, const float *importance, uint8_t code[QUANT_SUPER])
{
    float d = importance ? weighted_scale(x, importance) : rounding_scale(x);
    find_codes(x, d, code);
    return f16_from_f32(d);
}

// ---- TQ2_0 --------------------------------------------------------------------------------------------

void tq2_0_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_tq2_0 *b = x;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        float d = f32_from_f16(b->d);
        uint8_t code[QUANT_SUPER];
        bits_unpack_pairs(b->qs, code);
        for (int j = 0; j < QUANT_SUPER; j++) y[i + j] = d * (float)(code[j] - 1);
    }
}

void tq2_0_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    struct block_tq2_0 *b = y;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        uint8_t code[QUANT_SUPER];
        b->d = quantize(x + i, importance ? importance + i : NULL, code);
        bits_pack_pairs(b->qs, code);
    }
}

// ---- TQ1_0 --------------------------------------------------------------------------------------------

enum { DIGITS = 5 };

static const uint8_t powers[DIGITS] = {1, 3, 9, 27, 81};

// `bytes` bytes hold `digits` runs of as many numbers: digit k of byte j is number k bytes + j.
static void unpack_digits(const uint8_t *packed, int bytes, int digits, uint8_t *code)
{
    for (int k = 0; k < digits; k++)
        for (int j = 0; j < bytes; j++) {
            uint8_t rest = (uint8_t)(packed[j] * powers[k]);
            code[k * bytes + j] = (uint8_t)(rest * 3 >> 8);
        }
}

static void pack_digits(uint8_t *packed, int bytes, int digits, const uint8_t *code)
{
    for (int j = 0; j < bytes; j++) {
        int value = 0;
        for (int k = 0; k < digits; k++) value += code[k * bytes + j] * powers[DIGITS - 1 - k];
        packed[j] = (uint8_t)((value * 256 + 242) / 243);
    }
}

void tq1_0_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_tq1_0 *b = x;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        float d = f32_from_f16(b->d);
        uint8_t code[QUANT_SUPER];
        unpack_digits(b->qs, 32, 5, code);
        unpack_digits(b->qs + 32, 16, 5, code + 160);
        unpack_digits(b->qh, 4, 4, code + 240);
        for (int j = 0; j < QUANT_SUPER; j++) y[i + j] = d * (float)(code[j] - 1);
    }
}

void tq1_0_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    struct block_tq1_0 *b = y;
    for (int64_t i = 0; i < count; i += QUANT_SUPER, b++) {
        uint8_t code[QUANT_SUPER];
        b->d = quantize(x + i, importance ? importance + i : NULL, code);
        pack_digits(b->qs, 32, 5, code);
        pack_digits(b->qs + 32, 16, 5, code + 160);
        pack_digits(b->qh, 4, 4, code + 240);
    }
}
