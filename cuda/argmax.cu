// cuda/argmax.cu -- greedy sampling on the device: the number of the largest logit of each row, of equal ones the first.
#include "cuda/device.h"

enum { THREADS = 256 };

struct best {
    float value;
    int32_t at;
};

__device__ static struct best better(struct best a, struct best b)
{
    return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a;
}

__device__ static struct best warp_best(struct best b)
{
    for (int other = WARP_LANES / 2; other; other /= 2)
        b = better(b, {__shfl_xor_sync(ALL_LANES, b.value, other), __shfl_xor_sync(ALL_LANES, b.at, other)});
    return b;
}

static __global__ void argmax_kernel(int32_t *y, const float *x, struct cuda_rows rows, int64_t cols)
{
    SHARED(float, values, WARP_LANES);
    SHARED(int32_t, places, WARP_LANES);
    const int64_t row = blockIdx.x;
    if (row >= row_count(rows)) return;
    struct best b = {-INFINITY, INT32_MAX};
    for (int64_t i = threadIdx.x; i < cols; i += THREADS)
        b = better(b, {load(x + row * cols + i), (int32_t)i});
    b = warp_best(b);
    if (lane_id() == 0) values[warp_id()] = b.value, places[warp_id()] = b.at;
    __syncthreads();
    if (warp_id()) return;
    b = {-INFINITY, INT32_MAX};
    if (lane_id() < THREADS / WARP_LANES) b = {values[lane_id()], places[lane_id()]};
    b = warp_best(b);
    if (lane_id() == 0) store(y + row, b.at);
}

void cuda_argmax(struct cuda_stream *s, int32_t *y, const float *x, struct cuda_rows rows, int64_t cols)
{
    if (rows.most) CUDA_LAUNCH(argmax_kernel, blocks_for(rows.most, 1), THREADS, 0, s, y, x, rows, cols);
}
