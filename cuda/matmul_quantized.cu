// cuda/matmul_quantized.cu -- products of quantized weights with few columns, by dp4a: bound by the reading of the weights.
//
//     y[t][n] = sum over items of  scale_x scale_w (codes_x . codes_w) - scale_x min_w sum(codes_x)
//
// A warp takes an output and COLUMNS columns; its lanes take items (cuda/decode.h) in turn, and a tree adds up their sums. So the order
// of summation does not depend on the number of columns.
#include "cuda/decode.h"
#include "cuda/device.h"
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
                                        struct cuda_rows rows)
{
    const int64_t n = (int64_t)blockIdx.x * WARPS + warp_id(), first = (int64_t)blockIdx.y * COLUMNS;
    const int64_t left = row_count(rows) - first, k = w.inputs;
    if (n >= w.outputs || left <= 0) return;
    const uint8_t *codes = (const uint8_t *)w.codes + n * (int64_t)w.code_stride;
    const uint8_t *scales = (const uint8_t *)w.scales + n * (int64_t)w.scale_stride;
    float sum[COLUMNS] = {};
    for (int64_t item = lane_id(); item < k / 32; item += WARP_LANES) {
        struct half_item half[2];
        F::decode(half, codes, scales, item);
#pragma unroll
        for (int t = 0; t < COLUMNS; t++) {
            if (t >= left) break;
            for (int h = 0; h < 2; h++) {
                const int64_t at = (first + t) * k + half[h].at;
                sum[t] += multiply_half(half[h], load((const vec<int, 4> *)(x.codes + at)),
                                        load(x.scales + at / 32));
            }
        }
    }
    for (int t = 0; t < COLUMNS && t < left; t++) {
        const float total = warp_sum(sum[t]);
        if (lane_id() == 0) store(y + (first + t) * w.outputs + n, total);
    }
}

template <class F>
static void launch(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                   struct cuda_rows rows)
{
    const unsigned groups = (unsigned)ceil_div(w->outputs, (int64_t)WARPS);
    const int threads = WARPS * WARP_LANES;
    if (rows.most <= 2)
        CUDA_LAUNCH((matmul_quantized_kernel<F, 2>), dim3(groups), threads, 0, s, y, x, *w, rows);
    else
        CUDA_LAUNCH((matmul_quantized_kernel<F, 8>), dim3(groups, (unsigned)ceil_div(rows.most, (int64_t)8)),
                    threads, 0, s, y, x, *w, rows);
}

void matmul_quantized(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                      struct cuda_rows rows)
{
    switch (w->type) {
#define PRODUCT(name) \
    case DTYPE_##name: launch<decode_##name>(s, y, x, w, rows); return;
        CUDA_QUANTIZED(PRODUCT)
    default: TLM_ASSERT(!"a quantized type with kernels");
    }
}
