// cuda/attention_mma.cu -- attention of a prompt on tensor cores: a tile of up to 64 rows a block. Keys and values of f16 are copied as they are,
// others become f16 on their way into shared memory.
//
// Four warps take 16 rows each of one query head. Scores s = q k^T of 64 keys are 8 fragments in a warp's registers; the softmax is taken
// there, the probabilities become the next product's left side as they lie, and o += p v (Dao, arXiv 2307.08691). Keys and values come by
// cp.async, each while the other is multiplied with. A row of them takes D + 8 numbers of shared memory, so that the eight rows which
// ldmatrix reads at once lie in different banks. Heads shorter than D are filled up with zeros.
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

// Numbers i and i + 1 of the row's query, 0 where there are none
__device__ static uint32_t query_pair(const struct cuda_attention &a, int64_t row, bool there, int32_t head,
                                      int32_t i)
{
    if (!there || i >= a.head_dim) return 0;
    const float *q = a.q + (row * a.heads + head) * a.head_dim + i;
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

// Scale, cap, slope and mask; `pos` of the lane's two rows, -1 where there is no row.
__device__ static void mask(float (&s)[KEY_TILES][4], const struct cuda_attention &a, int32_t tile,
                            const int32_t (&pos)[2], float slope)
{
    for (int n = 0; n < KEY_TILES; n++)
        for (int i = 0; i < 4; i++) {
            const int32_t key = tile + n * 8 + lane_id() % 4 * 2 + i % 2, at = pos[i / 2];
            float x = s[n][i] * a.scale;
            if (a.softcap > 0) x = a.softcap * tanhf(x / a.softcap);
            x += slope * (float)(key - at);
            s[n][i] = key <= at && (!a.window || key > at - a.window) ? x : -INFINITY;
        }
}

template <int D, bool AS_IS>
__global__ void __launch_bounds__(THREADS) attention_mma_kernel(struct cuda_attention a)
{
    SHARED_DYNAMIC(char, memory);
    const shared<f16> keys = shared_as<f16>(memory), values = keys + TILE * (D + 8);
    if (blockIdx.x >= row_count(a.tile_count)) return;
    const struct attention_tile tile = load(a.tiles + blockIdx.x);
    const int32_t head = (int32_t)blockIdx.y, row = warp_id() * 16 + lane_id() / 4;
    const bool there[2] = {row < tile.rows, row + 8 < tile.rows};
    int32_t pos[2];
    for (int r = 0; r < 2; r++) pos[r] = there[r] ? load(a.pos + tile.row + row + 8 * r) : -1;
    const int32_t first = load(a.pos + tile.row), last = load(a.pos + tile.row + tile.rows - 1);
    const struct place at = {a.tables + tile.sequence * a.table_stride, head / (a.heads / a.kv_heads),
                             a.window && first >= a.window ? first - a.window + 1 : 0, last + 1};
    uint32_t q[D / 16][4];
    for (int k = 0; k < D / 16; k++)
        for (int i = 0; i < 4; i++)
            q[k][i] = query_pair(a, tile.row + row + 8 * (i % 2), there[i % 2], head,
                                 k * 16 + lane_id() % 4 * 2 + 8 * (i / 2));
    const float slope = a.slopes ? load(a.slopes + head) : 0,
                sink = a.sinks ? load(a.sinks + head) : -INFINITY;
    float o[D / 8][4] = {}, top[2] = {sink, sink}, total[2], rescale[2], s[KEY_TILES][4];
    total[0] = total[1] = a.sinks ? 1.0f : 0.0f;
    int32_t now = at.from / TILE * TILE;
    fetch<D, AS_IS>(keys, a.k, at, now, a.head_dim);
    for (; now < at.to; now += TILE) {
        copy_async_wait<0>();
        __syncthreads();
        fetch<D, AS_IS>(values, a.v, at, now, a.value_dim);
        scores<D>(s, q, keys);
        mask(s, a, now, pos, slope);
        __syncthreads();
        fetch<D, AS_IS>(keys, a.k, at, now + TILE, a.head_dim); // zeros behind the last tile
        soften(s, top, total, rescale);
        copy_async_wait<1>();
        __syncthreads();
        scale_rows<D>(o, rescale);
        add_product<D, f16>(o, s, values);
    }
    copy_async_wait<0>();
    for (int n = 0; n < D / 8; n++)
        for (int i = 0; i < 4; i++) {
            const int32_t column = n * 8 + lane_id() % 4 * 2 + i % 2;
            if (there[i / 2] && column < a.value_dim)
                store(a.y + ((tile.row + row + i / 2 * 8) * (int64_t)a.heads + head) * a.value_dim + column,
                      o[n][i] / total[i / 2]);
        }
}

bool attention_mma_fits(const struct cuda_attention *a)
{
    return kv_halves_fit(&a->k, a->head_dim) && kv_halves_fit(&a->v, a->value_dim) && a->head_dim <= 128 &&
           a->value_dim <= 128;
}

template <bool AS_IS> static void launch(struct cuda_stream *s, const struct cuda_attention *a)
{
    const dim3 grid((unsigned)a->tile_count.most, (unsigned)a->heads);
    if (a->head_dim <= 64 && a->value_dim <= 64)
        CUDA_LAUNCH((attention_mma_kernel<64, AS_IS>), grid, THREADS, 2 * TILE * (64 + 8) * sizeof(f16), s,
                    *a);
    else
        CUDA_LAUNCH((attention_mma_kernel<128, AS_IS>), grid, THREADS, 2 * TILE * (128 + 8) * sizeof(f16), s,
                    *a);
}

void attention_mma(struct cuda_stream *s, const struct cuda_attention *a)
{
    if (a->k.type == DTYPE_F16 && a->v.type == DTYPE_F16)
        launch<true>(s, a);
    else
        launch<false>(s, a);
}
