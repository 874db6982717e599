// ops/convert.c -- rows of plain types to real and back, the reference. core/dtype.h has the rules for single
// numbers.
//
// Towards fewer bits everything rounds to nearest even. In the double build f16, bf16 and E4M3 are reached through
// float, so a double is rounded twice: it may end one step from the correctly rounded one when the float lands on a tie, which the tolerances of that build's users (the oracle of caches that hold f16)
// do not see.
#include "ops/ops.h"

void REF(row_from_f32)(real *y, const void *x, int64_t count)
{
    const float *f = x;
    for (int64_t i = 0; i < count; i++) y[i] = f[i];
}

void REF(row_from_f16)(real *y, const void *x, int64_t count)
{
    const uint16_t *h = x;
    for (int64_t i = 0; i < count; i++) y[i] = f32_from_f16(h[i]);
}

void REF(row_from_bf16)(real *y, const void *x, int64_t count)
{
    const uint16_t *h = x;
    for (int64_t i = 0; i < count; i++) y[i] = f32_from_bf16(h[i]);
}

void REF(row_from_f8_e4m3)(real *y, const void *x, int64_t count)
{
    const uint8_t *code = x;
    for (int64_t i = 0; i < count; i++) y[i] = f32_from_f8_e4m3(code[i]);
}

void REF(row_from_f64)(real *y, const void *x, int64_t count)
{
    const double *d = x;
    for (int64_t i = 0; i < count; i++) y[i] = (real)d[i];
}

void REF(row_to_f32)(void *y, const real *x, int64_t count)
{
    float *f = y;
    for (int64_t i = 0; i < count; i++) f[i] = (float)x[i];
}

void REF(row_to_f16)(void *y, const real *x, int64_t count)
{
    uint16_t *h = y;
    for (int64_t i = 0; i < count; i++) h[i] = f16_from_f32((float)x[i]);
}

void REF(row_to_bf16)(void *y, const real *x, int64_t count)
{
    uint16_t *h = y;
    for (int64_t i = 0; i < count; i++) h[i] = bf16_from_f32((float)x[i]);
}

void REF(row_to_f8_e4m3)(void *y, const real *x, int64_t count)
{
    uint8_t *code = y;
    for (int64_t i = 0; i < count; i++) code[i] = f8_e4m3_from_f32((float)x[i]);
}

void REF(row_to_f64)(void *y, const real *x, int64_t count)
{
    double *d = y;
    for (int64_t i = 0; i < count; i++) d[i] = (double)x[i];
}
