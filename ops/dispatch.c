// ops/dispatch.c -- which form of each kernel a tier uses: the reference first, then what each tier does faster.
#include "ops/ops.h"

enum { REFERENCE_UNIT = 16, AVX2_UNIT = 16, AVX512_UNIT = 64, PACKED_UNIT = 32 };

static void use_reference_gradients(struct kernels *k)
{
    static const enum dtype plain[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_F64};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        k->matmul_nn[plain[i]] = (struct matmul_kernel){
            .fwd = REF(matmul_nn), .x_type = DTYPE_REAL, .unit = REFERENCE_UNIT, .scratch = 0};
    k->transpose_fwd = REF(transpose_fwd);
    k->dropout_fwd = REF(dropout_fwd);
    k->attention_dx = REF(attention_dx), k->attention_dx_scratch = REF(attention_dx_scratch);
    k->rmsnorm_dx = REF(rmsnorm_dx);
    k->layernorm_dx = REF(layernorm_dx);
    k->activation_dx = REF(activation_dx), k->glu_dx = REF(glu_dx);
    k->softcap_dx = REF(softcap_dx);
    k->sum_rows = REF(sum_rows);
    k->cross_entropy = REF(cross_entropy), k->distill = REF(distill);
    k->route_dx = REF(route_dx);
}

static void use_reference(struct kernels *k)
{
    static const enum dtype plain[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_F64};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        k->matmul[plain[i]] = (struct matmul_kernel){
            .fwd = REF(matmul_fwd), .x_type = DTYPE_REAL, .unit = REFERENCE_UNIT, .scratch = 0};
    k->to_real[DTYPE_F32] = REF(row_from_f32), k->from_real[DTYPE_F32] = REF(row_to_f32);
    k->to_real[DTYPE_F16] = REF(row_from_f16), k->from_real[DTYPE_F16] = REF(row_to_f16);
    k->to_real[DTYPE_BF16] = REF(row_from_bf16), k->from_real[DTYPE_BF16] = REF(row_to_bf16);
    k->to_real[DTYPE_F8_E4M3] = REF(row_from_f8_e4m3), k->from_real[DTYPE_F8_E4M3] = REF(row_to_f8_e4m3);
    k->to_real[DTYPE_F64] = REF(row_from_f64), k->from_real[DTYPE_F64] = REF(row_to_f64);
    k->from_real[DTYPE_Q8_0] = REF(row_to_q8_0), k->from_real[DTYPE_Q4_0] = REF(row_to_q4_0);
    k->attention_fwd = REF(attention_fwd), k->attention_scratch = REF(attention_scratch);
    k->rmsnorm_fwd = REF(rmsnorm_fwd);
    k->layernorm_fwd = REF(layernorm_fwd);
    k->activation_fwd = REF(activation_fwd), k->glu_fwd = REF(glu_fwd);
    k->softcap_fwd = REF(softcap_fwd);
    k->hadamard_fwd = REF(hadamard_fwd);
    k->scale_fwd = REF(scale_fwd), k->add_scaled_fwd = REF(add_scaled_fwd);
    k->route_fwd = REF(route_fwd);
    k->add_fwd = REF(add_fwd);
    k->bias_fwd = REF(bias_fwd);
    k->rope_table_fwd = REF(rope_table_fwd);
    k->rope_fwd = REF(rope_fwd);
#ifndef REAL_DOUBLE
    k->update_adamw = update_adamw_ref, k->update_lion = update_lion_ref, k->update_sgd = update_sgd_ref;
    k->sum_squares = sum_squares_ref;
#endif
    use_reference_gradients(k);
}

// Types that have no product of their own: their rows become `real`, and the product of real weights follows.
static void use_dequantized(struct kernels *k)
{
    for (int type = 0; type < DTYPE_COUNT; type++) {
        if (!k->to_real[type]) k->to_real[type] = REF(row_from_quantized)((enum dtype)type);
        if (!k->to_real[type] || k->matmul[type].fwd) continue;
        k->matmul[type] = k->matmul[DTYPE_REAL];
        k->matmul[type].dequantize = true;
    }
}

