// quant/methods/hessian.h -- the second moments of what goes into a matrix, H = X^T X / rows, and their factors.
//
// Rounding the weights w (K) of an output to q changes the output, over all rows of X, by the sum of squares e H e^T, e = w - q. With
//
//     H = V D V^T,   V upper triangular with ones on its diagonal, D diagonal,   U = V^-1
//
// it is the sum over columns j of D_j (x_j - q_j)^2, where x = w at first, and every column that has been rounded changes those behind
// it: x_k += (q_j - x_j) U_jk. So the columns are rounded one after the other, each to the level next to x_j. Frantar et al., "GPTQ",
// arXiv 2210.17323, in whose terms U is the Cholesky factor of the inverse of H, its rows divided by their diagonal.
#ifndef QUANT_METHODS_HESSIAN_H
#define QUANT_METHODS_HESSIAN_H

#include "core/threads.h"
#include "ops/ops.h"

struct hessian {
    int64_t n, mats; // columns; matrices that have moments of their own: experts, heads
    double *rows;    // [mats] that were added
    float *all,
        *h; // (mats, n, n); (n, n) that of the matrix that was selected: upper triangle alone until it is finished
    float *u, *d;     // (n, n), (n): the factors of h with its columns in `order`
    int32_t *order;   // (n) the column that comes i-th
    float *x, *panel; // of rows to be added, transposed (n, most rows); of the factorization
    int64_t most_rows;
    const struct kernels *kernels;
    struct threads *threads;
    void *scratch; // of the products, a part each thread
};

// Moments of no rows yet, to which `most_rows` rows are added at a time. Errors: MEMORY.
enum tlm_status hessian_open(struct hessian *p, int64_t n, int64_t mats, int64_t most_rows,
                             const struct kernels *kernels, struct threads *threads, struct tlm_error *err);
void hessian_close(struct hessian *p);
// Adds `rows` (at most most_rows) rows of n floats, `stride` floats apart, to the moments of matrix `mat`.
void hessian_add(struct hessian *p, int64_t mat, const float *x, size_t stride, int64_t rows);
// Once all rows have been added: h is that of matrix `mat`, whole, and divided by its rows. Once for each.
void hessian_select(struct hessian *p, int64_t mat);
// The diagonal of h grows by `damping` times its mean, so that columns without much in them, or much like others, do not make the
// factors meaningless. Sub-blocks of `sub` columns and blocks of `block` stay together in the order: the largest come first, as what is
// rounded late has few left to make up for it.
void hessian_factor(struct hessian *p, double damping, int64_t block, int64_t sub);

#endif
