// cuda/matmul.cu -- which form of the product a type takes, and plain weights with few columns.
//
//     y[t][n] = sum over k of x[t][k] w[n][k]
//
// A warp takes an output and COLUMNS columns; its lanes take stretches of k in turn, 16 bytes of weights each where rows stand on such
// boundaries, and a tree adds up their sums. F32 and F16 weights meet f32 activations, so they keep every bit; BF16 weights bf16 ones.
// Many columns go by tiles (cuda/matmul_tile.cu), on tensor cores where the types allow.
#include "cuda/bnb.h"
#include "cuda/decode.h"
#include "cuda/fixed.h"
#include "cuda/groups.h"
#include "cuda/products.h"

enum { WARPS = 4, TILE_ROWS = CUDA_MANY_EXPERT_ROWS }; // from so many rows on tiles are worth it

// sum[t] = x[t] w, a lane's part of it: nothing depends on the columns that there are, so that the loads of several steps come first.
template <int COLUMNS, int N, class W, class X>
__device__ static void multiply(float (&sum)[COLUMNS], const W *row, const X *(&columns)[COLUMNS], int64_t k)
{
#pragma unroll unroll_of(WARP_LANES * N)
    for (int64_t i = (int64_t)lane_id() * N; i < k; i += WARP_LANES * N) {
        const vec<W, N> weight = load_stream((const vec<W, N> *)(row + i));
#pragma unroll
        for (int t = 0; t < COLUMNS; t++) {
            const vec<X, N> column = load((const vec<X, N> *)(columns[t] + i));
            for (int j = 0; j < N; j++) sum[t] += to_f32(weight.x[j]) * to_f32(column.x[j]);
        }
    }
}

// `count` of COLUMNS columns; in the place of others stands the last.
template <int COLUMNS, int N, class W, class X>
__device__ static void multiply_columns(float *y, const struct group &p, const W *row, const X *x,
                                        int64_t first, int64_t k)
{
    const int64_t count = p.rows - first < COLUMNS ? p.rows - first : COLUMNS;
    const X *columns[COLUMNS];
    float sum[COLUMNS] = {};
    for (int t = 0; t < COLUMNS; t++)
        columns[t] = x + p.x + (first + (t < count ? t : count - 1)) * p.x_stride;
    multiply<COLUMNS, N>(sum, row, columns, k);
    for (int t = 0; t < COLUMNS; t++) {
        const float total = warp_sum(sum[t]);
        if (t < count && lane_id() == 0) store(y + p.y + (first + t) * p.y_stride, total);
    }
}

template <class W, class X, int N, int COLUMNS>
__global__ void matmul_kernel(float *y, const X *x, struct cuda_matrix w, struct cuda_rows rows,
                              struct cuda_groups groups)
{
    fix(w, groups);
    const struct group p = group_of(w, rows, groups);
    const int64_t n = (int64_t)blockIdx.x * WARPS + warp_id(), k = w.inputs;
    if (n >= w.outputs) return;
    const W *row = (const W *)(p.codes + n * (int64_t)w.code_stride);
    for (int64_t first = (int64_t)blockIdx.y * COLUMNS; first < p.rows; first += gridDim.y * COLUMNS) {
        if (p.rows - first == 1)
            multiply_columns<1, N>(y + n, p, row, x, first, k);
        else
            multiply_columns<COLUMNS, N>(y + n, p, row, x, first, k);
    }
}

#ifndef __CUDACC_RTC__

static const char *type_name(float)
{
    return "float";
}
static const char *type_name(f16)
{
    return "f16";
}
static const char *type_name(bf16)
{
    return "bf16";
}

