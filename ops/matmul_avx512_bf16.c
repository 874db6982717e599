// ops/matmul_avx512_bf16.c -- products of bf16 weights and bf16 activations, two steps of k an instruction, summed in f32.
//
// vdpbf16ps takes the pairs (k, k + 1) from k = 0; it rounds after each of the two products and flushes subnormal numbers.
// Measured on two Zen 4 cores (tests/bench_matmul.c): 512 columns run at 92 to 95% of the peak of the instruction; one
// column reads weights from memory at 92 to 100% of what a plain reading loop reaches, 8 columns at 75 to 80%.
#define DOT "vdpbf16ps"
#include "ops/matmul_avx512.h"

UNCHECKED void matmul_fwd_bf16_avx512_bf16(const struct matmul_args *a)
{
    matmul_rows(a, WEIGHTS_PAIRS);
}
