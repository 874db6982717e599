// quant/plain.c -- F32, F16, BF16 and F64: single numbers.
#include "quant/formats.h"

void f32_dequantize(float *y, const void *x, int64_t count)
{
    memcpy(y, x, (size_t)count * sizeof *y);
}

void f32_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    (void)importance;
    memcpy(y, x, (size_t)count * sizeof *x);
}

void f16_dequantize(float *y, const void *x, int64_t count)
{
    const uint8_t *p = x;
    for (int64_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        y[i] = f32_from_f16(h);
    }
}

void f16_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    (void)importance;
    uint8_t *p = y;
    for (int64_t i = 0; i < count; i++) {
        uint16_t h = f16_from_f32(x[i]);
        memcpy(p + 2 * i, &h, 2);
    }
}

void bf16_dequantize(float *y, const void *x, int64_t count)
{
    const uint8_t *p = x;
    for (int64_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        y[i] = f32_from_bf16(h);
    }
}

void bf16_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    (void)importance;
    uint8_t *p = y;
    for (int64_t i = 0; i < count; i++) {
        uint16_t h = bf16_from_f32(x[i]);
        memcpy(p + 2 * i, &h, 2);
    }
}

void f64_dequantize(float *y, const void *x, int64_t count)
{
    const uint8_t *p = x;
    for (int64_t i = 0; i < count; i++) {
        double d;
        memcpy(&d, p + 8 * i, 8);
        y[i] = (float)d;
    }
}

void f64_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    (void)importance;
    uint8_t *p = y;
    for (int64_t i = 0; i < count; i++) {
        double d = x[i];
        memcpy(p + 8 * i, &d, 8);
    }
}
