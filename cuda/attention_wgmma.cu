// cuda/attention_wgmma.cu -- attention of a prompt for compute capability 9.0, over a paged cache (cuda/attention_wgmma.h): a block takes one
// tile's rows in two query heads that share a key-value head, or, where these are odd, two tiles' in one.
//
// A cache of f16 is one matrix to the device: a row a key, blocks of KV_BLOCK rows side by side. A block of keys is a copy of its own; one that
// nobody sees is copied from behind the last row, which gives zeros. Caches of other types are converted on their way into shared memory,
// by the warpgroup that otherwise asks for copies.
#include "cuda/attention_forms.h"
#include "cuda/attention_wgmma.h"
#include "cuda/kv_rows.h"

// What the warpgroups of a block take.
struct pair {
    struct attention_tile tile[CONSUMERS];
    int32_t head[CONSUMERS];
    bool idle[CONSUMERS];
};

#if CUDA_HOPPER

// Of two tiles of different sequences the second has a block of its own (blockIdx.z). False: nothing is left for this block. The last tiles come
// first: they are a prompt's with the most keys, and what is left at the end is short.
__device__ static bool pair_of(struct pair *p, const struct cuda_attention &a)
{
    const int64_t tiles = row_count(a.tile_count);
    const bool heads = a.heads / a.kv_heads % 2 == 0;
    const int64_t number = gridDim.x - 1 - blockIdx.x, first = heads ? number : 2 * number,
                  second = heads ? first : first + 1;
    if (first >= tiles) return false;
    p->tile[0] = load(a.tiles + first);
    p->tile[1] = second < tiles ? load(a.tiles + second) : p->tile[0];
    p->head[0] = heads ? 2 * (int32_t)blockIdx.y : (int32_t)blockIdx.y;
    p->head[1] = heads ? p->head[0] + 1 : p->head[0];
    p->idle[0] = false, p->idle[1] = second >= tiles;
    if (heads || p->tile[0].sequence == p->tile[1].sequence) return blockIdx.z == 0;
    p->idle[blockIdx.z ^ 1] = true;
    p->tile[blockIdx.z ^ 1] = p->tile[blockIdx.z];
    return true;
}

// The first key that is left to a row at `pos`: of its window, behind what is in its state.
__device__ static int32_t seen_from(const struct cuda_attention &a, const struct attention_tile &tile,
                                    int32_t pos)
{
    const int32_t window = a.window && pos >= a.window ? pos - a.window + 1 : 0;
    return a.states && tile.keys > window ? tile.keys : window;
}

// What the lane's row r of a head begins with, instead of nothing: the state behind a prefix.
template <int D>
__device__ static void resume(float (&o)[D / 2], float *top, float *total, const struct cuda_attention &a,
                              int64_t row, int32_t head, int r)
{
    const float *state = a.states + (row * a.heads + head) * a.state_stride;
    const float before = load(state) * LOG2_E, sink = *top;
    if (before == -INFINITY) return;
    *top = fmaxf(sink, before);
    const float factor = exp2_fast(before - *top);
    *total = *total * exp2_fast(sink - *top) + load(state + 1) * factor;
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        if (i / 2 % 2 == r) o[i] = load(state + 2 + group_column(i)) * factor;
}

// Keys that some row of both tiles sees.
__device__ static struct attention_work work_of(const struct cuda_attention &a, const struct pair &p)
{
    int32_t from = INT32_MAX, to = 0;
    for (int g = 0; g < CONSUMERS; g++) {
        const int32_t first = load(a.pos + p.tile[g].row),
                      last = load(a.pos + p.tile[g].row + p.tile[g].rows - 1),
                      seen = seen_from(a, p.tile[g], first);
        from = seen < from ? seen : from;
        to = last >= to ? last + 1 : to;
    }
    return {from / KV_BLOCK * KV_BLOCK, to};
}

