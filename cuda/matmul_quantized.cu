// cuda/matmul_quantized.cu -- products of quantized weights with few columns, by dp4a: bound by the reading of the weights.
//
//     y[t][n] = sum over items of  scale_x scale_w (codes_x . codes_w) - scale_x min_w sum(codes_x)
//
// A warp takes an output and COLUMNS columns; its lanes take items (cuda/decode.h) in turn, and a tree adds up their sums. So the order
// of summation does not depend on the number of columns.
#include "cuda/decode.h"
#include "cuda/groups.h"
#include "cuda/products.h"

enum { WARPS = 4 };

// The part of one half of an item for one column.
__device__ static float multiply_half(const struct half_item &w, const vec<int, 4> &x, float x_scale)
{
    int dot = 0, total = 0;
    for (int i = 0; i < 4; i++) {
        dot = __dp4a(w.code[i], x.x[i], dot);
        total = __dp4a(0x01010101, x.x[i], total);
    }
    return x_scale * (w.scale * (float)dot - w.min * (float)total);
}

template <class F, int COLUMNS>
__global__ void matmul_quantized_kernel(float *y, struct cuda_q8 x, struct cuda_matrix w,
                                        struct cuda_rows rows, struct cuda_groups groups)
{
    const struct group p = group_of(w, rows, groups);
    const int64_t n = (int64_t)blockIdx.x * WARPS + warp_id(), items = w.inputs / 32;
    if (n >= w.outputs) return;
    const uint8_t *codes = p.codes + n * (int64_t)w.code_stride;
    const uint8_t *scales = p.scales + n * (int64_t)w.scale_stride;
    for (int64_t first = (int64_t)blockIdx.y * COLUMNS; first < p.rows; first += gridDim.y * COLUMNS) {
        const int64_t left = p.rows - first, begin = p.x + first * p.x_stride;
        float sum[COLUMNS] = {};
        for (int64_t item = lane_id(); item < items; item += WARP_LANES) {
            struct half_item half[2];
            F::decode(half, codes, scales, item);
#pragma unroll
            for (int t = 0; t < COLUMNS; t++) {
                if (t >= left) break;
                for (int h = 0; h < 2; h++) {
                    const int64_t at = begin + t * p.x_stride + half[h].at;
                    sum[t] += multiply_half(half[h], load((const vec<int, 4> *)(x.codes + at)),
                                            load(x.scales + at / 32));
                }
            }
        }
        for (int t = 0; t < COLUMNS && t < left; t++) {
            const float total = warp_sum(sum[t]);
            if (lane_id() == 0) store(y + p.y + (first + t) * p.y_stride + n, total);
        }
    }
}

template <class F>
static void launch(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                   struct cuda_rows rows, struct cuda_groups groups)
{
    const dim3 grid((unsigned)ceil_div(w->outputs, (int64_t)WARPS), tiles_for(rows, groups, 8),
                    (unsigned)groups.count);
    const int threads = WARPS * WARP_LANES;
    if (rows.most <= 2)
        CUDA_LAUNCH((matmul_quantized_kernel<F, 2>), grid, threads, 0, s, y, x, *w, rows, groups);
    else
        CUDA_LAUNCH((matmul_quantized_kernel<F, 8>), grid, threads, 0, s, y, x, *w, rows, groups);
}

void matmul_quantized(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                      struct cuda_rows rows, struct cuda_groups groups)
{
    switch (w->type) {
#define PRODUCT(name) \
    case DTYPE_##name: launch<decode_##name>(s, y, x, w, rows, groups); return;
        CUDA_QUANTIZED(PRODUCT)
    default: TLM_ASSERT(!"a quantized type with kernels");
    }
}
