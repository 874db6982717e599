// ops/matmul.c -- the reference: y[t][n] = sum over k of x[t][k] * w[n][k], k in order, for any plain type of
// weights.
//
// Eight outputs at a time, so that the compiler has eight independent sums; each is still one chain over k.
// The products are rounded before they are added, as on any x86-64, where the fast forms fuse the two.
#include "ops/ops.h"

enum { ROWS = 8, DEPTH = 256 };

static real weight(const char *p, enum dtype type)
{
    uint16_t h = 0;
    float f = 0;
    double d = 0;
    switch (type) {
    case DTYPE_F16: memcpy(&h, p, sizeof h); return f32_from_f16(h);
    case DTYPE_BF16: memcpy(&h, p, sizeof h); return f32_from_bf16(h);
    case DTYPE_F64: memcpy(&d, p, sizeof d); return (real)d;
    default: memcpy(&f, p, sizeof f); return f;
    }
}

// y (+)= x times w, DEPTH steps of ROWS outputs; w: (count, ROWS).
static void multiply(real *y, const real *x, const real (*w)[ROWS], int64_t count, int64_t rows, int first)
{
    real sum[ROWS] = {0};
    for (int64_t r = 0; r < rows && !first; r++) sum[r] = y[r];
    for (int64_t k = 0; k < count; k++)
        for (int r = 0; r < ROWS; r++) sum[r] += x[k] * w[k][r];
    for (int64_t r = 0; r < rows; r++) y[r] = sum[r];
}

void REF(matmul_fwd)(const struct matmul_args *a)
{
    const size_t bytes = dtype_row_bytes(a->w_type, 1);
    real w[DEPTH][ROWS] = {{0}};
    for (int64_t n = a->n_begin; n < a->n_end; n += ROWS) {
        const int64_t rows = a->n_end - n < ROWS ? a->n_end - n : ROWS;
        for (int64_t k = 0; k < a->k_count; k += DEPTH) {
            const int64_t count = a->k_count - k < DEPTH ? a->k_count - k : DEPTH;
            for (int64_t r = 0; r < rows; r++) {
                const char *row = (const char *)a->w + (size_t)(n + r) * a->w_stride + (size_t)k * bytes;
                for (int64_t i = 0; i < count; i++) w[i][r] = weight(row + (size_t)i * bytes, a->w_type);
            }
            for (int64_t t = 0; t < a->t_count; t++)
                multiply((real *)a->y + (size_t)t * a->y_stride + n,
                         (const real *)a->x + (size_t)t * a->x_stride + k, (const real(*)[ROWS])w, count,
                         rows, k == 0);
        }
    }
}

void REF(matmul_nn)(const struct matmul_args *a)
{
    const size_t bytes = dtype_row_bytes(a->w_type, 1);
    for (int64_t t = 0; t < a->t_count; t++) {
        real *y = (real *)a->y + (size_t)t * a->y_stride;
        const real *x = (const real *)a->x + (size_t)t * a->x_stride;
        for (int64_t n = a->n_begin; n < a->n_end && !a->add; n++) y[n] = 0;
        for (int64_t k = 0; k < a->k_count; k++) {
            const char *w = (const char *)a->w + (size_t)k * a->w_stride;
            for (int64_t n = a->n_begin; n < a->n_end; n++)
                y[n] += x[k] * weight(w + (size_t)n * bytes, a->w_type);
        }
    }
}

enum { BLOCK = 16 };

void REF(transpose_fwd)(void *to, size_t to_stride, enum dtype type, const real *from, size_t from_stride,
                        int64_t rows, int64_t cols)
{
    row_from_real_fn *convert = type == DTYPE_BF16  ? REF(row_to_bf16)
                                : type == DTYPE_F32 ? REF(row_to_f32)
                                                    : REF(row_to_f64);
    const size_t bytes = dtype_row_bytes(type, 1);
    for (int64_t r = 0; r < rows; r += BLOCK) {
        const int64_t count = rows - r < BLOCK ? rows - r : BLOCK;
        for (int64_t c = 0; c < cols; c++) {
            real column[BLOCK];
            for (int64_t i = 0; i < count; i++) column[i] = from[(size_t)(r + i) * from_stride + (size_t)c];
            convert((char *)to + ((size_t)c * to_stride + (size_t)r) * bytes, column, count);
        }
    }
}
