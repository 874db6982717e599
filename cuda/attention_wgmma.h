// cuda/attention_wgmma.h -- what the forms of attention for compute capability 9.0 share (cuda/attention_wgmma.cu, cuda/attention_dx_wgmma.cu):
// tiles of f16 in shared memory, rings of stages, rows of queries that a warpgroup takes.
//
// A matrix of R rows and D numbers is D / 64 tiles (R, 64) side by side, `R * 64` numbers apart. Numbers of results lie in lanes as
// cuda/hopper.h says: of a lane's two rows r = 0, 1 (lane / 4 of the warp's 16, and 8 further), number i belongs to r = i / 2 % 2.
#ifndef CUDA_ATTENTION_WGMMA_H
#define CUDA_ATTENTION_WGMMA_H

#include "cuda/attention_block.h"
#include "cuda/attention_fragments.h"
#include "cuda/hopper.h"

constexpr int GROUP_ROWS = 64; // of a warpgroup

// The lane's row r of its warpgroup's 64
__device__ inline int group_row(int r)
{
    return warp_id() % 4 * 16 + lane_id() / 4 + r * 8;
}

// The column of number i of a result
__device__ inline int group_column(int i)
{
    return i / 4 * 8 + lane_id() % 4 * 2 + i % 2;
}

// Piece c (8 numbers) of row r of a matrix of `rows` rows
__device__ inline shared<vec<f16, 8>> piece_at(shared<f16> matrix, int rows, int r, int c)
{
    return shared_as<vec<f16, 8>>(matrix + (c / 8 * rows + r) * TILE_COLUMNS) + (c % 8 ^ r % 8);
}

// c (64, N) = a (64, D) b (N, D)^T: issues it
template <int D, int N> __device__ inline void issue_scores(float (&c)[N / 2], shared<f16> a, shared<f16> b)
{
#pragma unroll
    for (int k = 0; k < D; k += 16)
        wgmma<N>(c, tile_rows(a + (k / 64 * GROUP_ROWS * 64 + k % 64)),
                 tile_rows(b + (k / 64 * N * 64 + k % 64)), k > 0);
}

// c (64, D) += p (64, K) b (K, D), p from registers: issues it. add: c holds numbers
template <int D, int K>
__device__ inline void issue_weighted(float (&c)[D / 2], const uint32_t (&p)[K / 16][4], shared<f16> b,
                                      bool add)
{
#pragma unroll
    for (int k = 0; k < K; k += 16)
        wgmma<D>(c, p[k / 16], tile_columns(b + k * 64, K * 64 * (unsigned)sizeof(f16)), add || k);
}

