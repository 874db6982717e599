// cuda/bnb.h -- weights in the types of bitsandbytes (quant/bnb.c): NF4, FP4, INT8, INT8_ASYM. Their numbers are no codes of 8 bits with a scale,
// so they meet activations in f32, as f32.
#ifndef CUDA_BNB_H
#define CUDA_BNB_H

#include "cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline bool bnb_known(enum dtype type)
{
    return type == DTYPE_NF4 || type == DTYPE_FP4 || type == DTYPE_INT8 || type == DTYPE_INT8_ASYM;
}
// What cuda_embed(), cuda_matmul_grouped() and cuda_dequantize() do for these types (cuda/bnb.cu).
void bnb_embed(struct cuda_stream *s, float *y, const int32_t *tokens, const struct cuda_matrix *w,
               struct cuda_rows rows);
void bnb_matmul(struct cuda_stream *s, float *y, const float *x, const struct cuda_matrix *w,
                struct cuda_rows rows, struct cuda_groups groups);
void bnb_dequantize(struct cuda_stream *s, void *y, const struct cuda_matrix *w, struct cuda_groups groups);

#ifdef __cplusplus
}
#endif

#endif
