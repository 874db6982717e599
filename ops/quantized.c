// ops/quantized.c -- rows of quantized types as rows of `real`, and real numbers quantized for the key-value cache,
// through the formats of quant/.
#include "ops/ops.h"
#include "quant/quant.h"

#ifdef REAL_DOUBLE
enum { PIECE = 256 }; // a multiple of every block size

static void widen(quant_dequantize_fn *dequantize, enum dtype type, real *y, const void *x, int64_t count)
{
    float numbers[PIECE];
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t n = count - i < PIECE ? count - i : PIECE;
        dequantize(numbers, (const char *)x + dtype_row_bytes(type, i), n);
        for (int64_t j = 0; j < n; j++) y[i + j] = (real)numbers[j];
    }
}

// clang-format off
#define TYPES(X)                                                                         \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K)      \
    X(IQ2_XXS) X(IQ2_XS) X(IQ3_XXS) X(IQ1_S) X(IQ4_NL) X(IQ3_S) X(IQ2_S) X(IQ4_XS)       \
    X(IQ1_M) X(TQ1_0) X(TQ2_0) X(MXFP4) X(NVFP4) X(Q1_0) X(NF4) X(FP4) X(INT8)      \
    X(INT8_ASYM)
// clang-format on
#define WIDEN(name)                                                             \
    static void from_##name(real *y, const void *x, int64_t count)              \
    {                                                                           \
        widen(quant_types[DTYPE_##name].dequantize, DTYPE_##name, y, x, count); \
    }
TYPES(WIDEN)

row_to_real_fn *REF(row_from_quantized)(enum dtype type)
{
#define ROW(name) [DTYPE_##name] = from_##name,
    static row_to_real_fn *const rows[DTYPE_COUNT] = {TYPES(ROW)};
    return quant_types[type].dequantize ? rows[type] : NULL;
}

static void narrow(enum dtype type, void *y, const real *x, int64_t count)
{
    float numbers[PIECE];
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t n = count - i < PIECE ? count - i : PIECE;
        for (int64_t j = 0; j < n; j++) numbers[j] = (float)x[i + j];
        quant_types[type].quantize((char *)y + dtype_row_bytes(type, i), numbers, n, NULL);
    }
}
#else
row_to_real_fn *REF(row_from_quantized)(enum dtype type)
{
    return quant_types[type].dequantize;
}

static void narrow(enum dtype type, void *y, const real *x, int64_t count)
{
    quant_types[type].quantize(y, x, count, NULL);
}
#endif

void REF(row_to_q8_0)(void *y, const real *x, int64_t count)
{
    narrow(DTYPE_Q8_0, y, x, count);
}

void REF(row_to_q4_0)(void *y, const real *x, int64_t count)
{
    narrow(DTYPE_Q4_0, y, x, count);
}
