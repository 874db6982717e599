// cuda/attention_dx_wgmma.cu -- the gradient of attention among the rows of a step for compute capability 9.0, q, k and v of f16: wgmma and TMA.
//
// What is rounded, and by which powers of two it is multiplied before, is as in cuda/attention_rows_mma.cu; which blocks there are, and why scores
// are worked out twice, as in cuda/attention_dx.cu. A block has two warpgroups: of 64 rows of a query head each, which walk tiles of keys
// (dq), or of 64 keys of a key-value head, which walk tiles of the rows that see them, head by head (dk, dv). Tiles come by TMA, two ahead.
//
// What delta_kernel leaves for it: dy / unit in f16 (x.rounded), and four numbers a row, those of a head side by side (x.stats).
#include "cuda/attention_block.h"
#include "cuda/attention_forms.h"
#include "cuda/attention_wgmma.h"

// Numbers of an array of one warpgroup, and of a stage; STATS: a stage has its rows' numbers, too.
template <int D, int TILE, bool STATS> struct dx_shape {
    static constexpr int OWN = GROUP_ROWS * D, PANEL = TILE * D, STAGES = 2;
    static constexpr size_t BYTES = (2 * CONSUMERS * OWN + 2 * STAGES * PANEL) * sizeof(f16) +
                                    (STATS ? STAGES * TILE * 16 : 0) + (1 + 2 * STAGES) * sizeof(uint64_t);
};
template <int D> using dq_shape = dx_shape<D, D == 64 ? 128 : 64, false>;
template <int D> using dkv_shape = dx_shape<D, 64, true>;

// The matrices that both kernels copy from.
struct dx_maps {
    struct cuda_tile_map q, k, v, dy;
};

#if CUDA_HOPPER

// What p and ds are multiplied by in front of products that add up over rows, or keys: in powers of two.
constexpr float P_POWER = 14, DS_POWER = 4, P_TO_DS = 1.0f / 1024, DS_INVERSE = 1.0f / 16;

struct dx_memory {
    shared<f16> own[2], tile[2]; // own: of both warpgroups
    shared<vec<float, 4>> stats;
    shared<uint64_t> own_full, full, empty;
};

template <class SHAPE, int TILE, bool STATS> __device__ static struct dx_memory dx_memory_of(shared<char> at)
{
    struct dx_memory m;
    m.own[0] = shared_as<f16>(at);
    m.own[1] = m.own[0] + CONSUMERS * SHAPE::OWN;
    m.tile[0] = m.own[1] + CONSUMERS * SHAPE::OWN;
    m.tile[1] = m.tile[0] + SHAPE::STAGES * SHAPE::PANEL;
    const shared<f16> end = m.tile[1] + SHAPE::STAGES * SHAPE::PANEL;
    m.stats = shared_as<vec<float, 4>>(end);
    m.own_full = shared_as<uint64_t>(end + (STATS ? SHAPE::STAGES * TILE * 8 : 0));
    m.full = m.own_full + 1, m.empty = m.full + SHAPE::STAGES;
    if (threadIdx.x == 0) {
        barrier_init(m.own_full, 1);
        for (int i = 0; i < SHAPE::STAGES; i++)
            barrier_init(m.full + i, 1), barrier_init(m.empty + i, CONSUMERS);
        barriers_made();
    }
    __syncthreads();
    return m;
}

// Copies (rows, D) from `column` and `row` on, by boxes of 64 rows.
template <int D>
__device__ static void fetch(shared<f16> to, int rows, const struct cuda_tile_map *from, int32_t column,
                             int32_t row, shared<uint64_t> barrier)
{
    for (int c = 0; c < D; c += TILE_COLUMNS)
        for (int r = 0; r < rows; r += GROUP_ROWS)
            copy_tile(to + (c * rows + r * TILE_COLUMNS), from, column + c, row + r, barrier);
}

template <int D, class SHAPE>
__device__ static void fetch_own(const struct dx_memory &m, const struct cuda_tile_map *a,
                                 const struct cuda_tile_map *b, int32_t column, int32_t row)
{
    barrier_expect(m.own_full, 2 * CONSUMERS * SHAPE::OWN * (int)sizeof(f16));
    for (int g = 0; g < CONSUMERS; g++) {
        fetch<D>(m.own[0] + g * SHAPE::OWN, GROUP_ROWS, a, column, row + g * GROUP_ROWS, m.own_full);
        fetch<D>(m.own[1] + g * SHAPE::OWN, GROUP_ROWS, b, column, row + g * GROUP_ROWS, m.own_full);
    }
}

