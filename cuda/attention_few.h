// cuda/attention_few.h -- what a block does in attention of few rows over the paged cache (ops/attention.c has the formulas).
//
// It takes a stretch of the keys of each row of a tile, and up to HEADS of the query heads that share a key-value head, so keys and values are
// read and made numbers once for them. It walks the stretch in tiles of 64 keys: four threads a key score them, a warp a head takes the
// softmax, and a thread adds up eight columns of the values of every so many keys, which are summed among threads only behind the stretch.
// What a key costs in instructions is then less than what its bytes cost in time, of F16 and of up to eight heads.
// (m, l, o) of the stretch goes to `partial`; the block that comes last, or a second launch, merges a row's stretches in order (Dao et al.,
// "Flash-Decoding", 2023). Which keys a stretch has is a function of the row's position alone, and the bits do not depend on how many
// threads a block has.
#ifndef CUDA_ATTENTION_FEW_H
#define CUDA_ATTENTION_FEW_H

#include "cuda/kv_rows.h"

namespace attention_few
{

// Query heads that a block takes at most, keys of a tile, threads that add up values of a head, keys that each of them has on their way
constexpr int HEADS = 8, TILE = ATTENTION_TILE, LANES = 128, AHEAD = 4;

// Rows of any type, and those that kv_numbers_fit() does not hold for; zeros behind the last number.
struct rows_of_any {
    const struct paged_kv &kv;
    int32_t dim;
    bool fit;
    using raw = vec<float, 8>;
    __device__ raw read(const char *row, int32_t i) const
    {
        if (fit) return kv_numbers(kv, row, i);
        raw y;
        for (int j = 0; j < 8; j++) y.x[j] = i + j < dim ? kv_number(kv, row, i + j) : 0;
        return y;
    }
    __device__ vec<float, 8> widen(const raw &x, int32_t) const
    {
        return x;
    }
};

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

// Numbers from one query in shared memory to the next: zeros behind head_dim
__host__ __device__ inline int32_t query_stride(const struct cuda_attention &a)
{
    return ceil_div(a.head_dim, 8) * 8;
}

// q (N, query_stride()) of the job, zeros for heads that there are not
template <int N, int THREADS>
__device__ void take_queries(const struct cuda_attention &a, const struct job &j, shared<float> q)
{
    for (int h = 0; h < N; h++)
        for (int32_t i = (int32_t)threadIdx.x; i < query_stride(a); i += THREADS)
            q[h * query_stride(a) + i] = h < j.heads && i < a.head_dim
                                             ? load(a.q + (j.row * a.heads + j.head + h) * a.head_dim + i)
                                             : 0;
}

// Where the thread's row of the tile stands: of the first TILE threads a key's, of the next a value's. In the place of a key that the stretch
// does not have stands one that it has, and weighs nothing.
__device__ inline int64_t place_of(const struct cuda_attention &a, const struct job &j, int32_t tile)
{
    if (threadIdx.x >= 2 * TILE) return 0;
    const int32_t key = tile + (int32_t)threadIdx.x % TILE,
                  one = key < j.from ? j.from : (key < j.to ? key : j.to - 1);
    return cache_place(threadIdx.x < TILE ? a.k : a.v, j.table, one, j.kv_head);
}

// scores (N, TILE) = q k: four threads a key, each takes every fourth eight of the numbers.
template <int N, int THREADS, class ROWS>
__device__ void score(const struct cuda_attention &a, const ROWS &rows, shared<float> q,
                      shared<int64_t> places, shared<float> scores)
{
    constexpr int APART = THREADS / 4 < TILE ? THREADS / 4 : TILE, KEYS = TILE / APART;
    const int32_t key = (int32_t)threadIdx.x / 4, quarter = (int32_t)threadIdx.x % 4, dim = query_stride(a);
    if (key >= APART) return;
    float dot[KEYS][N] = {};
    const char *row[KEYS];
    for (int k = 0; k < KEYS; k++) row[k] = a.k.data + places[key + k * APART];
    for (int32_t i = quarter * 8; i < dim; i += 64) {
        typename ROWS::raw x[2][KEYS];
        const bool both = i + 32 < dim;
        for (int k = 0; k < KEYS; k++) {
            x[0][k] = rows.read(row[k], i);
            if (both) x[1][k] = rows.read(row[k], i + 32);
        }
#pragma unroll
        for (int u = 0; u < 2; u++) {
            if (u && !both) break;
            vec<float, 8> numbers[KEYS];
            for (int k = 0; k < KEYS; k++) numbers[k] = rows.widen(x[u][k], i + 32 * u);
            for (int h = 0; h < N; h++)
                for (int half = 0; half < 8; half += 4) {
                    const vec<float, 4> w = shared_as<vec<float, 4>>(q + (h * dim + i + 32 * u + half))[0];
                    for (int k = 0; k < KEYS; k++)
                        for (int n = 0; n < 4; n++) dot[k][h] += w.x[n] * numbers[k].x[half + n];
                }
        }
    }
    for (int k = 0; k < KEYS; k++)
        for (int h = 0; h < N; h++) {
            float s = dot[k][h];
            s += __shfl_xor_sync(ALL_LANES, s, 1);
            s += __shfl_xor_sync(ALL_LANES, s, 2);
            if (quarter == h % 4) scores[h * TILE + key + k * APART] = s;
        }
}

// Scale, cap, slope and mask of a score
__device__ inline float masked(const struct cuda_attention &a, const struct job &j, float s, float slope,
                               int32_t key)
{
    s *= a.scale;
    if (a.softcap > 0) s = a.softcap * tanhf(s / a.softcap);
    return key >= j.from && key < j.to ? s + slope * (float)(key - j.pos) : -INFINITY;
}

// From one key's weights to the next's: those of eight heads stand so that fewer lanes meet in a bank.
template <int N> constexpr int weight_stride = N == 8 ? 12 : N;

// A warp a head: weights (TILE, N) are exp(s - m); what the sums so far are multiplied by goes to rescale[h].
template <int N, int THREADS>
__device__ void soften(const struct cuda_attention &a, const struct job &j, int32_t tile,
                       shared<float> scores, shared<float> weights, shared<float> top, shared<float> total,
                       shared<float> rescale)
{
    for (int32_t h = warp_id(); h < N; h += THREADS / WARP_LANES) {
        const int lane = lane_id();
        const float slope = a.slopes && h < j.heads ? load(a.slopes + j.head + h) : 0;
        const float low = masked(a, j, scores[h * TILE + lane], slope, tile + lane),
                    high = masked(a, j, scores[h * TILE + lane + 32], slope, tile + lane + 32);
        const float before = top[h], now = fmaxf(before, warp_max(fmaxf(low, high)));
        const float base = now == -INFINITY ? 0 : now; // scores that overflowed to -inf weigh nothing
        const float p = expf(low - base), r = expf(high - base), sum = warp_sum(p + r);
        weights[lane * weight_stride<N> + h] = p;
        weights[(lane + 32) * weight_stride<N> + h] = r;
        __syncwarp();
        if (lane == 0) {
            const float factor = expf(before - base);
            rescale[h] = factor;
            total[h] = total[h] * factor + sum;
            top[h] = now;
        }
    }
}

// What a thread adds up: columns column .. + 8 of keys group, + groups ..., of heads first .. + EACH.
template <int N, int THREADS> struct share {
    static constexpr int SETS = THREADS >= 2 * LANES && N > 1 ? 2 : 1, EACH = N / SETS;
    int32_t width, groups, group, column; // width: of a row, whole eights
    int set;
    bool there;
    __device__ share(const struct cuda_attention &a, const struct job &j)
    {
        const int32_t lane = (int32_t)threadIdx.x % LANES, each = ceil_div(a.value_dim, 8);
        set = (int)threadIdx.x / LANES;
        width = each * 8, groups = LANES / each, group = lane / each, column = lane % each * 8;
        there = set < SETS && set * EACH < j.heads && group < groups;
    }
};

// o = o * rescale + sum of p v over the first `count` keys of the tile
template <int N, int THREADS, class ROWS>
__device__ void add_values(const struct cuda_attention &a, const ROWS &rows, const share<N, THREADS> &own,
                           int32_t count, shared<int64_t> places, shared<float> weights,
                           shared<float> rescale, float (&o)[share<N, THREADS>::EACH][8])
{
    constexpr int EACH = share<N, THREADS>::EACH, FOUR = EACH < 4 ? EACH : 4;
    if (!own.there) return;
    const int first = own.set * EACH;
    for (int h = 0; h < EACH; h++)
        for (int n = 0; n < 8; n++) o[h][n] *= rescale[first + h];
    for (int32_t key = own.group; key < count; key += AHEAD * own.groups) {
        typename ROWS::raw x[AHEAD];
        for (int u = 0; u < AHEAD; u++)
            if (key + u * own.groups < count)
                x[u] = rows.read(a.v.data + places[key + u * own.groups], own.column);
        for (int u = 0; u < AHEAD; u++) {
            if (key + u * own.groups >= count) break;
            const vec<float, 8> v = rows.widen(x[u], own.column);
            const shared<float> p = weights + ((key + u * own.groups) * weight_stride<N> + first);
            float weight[EACH];
            for (int h = 0; h < EACH; h += FOUR) {
                const vec<float, FOUR> some = shared_as<vec<float, FOUR>>(p + h)[0];
                for (int n = 0; n < FOUR; n++) weight[h + n] = some.x[n];
            }
            for (int h = 0; h < EACH; h++)
                for (int n = 0; n < 8; n++) o[h][n] += weight[h] * v.x[n];
        }
    }
}

// The stretch's maximum, sum and weighted values, those of threads with the same columns added up in order, into `partial`.
template <int N, int THREADS>
__device__ void leave(const struct cuda_attention &a, const struct job &j, const share<N, THREADS> &own,
                      const float (&o)[share<N, THREADS>::EACH][8], shared<float> top, shared<float> total)
{
    constexpr int EACH = share<N, THREADS>::EACH, AT_ONCE = N < 4 ? N : 4;
    SHARED(float, sums, AT_ONCE *LANES * 8);
    for (int from = 0; from < j.heads; from += AT_ONCE) {
        for (int h = 0; h < EACH; h++) {
            const int at = own.set * EACH + h - from;
            if (!own.there || at < 0 || at >= AT_ONCE) continue;
            const shared<float> to = sums + (at * LANES * 8 + own.group * own.width + own.column);
            for (int n = 0; n < 8; n++) to[n] = o[h][n];
        }
        __syncthreads();
        for (int h = from; h < from + AT_ONCE && h < j.heads; h++) {
            float *to = a.partial + ((j.row * a.heads + j.head + h) * a.splits + j.split) * (a.value_dim + 2);
            if (threadIdx.x == 0) store(to, (float)top[h]), store(to + 1, (float)total[h]);
            for (int32_t i = (int32_t)threadIdx.x; i < a.value_dim; i += THREADS) {
                float sum = 0;
                for (int32_t g = 0; g < own.groups; g++)
                    sum += sums[(h - from) * LANES * 8 + g * own.width + i];
                store(to + 2 + i, sum);
            }
        }
        __syncthreads();
    }
}

// The stretch, of the queries that threads have written. What reads keys and values is known when this is compiled: chosen for every tile it
// would cost registers.
template <int N, int THREADS, class KEYS, class VALUES>
__device__ void attend(const struct cuda_attention &a, const struct job &j, shared<float> q, const KEYS &keys,
                       const VALUES &values)
{
    SHARED(float, scores, N *TILE);
    SHARED(float, weights, TILE *weight_stride<N>);
    SHARED(float, top, N);
    SHARED(float, total, N);
    SHARED(float, rescale, N);
    SHARED(int64_t, places, 2 * 2 * TILE); // of keys and values of this tile and of the next
    const share<N, THREADS> own(a, j);
    float o[share<N, THREADS>::EACH][8] = {};
    int32_t tile = j.from / TILE * TILE;
    if (threadIdx.x < N) top[threadIdx.x] = -INFINITY, total[threadIdx.x] = 0;
    if (threadIdx.x < 2 * TILE && j.from < j.to) places[threadIdx.x] = place_of(a, j, tile);
    __syncthreads();
    for (int turn = 0; tile < j.to; tile += TILE, turn ^= 1) {
        const shared<int64_t> now = places + turn * 2 * TILE, next = places + (turn ^ 1) * 2 * TILE;
        score<N, THREADS>(a, keys, q, now, scores);
        __syncthreads();
        const int64_t place = place_of(a, j, tile + TILE);
        soften<N, THREADS>(a, j, tile, scores, weights, top, total, rescale);
        if (threadIdx.x < 2 * TILE) next[threadIdx.x] = place;
        __syncthreads();
        const int32_t count = j.to - tile < TILE ? j.to - tile : TILE;
        add_values<N, THREADS>(a, values, own, count, now + TILE, weights, rescale, o);
    }
    leave<N, THREADS>(a, j, own, o, top, total);
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
