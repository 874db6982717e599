// cuda/narrow.h -- launchers of ops that write 16 bits where conversions alone would read them (cuda/narrow.c): as cuda/kernels.h has them
// of F32, rounded to nearest even. type: F32, F16 or BF16.
#ifndef CUDA_NARROW_H
#define CUDA_NARROW_H

#include "cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

void cuda_activation_to(struct cuda_stream *s, void *y, enum dtype type, const float *x,
                        struct cuda_rows rows, int64_t cols, enum activation kind);
void cuda_glu_to(struct cuda_stream *s, void *y, enum dtype type, const float *gate, const float *up,
                 struct cuda_rows rows, int64_t cols, enum activation kind);
void cuda_slice_to(struct cuda_stream *s, void *y, enum dtype type, const float *x, struct cuda_rows rows,
                   int64_t part, int32_t heads, int32_t offset, int32_t count);
void cuda_rmsnorm_to(struct cuda_stream *s, void *y, enum dtype type, const float *x, const float *w,
                     struct cuda_rows rows, int64_t cols, int64_t group, int64_t weights, double eps);
void cuda_layernorm_to(struct cuda_stream *s, void *y, enum dtype type, const float *x, const float *w,
                       const float *b, struct cuda_rows rows, int64_t cols, int64_t group, int64_t weights,
                       double eps);

#ifdef __cplusplus
}
#endif

#endif
