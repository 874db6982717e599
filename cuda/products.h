// cuda/products.h -- the forms of the matrix product, among which cuda/matmul.cu chooses.
#ifndef CUDA_PRODUCTS_H
#define CUDA_PRODUCTS_H

#include "cuda/kernels.h"

struct bf16;

// Weights of few columns, each read once: y (rows, N), x (rows, K)
void matmul_quantized(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                      struct cuda_rows rows, struct cuda_groups groups);
// Many columns, on tensor cores: codes of 8 bits
void matmul_mma_q8(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                   struct cuda_rows rows, struct cuda_groups groups);
// Likewise: x and w of bf16
void matmul_mma(struct cuda_stream *s, float *y, const struct bf16 *x, const struct cuda_matrix *w,
                struct cuda_rows rows);

#endif
