// cuda/attention_mma.cu -- attention of a prompt on tensor cores: a tile of up to 64 rows a block. Keys and values of f16 are copied as they are,
// others become f16 on their way into shared memory.
//
// A row of a block is a row of the tile in one of the query heads that share a key-value head: of a tile of few rows one block has them all, and
// reads keys and values once. Four warps take 16 of them each. Scores s = q k^T of 64 keys are 8 fragments in a warp's registers; the softmax is taken
// there, the probabilities become the next product's left side as they lie, and o += p v (Dao, arXiv 2307.08691). Keys and values come by
// cp.async, each while the other is multiplied with. A row of them takes D + 8 numbers of shared memory, so that the eight rows which
// ldmatrix reads at once lie in different banks. Heads shorter than D are filled up with zeros.
//
// Rows of several sequences that begin with the same keys attend these together, first (cuda_attention_prefix(); Ye et al., "Cascade inference",
// 2024). Their keys are parted among blocks, and a second launch merges the parts to a state of each row and head (maximum, sum, weighted
// values), which the rows' own attention goes on from.
#include "cuda/attention_forms.h"
#include "cuda/attention_fragments.h"
#include "cuda/kv_rows.h"

enum { THREADS = 128, TILE = ATTENTION_TILE };

struct place {
    const int32_t *table;
    int64_t kv_head;
    int32_t from, to; // keys that some row of the tile sees
};

// Issues the copies of keys tile .. tile + TILE, or converts them; what no row sees becomes zero.
template <int D, bool AS_IS>
__device__ static void fetch(shared<f16> to, const struct paged_kv &kv, const struct place &at, int32_t tile,
                             int32_t d)
{
    constexpr int PIECES = D / 8;
    for (int i = (int)threadIdx.x; i < TILE * PIECES; i += THREADS) {
        const int32_t key = tile + i / PIECES, c = i % PIECES;
        const bool there = key >= at.from && key < at.to && c * 8 < d;
        const char *row = there ? cache_row(kv, at.table, key, at.kv_head) : kv.data;
        const shared<f16> place = to + (i / PIECES * (D + 8) + c * 8);
        if constexpr (AS_IS) {
            copy_async16(place, (const f16 *)row + (there ? c * 8 : 0), there);
        } else {
            const vec<f16, 8> zeros = {};
            shared_as<vec<f16, 8>>(place)[0] = there ? kv_halves(kv, row, c * 8) : zeros;
        }
    }
    copy_async_commit();
}

// The lane's two rows of a block: rows of the step (none: -1), their heads and positions.
struct lane_rows {
    int64_t row[2];
    int32_t head[2], pos[2];
    float slope[2];
};

__device__ static struct lane_rows
lane_rows_of(const struct cuda_attention &a, const struct attention_tile &tile, int32_t kv_head, int32_t unit)
{
    const int32_t group = a.heads / a.kv_heads;
    struct lane_rows rows;
    for (int r = 0; r < 2; r++) {
        const int32_t m = unit * TILE + warp_id() * 16 + lane_id() / 4 + 8 * r;
        const bool there = m < tile.rows * group;
        rows.row[r] = there ? tile.row + m / group : -1;
        rows.head[r] = kv_head * group + m % group;
        rows.pos[r] = there ? load(a.pos + rows.row[r]) : -1;
        rows.slope[r] = a.slopes ? load(a.slopes + rows.head[r]) : 0;
    }
    return rows;
}

// Numbers i and i + 1 of the query of the lane's row r, 0 where there are none
__device__ static uint32_t query_pair(const struct cuda_attention &a, const struct lane_rows &rows, int r,
                                      int32_t i)
{
    if (rows.row[r] < 0 || i >= a.head_dim) return 0;
    const float *q = a.q + (rows.row[r] * a.heads + rows.head[r]) * a.head_dim + i;
    return pack<f16>(load(q), load(q + 1));
}

template <int D>
__device__ static void scores(float (&s)[KEY_TILES][4], const uint32_t (&q)[D / 16][4], shared<f16> keys)
{
    const int lane = lane_id();
    for (int n = 0; n < KEY_TILES; n += 2) {
        for (int i = 0; i < 4; i++) s[n][i] = s[n + 1][i] = 0;
        for (int k = 0; k < D / 16; k++) {
            uint32_t both[4];
            ldmatrix(both, keys + ((n * 8 + lane / 16 * 8 + lane % 8) * (D + 8) + k * 16 + lane / 8 % 2 * 8));
            const uint32_t first[2] = {both[0], both[1]}, second[2] = {both[2], both[3]};
            mma(s[n], q[k], first, f16());
            mma(s[n + 1], q[k], second, f16());
        }
    }
}

