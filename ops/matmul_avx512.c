// ops/matmul_avx512.c
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