// Results as the left side of the next product
template <int K> __device__ inline void pack_rows(uint32_t (&p)[K / 16][4], const float (&s)[K / 2])
{
#pragma unroll
    for (int k = 0; k < K / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) p[k][i] = pack<f16>(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

template <int N> __device__ inline void scale_lanes(float (&c)[N / 2], const float (&factor)[2])
{
#pragma unroll
    for (int i = 0; i < N / 2; i++) c[i] *= factor[i / 2 % 2];
}

// ---- the way forward --------------------------------------------------------------------------------------
//
// A block has two warpgroups with 64 rows each, that share a key-value head. One warp asks for tiles of keys and values, two of each ahead.
// While a warpgroup takes the softmax of a tile, its product with the values in front, and those of the other warpgroup, are carried out
// (Shah et al., arXiv 2407.08608, section 3.2). The softmax counts in powers of two, so that a weight is one multiply-add and one ex2.
//
// Scores of keys that a row does not see are masked; rows of values that are no keys' become zeros, for what stands there may be anything.

constexpr int CONSUMERS = 2, KEY_STAGES = 2, ATTENTION_THREADS = (1 + CONSUMERS) * WARPGROUP;

template <int D> struct attention_shape {
    static constexpr int KEYS = D > 128 ? 64 : 128, PANEL = KEYS * D, QUERIES = GROUP_ROWS * D;
    static constexpr size_t BYTES =
        (CONSUMERS * QUERIES + 2 * KEY_STAGES * PANEL) * sizeof(f16) + 4 * KEY_STAGES * sizeof(uint64_t);
};

// What a score becomes: capped, with its slope, in units of log2.
struct shaping {
    float scale, softcap, slope;
};

// A block's work: keys begin .. end. A warpgroup has rows, or none.
struct attention_work {
    int32_t begin, end;
};

// The lane's two rows: where each stands among the keys (none: -1), and the first key that it sees; for the whole warpgroup the keys that
// all rows see.
struct rows_of_lane {
    int32_t at[2], from[2];
    int32_t all_from, all_to;
};

#if CUDA_HOPPER

constexpr int REGISTERS_GIVEN = 24, REGISTERS_TAKEN = 240; // 24 * 128 + 240 * 256 <= 65536

struct attention_memory {
    shared<f16> q, k, v;
    shared<uint64_t> k_full, k_empty, v_full, v_empty;
};

template <int D> __device__ inline struct attention_memory memory_of(shared<char> at)
{
    struct attention_memory m;
    m.q = shared_as<f16>(at);
    m.k = m.q + CONSUMERS * attention_shape<D>::QUERIES;
    m.v = m.k + KEY_STAGES * attention_shape<D>::PANEL;
    m.k_full = shared_as<uint64_t>(m.v + KEY_STAGES * attention_shape<D>::PANEL);
    m.k_empty = m.k_full + KEY_STAGES, m.v_full = m.k_empty + KEY_STAGES, m.v_empty = m.v_full + KEY_STAGES;
    return m;
}

__device__ inline void make_barriers(const struct attention_memory &m)
{
    if (threadIdx.x == 0) {
        for (int i = 0; i < KEY_STAGES; i++) {
            barrier_init(m.k_full + i, 1), barrier_init(m.v_full + i, 1);
            barrier_init(m.k_empty + i, CONSUMERS), barrier_init(m.v_empty + i, CONSUMERS);
        }
        barriers_made();
    }
    __syncthreads();
}

// One thread: every tile of keys, and of values, as soon as its stage is empty. `copy` fetches (KEYS, D) of either.
template <int D, class COPY>
__device__ inline void fetch_tiles(const struct attention_memory &m, const struct attention_work &w,
                                   const COPY &copy)
{
    constexpr int KEYS = attention_shape<D>::KEYS, PANEL = attention_shape<D>::PANEL,
                  BYTES = PANEL * (int)sizeof(f16);
    ring<KEY_STAGES> at;
    for (int32_t tile = w.begin; tile < w.end; tile += KEYS, at.next()) {
        barrier_wait(m.k_empty + at.stage, at.phase ^ 1);
        barrier_expect(m.k_full + at.stage, BYTES);
        copy(false, m.k + at.stage * PANEL, tile, m.k_full + at.stage);
        barrier_wait(m.v_empty + at.stage, at.phase ^ 1);
        barrier_expect(m.v_full + at.stage, BYTES);
        copy(true, m.v + at.stage * PANEL, tile, m.v_full + at.stage);
    }
}

// Values of the last tile behind the last key become zeros, by both warpgroups. (What stands in front of the first key is an older key's.)
template <int D> __device__ inline void clear_values(shared<f16> v, const struct attention_work &w)
{
    constexpr int KEYS = attention_shape<D>::KEYS;
    const int there = (w.end - w.begin - 1) % KEYS + 1;
    if (there == KEYS) return;
    const vec<f16, 8> zeros = {};
    for (int i = (int)threadIdx.x - WARPGROUP; i < KEYS * (D / 8); i += CONSUMERS * WARPGROUP)
        if (i / (D / 8) >= there) piece_at(v, KEYS, i / (D / 8), i % (D / 8))[0] = zeros;
    shared_written();
    sync_some<1, CONSUMERS * WARPGROUP>();
}

// Scores in units of log2, -inf where a row does not see a key.
template <int KEYS>
__device__ inline void shape_scores(float (&s)[KEYS / 2], const struct shaping &how,
                                    const struct rows_of_lane &rows, int64_t tile)
{
    if (how.softcap > 0 || how.slope != 0) {
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            float x = s[i] * how.scale;
            if (how.softcap > 0) x = how.softcap * tanhf(x / how.softcap);
            s[i] = x + how.slope * (float)(tile + group_column(i) - rows.at[i / 2 % 2]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) s[i] *= how.scale;
    }
    if (tile >= rows.all_from && tile + KEYS <= rows.all_to) return;
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        const int32_t key = tile + group_column(i);
        if (key < rows.from[i / 2 % 2] || key > rows.at[i / 2 % 2]) s[i] = -INFINITY;
    }
}

// s becomes 2^(s - top); top and total go on, rescale is what earlier sums are multiplied by.
template <int KEYS>
__device__ inline void soften_lanes(float (&s)[KEYS / 2], float (&top)[2], float (&total)[2],
                                    float (&rescale)[2])
{
    float now[2] = {top[0], top[1]}, sum[2] = {0, 0}, base[2];
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) now[i / 2 % 2] = fmaxf(now[i / 2 % 2], s[i]);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        now[r] = quad_max(now[r]);
        base[r] = now[r] == -INFINITY ? 0 : now[r];
        rescale[r] = exp2_fast(top[r] - base[r]);
        top[r] = now[r];
    }
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        s[i] = exp2_fast(s[i] - base[i / 2 % 2]);
        sum[i / 2 % 2] += s[i];
    }
