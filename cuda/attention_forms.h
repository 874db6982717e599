// cuda/attention_forms.h -- the forms of attention, among which cuda/attention.cu chooses.
#ifndef CUDA_ATTENTION_FORMS_H
#define CUDA_ATTENTION_FORMS_H

#include "cuda/gradient.h"

// Many rows, on tensor cores over f16: heads of at most 128
bool attention_mma_fits(const struct cuda_attention *a);
void attention_mma(struct cuda_stream *s, const struct cuda_attention *a);

// Attention among the rows of a step, and dq, dk and dv: q, k and v of f16, heads of at most 128 (cuda/attention_rows_mma.cu)
bool attention_rows_mma_fits(const struct cuda_attention_rows *a);
void attention_rows_mma(struct cuda_stream *s, const struct cuda_attention_rows *a);
void attention_dx_mma(struct cuda_stream *s, const struct cuda_attention_dx *x);

// For compute capability 9.0: heads of 64, 128 or 256 numbers, values like them. False where device, shapes or boundaries do not allow it
// (cuda/attention_wgmma.cu, cuda/attention_rows_wgmma.cu, cuda/attention_dx_wgmma.cu).
bool attention_wgmma(struct cuda_stream *s, const struct cuda_attention *a);
bool attention_dx_wgmma_fits(const struct cuda_attention_dx *x); // not for heads of 256
void attention_dx_wgmma(struct cuda_stream *s, const struct cuda_attention_dx *x);
bool attention_rows_wgmma(struct cuda_stream *s, const struct cuda_attention_rows *a);

// The values are part of the keys, and no rows side by side: for none of these.
static inline bool attention_rows_latent(const struct cuda_attention_rows *a)
{
    return a->v_stride != (int64_t)a->kv_heads * a->value_dim;
}

#endif