#ifndef REAL_DOUBLE
// Quantized weights in integers, from packed groups of rows (ops/matmul_int8.h).
static void use_packed(struct kernels *k, matmul_fwd_fn *const *forms)
{
    static const enum dtype types[] = {PACKED_TYPES};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        k->matmul[types[i]] = (struct matmul_kernel){.fwd = forms[i],
                                                     .x_type = DTYPE_Q8_K,
                                                     .unit = PACKED_UNIT,
                                                     .scratch = MATMUL_SCRATCH,
                                                     .packed = true};
}

static void use_nn(struct kernels *k, matmul_fwd_fn *f32, matmul_fwd_fn *f16, matmul_fwd_fn *bf16,
                   enum dtype bf16_x)
{
    k->matmul_nn[DTYPE_F16] = (struct matmul_kernel){
        .fwd = f16, .x_type = DTYPE_F32, .unit = AVX512_UNIT, .scratch = MATMUL_SCRATCH};
    k->matmul_nn[DTYPE_F32] = (struct matmul_kernel){
        .fwd = f32, .x_type = DTYPE_F32, .unit = AVX512_UNIT, .scratch = MATMUL_SCRATCH};
    k->matmul_nn[DTYPE_BF16] =
        (struct matmul_kernel){.fwd = bf16, .x_type = bf16_x, .unit = AVX512_UNIT, .scratch = MATMUL_SCRATCH};
}

static void use_avx2(struct kernels *k)
{
    use_nn(k, matmul_nn_f32_avx2, matmul_nn_f16_avx2, matmul_nn_bf16_avx2, DTYPE_F32);
    k->matmul[DTYPE_F32] = (struct matmul_kernel){
        .fwd = matmul_fwd_f32_avx2, .x_type = DTYPE_F32, .unit = AVX2_UNIT, .scratch = MATMUL_SCRATCH};
    k->matmul[DTYPE_F16] = (struct matmul_kernel){
        .fwd = matmul_fwd_f16_avx2, .x_type = DTYPE_F32, .unit = AVX2_UNIT, .scratch = MATMUL_SCRATCH};
    k->matmul[DTYPE_BF16] = (struct matmul_kernel){
        .fwd = matmul_fwd_bf16_avx2, .x_type = DTYPE_F32, .unit = AVX2_UNIT, .scratch = MATMUL_SCRATCH};
    k->attention_fwd = attention_fwd_avx2, k->attention_scratch = attention_scratch_avx2;
    k->layernorm_fwd = layernorm_fwd_avx2;
    k->activation_fwd = activation_fwd_avx2, k->glu_fwd = glu_fwd_avx2;
    k->softcap_fwd = softcap_fwd_avx2;
    k->sum_rows = sum_rows_avx2;
    k->transpose_fwd = transpose_fwd_avx2;
    k->dropout_fwd = dropout_fwd_avx2;
    k->rmsnorm_dx = rmsnorm_dx_avx2, k->layernorm_dx = layernorm_dx_avx2;
    k->activation_dx = activation_dx_avx2, k->glu_dx = glu_dx_avx2;
    k->attention_dx = attention_dx_avx2, k->attention_dx_scratch = attention_dx_scratch_avx2;
    k->cross_entropy = cross_entropy_avx2, k->distill = distill_avx2;
    k->to_real[DTYPE_F16] = row_from_f16_avx2, k->from_real[DTYPE_F16] = row_to_f16_avx2;
    k->from_real[DTYPE_BF16] = row_to_bf16_avx2, k->from_real[DTYPE_F8_E4M3] = row_to_f8_e4m3_avx2;
    k->to_real[DTYPE_NF4] = row_from_nf4_avx2, k->to_real[DTYPE_FP4] = row_from_fp4_avx2;
    k->to_real[DTYPE_INT8] = k->to_real[DTYPE_INT8_ASYM] = row_from_int8_avx2;
    k->update_adamw = update_adamw_avx2, k->update_lion = update_lion_avx2, k->update_sgd = update_sgd_avx2;
    k->sum_squares = sum_squares_avx2;
    static matmul_fwd_fn *const packed[] = {PACKED_KERNELS(avx2)};
    use_packed(k, packed);
    k->from_real[DTYPE_Q8_K] = row_to_q8_k_avx2, k->q8_k_within = row_to_q8_k_within_avx2;
}

