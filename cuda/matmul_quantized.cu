// cuda/matmul_quantized.cu -- products of quantized weights with few columns, by dp4a: bound by the reading of the weights.
//
//     y[t][n] = sum over items of  scale_x scale_w (codes_x . codes_w) - scale_x min_w sum(codes_x)
//
// A warp takes an output and COLUMNS columns; its lanes take items (cuda/decode.h) in turn, and a tree adds up their sums. So the order
// of summation does not depend on the number of columns.
#include "cuda/decode.h"
#include "cuda/fixed.h"
#include "cuda/groups.h"
#include "cuda/products.h"

enum { WARPS = 4 };

// The part of one half of an item for one column.
template <bool MINIMA>
__device__ static float multiply_half(const struct half_item &w, const vec<int, 4> &x, float x_scale)
{
    int dot = 0, total = 0;
    for (int i = 0; i < 4; i++) {
        dot = __dp4a(w.code[i], x.x[i], dot);
        if constexpr (MINIMA) total = __dp4a(0x01010101, x.x[i], total);
    }
    return x_scale * (MINIMA ? w.scale * (float)dot - w.min * (float)total : w.scale * (float)dot);
}

struct q8_column {
    const int8_t *codes;
    const float *scales;
};

// sum[t] = x[t] w, a lane's part of it. What an item needs but its addresses is the same in every round, and nothing depends on how many
// columns there are, so that the loads of several rounds come first.
template <class F, int COLUMNS>
__device__ static void multiply(float (&sum)[COLUMNS], const struct q8_column (&x)[COLUMNS],
                                const uint8_t *codes, const uint8_t *scales, int64_t items)
{
    const int64_t rounds = ceil_div(items - lane_id(), (int64_t)WARP_LANES);
#pragma unroll unroll_of(1024)
    for (int64_t i = 0; i < rounds; i++) {
        struct half_item half[2];
        F::decode(half, codes + i * stretch<F>::codes, scales + i * stretch<F>::rest, lane_id());
#pragma unroll
        for (int t = 0; t < COLUMNS; t++)
            for (int h = 0; h < 2; h++) {
                const vec<int, 4> x_codes = load((const vec<int, 4> *)(x[t].codes + half[h].at + i * 1024));
                const float x_scale = load(x[t].scales + half[h].at / 32 + i * 32);
                sum[t] += multiply_half<HAS_MINIMA<F>>(half[h], x_codes, x_scale);
            }
    }
}

// Columns first .. first + COLUMNS of an output; in the place of those that are not there stands the last.
template <class F, int COLUMNS>
__device__ static void multiply_columns(float *y, const struct group &p, const struct cuda_q8 &x,
                                        int64_t first, const uint8_t *codes, const uint8_t *scales,
                                        int64_t items)
{
    const int64_t count = p.rows - first < COLUMNS ? p.rows - first : COLUMNS;
    struct q8_column column[COLUMNS];
    float sum[COLUMNS] = {};
    for (int t = 0; t < COLUMNS; t++) {
        const int64_t at = p.x + (first + (t < count ? t : count - 1)) * p.x_stride;
        column[t] = {x.codes + at, x.scales + at / 32};
    }
    multiply<F, COLUMNS>(sum, column, codes, scales, items);
    for (int t = 0; t < COLUMNS; t++) {
        const float total = warp_sum(sum[t]);
        if (t < count && lane_id() == 0) store(y + p.y + (first + t) * p.y_stride, total);
    }
}

template <class F, int COLUMNS>
__global__ void matmul_quantized_kernel(float *y, struct cuda_q8 x, struct cuda_matrix w,
                                        struct cuda_rows rows, struct cuda_groups groups)
{
    fix(w, groups);
    const struct group p = group_of(w, rows, groups);
    const int64_t n = (int64_t)blockIdx.x * WARPS + warp_id(), items = w.inputs / 32;
    if (n >= w.outputs) return;
    const uint8_t *codes = p.codes + n * (int64_t)w.code_stride;
    const uint8_t *scales = p.scales + n * (int64_t)w.scale_stride;
    for (int64_t first = (int64_t)blockIdx.y * COLUMNS; first < p.rows; first += gridDim.y * COLUMNS) {
        if (p.rows - first == 1)
            multiply_columns<F, 1>(y + n, p, x, first, codes, scales, items);
        else
            multiply_columns<F, COLUMNS>(y + n, p, x, first, codes, scales, items);
    }
}

#ifndef __CUDACC_RTC__

template <class F, int COLUMNS>
static void launch_columns(struct cuda_stream *s, const char *type, float *y, struct cuda_q8 x,
                           const struct cuda_matrix *w, struct cuda_rows rows, struct cuda_groups groups)
{
    const dim3 grid((unsigned)ceil_div(w->outputs, (int64_t)WARPS), tiles_for(rows, groups, 8),
                    (unsigned)groups.count);
    char kernel[64];
    snprintf(kernel, sizeof kernel, "matmul_quantized_kernel<decode_%s, %d>", type, COLUMNS);
    const struct jit_form form = product_form("cuda/matmul_quantized.cu", kernel, w);
    struct jit *jit = groups.count == 1 && !groups.first ? w->jit : NULL;
    jit_launch(jit, form, s, [&](const struct cuda_kernel *made) {
        CUDA_LAUNCH_MADE(made, (matmul_quantized_kernel<F, COLUMNS>), grid, WARPS * WARP_LANES, 0, s, y, x,
                         *w, rows, groups);
    });
}

template <class F>
static void launch(struct cuda_stream *s, const char *type, float *y, struct cuda_q8 x,
                   const struct cuda_matrix *w, struct cuda_rows rows, struct cuda_groups groups)
{
    if (rows.most <= 2)
        launch_columns<F, 2>(s, type, y, x, w, rows, groups);
    else
        launch_columns<F, 8>(s, type, y, x, w, rows, groups);
}

void matmul_quantized(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                      struct cuda_rows rows, struct cuda_groups groups)
{
    switch (w->type) {
#define PRODUCT(name) \
    case DTYPE_##name: launch<decode_##name>(s, #name, y, x, w, rows, groups); return;
        CUDA_QUANTIZED(PRODUCT)
    default: TLM_ASSERT(!"a quantized type with kernels");
    }
}

#endif
