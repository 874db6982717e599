// ops/matmul_avx512.c -- matrix products with f32 multiply-adds; f16 and bf16 weights become f32, which keeps every bit.
//
// Measured on two Zen 4 cores (tests/bench_matmul.c): 512 columns run at 91 to 95% of the multiply-add peak, 8 columns at
// 75 to 80% for weights in L2; one column reads weights from memory at 90 to 100% of what a plain reading loop reaches,
// f16 at 85 to 95%.
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
