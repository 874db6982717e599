// cuda/attention_few.h -- what a block does in attention of few rows over the paged cache (ops/attention.c has the formulas).
//
// It takes a stretch of the keys of each row of a tile, and up to HEADS of the query heads that share a key-value head, so keys and values are
// read once for them. It walks the stretch in tiles of 64 keys: a thread a key scores them, a warp a head takes the softmax, a thread a
// number of the values adds up. (m, l, o) of the stretch goes to `partial`; the block that comes last, or a second launch, merges a row's
// stretches in order (Dao et al., "Flash-Decoding", 2023). Which keys a stretch has is a function of the row's position alone, and the bits
// do not depend on how many threads a block has.
#ifndef CUDA_ATTENTION_FEW_H
#define CUDA_ATTENTION_FEW_H

#include "cuda/kv_rows.h"

namespace attention_few
{

constexpr int HEADS = 8, TILE = ATTENTION_TILE;
template <int THREADS> constexpr int dims = ceil_div((int)CUDA_VALUE_MAX, THREADS); // of a value, a thread's

// Numbers i .. i + N of a row
template <int N> __device__ vec<float, N> numbers(const struct paged_kv &kv, const char *row, int32_t i)
{
    if constexpr (N == 8) {
        return kv_numbers(kv, row, i);
    } else {
        return {{kv_number(kv, row, i)}};
    }
}

// What a block does: stretch `split` of row `row`, and the heads of part `part`.
struct job {
    int64_t row, kv_head;
    int32_t part, split;
    int32_t head, heads;   // the first of the query heads, and how many
    int32_t from, to, pos; // keys; the position of the row
    const int32_t *table;
};

// Parts of the query heads: of each key-value head's up to HEADS.
__host__ __device__ inline int32_t part_count(const struct cuda_attention &a)
{
    return a.kv_heads * ceil_div(a.heads / a.kv_heads, HEADS);
}

__device__ inline struct job job_of(const struct cuda_attention &a, const struct attention_tile &tile,
                                    int32_t r, int32_t part, int32_t split)
{
    const int32_t group = a.heads / a.kv_heads, parts = ceil_div(group, HEADS);
    struct job j;
    j.row = tile.row + r;
    j.part = part, j.split = split;
    j.kv_head = part / parts;
    const int32_t first = part % parts * HEADS;
    j.head = (int32_t)j.kv_head * group + first;
    j.heads = group - first < HEADS ? group - first : HEADS;
    j.pos = load(a.pos + j.row);
    j.table = a.tables + tile.sequence * a.table_stride;
    const int32_t begin = a.window && j.pos >= a.window ? j.pos - a.window + 1 : 0, end = j.pos + 1;
    const int32_t first_tile = begin / TILE, tiles = ceil_div(end, TILE) - first_tile;
    const int32_t each = ceil_div(tiles, a.splits) * TILE, at = first_tile * TILE + split * each;
    j.from = at > begin ? at : begin;
    j.to = at + each < end ? at + each : end;
    return j;
}

// scores (HEADS, TILE) of the tile's keys: a thread takes EACH heads of one key.
template <int N, int THREADS>
__device__ void score(const struct cuda_attention &a, const struct job &j, int32_t tile, shared<float> q,
                      shared<float> scores)
{
    constexpr int EACH = ceil_div(HEADS, THREADS / TILE);
    const int32_t key = tile + (int32_t)threadIdx.x % TILE, first = (int32_t)threadIdx.x / TILE * EACH;
    if (first >= HEADS) return;
    float dot[EACH] = {};
    const bool seen = key >= j.from && key < j.to;
    if (seen && first < j.heads) {
        const char *row = cache_row(a.k, j.table, key, j.kv_head);
        for (int32_t i = 0; i < a.head_dim; i += N) {
            const vec<float, N> k = numbers<N>(a.k, row, i);
            for (int h = 0; h < EACH; h++)
                for (int n = 0; n < N; n++) dot[h] += q[(first + h) * a.head_dim + i + n] * k.x[n];
        }
    }
    for (int h = 0; h < EACH; h++) {
        float s = dot[h] * a.scale;
        if (a.softcap > 0) s = a.softcap * tanhf(s / a.softcap);
        if (a.slopes && first + h < j.heads) s += load(a.slopes + j.head + first + h) * (float)(key - j.pos);
        scores[(first + h) * TILE + key - tile] = seen ? s : -INFINITY;
    }
}

// A warp a head: scores become exp(s - m); what the sums so far are multiplied by goes to rescale[h].
template <int THREADS>
__device__ void soften(int32_t heads, shared<float> scores, shared<float> top, shared<float> total,
                       shared<float> rescale)
{
    for (int32_t h = warp_id(); h < heads; h += THREADS / WARP_LANES) {
        const shared<float> s = scores + h * TILE;
        const float low = s[lane_id()], high = s[lane_id() + 32];
        const float before = top[h], now = fmaxf(before, warp_max(fmaxf(low, high)));
        const float base = now == -INFINITY ? 0 : now; // scores that overflowed to -inf weigh nothing
        const float p = expf(low - base), r = expf(high - base), sum = warp_sum(p + r);
        s[lane_id()] = p;
        s[lane_id() + 32] = r;
        __syncwarp();
        if (lane_id() == 0) {
            const float factor = expf(before - base);
            rescale[h] = factor;
            total[h] = total[h] * factor + sum;
            top[h] = now;
        }
    }
}

// o = o * rescale + sum of p v over the keys of the tile: a thread takes numbers threadIdx.x, + THREADS ... of all heads. o is in registers as
// long as its indices are known, so loops over them are unrolled.
template <int THREADS>
__device__ void add_values(const struct cuda_attention &a, const struct job &j, int32_t tile,
                           shared<float> scores, shared<float> rescale, float (&o)[HEADS][dims<THREADS>])
{
    const int32_t from = j.from > tile ? j.from : tile, to = j.to < tile + TILE ? j.to : tile + TILE;
#pragma unroll
    for (int d = 0; d < dims<THREADS>; d++) {
        const int32_t i = (int32_t)threadIdx.x + d * THREADS;
        if (i >= a.value_dim) break;
#pragma unroll
        for (int h = 0; h < HEADS && h < j.heads; h++) o[h][d] *= rescale[h];
        for (int32_t key = from; key < to; key++) {
            const float v = kv_number(a.v, cache_row(a.v, j.table, key, j.kv_head), i);
#pragma unroll
            for (int h = 0; h < HEADS && h < j.heads; h++) o[h][d] += scores[h * TILE + key - tile] * v;
        }
    }
}

// q (HEADS, head_dim) of the job
template <int THREADS>
__device__ void take_queries(const struct cuda_attention &a, const struct job &j, shared<float> q)
{
    for (int32_t i = (int32_t)threadIdx.x; i < HEADS * a.head_dim; i += THREADS)
        q[i] = i < j.heads * a.head_dim ? load(a.q + (j.row * a.heads + j.head) * a.head_dim + i) : 0;
}

// The stretch, of the queries that all threads have written: maximum, sum and weighted values into `partial`.
template <int N, int THREADS>
__device__ void attend(const struct cuda_attention &a, const struct job &j, shared<float> q)
{
    SHARED(float, scores, HEADS *TILE);
    SHARED(float, top, HEADS);
    SHARED(float, total, HEADS);
    SHARED(float, rescale, HEADS);
    float o[HEADS][dims<THREADS>] = {};
    if (threadIdx.x < HEADS) top[threadIdx.x] = -INFINITY, total[threadIdx.x] = 0;
    __syncthreads();
    for (int32_t tile = j.from / TILE * TILE; tile < j.to; tile += TILE) {
        score<N, THREADS>(a, j, tile, q, scores);
        __syncthreads();
        soften<THREADS>(j.heads, scores, top, total, rescale);
        __syncthreads();
        add_values<THREADS>(a, j, tile, scores, rescale, o);
        __syncthreads();
    }
#pragma unroll
    for (int h = 0; h < HEADS && h < j.heads; h++) {
        float *to = a.partial + ((j.row * a.heads + j.head + h) * a.splits + j.split) * (a.value_dim + 2);
        if (threadIdx.x == 0) store(to, (float)top[h]), store(to + 1, (float)total[h]);
#pragma unroll
        for (int d = 0; d < dims<THREADS>; d++) {
            const int32_t i = (int32_t)threadIdx.x + d * THREADS;
            if (i < a.value_dim) store(to + 2 + i, o[h][d]);
        }
    }
    __syncthreads();
}

// A warp merges a row's stretches of a head, a lane a stretch: y = sum of e^m o / sum of e^m l. Its sums have one order, whoever of the
// stretches came last.
__device__ inline void merge(const struct cuda_attention &a, int64_t row, int64_t head)
{
    const int32_t width = a.value_dim + 2;
    const float *parts = a.partial + (row * a.heads + head) * a.splits * width,
                *own = parts + lane_id() * width;
    const bool there = lane_id() < a.splits;
    const float sink = a.sinks ? load(a.sinks + head) : -INFINITY, m = there ? load(own) : -INFINITY;
    const float top = fmaxf(sink, warp_max(m)), base = top == -INFINITY ? 0 : top;
    const float weight = m == -INFINITY ? 0 : expf(m - base);
    const float total =
        warp_sum(m == -INFINITY ? 0 : load(own + 1) * weight) + (a.sinks ? expf(sink - base) : 0);
    const unsigned some = __ballot_sync(ALL_LANES, m != -INFINITY);
    for (int32_t first = 0; first < a.value_dim; first += WARP_LANES) {
        const int32_t i = first + lane_id();
        float o = 0;
#pragma unroll 8
        for (int32_t s = 0; s < a.splits; s++) {
            const float w = __shfl_sync(ALL_LANES, weight, s);
            if (some >> s & 1 && i < a.value_dim) o += w * load(parts + s * width + 2 + i);
        }
        if (i < a.value_dim) store(a.y + (row * a.heads + head) * a.value_dim + i, o / total);
    }
}

// The last block to come of those that share the row and the heads merges them, and leaves the counter as it was.
template <int THREADS> __device__ void arrive(const struct cuda_attention &a, const struct job &j)
{
    SHARED(int32_t, before, 1);
    int32_t *counter = a.arrived + j.row * part_count(a) + j.part;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) before[0] = atomicAdd(counter, 1);
    __syncthreads();
    if (before[0] == a.splits - 1) {
        __threadfence();
        for (int32_t h = warp_id(); h < j.heads; h += THREADS / WARP_LANES) merge(a, j.row, j.head + h);
        if (threadIdx.x == 0) store(counter, 0);
    }
    __syncthreads();
}

} // namespace attention_few

#endif
