// quant/fp4.c -- MXFP4 and NVFP4: 4-bit floating point codes with a power of two, or an 8-bit float, for a
// scale.
#include "quant/bits.h"
#include "quant/formats.h"

const int8_t quant_fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// ---- MXFP4 --------------------------------------------------------------------------------------------

enum { N = 32, EXPONENT_MAX = 254 };

void mxfp4_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_mxfp4 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        float d = quant_e8m0_half(b->e);
        uint8_t code[N];
        bits_unpack_nibbles(b->qs, code);
        for (int j = 0; j < N; j++) y[i + j] = d * (float)quant_fp4_values[code[j]];
    }
}

// The exponent with which the largest number lies between the values 8 and 16, of which 12 is the last that
// exists. The logarithm is the one rounded to f32: just below a power of two it counts as that power.
static int peak_exponent(const float *x)
{
    float peak = 0;
    for (int j = 0; j < N; j++) peak = fabsf(x[j]) > peak ? fabsf(x[j]) : peak;
    if (!(peak > 0 && peak < INFINITY)) return 0;
    int e = (int)floorf((float)log2((double)peak)) - 2 + 127;
    return e > 0 ? e : 0;
}

// The nearest value, the smaller one where two are as near; zero has no sign.
static uint8_t nearest(float x, float d)
{
    static const float border[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    int code = 0;
    for (int k = 0; k < 7; k++) code += fabsf(x) > d * border[k];
    return (uint8_t)(code && x < 0 ? code + 8 : code);
}

static float weighted_error(const float *x, const float *w, int e)
{
    float d = quant_e8m0_half((uint8_t)e), error = 0;
    for (int j = 0; j < N; j++) {
        float r = x[j] - d * (float)quant_fp4_values[nearest(x[j], d)];
        error += w[j] * r * r;
    }
    return error;
}

// One of the exponents around that of the largest number.
static int weighted_exponent(const float *x, const float *w)
{
    int peak = peak_exponent(x), best = peak;
    float best_error = weighted_error(x, w, peak);
    for (int e = peak > 2 ? peak - 2 : 0; e <= peak + 1 && e <= EXPONENT_MAX; e++) {
        float error = weighted_error(x, w, e);
        if (error < best_error) best_error = error, best = e;
    }
    return best;
}

void mxfp4_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    struct block_mxfp4 *b = y;
    for (int64_t i = 0; i < count; i += N, b++) {
        b->e = (uint8_t)(importance ? weighted_exponent(x + i, importance + i) : peak_exponent(x + i));
        float d = quant_e8m0_half(b->e);
        uint8_t code[N];
        for (int j = 0; j < N; j++) code[j] = nearest(x[i + j], d);
        bits_pack_nibbles(b->qs, code);
    }
}

// ---- NVFP4 --------------------------------------------------------------------------------------------

enum { NV_N = 64, NV_SUB = 16 };

// Half of the number that UE4M3 means, as the values are doubled.
static float ue4m3_half(uint8_t bits)
{
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    if (bits == 0x7f) return 0;
    return exponent ? ldexpf((float)(8 + mantissa), exponent - 11) : ldexpf((float)mantissa, -10);
}

void nvfp4_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_nvfp4 *b = x;
    for (int64_t i = 0; i < count; i += NV_N, b++)
        for (int s = 0; s < NV_N / NV_SUB; s++) {
            float d = ue4m3_half(b->d[s]);
            for (int j = 0; j < NV_SUB / 2; j++) {
                uint8_t pair = b->qs[8 * s + j];
                y[i + NV_SUB * s + j] = d * (float)quant_fp4_values[pair & 15];
                y[i + NV_SUB * s + j + 8] = d * (float)quant_fp4_values[pair >> 4];
            }
        }
}
