// cuda/products.h -- the forms of the matrix product, among which cuda/matmul.cu and cuda_matmul_nn() choose.
#ifndef CUDA_PRODUCTS_H
#define CUDA_PRODUCTS_H

#include "cuda/gradient.h"

#ifdef __cplusplus
extern "C" {
#endif

struct bf16;

// A product of many rows on tensor cores, x and w of bf16 or of f16: y = base + (scale * x w^T + bias), x w (nn), or x^T w (turned).
struct cuda_tiles {
    struct cuda_product
        p; // w (outputs, K) of all matrices one behind the other; x_stride, y_stride from row to row
    int64_t y_stride;          // of y and base
    struct cuda_groups groups; // count 0: one matrix. nn: no groups
    int64_t parts;             // of k, whose results go to y one behind the other; 1 of groups
    int passes; // a row of x is so many parts of the same shape one behind the other, whose products are added up in this order
    const float *scale; // (rows) or NULL
    const float *bias;  // (N) or NULL; groups and nn have none
};

// What is added to the product of one matrix where its results are made: y = base + (x w^T + bias)
struct cuda_addends {
    const float *base, *bias; // (rows, N), which may be y, and (N); or NULL
};

// Weights of few columns, each read once: y (rows, N), x (rows, K)
void matmul_quantized(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                      struct cuda_rows rows, struct cuda_groups groups);
// Many columns, on tensor cores: codes of 8 bits
void matmul_mma_q8(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                   struct cuda_rows rows, struct cuda_groups groups);
// Likewise: x and w of bf16; w (N, K), or (K, N) with rows on boundaries of 16 bytes
void matmul_mma(struct cuda_stream *s, float *y, const struct bf16 *x, const struct cuda_matrix *w,
                struct cuda_rows rows, struct cuda_groups groups, struct cuda_addends addends);
void matmul_tiles(struct cuda_stream *s, const struct cuda_tiles *t);
void matmul_mma_nn(struct cuda_stream *s, const struct cuda_product *p);
// Likewise for compute capability 9.0; nn: w (K, N). False where the device or the matrices' boundaries do not allow it.
bool matmul_wgmma(struct cuda_stream *s, const struct cuda_tiles *t, bool nn);
// Its forms: tiles of 128 rows and 128 or 256 outputs, each by itself, or two below each other by a cluster that shares its reads of w.
enum wgmma_form { WGMMA_128, WGMMA_256, WGMMA_PAIRS_128, WGMMA_PAIRS_256, WGMMA_FORMS };
enum wgmma_form matmul_wgmma_form(const struct cuda_tiles *t); // the one that it takes
bool matmul_wgmma_as(struct cuda_stream *s, const struct cuda_tiles *t, bool nn, enum wgmma_form form);
// Those of gradients whose x is turned, or of several matrices (t->p.groups): the same, and false likewise (cuda/matmul_dw_wgmma.cu)
bool matmul_gradient_wgmma(struct cuda_stream *s, const struct cuda_tiles *t);
// Like cuda_matmul_many() of one matrix, with addends. False, and nothing is done, for weights whose product has no place for them.
bool matmul_many_added(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                       struct cuda_rows rows, struct cuda_addends addends, void *scratch,
                       size_t scratch_bytes);
// Many columns without them; w (N, K), no base
void matmul_tile_nt(struct cuda_stream *s, const struct cuda_product *p);

#ifdef __cplusplus
}
#endif

#endif
