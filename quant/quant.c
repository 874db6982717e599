// quant/quant.c -- the table of formats.
#include "quant/quant.h"

#include "quant/formats.h"

#define READ_WRITE(stem) .dequantize = stem##_dequantize, .quantize = stem##_quantize
#define GRID(stem)       READ_WRITE(stem), .grid = &stem##_grid
#define READ_ONLY(stem)  .dequantize = stem##_dequantize

const struct quant_type quant_types[DTYPE_COUNT] = {
    [DTYPE_F32] = {READ_WRITE(f32)},
    [DTYPE_F16] = {READ_WRITE(f16)},
    [DTYPE_BF16] = {READ_WRITE(bf16)},
    [DTYPE_F64] = {READ_WRITE(f64)},
    [DTYPE_Q4_0] = {GRID(q4_0)},
    [DTYPE_Q4_1] = {GRID(q4_1)},
    [DTYPE_Q5_0] = {GRID(q5_0)},
    [DTYPE_Q5_1] = {GRID(q5_1)},
    [DTYPE_Q8_0] = {GRID(q8_0)},
    [DTYPE_Q2_K] = {GRID(q2_k)},
    [DTYPE_Q3_K] = {GRID(q3_k)},
    [DTYPE_Q4_K] = {GRID(q4_k)},
    [DTYPE_Q5_K] = {GRID(q5_k)},
    [DTYPE_Q6_K] = {GRID(q6_k)},
    [DTYPE_IQ4_NL] = {GRID(iq4_nl)},
    [DTYPE_IQ4_XS] = {GRID(iq4_xs)},
    [DTYPE_TQ1_0] = {READ_WRITE(tq1_0)},
    [DTYPE_TQ2_0] = {READ_WRITE(tq2_0)},
    [DTYPE_MXFP4] = {READ_WRITE(mxfp4)},
    [DTYPE_NVFP4] = {READ_ONLY(nvfp4)},
    [DTYPE_Q1_0] = {READ_ONLY(q1_0)},
    [DTYPE_IQ1_S] = {READ_ONLY(iq1_s)},
    [DTYPE_IQ1_M] = {READ_ONLY(iq1_m)},
    [DTYPE_IQ2_XXS] = {READ_ONLY(iq2_xxs)},
    [DTYPE_IQ2_XS] = {READ_ONLY(iq2_xs)},
    [DTYPE_IQ2_S] = {READ_ONLY(iq2_s)},
    [DTYPE_IQ3_XXS] = {READ_ONLY(iq3_xxs)},
    [DTYPE_IQ3_S] = {READ_ONLY(iq3_s)},
    [DTYPE_NF4] = {READ_WRITE(nf4)},
    [DTYPE_FP4] = {READ_WRITE(bnb_fp4)},
    [DTYPE_INT8] = {READ_WRITE(int8), .by_row = true},
    [DTYPE_INT8_ASYM] = {.dequantize = int8_dequantize, .quantize = int8_asym_quantize, .by_row = true},
};

void quant_quantize_rows(enum dtype type, void *y, const float *x, int64_t rows, int64_t n,
                         const float *importance)
{
    const struct quant_type *q = &quant_types[type];
    if (!q->by_row && !importance) {
        q->quantize(y, x, rows * n, NULL);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        q->quantize((char *)y + (size_t)r * dtype_row_bytes(type, n), x + r * n, n, importance);
}
