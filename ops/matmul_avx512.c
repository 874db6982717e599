// ops/matmul_avx512.c -- products in f32 multiply-adds; f16 and bf16 weights become f32, which keeps every bit.
//
// Measured on two Zen 4 cores by tests/bench_matmul.c. 512 columns: 87 to 95% of the multiply-add peak, most
// above 90. One column, against a plain loop that reads the same memory: 97% (f16: 90) where that reaches
// 34 GB/s, 85 to 92% (f16: 77 to 87) where it reaches 46. 8 columns of f16: 74% of the peak on one core.
#define DOT "vfmadd231ps"
#include "ops/matmul_avx512.h"

UNCHECKED void matmul_fwd_f32_avx512(const struct matmul_args *a)
{
    matmul_rows(a, WEIGHTS_F32);
}

UNCHECKED void matmul_fwd_f16_avx512(const struct matmul_args *a)
{
    matmul_rows(a, WEIGHTS_F16);
}

UNCHECKED void matmul_fwd_bf16_avx512(const struct matmul_args *a)
{
    matmul_rows(a, WEIGHTS_BF16);
}

UNCHECKED void matmul_nn_f32_avx512(const struct matmul_args *a)
{
    nn_rows(a, WEIGHTS_F32);
}

UNCHECKED void matmul_nn_f16_avx512(const struct matmul_args *a)
{
    nn_rows(a, WEIGHTS_F16);
}

UNCHECKED void matmul_nn_bf16_avx512(const struct matmul_args *a)
{
    nn_rows(a, WEIGHTS_BF16);
}