// Scale, cap, slope and mask: keys from .. to and, but for a prefix, up to the row's own. Rows that are not there see none.
template <bool PREFIX>
__device__ static void mask(float (&s)[KEY_TILES][4], const struct cuda_attention &a, int32_t tile,
                            const struct lane_rows &rows, int32_t from, int32_t to)
{
    for (int n = 0; n < KEY_TILES; n++)
        for (int i = 0; i < 4; i++) {
            const int32_t key = tile + n * 8 + lane_id() % 4 * 2 + i % 2, at = rows.pos[i / 2];
            float x = s[n][i] * a.scale;
            if (a.softcap > 0) x = a.softcap * tanhf(x / a.softcap);
            x += rows.slope[i / 2] * (float)(key - at);
            const bool seen = PREFIX ? key < to && at >= 0 : key <= at;
            s[n][i] = seen && key >= from && (!a.window || key > at - a.window) ? x : -INFINITY;
        }
}

// The first tile of keys of a stretch, and what of them belongs to it.
template <bool PREFIX>
__device__ static struct place place_of(const struct cuda_attention &a, const struct attention_tile &tile,
                                        int32_t kv_head)
{
    struct place at = {a.tables + tile.sequence * a.table_stride, kv_head, 0, tile.keys};
    if constexpr (PREFIX) {
        const int32_t each = ceil_div(ceil_div(tile.keys, (int32_t)TILE), a.splits) * TILE;
        at.from = (int32_t)blockIdx.z * each;
        if (at.from + each < at.to) at.to = at.from + each;
    } else {
        const int32_t first = load(a.pos + tile.row), last = load(a.pos + tile.row + tile.rows - 1);
        at.from = a.window && first >= a.window ? first - a.window + 1 : 0;
        if (a.states && tile.keys > at.from) at.from = tile.keys;
        at.to = last + 1;
    }
    return at;
}

// What the lane's rows begin with: the sink's weight, which has no value, and the state behind a prefix.
template <int D>
__device__ static void begin_rows(float (&o)[D / 8][4], float (&top)[2], float (&total)[2],
                                  const struct cuda_attention &a, const struct lane_rows &rows, bool resumed)
{
    for (int r = 0; r < 2; r++) {
        const float sink = a.sinks ? load(a.sinks + rows.head[r]) : -INFINITY;
        top[r] = sink, total[r] = a.sinks ? 1.0f : 0.0f;
        const float *state = a.states + (rows.row[r] * a.heads + rows.head[r]) * a.state_stride;
        if (!resumed || rows.row[r] < 0 || load(state) == -INFINITY) continue;
        top[r] = fmaxf(sink, load(state));
        const float factor = expf(load(state) - top[r]);
        total[r] = (a.sinks ? expf(sink - top[r]) : 0) + load(state + 1) * factor;
        for (int n = 0; n < D / 8; n++)
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                const int32_t column = n * 8 + lane_id() % 4 * 2 + i % 2;
                if (column < a.value_dim) o[n][i] = load(state + 2 + column) * factor;
            }
    }
}

// A row's weighted values, by their sum; or of a stretch as they are, behind maximum and sum.
template <int D, bool PREFIX>
__device__ static void end_rows(const float (&o)[D / 8][4], const float (&top)[2], const float (&total)[2],
                                const struct cuda_attention &a, const struct lane_rows &rows)
{
    for (int r = 0; r < 2; r++) {
        if (rows.row[r] < 0) continue;
        const int64_t at = rows.row[r] * a.heads + rows.head[r];
        float *to =
            PREFIX ? a.partial + (at * a.splits + blockIdx.z) * (a.value_dim + 2) : a.y + at * a.value_dim;
        if (PREFIX && lane_id() % 4 == 0) store(to, top[r]), store(to + 1, total[r]);
        for (int n = 0; n < D / 8; n++)
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                const int32_t column = n * 8 + lane_id() % 4 * 2 + i % 2;
                if (column >= a.value_dim) continue;
                if constexpr (PREFIX)
                    store(to + 2 + column, o[n][i]);
                else
                    store(to + column, o[n][i] / total[r]);
            }
    }
}

