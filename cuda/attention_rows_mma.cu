// cuda/attention_rows_mma.cu -- attention among the rows of a step, and its gradient, on tensor cores: q, k and v of f16, where matrices are BF16.
//
// Four warps take 16 rows each of a query head, or 16 keys of a key-value head, and walk tiles of 64. Heads shorter than D are filled up with
// zeros. Which blocks there are, and why scores are worked out twice: cuda/attention_dx.cu.
//
// What goes into a product is rounded to f16, whose 11 bits err by an eighth of bf16's 8 at the same speed; sums are f32. The CPU keeps f32
// here. Against its losses, ten steps of AdamW (rate 1e-3) on the smallest Llama in bf16 were up to 4.1e-3 off with q, k, v, p, dy and ds in
// bf16 (with v alone 4.3e-3, always to one side), are 1.7e-3 off in f16, and 1.5e-3 with nothing rounded here at all. The CPU's own tiers
// are 1.9e-3 apart, and weights that differ in the last bit of f32 lead it 1.3e-3 from itself: the least difference turns roundings of bf16
// activations elsewhere. So products of higher and lower halves, which would cost twice to three times as many, could gain nothing.
//
// What f16 lacks is range. q, k and v have it where generating does, whose cache is f16. A row of dy has not: it is divided by `unit`, the
// power of two below its largest number (cuda/attention_dx.cu), which all that is made of it keeps as a factor. Sums over rows, dk and dv, have
// the largest unit of the rows that see a block's keys. p and ds are multiplied by powers of two on top, as small numbers of long texts
// would be lost below the smallest of f16.
#include "cuda/attention_block.h"
#include "cuda/attention_forms.h"
#include "cuda/attention_fragments.h"

enum { THREADS = 128, TILE = ATTENTION_TILE };

// The lane's two rows of the warp's: lane / 4 and that plus 8.
__device__ static int lane_row(int i)
{
    return warp_id() * 16 + lane_id() / 4 + i * 8;
}

// The number in a tile that number i of fragment n belongs to.
__device__ static int lane_column(int n, int i)
{
    return n * 8 + lane_id() % 4 * 2 + i % 2;
}

template <int D>
__device__ static void store_rows(float *to, int64_t stride, const float (&from)[D / 8][4], int64_t first,
                                  int64_t count, int32_t d)
{
    for (int n = 0; n < D / 8; n++)
        for (int i = 0; i < 4; i++) {
            const int64_t row = first + lane_row(i / 2);
            if (row < count && lane_column(n, i) < d)
                store(to + row * stride + lane_column(n, i), from[n][i]);
        }
}

// ---- the way forward --------------------------------------------------------------------------------------

