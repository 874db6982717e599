// ops/matmul_avx512_bf16.c
#define DOT "vdpbf16ps"
#include "ops/matmul_avx512.h"

UNCHECKED void matmul_fwd_bf16_avx512_bf16(const struct matmul_args *a)
{
    matmul_rows(a, WEIGHTS_PAIRS);
}
