// cuda/cublas.h -- NVIDIA's matrix products, where the machine has them: the library is opened when it is first wanted, and nothing links
// against it. Plain bf16 products of many rows take it, and it is the yardstick of our own (cuda/limits.c).
#ifndef CUDA_CUBLAS_H
#define CUDA_CUBLAS_H

#include "cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cublas;

// Errors: UNSUPPORTED, with the reason.
enum tlm_status cublas_open(struct cublas **out, struct tlm_error *err);
void cublas_close(struct cublas *c); // NULL is allowed
// y (rows, N) f32 = x (rows, K) times w (N, K) transposed, both bf16; or y += that. Errors: IO, with cuBLAS's number.
enum tlm_status cublas_matmul(struct cublas *c, struct cuda_stream *s, float *y, const void *x,
                              const struct cuda_matrix *w, int64_t rows, bool add, struct tlm_error *err);

#ifdef __cplusplus
}
#endif

#endif
