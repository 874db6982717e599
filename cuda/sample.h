// cuda/sample.h -- what the launches of a draw share: the launches that look at all logits (cuda/sample.cu) and the one that chooses
// (cuda/sample_choose.cu).
#ifndef CUDA_SAMPLE_H
#define CUDA_SAMPLE_H

#include "core/rng.h"
#include "cuda/device.h"
#include "ops/draw.h"
#include "ops/draw_math.h"

namespace sample
{

constexpr int SLICE = 1024, GROUP = WARP_LANES, GROUPS = SLICE / GROUP;
constexpr int MOST_ROWS = 64;             // of a grid
constexpr float LEAST = -3.402823466e38f; // the least number, which every candidate reaches

// The clock of a token.
struct ring {
    double time;
    int32_t id;
};

struct place {        // of what the launches hand on, for each row
    float *group_top; // (groups)
    float *slice_top; // (slices)
    uint64_t *sums;   // (slices)
    struct ring *rings;
};

__host__ __device__ inline int64_t slices_of(int64_t vocab)
{
    return ceil_div(vocab, (int64_t)SLICE);
}

__device__ inline struct place place_of(const struct cuda_sample &a, int64_t row)
{
    const int64_t slices = slices_of(a.vocab);
    struct ring *rings = (struct ring *)a.scratch + row * slices;
    uint64_t *sums = (uint64_t *)((struct ring *)a.scratch + a.most * slices) + row * slices;
    float *tops = (float *)((uint64_t *)((struct ring *)a.scratch + a.most * slices) + a.most * slices);
    return {tops + row * slices * GROUPS, tops + a.most * slices * GROUPS + row * slices, sums, rings};
}

// ---- over the block: `part` has room for a number a warp, and may be used again at once ------------------

template <class T, class F> __device__ T fold(T x, shared<T> part, F of)
{
    for (int other = WARP_LANES / 2; other; other /= 2) x = of(x, __shfl_xor_sync(ALL_LANES, x, other));
    if (lane_id() == 0) part[warp_id()] = x;
    __syncthreads();
    x = part[0];
    for (int i = 1; i < (int)blockDim.x / WARP_LANES; i++) x = of(x, (T)part[i]);
    __syncthreads();
    return x;
}

__device__ inline struct ring earlier(struct ring a, struct ring b)
{
    return b.time < a.time || (b.time == a.time && b.id < a.id) ? b : a;
}

__device__ inline struct ring first_ring(struct ring x, shared<double> times, shared<int32_t> ids)
{
    for (int other = WARP_LANES / 2; other; other /= 2)
        x = earlier(x, {__shfl_xor_sync(ALL_LANES, x.time, other), __shfl_xor_sync(ALL_LANES, x.id, other)});
    if (lane_id() == 0) times[warp_id()] = x.time, ids[warp_id()] = x.id;
    __syncthreads();
    x = {times[0], ids[0]};
    for (int i = 1; i < (int)blockDim.x / WARP_LANES; i++) x = earlier(x, {times[i], ids[i]});
    __syncthreads();
    return x;
}

__device__ inline uint64_t plus(uint64_t a, uint64_t b)
{
    return a + b;
}

__device__ inline int either(int a, int b)
{
    return a | b;
}

__device__ inline double larger(double a, double b)
{
    return a > b ? a : b;
}

// The numbers of all threads in front of this one, and *all of them.
__device__ inline int count_before(int n, shared<int> part, int *all)
{
    int sum = n;
    for (int by = 1; by < WARP_LANES; by *= 2) {
        const int other = __shfl_sync(ALL_LANES, sum, lane_id() >= by ? lane_id() - by : lane_id());
        if (lane_id() >= by) sum += other;
    }
    if (lane_id() == WARP_LANES - 1) part[warp_id()] = sum;
    __syncthreads();
    int before = sum - n;
    *all = 0;
    for (int i = 0; i < (int)blockDim.x / WARP_LANES; i++) {
        if (i < warp_id()) before += part[i];
        *all += part[i];
    }
    __syncthreads();
    return before;
}

__device__ inline uint64_t row_sum(const struct cuda_sample &a, const struct place &at, shared<uint64_t> part)
{
    uint64_t sum = 0;
    for (int64_t i = threadIdx.x; i < slices_of(a.vocab); i += blockDim.x) sum += load(at.sums + i);
    return fold(sum, part, plus);
}

// The clock of a token of probability p, if it may ring before `first`; otherwise `first`.
__device__ inline struct ring rung(const struct draw_row &r, int32_t id, double p, struct ring first)
{
    if (p == 0) return first;
    const double u = rng_uniform(r.seed, 2 * (uint64_t)(uint32_t)id, r.draw);
    if (u > first.time * p) return first; // -ln(1 - u) >= u
    return earlier(first, {-draw_log(1 - u) / p, id});
}

} // namespace sample

void sample_choose(struct cuda_stream *s, const struct cuda_sample *a, double unit);

#endif
