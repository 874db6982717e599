// cuda/sum_squares.cu -- the squares of a gradient, added up in double in the order of ops/update.c: number i of a stretch joins lane
// i % 32, and a tree adds up the lanes. So a device's norm has the CPU's bits.
//
// A warp takes a stretch of CUDA_SQUARES numbers; what is left is a number for each, which the host adds up in order.
#include "cuda/device.h"

enum { THREADS = 128, WARPS = THREADS / WARP_LANES };

static __global__ void sum_squares_kernel(double *to, const float *x, int64_t count)
{
    const int64_t stretch = (int64_t)blockIdx.x * WARPS + warp_id(), first = stretch * CUDA_SQUARES;
    if (first >= count) return;
    const int64_t n = count - first < CUDA_SQUARES ? count - first : (int64_t)CUDA_SQUARES;
    double sum = 0;
    for (int64_t i = lane_id(); i < n; i += WARP_LANES) {
        const double number = load(x + first + i);
        sum += number * number; // exact: it does not matter whether product and sum are fused
    }
    for (int half = WARP_LANES / 2; half; half /= 2) sum += __shfl_down_sync(ALL_LANES, sum, half);
    if (lane_id() == 0) store(to + stretch, sum);
}

void cuda_sum_squares(struct cuda_stream *s, double *to, const float *x, int64_t count)
{
    const int64_t stretches = ceil_div(count, (int64_t)CUDA_SQUARES);
    if (stretches) CUDA_LAUNCH(sum_squares_kernel, blocks_for(stretches, WARPS), THREADS, 0, s, to, x, count);
}