// Rows of a tile from `there` on become zeros: their weights are 0, and what stands there may be NaNs.
template <int D> __device__ static void clear_rows(shared<f16> tile, int rows, int there)
{
    const vec<f16, 8> zeros = {};
    for (int i = (int)threadIdx.x - WARPGROUP; i < rows * (D / 8); i += CONSUMERS * WARPGROUP)
        if (i / (D / 8) >= there) piece_at(tile, rows, i / (D / 8), i % (D / 8))[0] = zeros;
}

__device__ static void cleared(void)
{
    shared_written();
    sync_some<1, CONSUMERS * WARPGROUP>();
}

// A score as it is in the softmax, in units of log2. *through: its derivative, but for the scale
__device__ static float shaped_log2(const struct cuda_attention_rows &a, float score, float slope,
                                    int32_t away, float *through)
{
    return shaped(a, score * a.scale, slope, away, through) * LOG2_E;
}

__device__ static bool is_plain(const struct cuda_attention_rows &a)
{
    return !a.slopes && !(a.softcap > 0);
}

template <int D>
__device__ static void store_lanes(float *to, int64_t stride, const float (&c)[D / 2], int64_t first,
                                   int64_t count)
{
#pragma unroll
    for (int i = 0; i < D / 2; i += 2) {
        const int64_t row = first + group_row(i / 2 % 2);
        const vec<float, 2> two = {{c[i], c[i + 1]}};
        if (row < count) store((vec<float, 2> *)(to + row * stride + group_column(i)), two);
    }
}

// ---- dq ---------------------------------------------------------------------------------------------------

// What is known of the lane's two rows; rows that are not there see nothing.
struct dq_rows {
    float lse[2], delta[2], unit[2]; // lse in units of log2, less the power that weights come out larger by
    int32_t at[2], from[2];
    int32_t all_from, all_to; // keys that all rows of the warpgroup see
};

__device__ static struct dq_rows dq_rows_of(const struct cuda_attention_dx &x, int64_t first, int32_t head,
                                            int64_t count)
{
    struct dq_rows rows;
    for (int r = 0; r < 2; r++) {
        const int64_t row = first + group_row(r), at = row * x.of.heads + head;
        const bool there = row < count;
        rows.at[r] = there ? (int32_t)row : -1;
        rows.from[r] = there ? (int32_t)first_seen(x.of, row) : 0;
        rows.lse[r] = there ? load(x.of.lse + at) * LOG2_E - DS_POWER : 0;
        rows.unit[r] = there ? load(x.unit + at) : 0;
        rows.delta[r] = rows.unit[r] != 0 ? load(x.delta + at) / rows.unit[r] : 0;
    }
    const int64_t last = (first + GROUP_ROWS < count ? first + GROUP_ROWS : count) - 1;
    rows.all_from = first < count ? (int32_t)first_seen(x.of, last) : 0, rows.all_to = (int32_t)first + 1;
    return rows;
}