static void use_avx_vnni(struct kernels *k)
{
    static matmul_fwd_fn *const packed[] = {PACKED_KERNELS(avx_vnni)};
    use_packed(k, packed);
}

static void use_avx512(struct kernels *k)
{
    use_nn(k, matmul_nn_f32_avx512, matmul_nn_f16_avx512, matmul_nn_bf16_avx512, DTYPE_F32);
    k->matmul[DTYPE_F32] = (struct matmul_kernel){
        .fwd = matmul_fwd_f32_avx512, .x_type = DTYPE_F32, .unit = AVX512_UNIT, .scratch = MATMUL_SCRATCH};
    k->matmul[DTYPE_F16] = (struct matmul_kernel){
        .fwd = matmul_fwd_f16_avx512, .x_type = DTYPE_F32, .unit = AVX512_UNIT, .scratch = MATMUL_SCRATCH};
    k->matmul[DTYPE_BF16] = (struct matmul_kernel){
        .fwd = matmul_fwd_bf16_avx512, .x_type = DTYPE_F32, .unit = AVX512_UNIT, .scratch = MATMUL_SCRATCH};
    k->attention_fwd = attention_fwd_avx512, k->attention_scratch = attention_scratch_avx512;
    k->rmsnorm_fwd = rmsnorm_fwd_avx512;
    k->activation_fwd = activation_fwd_avx512, k->glu_fwd = glu_fwd_avx512;
    k->softcap_fwd = softcap_fwd_avx512;
    k->update_adamw = update_adamw_avx512, k->update_lion = update_lion_avx512;
    k->update_sgd = update_sgd_avx512, k->sum_squares = sum_squares_avx512;
    k->transpose_fwd = transpose_fwd_avx512;
    k->dropout_fwd = dropout_fwd_avx512;
    k->attention_dx = attention_dx_avx512, k->attention_dx_scratch = attention_dx_scratch_avx512;
    k->activation_dx = activation_dx_avx512, k->glu_dx = glu_dx_avx512;
    k->cross_entropy = cross_entropy_avx512, k->distill = distill_avx512;
    k->to_real[DTYPE_NF4] = row_from_nf4_avx512, k->to_real[DTYPE_FP4] = row_from_fp4_avx512;
}

static void use_avx512_vnni(struct kernels *k)
{
    static matmul_fwd_fn *const packed[] = {PACKED_KERNELS(avx512_vnni)};
    use_packed(k, packed);
    k->from_real[DTYPE_Q8_K] = row_to_q8_k_avx512_vnni, k->q8_k_within = row_to_q8_k_within_avx512_vnni;
    k->attention_fwd = attention_fwd_avx512_vnni, k->attention_scratch = attention_scratch_avx512_vnni;
}

static void use_avx512_bf16(struct kernels *k)
{
    use_nn(k, matmul_nn_f32_avx512, matmul_nn_f16_avx512, matmul_nn_bf16_avx512_bf16, DTYPE_BF16);
    k->matmul[DTYPE_BF16] = (struct matmul_kernel){.fwd = matmul_fwd_bf16_avx512_bf16,
                                                   .x_type = DTYPE_BF16,
                                                   .unit = AVX512_UNIT,
                                                   .scratch = MATMUL_SCRATCH};
}

struct kernels kernels_for(enum isa isa)
{
    struct kernels k = {.isa = isa};
    use_reference(&k);
    if (isa >= ISA_AVX2) use_avx2(&k);
    if (isa == ISA_AVX_VNNI) use_avx_vnni(&k);
    if (isa >= ISA_AVX512) use_avx512(&k);
    if (isa >= ISA_AVX512_VNNI) use_avx512_vnni(&k);
    if (isa >= ISA_AVX512_BF16) use_avx512_bf16(&k);
    use_dequantized(&k);
    return k;
}
#else
struct kernels kernels_for_f64(void)
{
    struct kernels k = {.isa = ISA_F64};
    use_reference(&k);
    use_dequantized(&k);
    return k;
}
#endif