#pragma unroll
    for (int r = 0; r < 2; r++) total[r] = total[r] * rescale[r] + quad_sum(sum[r]);
}

// A warpgroup without rows lets the tiles pass.
template <int D>
__device__ inline void let_pass(const struct attention_memory &m, const struct attention_work &w)
{
    constexpr int KEYS = attention_shape<D>::KEYS, PANEL = attention_shape<D>::PANEL;
    const bool signals = threadIdx.x % WARPGROUP == 0;
    ring<KEY_STAGES> at;
    for (int32_t tile = w.begin; tile < w.end; tile += KEYS, at.next()) {
        barrier_wait(m.k_full + at.stage, at.phase);
        if (signals) barrier_arrive(m.k_empty + at.stage);
        barrier_wait(m.v_full + at.stage, at.phase);
        if (tile + KEYS >= w.end) clear_values<D>(m.v + at.stage * PANEL, w);
        if (signals) barrier_arrive(m.v_empty + at.stage);
    }
}

// A warpgroup: o (64, D), the weighted values, and top and total of its rows, go on from what they are. The scores of a tile, then the values of the tile in front are
// given to the tensor cores; the softmax of the first is taken while they multiply the second.
template <int D>
__device__ inline void attend(float (&o)[D / 2], float (&top)[2], float (&total)[2],
                              const struct attention_memory &m, const struct attention_work &w,
                              const struct shaping &how, const struct rows_of_lane &rows)
{
    constexpr int KEYS = attention_shape<D>::KEYS, PANEL = attention_shape<D>::PANEL;
    const shared<f16> q = m.q + ((int)threadIdx.x / WARPGROUP - 1) * attention_shape<D>::QUERIES;
    const bool signals = threadIdx.x % WARPGROUP == 0;
    ring<KEY_STAGES> k_at, v_at;
    float s[KEYS / 2], rescale[2];
    uint32_t p[KEYS / 16][4];
    barrier_wait(m.k_full, 0);
    wgmma_begin();
    issue_scores<D, KEYS>(s, q, m.k);
    wgmma_end();
    wgmma_wait<0>();
    if (signals) barrier_arrive(m.k_empty);
    k_at.next();
    shape_scores<KEYS>(s, how, rows, w.begin);
    soften_lanes<KEYS>(s, top, total, rescale);
    scale_lanes<D>(o, rescale);
    pack_rows<KEYS>(p, s);
    for (int32_t tile = w.begin + KEYS; tile < w.end; tile += KEYS, k_at.next(), v_at.next()) {
        barrier_wait(m.k_full + k_at.stage, k_at.phase);
        wgmma_begin();
        issue_scores<D, KEYS>(s, q, m.k + k_at.stage * PANEL);
        wgmma_end();
        barrier_wait(m.v_full + v_at.stage, v_at.phase);
        wgmma_begin();
        issue_weighted<D, KEYS>(o, p, m.v + v_at.stage * PANEL, true);
        wgmma_end();
        wgmma_wait<1>();
        if (signals) barrier_arrive(m.k_empty + k_at.stage);
        shape_scores<KEYS>(s, how, rows, tile);
        soften_lanes<KEYS>(s, top, total, rescale);
        wgmma_wait<0>();
        if (signals) barrier_arrive(m.v_empty + v_at.stage);
        scale_lanes<D>(o, rescale);
        pack_rows<KEYS>(p, s);
    }
    barrier_wait(m.v_full + v_at.stage, v_at.phase);
    clear_values<D>(m.v + v_at.stage * PANEL, w);
    wgmma_begin();
    issue_weighted<D, KEYS>(o, p, m.v + v_at.stage * PANEL, true);
    wgmma_end();
    wgmma_wait<0>();
}

// Writes o / total of the lane's rows: to[r] is where the row begins, NULL where there is none.
template <int D>
__device__ inline void write_rows(float *const (&to)[2], const float (&o)[D / 2], const float (&total)[2])
{
    const float inverse[2] = {1 / total[0], 1 / total[1]};
#pragma unroll
    for (int i = 0; i < D / 2; i += 2) {
        const int r = i / 2 % 2;
        const vec<float, 2> two = {{o[i] * inverse[r], o[i + 1] * inverse[r]}};
        if (to[r]) store((vec<float, 2> *)(to[r] + group_column(i)), two);
    }
}

#endif

#endif
