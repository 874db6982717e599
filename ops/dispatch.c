// ops/dispatch.c -- which form of each kernel a tier uses: the reference first, then what each tier does faster.
#include "ops/ops.h"

enum { REFERENCE_UNIT = 16, AVX2_UNIT = 16, AVX512_UNIT = 64 };

static void use_reference(struct kernels *k)
{
    static const enum dtype plain[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_F64};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        k->matmul[plain[i]] = (struct matmul_kernel){REF(matmul_fwd), DTYPE_REAL, REFERENCE_UNIT, 0};
    k->to_real[DTYPE_F32] = REF(row_from_f32), k->from_real[DTYPE_F32] = REF(row_to_f32);
    k->to_real[DTYPE_F16] = REF(row_from_f16), k->from_real[DTYPE_F16] = REF(row_to_f16);
    k->to_real[DTYPE_BF16] = REF(row_from_bf16), k->from_real[DTYPE_BF16] = REF(row_to_bf16);
    k->to_real[DTYPE_F64] = REF(row_from_f64), k->from_real[DTYPE_F64] = REF(row_to_f64);
    k->attention_fwd = REF(attention_fwd), k->attention_scratch = REF(attention_scratch);
    k->rmsnorm_fwd = REF(rmsnorm_fwd);
    k->swiglu_fwd = REF(swiglu_fwd);
    k->add_fwd = REF(add_fwd);
    k->bias_fwd = REF(bias_fwd);
    k->rope_table_fwd = REF(rope_table_fwd);
    k->rope_fwd = REF(rope_fwd);
}

#ifndef REAL_DOUBLE
static void use_avx2(struct kernels *k)
{
    k->matmul[DTYPE_F32] = (struct matmul_kernel){matmul_fwd_f32_avx2, DTYPE_F32, AVX2_UNIT, MATMUL_SCRATCH};
    k->matmul[DTYPE_F16] = (struct matmul_kernel){matmul_fwd_f16_avx2, DTYPE_F32, AVX2_UNIT, MATMUL_SCRATCH};
    k->matmul[DTYPE_BF16] = (struct matmul_kernel){matmul_fwd_bf16_avx2, DTYPE_F32, AVX2_UNIT, MATMUL_SCRATCH};
    k->attention_fwd = attention_fwd_avx2, k->attention_scratch = attention_scratch_avx2;
    k->swiglu_fwd = swiglu_fwd_avx2;
    k->to_real[DTYPE_F16] = row_from_f16_avx2, k->from_real[DTYPE_F16] = row_to_f16_avx2;
    k->from_real[DTYPE_BF16] = row_to_bf16_avx2;
}

static void use_avx512(struct kernels *k)
{
    k->matmul[DTYPE_F32] = (struct matmul_kernel){matmul_fwd_f32_avx512, DTYPE_F32, AVX512_UNIT, MATMUL_SCRATCH};
    k->matmul[DTYPE_F16] = (struct matmul_kernel){matmul_fwd_f16_avx512, DTYPE_F32, AVX512_UNIT, MATMUL_SCRATCH};
    k->matmul[DTYPE_BF16] = (struct matmul_kernel){matmul_fwd_bf16_avx512, DTYPE_F32, AVX512_UNIT, MATMUL_SCRATCH};
    k->attention_fwd = attention_fwd_avx512, k->attention_scratch = attention_scratch_avx512;
    k->rmsnorm_fwd = rmsnorm_fwd_avx512;
    k->swiglu_fwd = swiglu_fwd_avx512;
}

static void use_avx512_bf16(struct kernels *k)
{
    k->matmul[DTYPE_BF16] =
        (struct matmul_kernel){matmul_fwd_bf16_avx512_bf16, DTYPE_BF16, AVX512_UNIT, MATMUL_SCRATCH};
}

struct kernels kernels_for(enum isa isa)
{
    struct kernels k = {.isa = isa};
    use_reference(&k);
    if (isa >= ISA_AVX2) use_avx2(&k);
    if (isa >= ISA_AVX512) use_avx512(&k);
    if (isa >= ISA_AVX512_BF16) use_avx512_bf16(&k);
    return k;
}
#else
struct kernels kernels_for_f64(void)
{
    struct kernels k = {.isa = ISA_F64};
    use_reference(&k);
    return k;
}
#endif