// s: scores become gradients of scores, times the scale.
template <int TILE>
__device__ static void weigh_rows(float (&s)[TILE / 2], float (&dp)[TILE / 2],
                                  const struct cuda_attention_dx &x, const struct dq_rows &rows, float slope,
                                  int32_t tile)
{
    const bool plain = is_plain(x.of), all = tile >= rows.all_from && tile + TILE <= rows.all_to;
    const float scale = x.of.scale, scale2 = scale * LOG2_E;
    if (plain && all) {
#pragma unroll
        for (int i = 0; i < TILE / 2; i++) {
            const int r = i / 2 % 2;
            s[i] = exp2_fast(s[i] * scale2 - rows.lse[r]) * (dp[i] - rows.delta[r]) * scale;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < TILE / 2; i++) {
        const int r = i / 2 % 2;
        const int32_t key = tile + group_column(i);
        float through;
        const float p = exp2_fast(shaped_log2(x.of, s[i], slope, key - rows.at[r], &through) - rows.lse[r]);
        s[i] = key >= rows.from[r] && key <= rows.at[r] ? p * (dp[i] - rows.delta[r]) * through * scale : 0;
    }
}

#endif

template <int D>
__global__ void __launch_bounds__(ATTENTION_THREADS, 1)
    attention_dq_wgmma_kernel(const __grid_constant__ struct dx_maps maps, struct cuda_attention_dx x)
{
#if CUDA_HOPPER
    using SHAPE = dq_shape<D>;
    constexpr int TILE = SHAPE::PANEL / D;
    SHARED_TILES(char, shared_memory);
    const struct cuda_attention_rows &a = x.of;
    const int64_t count = row_count(a.rows),
                  first = (int64_t)(gridDim.y - 1 - blockIdx.y) * CONSUMERS * GROUP_ROWS;
    const int32_t head = (int32_t)blockIdx.x, kv_head = head / (a.heads / a.kv_heads);
    if (first >= count) return;
    const int32_t begin = (int32_t)first_seen(a, first),
                  end = (int32_t)(first + CONSUMERS * GROUP_ROWS < count ? first + CONSUMERS * GROUP_ROWS
                                                                         : count);
    const struct dx_memory m = dx_memory_of<SHAPE, TILE, false>(shared_memory);
    ring<SHAPE::STAGES> at;
    if (threadIdx.x < WARPGROUP) {
        registers_give<REGISTERS_GIVEN>();
        if (threadIdx.x) return;
        fetch_own<D, SHAPE>(m, &maps.q, &maps.dy, head * D, (int32_t)first);
        for (int32_t tile = begin; tile < end; tile += TILE, at.next()) {
            barrier_wait(m.empty + at.stage, at.phase ^ 1);
            barrier_expect(m.full + at.stage, 2 * SHAPE::PANEL * (int)sizeof(f16));
            fetch<D>(m.tile[0] + at.stage * SHAPE::PANEL, TILE, &maps.k, kv_head * D, tile,
                     m.full + at.stage);
            fetch<D>(m.tile[1] + at.stage * SHAPE::PANEL, TILE, &maps.v, kv_head * D, tile,
                     m.full + at.stage);
        }
        return;
    }
    registers_take<REGISTERS_TAKEN>();
    const int group = (int)threadIdx.x / WARPGROUP - 1;
    const int64_t own = first + group * GROUP_ROWS;
    const bool signals = threadIdx.x % WARPGROUP == 0;
    const struct dq_rows rows = dq_rows_of(x, own, head, count);
    const float slope = a.slopes ? load(a.slopes + head) : 0;
    float dq[D / 2], s[TILE / 2], dp[TILE / 2];
    uint32_t ds[TILE / 16][4];
    barrier_wait(m.own_full, 0);
    int last = 0;
    for (int32_t tile = begin; tile < end; tile += TILE, at.next()) {
        const shared<f16> k = m.tile[0] + at.stage * SHAPE::PANEL, v = m.tile[1] + at.stage * SHAPE::PANEL;
        barrier_wait(m.full + at.stage, at.phase);
        if (tile + TILE > count) {
            clear_rows<D>(k, TILE, (int)(count - tile));
            cleared();
        }
        wgmma_begin();
        issue_scores<D, TILE>(s, m.own[0] + group * SHAPE::OWN, k);
        wgmma_end();
        issue_scores<D, TILE>(dp, m.own[1] + group * SHAPE::OWN, v);
        wgmma_end();
        wgmma_wait<2>(); // the product with the keys in front
        if (tile > begin && signals) barrier_arrive(m.empty + last);
        wgmma_wait<0>();
        weigh_rows<TILE>(s, dp, x, rows, slope, tile);
        pack_rows<TILE>(ds, s);
        wgmma_begin();
        issue_weighted<D, TILE>(dq, ds, k, tile > begin);
        wgmma_end();
        last = at.stage;
    }
    wgmma_wait<0>();
    const float factor[2] = {rows.unit[0] * DS_INVERSE, rows.unit[1] * DS_INVERSE};
    scale_lanes<D>(dq, factor);
    store_lanes<D>(x.dq + head * D, x.stride, dq, own, count);
#endif
}

// ---- dk and dv --------------------------------------------------------------------------------------------

#if CUDA_HOPPER

// The end of the rows that see keys below `keys`: the first tile's whose first row sees none of them, and with it none behind.
__device__ static int32_t rows_end(const struct cuda_attention_rows &a, int64_t first, int64_t keys,
                                   int64_t count)
{
    int64_t tile = first;
    while (tile < count && first_seen(a, tile) < keys) tile += GROUP_ROWS;
    return (int32_t)tile;
}

// The largest power of two of the rows' units.
__device__ static float largest_power(const struct cuda_attention_dx &x, int32_t head, int32_t group,
                                      int64_t begin, int64_t end, int64_t count)
{
    float top = 0;
    for (int64_t i = lane_id(); i < (end - begin) * group; i += WARP_LANES)
        if (begin + i / group < count)
            top = fmaxf(top, load(x.unit + (begin + i / group) * x.of.heads + head + i % group));
    top = warp_max(top);
    return top > 0 ? log2f(top) : 0;
}

// s: scores of keys (rows) and rows (columns) become weights, dp gradients of scores. `power`: what weights come out larger by, in powers of two.
template <int TILE>
__device__ static void weigh_columns(float (&s)[TILE / 2], float (&dp)[TILE / 2],
                                     const struct cuda_attention_dx &x, shared<vec<float, 4>> stats,
                                     float power, float slope, int32_t key, int32_t tile, bool all)
{
    const bool plain = is_plain(x.of);
    const float scale = x.of.scale, scale2 = scale * LOG2_E, ds_scale = scale * P_TO_DS;
#pragma unroll
    for (int j = 0; j < TILE / 4; j++) { // numbers i and i + 2 stand in one column
        const int i = j / 2 * 4 + j % 2;
        const vec<float, 4> of = stats[group_column(i)];
        const int32_t row = tile + group_column(i);
        const float add = power + of.x[2] - of.x[0];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int n = i + 2 * r;
            float through = 1, p;
            if (plain)
                p = exp2_fast(s[n] * scale2 + add);
            else
                p = exp2_fast(shaped_log2(x.of, s[n], slope, key + 8 * r - row, &through) + add);
            float ds = p * (dp[n] - of.x[1]) * through * ds_scale;
            if (!all && (key + 8 * r > row || key + 8 * r < (int32_t)f32_to_bits(of.x[3]))) p = ds = 0;
            s[n] = p, dp[n] = ds;
        }
    }
}