template <int D>
__device__ static void convert(shared<f16> to, const struct paged_kv &kv, const int32_t *table,
                               int32_t kv_head, int32_t tile, int32_t end)
{
    constexpr int KEYS = attention_shape<D>::KEYS;
    const vec<f16, 8> zeros = {};
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < KEYS * (D / 8); i += WARPGROUP) {
        const int32_t key = tile + i / (D / 8), c = i % (D / 8);
        piece_at(to, KEYS, i / (D / 8), c)[0] =
            key < end ? kv_halves(kv, cache_row(kv, table, key, kv_head), c * 8) : zeros;
    }
    shared_written();
    sync_some<2, WARPGROUP>();
}

// A warpgroup: in place of copies.
template <int D>
__device__ static void convert_tiles(const struct attention_memory &m, const struct attention_work &w,
                                     const struct cuda_attention &a, const int32_t *table, int32_t kv_head)
{
    constexpr int KEYS = attention_shape<D>::KEYS, PANEL = attention_shape<D>::PANEL;
    ring<KEY_STAGES> at;
    for (int32_t tile = w.begin; tile < w.end; tile += KEYS, at.next()) {
        barrier_wait(m.k_empty + at.stage, at.phase ^ 1);
        convert<D>(m.k + at.stage * PANEL, a.k, table, kv_head, tile, w.end);
        if (threadIdx.x == 0) barrier_arrive(m.k_full + at.stage);
        barrier_wait(m.v_empty + at.stage, at.phase ^ 1);
        convert<D>(m.v + at.stage * PANEL, a.v, table, kv_head, tile, w.end);
        if (threadIdx.x == 0) barrier_arrive(m.v_full + at.stage);
    }
}

template <int D>
__device__ static void stage_queries(shared<f16> to, const struct cuda_attention &a,
                                     const struct attention_tile &tile, int32_t head)
{
    for (int i = (int)threadIdx.x % WARPGROUP; i < GROUP_ROWS * (D / 8); i += WARPGROUP) {
        const int row = i / (D / 8), c = i % (D / 8);
        const float *from = a.q + ((int64_t)(tile.row + row) * a.heads + head) * D + c * 8;
        vec<f16, 8> piece = {};
        for (int half = 0; half < 8 && row < tile.rows; half += 4) {
            const vec<float, 4> x = load((const vec<float, 4> *)(from + half));
            for (int j = 0; j < 4; j++) from_f32(&piece.x[half + j], x.x[j]);
        }
        piece_at(to, GROUP_ROWS, row, c)[0] = piece;
    }
}

#endif

template <int D, bool AS_IS>
__global__ void __launch_bounds__(ATTENTION_THREADS, 1)
    attention_wgmma_kernel(const __grid_constant__ struct cuda_tile_map keys,
                           const __grid_constant__ struct cuda_tile_map values, struct cuda_attention a,
                           int32_t cache_rows)
{
#if CUDA_HOPPER
    constexpr int KEYS = attention_shape<D>::KEYS;
    SHARED_TILES(char, shared_memory);
    const struct attention_memory m = memory_of<D>(shared_memory);
    struct pair p;
    if (!pair_of(&p, a)) return;
    const struct attention_work w = work_of(a, p);
    const int32_t kv_head = p.head[0] / (a.heads / a.kv_heads);
    make_barriers(m);
    if (threadIdx.x < WARPGROUP) {
        registers_give<AS_IS ? REGISTERS_GIVEN : 56>();
        const int32_t *table = a.tables + p.tile[0].sequence * a.table_stride;
        if constexpr (!AS_IS) {
            convert_tiles<D>(m, w, a, table, kv_head);
            return;
        }
        const int32_t begin = kv_head * (cache_rows / a.kv_heads);
        const auto copy = [&](bool value, shared<f16> to, int32_t tile, shared<uint64_t> barrier) {
            for (int b = 0; b < KEYS; b += KV_BLOCK) {
                const int32_t key = tile + b;
                const int32_t row =
                    key < w.end ? begin + load(table + key / KV_BLOCK) * KV_BLOCK : cache_rows;
                for (int c = 0; c < D; c += TILE_COLUMNS)
                    copy_tile(to + (c * KEYS + b * TILE_COLUMNS), value ? &values : &keys, c, row, barrier);
            }
        };
        if (threadIdx.x == 0) fetch_tiles<D>(m, w, copy);
        return;
    }
    registers_take<AS_IS ? REGISTERS_TAKEN : 224>();
    const int group = (int)threadIdx.x / WARPGROUP - 1;
    const struct attention_tile tile = p.tile[group];
    const int32_t head = p.head[group];
    struct rows_of_lane rows;
    float *to[2];
    for (int r = 0; r < 2; r++) {
        const bool there = group_row(r) < tile.rows;
        const int64_t row = tile.row + group_row(r);
        rows.at[r] = there ? load(a.pos + row) : -1;
        rows.from[r] = seen_from(a, tile, rows.at[r]);
        to[r] = there ? a.y + (row * a.heads + head) * D : NULL;
    }
    const int32_t first = load(a.pos + tile.row), last = load(a.pos + tile.row + tile.rows - 1);
    rows.all_from = seen_from(a, tile, last), rows.all_to = first + 1;
    stage_queries<D>(m.q + group * attention_shape<D>::QUERIES, a, tile, head);
    shared_written();
    sync_some<1, CONSUMERS * WARPGROUP>();
    const struct shaping how = {a.scale * LOG2_E, a.softcap * LOG2_E,
                                a.slopes ? load(a.slopes + head) * LOG2_E : 0};
    const float sink = a.sinks ? load(a.sinks + head) * LOG2_E : -INFINITY;
    float o[D / 2] = {}, top[2] = {sink, sink}, total[2];
    total[0] = total[1] = a.sinks ? 1.0f : 0.0f;
    if (a.states && tile.keys)
#pragma unroll
        for (int r = 0; r < 2; r++)
            if (to[r]) resume<D>(o, &top[r], &total[r], a, tile.row + group_row(r), head, r);
    if (p.idle[group]) {
        let_pass<D>(m, w);
        return;
    }
    attend<D>(o, top, total, m, w, how, rows);
    write_rows<D>(to, o, total);
#endif
}