template <int D>
__global__ void __launch_bounds__(THREADS) attention_rows_mma_kernel(struct cuda_attention_rows a)
{
    SHARED_DYNAMIC(char, memory);
    const shared<f16> q = shared_as<f16>(memory), keys = q + TILE * (D + 8), values = keys + TILE * (D + 8);
    const int32_t head = (int32_t)blockIdx.y, kv_head = head / (a.heads / a.kv_heads), d = a.head_dim,
                  d_v = a.value_dim;
    const int64_t count = row_count(a.rows), first = (int64_t)blockIdx.x * TILE;
    if (first >= count) return;
    const int64_t last = first + TILE < count ? first + TILE : count;
    const float slope = a.slopes ? load(a.slopes + head) : 0,
                sink = a.sinks ? load(a.sinks + head) : -INFINITY;
    int64_t row[2], from[2];
    for (int r = 0; r < 2; r++) {
        row[r] = first + lane_row(r);
        from[r] = row[r] < count ? first_seen(a, row[r]) : INT64_MAX;
    }
    float o[D / 8][4] = {}, top[2] = {sink, sink}, total[2], rescale[2], s[KEY_TILES][4], through;
    total[0] = total[1] = a.sinks ? 1.0f : 0.0f;
    fetch_rows<D>(q, (const f16 *)a.q + head * d, (int64_t)a.heads * d, first, count, d);
    for (int64_t tile = first_seen(a, first); tile < last; tile += TILE) {
        fetch_rows<D>(keys, (const f16 *)a.k + kv_head * d, (int64_t)a.kv_heads * d, tile, count, d);
        copy_async_commit();
        fetch_rows<D>(values, (const f16 *)a.v + kv_head * d_v, (int64_t)a.kv_heads * d_v, tile, count, d_v);
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        product<D>(s, q + warp_id() * 16 * (D + 8), keys);
        for (int n = 0; n < KEY_TILES; n++)
            for (int i = 0; i < 4; i++) {
                const int64_t key = tile + lane_column(n, i), at = row[i / 2];
                const float x = shaped(a, s[n][i] * a.scale, slope, key - at, &through);
                s[n][i] = key >= from[i / 2] && key <= at ? x : -INFINITY;
            }
        soften(s, top, total, rescale);
        scale_rows<D>(o, rescale);
        copy_async_wait<0>();
        __syncthreads();
        add_product<D>(o, s, values);
        __syncthreads();
    }
    const float inverse[2] = {1 / total[0], 1 / total[1]};
    scale_rows<D>(o, inverse);
    store_rows<D>(a.y + head * d_v, (int64_t)a.heads * d_v, o, first, count, d_v);
    for (int r = 0; r < 2; r++)
        if (a.lse && row[r] < count && lane_id() % 4 == 0)
            store(a.lse + row[r] * a.heads + head, top[r] + logf(total[r]));
}

// ---- the way back -----------------------------------------------------------------------------------------

// What p and ds are multiplied by in front of products that add up over rows, or keys. p is at most 1; a ds of 4096 still fits.
__device__ static constexpr float P_FACTOR = 1 << 14, DS_FACTOR = 1 << 4;

__device__ static float unit_of(const struct cuda_attention_dx &x, int64_t row, int32_t head, int64_t count)
{
    return row < count ? load(x.unit + row * x.of.heads + head) : 0;
}

// What is known of a row for gradients of dy / unit; its weights come out `factor` times as large.
__device__ static struct seen_row scaled_row_at(const struct cuda_attention_dx &x, int64_t row, int32_t head,
                                                int64_t count, float factor)
{
    struct seen_row of = seen_row_at(x, row, head, count);
    const float unit = unit_of(x, row, head, count);
    of.delta = unit == 0 ? 0 : of.delta / unit;
    of.lse -= logf(factor); // of 0: none
    return of;
}

// Shared memory of both kernels: queries and dy of 64 rows, 64 keys and values.
template <int D> struct tiles {
    shared<f16> q, dy, k, v;
};

template <int D> __device__ static struct tiles<D> tiles_of(shared<f16> memory) {
    constexpr int EACH = TILE * (D + 8);
    return {memory, memory + EACH, memory + 2 * EACH, memory + 3 * EACH};
}

template <int D>
__device__ static void fetch_queries(const struct tiles<D> &t, const struct cuda_attention_dx &x,
                                     int32_t head, int64_t first, int64_t count)
{
    const struct cuda_attention_rows &a = x.of;
    fetch_rows<D>(t.q, (const f16 *)a.q + head * a.head_dim, (int64_t)a.heads * a.head_dim, first, count,
                  a.head_dim);
    round_rows<D>(t.dy, x.dy + head * a.value_dim, (int64_t)a.heads * a.value_dim, first, count, a.value_dim,
                  x.unit + head, a.heads);
}

template <int D>
__device__ static void fetch_keys(const struct tiles<D> &t, const struct cuda_attention_rows &a,
                                  int32_t kv_head, int64_t first, int64_t count)
{
    fetch_rows<D>(t.k, (const f16 *)a.k + kv_head * a.head_dim, (int64_t)a.kv_heads * a.head_dim, first,
                  count, a.head_dim);
    fetch_rows<D>(t.v, (const f16 *)a.v + kv_head * a.value_dim, (int64_t)a.kv_heads * a.value_dim, first,
                  count, a.value_dim);
}

