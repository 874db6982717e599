// cuda/sum_squares.cu -- the squares of a gradient, added up in double in the order of ops/update.c: number i of a stretch joins lane
// i % 32, and a tree adds up the lanes. So a device's norm has the CPU's bits.
//
// A warp takes a stretch of CUDA_SQUARES numbers; what is left is a number for each, which one thread adds up in order. So is decided on the
// device, too, whether the step is taken: nothing of it waits for the host.
#include "cuda/device.h"
#include "cuda/update.h"

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

// One block; its first thread adds up what the others bring, in order, as the CPU does.
static __global__ void decide_kernel(struct update_verdict *to, const double *squares, int64_t count,
                                     const struct update_limits *limits)
{
    SHARED(double, part, THREADS);
    double sum = 0;
    for (int64_t first = 0; first < count; first += THREADS) {
        const int64_t left = count - first < THREADS ? count - first : (int64_t)THREADS;
        __syncthreads();
        if (threadIdx.x < left) part[threadIdx.x] = load(squares + first + threadIdx.x);
        __syncthreads();
        for (int i = 0; i < left && threadIdx.x == 0; i++) sum += part[i];
    }
    if (threadIdx.x) return;
    const double scale = load(&limits->scale), clip = load(&limits->clip), norm = sqrt(sum) * fabs(scale);
    struct update_verdict v;
    v.norm = norm;
    v.clipped = clip > 0 ? fmin(1.0, clip / (norm + 1e-6)) : 1.0; // 1e-6 as in PyTorch's clip_grad_norm_
    v.factor = (float)(scale * v.clipped);
    v.taken = norm <= load(&limits->most) && norm < INFINITY;
    store(to, v);
}

void cuda_decide(struct cuda_stream *s, struct update_verdict *to, const double *squares, int64_t count,
                 const struct update_limits *limits)
{
    CUDA_LAUNCH(decide_kernel, dim3(1), THREADS, 0, s, to, squares, count, limits);
}