#endif

template <int D>
__global__ void __launch_bounds__(ATTENTION_THREADS, 1)
    attention_dkv_wgmma_kernel(const __grid_constant__ struct dx_maps maps, struct cuda_attention_dx x)
{
#if CUDA_HOPPER
    using SHAPE = dkv_shape<D>;
    constexpr int TILE = SHAPE::PANEL / D;
    SHARED_TILES(char, shared_memory);
    const struct cuda_attention_rows &a = x.of;
    const int32_t kv_head = (int32_t)blockIdx.x, group_heads = a.heads / a.kv_heads,
                  head0 = kv_head * group_heads;
    const int64_t count = row_count(a.rows), first = (int64_t)blockIdx.y * CONSUMERS * GROUP_ROWS;
    if (first >= count) return;
    const int32_t begin = (int32_t)first, end = rows_end(a, first, first + CONSUMERS * GROUP_ROWS, count);
    const struct dx_memory m = dx_memory_of<SHAPE, TILE, true>(shared_memory);
    ring<SHAPE::STAGES> at;
    if (threadIdx.x < WARPGROUP) {
        registers_give<REGISTERS_GIVEN>();
        if (threadIdx.x) return;
        fetch_own<D, SHAPE>(m, &maps.k, &maps.v, kv_head * D, begin);
        for (int32_t head = head0; head < head0 + group_heads; head++)
            for (int32_t tile = begin; tile < end; tile += TILE, at.next()) {
                const shared<uint64_t> full = m.full + at.stage;
                barrier_wait(m.empty + at.stage, at.phase ^ 1);
                barrier_expect(full, 2 * SHAPE::PANEL * (int)sizeof(f16) + TILE * 16);
                fetch<D>(m.tile[0] + at.stage * SHAPE::PANEL, TILE, &maps.q, head * D, tile, full);
                fetch<D>(m.tile[1] + at.stage * SHAPE::PANEL, TILE, &maps.dy, head * D, tile, full);
                copy_bytes(m.stats + at.stage * TILE, x.stats + (head * x.padded + tile) * 4, TILE * 16,
                           full);
            }
        return;
    }
    registers_take<REGISTERS_TAKEN>();
    const int group = (int)threadIdx.x / WARPGROUP - 1;
    const int32_t own = begin + group * GROUP_ROWS, key = own + group_row(0);
    const bool signals = threadIdx.x % WARPGROUP == 0;
    const float most = largest_power(x, head0, group_heads, begin, end, count), power = P_POWER - most;
    float dk[D / 2], dv[D / 2], s[TILE / 2], dp[TILE / 2];
    uint32_t p[TILE / 16][4], ds[TILE / 16][4];
    barrier_wait(m.own_full, 0);
    bool some = false;
    for (int32_t head = head0; head < head0 + group_heads; head++) {
        const float slope = a.slopes ? load(a.slopes + head) : 0;
        for (int32_t tile = begin; tile < end; tile += TILE, at.next()) {
            const shared<f16> q = m.tile[0] + at.stage * SHAPE::PANEL,
                              dy = m.tile[1] + at.stage * SHAPE::PANEL;
            const shared<vec<float, 4>> stats = m.stats + at.stage * TILE;
            barrier_wait(m.full + at.stage, at.phase);
            if (tile + TILE > count) {
                clear_rows<D>(q, TILE, (int)(count - tile)), clear_rows<D>(dy, TILE, (int)(count - tile));
                const vec<float, 4> nothing = {{INFINITY, 0, 0, bits_to_f32(INT32_MAX)}};
                if (threadIdx.x >= WARPGROUP + count - tile && threadIdx.x < WARPGROUP + TILE)
                    stats[(int)threadIdx.x - WARPGROUP] = nothing;
                cleared();
            }
            wgmma_begin();
            issue_scores<D, TILE>(s, m.own[0] + group * SHAPE::OWN, q);
            wgmma_end();
            issue_scores<D, TILE>(dp, m.own[1] + group * SHAPE::OWN, dy);
            wgmma_end();
            wgmma_wait<0>();
            const vec<float, 4> end_of = stats[TILE - 1];
            const bool all = tile >= own + GROUP_ROWS - 1 && (int32_t)f32_to_bits(end_of.x[3]) <= own;
            weigh_columns<TILE>(s, dp, x, stats, power, slope, key, tile, all);
            pack_rows<TILE>(p, s);
            pack_rows<TILE>(ds, dp);
            wgmma_begin();
            issue_weighted<D, TILE>(dv, p, dy, some);
            issue_weighted<D, TILE>(dk, ds, q, some);
            wgmma_end();
            wgmma_wait<0>(); // with p, ds and the next scores at once there would not be registers enough
            if (signals) barrier_arrive(m.empty + at.stage);
            some = true;
        }
    }
    const float unit_k = exp2f(most) * DS_INVERSE, unit_v = exp2f(most - P_POWER);
    const float factor_k[2] = {unit_k, unit_k}, factor_v[2] = {unit_v, unit_v};
    scale_lanes<D>(dk, factor_k), scale_lanes<D>(dv, factor_v);
    store_lanes<D>(x.dk + kv_head * D, x.stride, dk, own, count);
    store_lanes<D>(x.dv + kv_head * D, x.stride, dv, own, count);
#endif
}