template <int D>
__global__ void __launch_bounds__(THREADS, 3) attention_dq_mma_kernel(struct cuda_attention_dx x)
{
    SHARED_DYNAMIC(char, memory);
    const struct cuda_attention_rows &a = x.of;
    const struct tiles<D> t = tiles_of<D>(shared_as<f16>(memory));
    const int32_t head = (int32_t)blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    const int64_t count = row_count(a.rows), first = (int64_t)blockIdx.x * TILE;
    if (first >= count) return;
    const int64_t last = first + TILE < count ? first + TILE : count;
    const float slope = a.slopes ? load(a.slopes + head) : 0;
    struct seen_row of[2];
    for (int r = 0; r < 2; r++) of[r] = scaled_row_at(x, first + lane_row(r), head, count, DS_FACTOR);
    float dq[D / 8][4] = {}, s[KEY_TILES][4], dp[KEY_TILES][4];
    fetch_queries<D>(t, x, head, first, count);
    for (int64_t tile = first_seen(a, first); tile < last; tile += TILE) {
        fetch_keys<D>(t, a, kv_head, tile, count);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        product<D>(s, t.q + warp_id() * 16 * (D + 8), t.k);
        product<D>(dp, t.dy + warp_id() * 16 * (D + 8), t.v);
        for (int n = 0; n < KEY_TILES; n++)
            for (int i = 0; i < 4; i++)
                s[n][i] = weigh(x, of[i / 2], s[n][i], dp[n][i], slope, first + lane_row(i / 2),
                                tile + lane_column(n, i))
                              .ds;
        add_product<D>(dq, s, t.k);
        __syncthreads();
    }
    const float factor[2] = {unit_of(x, first + lane_row(0), head, count) / DS_FACTOR,
                             unit_of(x, first + lane_row(1), head, count) / DS_FACTOR};
    scale_rows<D>(dq, factor);
    store_rows<D>(x.dq + head * a.head_dim, x.stride, dq, first, count, a.head_dim);
}

// The largest unit of the rows from `first` on that see keys up to first + TILE, of all heads of a group.
__device__ static float largest_unit(const struct cuda_attention_dx &x, int32_t head, int32_t group,
                                     int64_t first, int64_t count, shared<float> part)
{
    float top = 0;
    for (int64_t tile = first; tile < count && first_seen(x.of, tile) < first + TILE; tile += TILE)
        for (int i = (int)threadIdx.x; i < TILE * group; i += THREADS)
            if (tile + i / group < count)
                top = fmaxf(top, load(x.unit + (tile + i / group) * x.of.heads + head + i % group));
    return block_max(top, part);
}