template <class W, class X, int N, int COLUMNS>
static void launch_columns(struct cuda_stream *s, float *y, const X *x, const struct cuda_matrix *w,
                           struct cuda_rows rows, struct cuda_groups groups)
{
    const dim3 grid((unsigned)ceil_div(w->outputs, (int64_t)WARPS), tiles_for(rows, groups, 8),
                    (unsigned)groups.count);
    char kernel[64];
    snprintf(kernel, sizeof kernel, "matmul_kernel<%s, %s, %d, %d>", type_name(W()), type_name(X()), N,
             COLUMNS);
    const struct jit_form form = product_form("cuda/matmul.cu", kernel, w);
    struct jit *jit = groups.count == 1 && !groups.first ? w->jit : NULL;
    jit_launch(jit, form, s, [&](const struct cuda_kernel *made) {
        CUDA_LAUNCH_MADE(made, (matmul_kernel<W, X, N, COLUMNS>), grid, WARPS * WARP_LANES, 0, s, y, x, *w,
                         rows, groups);
    });
}

template <class W, class X>
static void launch(struct cuda_stream *s, float *y, const X *x, const struct cuda_matrix *w,
                   struct cuda_rows rows, struct cuda_groups groups)
{
    constexpr int N = 16 / sizeof(W);
    if (w->inputs % N || !aligned_to(w->codes, 16) || !aligned_to(x, N * sizeof(X)))
        launch_columns<W, X, 1, 8>(s, y, x, w, rows, groups);
    else if (rows.most <= 2)
        launch_columns<W, X, N, 2>(s, y, x, w, rows, groups);
    else
        launch_columns<W, X, N, 8>(s, y, x, w, rows, groups);
}

enum dtype cuda_matmul_input(enum dtype weights)
{
    switch (weights) {
    case DTYPE_F32:
    case DTYPE_F16:
    case DTYPE_NF4:
    case DTYPE_FP4:
    case DTYPE_INT8:
    case DTYPE_INT8_ASYM: return DTYPE_F32;
    case DTYPE_BF16: return DTYPE_BF16;
#define INPUT(name) \
    case DTYPE_##name: return DTYPE_Q8_1;
        CUDA_QUANTIZED(INPUT)
#undef INPUT
    default: return DTYPE_COUNT;
    }
}

static void tiles(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                  struct cuda_rows rows)
{
    struct cuda_product p = {};
    p.y = y, p.x = x, p.w = w->codes, p.w_type = w->type;
    p.x_stride = p.w_stride = w->inputs;
    p.m = rows, p.k = {NULL, w->inputs}, p.n = w->outputs;
    matmul_tile_nt(s, &p);
}

void cuda_matmul_grouped(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                         struct cuda_rows rows, struct cuda_groups groups)
{
    if (!rows.most || !w->outputs) return;
    const bool many = groups.first ? rows.most >= TILE_ROWS * groups.count : rows.most >= TILE_ROWS;
    const bool plain = w->type == DTYPE_F32 || w->type == DTYPE_F16 || w->type == DTYPE_BF16;
    if (many && w->type == DTYPE_BF16 && w->inputs % 8 == 0) {
        matmul_mma(s, y, (const bf16 *)x, w, rows, groups, {});
        return;
    }
    if (bnb_known(w->type)) {
        bnb_matmul(s, y, (const float *)x, w, rows, groups);
        return;
    }
    if (many && plain && groups.count == 1) {
        tiles(s, y, x, w, rows);
        return;
    }
    switch (w->type) {
    case DTYPE_F32: launch<float>(s, y, (const float *)x, w, rows, groups); return;
    case DTYPE_F16: launch<f16>(s, y, (const float *)x, w, rows, groups); return;
    case DTYPE_BF16: launch<bf16>(s, y, (const bf16 *)x, w, rows, groups); return;
    default: {
        const int64_t parts = groups.first ? 1 : groups.count;
        const struct cuda_q8 q8 = cuda_q8_at((void *)x, rows.most, parts * w->inputs);
        if (many)
            matmul_mma_q8(s, y, q8, w, rows, groups);
        else
            matmul_quantized(s, y, q8, w, rows, groups);
    }
    }
}

void cuda_matmul(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                 struct cuda_rows rows)
{
    cuda_matmul_grouped(s, y, x, w, rows, {1, NULL});
}

#endif