// The keys or values of all heads as one matrix. False where they are not f16.
static bool map_cache(struct cuda_tile_map *m, const struct paged_kv *kv, int32_t d, int64_t rows)
{
    return kv->type == DTYPE_F16 && kv->head_stride % kv->token_stride == 0 &&
           kv->block_stride == KV_BLOCK * kv->token_stride &&
           cuda_tile_map_make(m, kv->data, d, rows, kv->token_stride, KV_BLOCK);
}

template <int D> static bool launch(struct cuda_stream *s, const struct cuda_attention *a)
{
    struct cuda_tile_map k, v;
    const int64_t rows = a->kv_heads * (int64_t)(a->k.head_stride / a->k.token_stride);
    const bool heads = a->heads / a->kv_heads % 2 == 0;
    const int64_t tiles = a->tile_count.most;
    const dim3 grid((unsigned)(heads ? tiles : ceil_div(tiles, (int64_t)2)),
                    (unsigned)(heads ? a->heads / 2 : a->heads), heads ? 1 : 2);
    if (rows <= INT32_MAX / 2 && rows == a->kv_heads * (int64_t)(a->v.head_stride / a->v.token_stride) &&
        map_cache(&k, &a->k, D, rows) && map_cache(&v, &a->v, D, rows)) {
        CUDA_LAUNCH((attention_wgmma_kernel<D, true>), grid, ATTENTION_THREADS, attention_shape<D>::BYTES, s,
                    k, v, *a, (int32_t)rows);
        return true;
    }
    // Any map tells whether the device has wgmma.
    if (!kv_halves_fit(&a->k, D) || !kv_halves_fit(&a->v, D) ||
        !cuda_tile_map_make(&k, a->q, TILE_COLUMNS, 1, TILE_COLUMNS * sizeof(f16), 1))
        return false;
    CUDA_LAUNCH((attention_wgmma_kernel<D, false>), grid, ATTENTION_THREADS, attention_shape<D>::BYTES, s, k,
                k, *a, 0);
    return true;
}

bool attention_wgmma(struct cuda_stream *s, const struct cuda_attention *a)
{
    if (a->head_dim != a->value_dim || !aligned_to(a->q, 16)) return false;
    switch (a->head_dim) {
    case 64: return launch<64>(s, a);
    case 128: return launch<128>(s, a);
    case 256: return launch<256>(s, a);
    default: return false;
    }
}