template <int D>
__global__ void __launch_bounds__(THREADS) attention_dkv_mma_kernel(struct cuda_attention_dx x)
{
    SHARED_DYNAMIC(char, memory);
    SHARED(struct seen_row, of, TILE);
    SHARED(float, part, THREADS / WARP_LANES);
    const struct cuda_attention_rows &a = x.of;
    const struct tiles<D> t = tiles_of<D>(shared_as<f16>(memory));
    const int32_t kv_head = (int32_t)blockIdx.y, group = a.heads / a.kv_heads;
    const int64_t count = row_count(a.rows), first = (int64_t)blockIdx.x * TILE;
    if (first >= count) return;
    float dk[D / 8][4] = {}, dv[D / 8][4] = {}, s[KEY_TILES][4], dp[KEY_TILES][4];
    fetch_keys<D>(t, a, kv_head, first, count);
    const float most = largest_unit(x, kv_head * group, group, first, count, part);
    for (int32_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const float slope = a.slopes ? load(a.slopes + head) : 0;
        for (int64_t tile = first; tile < count && first_seen(a, tile) < first + TILE; tile += TILE) {
            fetch_queries<D>(t, x, head, tile, count);
            copy_async_commit();
            if (threadIdx.x < TILE) {
                const float unit = unit_of(x, tile + threadIdx.x, head, count);
                of[threadIdx.x] = scaled_row_at(x, tile + threadIdx.x, head, count,
                                                unit == 0 ? 0 : P_FACTOR * (unit / most));
            }
            copy_async_wait<0>();
            __syncthreads();
            product<D>(s, t.k + warp_id() * 16 * (D + 8), t.q);
            product<D>(dp, t.v + warp_id() * 16 * (D + 8), t.dy);
            for (int n = 0; n < KEY_TILES; n++)
                for (int i = 0; i < 4; i++) {
                    const struct weight w = weigh(x, of[lane_column(n, i)], s[n][i], dp[n][i], slope,
                                                  tile + lane_column(n, i), first + lane_row(i / 2));
                    s[n][i] = w.p, dp[n][i] = w.ds * (DS_FACTOR / P_FACTOR);
                }
            add_product<D>(dv, s, t.dy);
            add_product<D>(dk, dp, t.q);
            __syncthreads();
        }
    }
    const float unit_k = most / DS_FACTOR, unit_v = most / P_FACTOR;
    const float factor_k[2] = {unit_k, unit_k}, factor_v[2] = {unit_v, unit_v};
    scale_rows<D>(dk, factor_k), scale_rows<D>(dv, factor_v);
    store_rows<D>(x.dk + kv_head * a.head_dim, x.stride, dk, first, count, a.head_dim);
    store_rows<D>(x.dv + kv_head * a.value_dim, x.stride, dv, first, count, a.value_dim);
}

// ---- launches ---------------------------------------------------------------------------------------------

bool attention_rows_mma_fits(const struct cuda_attention_rows *a)
{
    return a->type == DTYPE_F16 && a->head_dim % 8 == 0 && a->value_dim % 8 == 0 && a->head_dim <= 128 &&
           a->value_dim <= 128 && aligned_to(a->q, 16) && aligned_to(a->k, 16) && aligned_to(a->v, 16);
}

static bool is_small(const struct cuda_attention_rows *a)
{
    return a->head_dim <= 64 && a->value_dim <= 64;
}

// Bytes of `arrays` tiles.
template <int D> static size_t bytes_of(int arrays)
{
    return (size_t)arrays * TILE * (D + 8) * sizeof(f16);
}

void attention_rows_mma(struct cuda_stream *s, const struct cuda_attention_rows *a)
{
    const dim3 grid((unsigned)ceil_div(a->rows.most, (int64_t)TILE), (unsigned)a->heads);
    if (is_small(a))
        CUDA_LAUNCH(attention_rows_mma_kernel<64>, grid, THREADS, bytes_of<64>(3), s, *a);
    else
        CUDA_LAUNCH(attention_rows_mma_kernel<128>, grid, THREADS, bytes_of<128>(3), s, *a);
}

template <int D> static void launch_dx(struct cuda_stream *s, const struct cuda_attention_dx *x)
{
    const unsigned blocks = (unsigned)ceil_div(x->of.rows.most, (int64_t)TILE);
    const dim3 rows(blocks, (unsigned)x->of.heads), keys(blocks, (unsigned)x->of.kv_heads);
    CUDA_LAUNCH(attention_dq_mma_kernel<D>, rows, THREADS, bytes_of<D>(4), s, *x);
    CUDA_LAUNCH(attention_dkv_mma_kernel<D>, keys, THREADS, bytes_of<D>(4), s, *x);
}

void attention_dx_mma(struct cuda_stream *s, const struct cuda_attention_dx *x)
{
    if (is_small(&x->of))
        launch_dx<64>(s, x);
    else
        launch_dx<128>(s, x);
}
