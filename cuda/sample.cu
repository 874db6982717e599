// cuda/sample.cu -- drawing tokens on the device, with the bits of generate/sample_chain.c.
//
// A draw is the first of clocks that ring, each by the random numbers of its place and token; so all that the chain has to find is who
// takes part. Four launches, of which two return at once where they have nothing to do:
//
//   scan    changes single logits, masks what a grammar forbids; the largest of every 32 logits, and of every slice
//   weigh   where a sum over all tokens is wanted, that of each slice
//   ring    where nothing truncates, the first clock of each slice
//   choose  one block a row: a bound that enough of the largest of 32 reach is one that enough logits reach. Those that do are a list of
//           hardly more than wanted, found by reading only the places that have one. The chain runs on it, a thread a candidate.
//
// A list knows whether it holds all candidates or only the best. If the chain asks for more than it has, or the list is too long, the
// host draws. Sums are of integers and ranks are counted pair by pair, so that no order of threads shows.
#include "cuda/sample.h"

using namespace sample;

constexpr int THREADS = 256, WARPS = THREADS / WARP_LANES;

static inline size_t row_bytes(int64_t vocab)
{
    return (size_t)slices_of(vocab) *
           (GROUPS * sizeof(float) + 2 * sizeof(float) + sizeof(uint64_t) + sizeof(struct ring));
}

size_t cuda_sample_scratch(int64_t most, int64_t vocab)
{
    return (size_t)most * row_bytes(vocab);
}

// ---- scan -------------------------------------------------------------------------------------------------

// As generate/sample_chain.c's apply_bias() and penalized().
__device__ static float changed(const struct draw_row &r, struct draw_change c, float x)
{
    x = c.bias == -INFINITY ? -INFINITY : x + c.bias;
    if (!c.count) return x;
    double logit = (double)x;
    logit = logit > 0 ? logit / r.repeat : logit * r.repeat;
    return (float)(logit - ((double)c.count * r.frequency + r.presence));
}

static __global__ void scan_kernel(struct cuda_sample a)
{
    SHARED(float, x, SLICE);
    SHARED(float, part, GROUPS);
    const int64_t begin = (int64_t)blockIdx.x * SLICE;
    wait_for_previous();
    let_next_begin();
    for (int64_t row = blockIdx.y; row < a.data->count; row += gridDim.y) {
        const struct draw_row &r = a.data->rows[row];
        if (r.length == DRAW_NONE) continue;
        const struct place to = place_of(a, row);
        float *logits = a.x + row * a.vocab;
        for (int i = (int)threadIdx.x; i < SLICE; i += THREADS)
            x[i] = begin + i < a.vocab ? load(logits + begin + i) : -INFINITY;
        __syncthreads();
        const struct draw_change *changes = (const struct draw_change *)((const char *)a.data + r.changes);
        for (int i = (int)threadIdx.x; i < r.change_count; i += THREADS) {
            const int64_t at = changes[i].token - begin;
            if (at >= 0 && at < SLICE) x[at] = changed(r, changes[i], x[at]);
        }
        __syncthreads();
        const uint32_t *mask = (const uint32_t *)((const char *)a.data + r.mask);
        for (int group = warp_id(); group < GROUPS; group += WARPS) {
            const int64_t at = begin + group * GROUP + lane_id();
            float logit = x[group * GROUP + lane_id()];
            const bool there = at < a.vocab;
            if (!(logit > -INFINITY) || (r.mask && there && !(mask[at / GROUP] >> lane_id() & 1)))
                logit = -INFINITY; // a NaN, too
            if (there && (r.change_count || r.mask || logit == -INFINITY)) store(logits + at, logit);
            logit = warp_max(logit);
            if (lane_id() == 0) {
                part[group] = logit;
                store(to.group_top + begin / GROUP + group, logit);
            }
        }
        __syncthreads();
        if (warp_id() == 0) {
            const float top = warp_max(part[lane_id()]);
            if (lane_id() == 0) store(to.slice_top + blockIdx.x, top);
        }
        __syncthreads();
    }
}

// ---- all tokens: the sum of their weights, and the first clock --------------------------------------------

__device__ static float row_top(const struct cuda_sample &a, const struct place &at, shared<float> part)
{
    float top = -INFINITY;
    for (int64_t i = threadIdx.x; i < slices_of(a.vocab); i += blockDim.x)
        top = fmaxf(top, load(at.slice_top + i));
    return block_max(top, part);
}

// e^(logit - highest), 0 for what is no candidate. Where logits are infinite, those are equals and the others are none.
__device__ static double weight_of(float x, float top, double divisor)
{
    if (top == INFINITY) return x == INFINITY;
    return x > -INFINITY ? draw_exp((double)x / divisor - (double)top / divisor) : 0;
}

static __global__ void weigh_kernel(struct cuda_sample a, double unit)
{
    SHARED(float, part, WARP_LANES);
    SHARED(uint64_t, sums, WARP_LANES);
    wait_for_previous();
    let_next_begin();
    for (int64_t row = blockIdx.y; row < a.data->count; row += gridDim.y) {
        const struct draw_row &r = a.data->rows[row];
        if (!r.weigh) continue;
        const struct place at = place_of(a, row);
        const float top = row_top(a, at, part);
        uint64_t sum = 0;
        for (int64_t i = (int64_t)blockIdx.x * SLICE + threadIdx.x, n = 0; n < SLICE && i < a.vocab;
             i += THREADS, n += THREADS)
            sum += draw_weight(weight_of(load(a.x + row * a.vocab + i), top, r.divisor), unit);
        sum = fold(sum, sums, plus);
        if (threadIdx.x == 0) store(at.sums + blockIdx.x, sum);
    }
}

static __global__ void ring_kernel(struct cuda_sample a, double unit)
{
    SHARED(float, part, WARP_LANES);
    SHARED(uint64_t, sums, WARP_LANES);
    SHARED(double, times, WARP_LANES);
    SHARED(int32_t, ids, WARP_LANES);
    wait_for_previous();
    let_next_begin();
    for (int64_t row = blockIdx.y; row < a.data->count; row += gridDim.y) {
        const struct draw_row &r = a.data->rows[row];
        if (!r.all) continue;
        const struct place at = place_of(a, row);
        const float top = row_top(a, at, part);
        const double share = 1 / ((double)row_sum(a, at, sums) / unit);
        struct ring first = {INFINITY, r.last_resort};
        for (int64_t i = (int64_t)blockIdx.x * SLICE + threadIdx.x, n = 0; n < SLICE && i < a.vocab;
             i += THREADS, n += THREADS)
            first =
                rung(r, (int32_t)i, weight_of(load(a.x + row * a.vocab + i), top, r.divisor) * share, first);
        first = first_ring(first, times, ids);
        if (threadIdx.x == 0) store(at.rings + blockIdx.x, first);
    }
}

void cuda_sample(struct cuda_stream *s, const struct cuda_sample *a)
{
    const double unit = draw_unit(a->vocab);
    const unsigned rows = (unsigned)(a->most < MOST_ROWS ? a->most : MOST_ROWS);
    const dim3 slices((unsigned)slices_of(a->vocab), rows);
    if (!rows) return;
    CUDA_LAUNCH_EARLY(scan_kernel, slices, THREADS, 0, s, *a);
    CUDA_LAUNCH_EARLY(weigh_kernel, slices, THREADS, 0, s, *a, unit);
    CUDA_LAUNCH_EARLY(ring_kernel, slices, THREADS, 0, s, *a, unit);
    sample_choose(s, a, unit);
}
