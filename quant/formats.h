// quant/formats.h -- the functions of each format, for the table in quant/quant.c.
#ifndef QUANT_FORMATS_H
#define QUANT_FORMATS_H

#include "quant/grid.h"

quant_dequantize_fn f32_dequantize, f16_dequantize, bf16_dequantize, f64_dequantize;
quant_dequantize_fn q4_0_dequantize, q4_1_dequantize, q5_0_dequantize, q5_1_dequantize, q8_0_dequantize;
quant_dequantize_fn q2_k_dequantize, q3_k_dequantize, q4_k_dequantize, q5_k_dequantize, q6_k_dequantize;
quant_dequantize_fn iq4_nl_dequantize, iq4_xs_dequantize, tq1_0_dequantize, tq2_0_dequantize;
quant_dequantize_fn mxfp4_dequantize, nvfp4_dequantize, q1_0_dequantize;
quant_dequantize_fn iq1_s_dequantize, iq1_m_dequantize, iq2_xxs_dequantize, iq2_xs_dequantize,
    iq2_s_dequantize;
quant_dequantize_fn iq3_xxs_dequantize, iq3_s_dequantize;
quant_dequantize_fn nf4_dequantize, bnb_fp4_dequantize, int8_dequantize;

quant_quantize_fn f32_quantize, f16_quantize, bf16_quantize, f64_quantize;
quant_quantize_fn q4_0_quantize, q4_1_quantize, q5_0_quantize, q5_1_quantize, q8_0_quantize;
quant_quantize_fn q2_k_quantize, q3_k_quantize, q4_k_quantize, q5_k_quantize, q6_k_quantize;
quant_quantize_fn iq4_nl_quantize, iq4_xs_quantize, tq1_0_quantize, tq2_0_quantize, mxfp4_quantize;
quant_quantize_fn nf4_quantize, bnb_fp4_quantize, int8_quantize, int8_asym_quantize;

// Of the formats whose blocks have evenly spaced levels, or those of IQ4, and scales for them.
extern const struct grid q4_0_grid, q4_1_grid, q5_0_grid, q5_1_grid, q8_0_grid, iq4_nl_grid;
extern const struct grid q2_k_grid, q3_k_grid, q4_k_grid, q5_k_grid, q6_k_grid, iq4_xs_grid;

#endif