// ---- launches ---------------------------------------------------------------------------------------------

static bool make_maps(struct dx_maps *m, const struct cuda_attention_dx *x)
{
    const struct cuda_attention_rows *a = &x->of;
    const int64_t wide = (int64_t)a->heads * a->head_dim, narrow = (int64_t)a->kv_heads * a->head_dim;
    const size_t w = (size_t)wide * sizeof(f16), n = (size_t)narrow * sizeof(f16);
    return cuda_tile_map_make(&m->q, a->q, wide, a->rows.most, w, GROUP_ROWS) &&
           cuda_tile_map_make(&m->k, a->k, narrow, a->rows.most, n, GROUP_ROWS) &&
           cuda_tile_map_make(&m->v, a->v, narrow, a->rows.most, n, GROUP_ROWS) &&
           cuda_tile_map_make(&m->dy, x->rounded, wide, a->rows.most, w, GROUP_ROWS);
}

bool attention_dx_wgmma_fits(const struct cuda_attention_dx *x)
{
    struct dx_maps maps;
    const struct cuda_attention_rows *a = &x->of;
    return a->type == DTYPE_F16 && a->head_dim == a->value_dim && (a->head_dim == 64 || a->head_dim == 128) &&
           x->stride % 2 == 0 && aligned_to(x->dq, 8) && aligned_to(x->dk, 8) && aligned_to(x->dv, 8) &&
           make_maps(&maps, x);
}

template <int D> static void launch(struct cuda_stream *s, const struct cuda_attention_dx *x)
{
    struct dx_maps maps;
    TLM_ASSERT(make_maps(&maps, x));
    const unsigned blocks = (unsigned)ceil_div(x->of.rows.most, (int64_t)CONSUMERS * GROUP_ROWS);
    CUDA_LAUNCH(attention_dq_wgmma_kernel<D>, dim3((unsigned)x->of.heads, blocks), ATTENTION_THREADS,
                dq_shape<D>::BYTES, s, maps, *x);
    CUDA_LAUNCH(attention_dkv_wgmma_kernel<D>, dim3((unsigned)x->of.kv_heads, blocks), ATTENTION_THREADS,
                dkv_shape<D>::BYTES, s, maps, *x);
}

void attention_dx_wgmma(struct cuda_stream *s, const struct cuda_attention_dx *x)
{
    x->of.head_dim == 64 ? launch<64>(s, x) : launch<128>(s, x);
}