template <int D, bool AS_IS, bool PREFIX>
__global__ void __launch_bounds__(THREADS) attention_mma_kernel(struct cuda_attention a)
{
    SHARED_DYNAMIC(char, memory);
    const shared<f16> keys = shared_as<f16>(memory), values = keys + TILE * (D + 8);
    if (blockIdx.x >= row_count(a.tile_count)) return;
    const struct attention_tile tile = load(a.tiles + blockIdx.x);
    const int32_t group = a.heads / a.kv_heads, kv_head = (int32_t)blockIdx.y / group,
                  unit = (int32_t)blockIdx.y % group;
    if (unit * TILE >= tile.rows * group) return;
    const struct place at = place_of<PREFIX>(a, tile, kv_head);
    const struct lane_rows rows = lane_rows_of(a, tile, kv_head, unit);
    const int32_t least = !PREFIX && a.states ? tile.keys : 0;
    uint32_t q[D / 16][4];
    for (int k = 0; k < D / 16; k++)
        for (int i = 0; i < 4; i++)
            q[k][i] = query_pair(a, rows, i % 2, k * 16 + lane_id() % 4 * 2 + 8 * (i / 2));
    float o[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, rescale[2], s[KEY_TILES][4];
    if constexpr (!PREFIX) begin_rows<D>(o, top, total, a, rows, least > 0);
    int32_t now = at.from / TILE * TILE;
    fetch<D, AS_IS>(keys, a.k, at, now, a.head_dim);
    for (; now < at.to; now += TILE) {
        copy_async_wait<0>();
        __syncthreads();
        fetch<D, AS_IS>(values, a.v, at, now, a.value_dim);
        scores<D>(s, q, keys);
        mask<PREFIX>(s, a, now, rows, least, at.to);
        __syncthreads();
        fetch<D, AS_IS>(keys, a.k, at, now + TILE, a.head_dim); // zeros behind the last tile
        soften(s, top, total, rescale);
        copy_async_wait<1>();
        __syncthreads();
        scale_rows<D>(o, rescale);
        add_product<D, f16>(o, s, values);
    }
    copy_async_wait<0>();
    end_rows<D, PREFIX>(o, top, total, a, rows);
}

// A warp merges the stretches of a row and head of a prefix tile, in their order.
static __global__ void __launch_bounds__(THREADS) prefix_merge_kernel(struct cuda_attention a)
{
    if (blockIdx.x >= row_count(a.tile_count)) return;
    const struct attention_tile tile = load(a.tiles + blockIdx.x);
    for (int32_t i = warp_id(); i < tile.rows; i += THREADS / WARP_LANES) {
        const int64_t at = (int64_t)(tile.row + i) * a.heads + blockIdx.y;
        const float *parts = a.partial + at * a.splits * (a.value_dim + 2);
        float *to = a.states + at * a.state_stride, top = -INFINITY, total = 0;
        for (int32_t s = 0; s < a.splits; s++) top = fmaxf(top, load(parts + s * (a.value_dim + 2)));
        for (int32_t s = 0; s < a.splits; s++) {
            const float *part = parts + s * (a.value_dim + 2);
            if (load(part) != -INFINITY) total += load(part + 1) * expf(load(part) - top);
        }
        if (lane_id() == 0) store(to, top), store(to + 1, total);
        for (int32_t d = lane_id(); d < a.value_dim; d += WARP_LANES) {
            float o = 0;
            for (int32_t s = 0; s < a.splits; s++) {
                const float *part = parts + s * (a.value_dim + 2);
                if (load(part) != -INFINITY) o += load(part + 2 + d) * expf(load(part) - top);
            }
            store(to + 2 + d, o);
        }
    }
}

bool attention_mma_fits(const struct cuda_attention *a)
{
    return kv_halves_fit(&a->k, a->head_dim) && kv_halves_fit(&a->v, a->value_dim) && a->head_dim <= 128 &&
           a->value_dim <= 128;
}

template <bool PREFIX> static void launch(struct cuda_stream *s, const struct cuda_attention *a)
{
    const bool small = a->head_dim <= 64 && a->value_dim <= 64,
               as_is = a->k.type == DTYPE_F16 && a->v.type == DTYPE_F16;
    const dim3 grid((unsigned)a->tile_count.most, (unsigned)a->heads, PREFIX ? (unsigned)a->splits : 1);
    const size_t bytes = 2 * TILE * ((small ? 64 : 128) + 8) * sizeof(f16);
    if (small && as_is)
        CUDA_LAUNCH((attention_mma_kernel<64, true, PREFIX>), grid, THREADS, bytes, s, *a);
    else if (small)
        CUDA_LAUNCH((attention_mma_kernel<64, false, PREFIX>), grid, THREADS, bytes, s, *a);
    else if (as_is)
        CUDA_LAUNCH((attention_mma_kernel<128, true, PREFIX>), grid, THREADS, bytes, s, *a);
    else
        CUDA_LAUNCH((attention_mma_kernel<128, false, PREFIX>), grid, THREADS, bytes, s, *a);
}

void attention_mma(struct cuda_stream *s, const struct cuda_attention *a)
{
    launch<false>(s, a);
}

bool cuda_attention_prefix(struct cuda_stream *s, const struct cuda_attention *a)
{
    if (a->rows.most < CUDA_ATTENTION_MANY || !attention_mma_fits(a)) return false;
    if (!a->states) return true;
    launch<true>(s, a);
    CUDA_LAUNCH(prefix_merge_kernel, dim3((unsigned)a->tile_count.most, (unsigned)a->heads), THREADS, 0, s,
                *a);
    return true;
}
