// cuda/attention_dx.cu -- the gradient of attention among the rows of a step (ops/ops.h has the sums), by tiles, from the log-sum-exp that
// the way forward has kept: no (rows, rows) matrix is ever there (Dao et al., arXiv 2205.14135, algorithm 4).
//
// Three launches: delta = y dy of each row, and the size of dy there; dq, a block 16 rows of a query head, which walks the keys that they see; dk and dv, a block
// 32 keys of a key-value head, which walks the rows that see them, head by head. Scores are worked out in both, so that each output has
// one block that adds it up in one order: adding to dq with atomics would save two of seven products, and the same bits each time.
#include "cuda/attention_block.h"
#include "cuda/attention_forms.h"

enum { THREADS = 128, WARPS = THREADS / WARP_LANES, ROWS = 16, KEYS = WARP_LANES };
enum { EACH_ROW = ROWS / WARPS, EACH_KEY = KEYS / WARPS }; // of a warp

// A warp a row and head; `tiles`: with what cuda/attention_dx_wgmma.cu reads. The sink's logit takes part in the softmax and has no value: -exp(sink - lse) delta.
static __global__ void delta_kernel(struct cuda_attention_dx x, bool tiles)
{
    const struct cuda_attention_rows &a = x.of;
    const int64_t at = (int64_t)blockIdx.x * WARPS + warp_id();
    if (at >= row_count(a.rows) * a.heads) return;
    float sum = 0, top = 0;
    for (int32_t i = lane_id(); i < a.value_dim; i += WARP_LANES) {
        const float dy = load(x.dy + at * a.value_dim + i);
        sum += dy * load(a.y + at * a.value_dim + i);
        top = fmaxf(top, fabsf(dy));
    }
    sum = warp_sum(sum), top = warp_max(top);
    const float unit = !(fabsf(sum) < INFINITY) ? 1 : top < 0x1p-100f ? 0 : ldexpf(1, ilogbf(top));
    if (tiles)
        for (int32_t i = lane_id(); i < a.value_dim; i += WARP_LANES) {
            f16 rounded;
            from_f32(&rounded, unit != 0 ? load(x.dy + at * a.value_dim + i) / unit : 0);
            store((f16 *)x.rounded + at * a.value_dim + i, rounded);
        }
    if (lane_id()) return;
    store(x.delta + at, sum);
    store(x.unit + at, unit);
    if (tiles) {
        const int64_t row = at / a.heads, head = at % a.heads;
        const vec<float, 4> of = {{load(a.lse + at) * LOG2_E, unit != 0 ? sum / unit : 0, log2f(unit),
                                   bits_to_f32((unsigned)first_seen(a, row))}};
        store((vec<float, 4> *)x.stats + head * x.padded + row, of);
    }
    if (x.dsinks) store(x.dsinks + at, -expf(load(a.sinks + at % a.heads) - load(a.lse + at)) * sum);
}

// Shared memory of both: queries and keys (rows of d), dy and values (rows of d_v); those of keys are read across lanes and have a
// number to spare a row.
struct tiles {
    shared<float> q, dy, k, v;
    int32_t d, d_v;
};

__device__ static struct tiles tiles_of(const struct cuda_attention_rows &a, shared<float> memory)
{
    struct tiles t;
    t.d = a.head_dim, t.d_v = a.value_dim;
    t.q = memory;
    t.dy = t.q + ROWS * t.d;
    t.k = t.dy + ROWS * t.d_v;
    t.v = t.k + KEYS * (t.d + 1);
    return t;
}

static size_t tiles_bytes(const struct cuda_attention_rows *a)
{
    return sizeof(float) *
           (size_t)(ROWS * (a->head_dim + a->value_dim) + KEYS * (a->head_dim + 1 + a->value_dim + 1));
}

template <class T>
__device__ static void stage_rows(const struct tiles &t, const struct cuda_attention_dx &x, int32_t head,
                                  int64_t first, int64_t count)
{
    const struct cuda_attention_rows &a = x.of;
    stage<ROWS>(t.q, t.d, (const T *)a.q + head * t.d, (int64_t)a.heads * t.d, first, count, t.d);
    stage<ROWS>(t.dy, t.d_v, x.dy + head * t.d_v, (int64_t)a.heads * t.d_v, first, count, t.d_v);
}

template <class T>
__device__ static void stage_keys(const struct tiles &t, const struct cuda_attention_dx &x, int32_t head,
                                  int64_t first, int64_t count)
{
    const struct cuda_attention_rows &a = x.of;
    stage<KEYS>(t.k, t.d + 1, (const T *)a.k + head * t.d, (int64_t)a.kv_heads * t.d, first, count, t.d);
    stage<KEYS>(t.v, t.d_v + 1, (const T *)a.v + head * t.d_v, a.v_stride, first, count, t.d_v);
}

// The warp's rows against the lane's key: q k and dy v.
__device__ static void products(const struct tiles &t, float (&score)[EACH_ROW], float (&dp)[EACH_ROW])
{
    const int first = warp_id() * EACH_ROW;
    for (int r = 0; r < EACH_ROW; r++) score[r] = dp[r] = 0;
    for (int32_t i = 0; i < t.d; i++) {
        const float k = t.k[lane_id() * (t.d + 1) + i];
        for (int r = 0; r < EACH_ROW; r++) score[r] += t.q[(first + r) * t.d + i] * k;
    }
    for (int32_t i = 0; i < t.d_v; i++) {
        const float v = t.v[lane_id() * (t.d_v + 1) + i];
        for (int r = 0; r < EACH_ROW; r++) dp[r] += t.dy[(first + r) * t.d_v + i] * v;
    }
}

template <class T, int DIMS>
__global__ void __launch_bounds__(THREADS) attention_dq_kernel(struct cuda_attention_dx x)
{
    SHARED_DYNAMIC(char, memory);
    SHARED(float, weights, ROWS *KEYS);
    const struct cuda_attention_rows &a = x.of;
    const struct tiles t = tiles_of(a, shared_as<float>(memory));
    const int32_t head = (int32_t)blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    const int64_t count = row_count(a.rows), first = (int64_t)blockIdx.x * ROWS,
                  row = first + warp_id() * EACH_ROW;
    if (first >= count) return;
    const int64_t last = first + ROWS < count ? first + ROWS : count;
    const float slope = a.slopes ? load(a.slopes + head) : 0;
    const shared<float> ds = weights + warp_id() * EACH_ROW * KEYS;
    struct seen_row of[EACH_ROW];
    for (int r = 0; r < EACH_ROW; r++) of[r] = seen_row_at(x, row + r, head, count);
    float dq[DIMS][EACH_ROW] = {}, score[EACH_ROW], dp[EACH_ROW];
    stage_rows<T>(t, x, head, first, count);
    for (int64_t tile = first_seen(a, first); tile < last; tile += KEYS) {
        stage_keys<T>(t, x, kv_head, tile, count);
        __syncthreads();
        products(t, score, dp);
        for (int r = 0; r < EACH_ROW; r++)
            ds[r * KEYS + lane_id()] = weigh(x, of[r], score[r], dp[r], slope, row + r, tile + lane_id()).ds;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < DIMS; i++)
            if (i * WARP_LANES + lane_id() < t.d)
                for (int key = 0; key < KEYS; key++) {
                    const float k = t.k[key * (t.d + 1) + i * WARP_LANES + lane_id()];
                    for (int r = 0; r < EACH_ROW; r++) dq[i][r] += ds[r * KEYS + key] * k;
                }
        __syncthreads();
    }
    for (int r = 0; r < EACH_ROW && row + r < count; r++)
#pragma unroll
        for (int i = 0; i < DIMS; i++)
            if (i * WARP_LANES + lane_id() < t.d)
                store(x.dq + (row + r) * x.stride + head * t.d + i * WARP_LANES + lane_id(), dq[i][r]);
}

// to += weights^T rows: the warp's keys, a lane a number. weights: (ROWS, KEYS), rows: (ROWS, cols)
template <int DIMS>
__device__ static void add_rows(float (&to)[DIMS][EACH_KEY], shared<float> weights, shared<float> rows,
                                int32_t cols)
{
#pragma unroll
    for (int i = 0; i < DIMS; i++)
        if (i * WARP_LANES + lane_id() < cols)
            for (int row = 0; row < ROWS; row++) {
                const float number = rows[row * cols + i * WARP_LANES + lane_id()];
                for (int k = 0; k < EACH_KEY; k++)
                    to[i][k] += weights[row * KEYS + warp_id() * EACH_KEY + k] * number;
            }
}

template <int DIMS>
__device__ static void store_keys(float *to, int64_t stride, const float (&from)[DIMS][EACH_KEY],
                                  int64_t first, int64_t count, int32_t cols)
{
    for (int k = 0; k < EACH_KEY && first + k < count; k++)
#pragma unroll
        for (int i = 0; i < DIMS; i++)
            if (i * WARP_LANES + lane_id() < cols)
                store(to + (first + k) * stride + i * WARP_LANES + lane_id(), from[i][k]);
}

template <class T, int DIMS>
__global__ void __launch_bounds__(THREADS) attention_dkv_kernel(struct cuda_attention_dx x)
{
    SHARED_DYNAMIC(char, memory);
    SHARED(float, p, ROWS *KEYS);
    SHARED(float, ds, ROWS *KEYS);
    const struct cuda_attention_rows &a = x.of;
    const struct tiles t = tiles_of(a, shared_as<float>(memory));
    const int32_t kv_head = (int32_t)blockIdx.y, group = a.heads / a.kv_heads;
    const int64_t count = row_count(a.rows), first = (int64_t)blockIdx.x * KEYS, key = first + lane_id();
    if (first >= count) return;
    float dk[DIMS][EACH_KEY] = {}, dv[DIMS][EACH_KEY] = {}, score[EACH_ROW], dp[EACH_ROW];
    stage_keys<T>(t, x, kv_head, first, count);
    for (int32_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const float slope = a.slopes ? load(a.slopes + head) : 0;
        // Until the first of the rows sees none of the keys: later ones do not either.
        for (int64_t tile = first; tile < count && first_seen(a, tile) < first + KEYS; tile += ROWS) {
            stage_rows<T>(t, x, head, tile, count);
            __syncthreads();
            products(t, score, dp);
            for (int r = 0; r < EACH_ROW; r++) {
                const int64_t row = tile + warp_id() * EACH_ROW + r;
                const struct weight w =
                    weigh(x, seen_row_at(x, row, head, count), score[r], dp[r], slope, row, key);
                p[(warp_id() * EACH_ROW + r) * KEYS + lane_id()] = w.p;
                ds[(warp_id() * EACH_ROW + r) * KEYS + lane_id()] = w.ds;
            }
            __syncthreads();
            add_rows(dv, p, t.dy, t.d_v);
            add_rows(dk, ds, t.q, t.d);
            __syncthreads();
        }
    }
    const int64_t own = first + warp_id() * EACH_KEY;
    store_keys(x.dk + kv_head * t.d, x.stride, dk, own, count, t.d);
    store_keys(x.dv + kv_head * t.d_v, x.stride, dv, own, count, t.d_v);
}

template <class T, int DIMS> static void launch(struct cuda_stream *s, const struct cuda_attention_dx *x)
{
    const struct cuda_attention_rows *a = &x->of;
    const dim3 rows((unsigned)ceil_div(a->rows.most, (int64_t)ROWS), (unsigned)a->heads);
    const dim3 keys((unsigned)ceil_div(a->rows.most, (int64_t)KEYS), (unsigned)a->kv_heads);
    CUDA_LAUNCH((attention_dq_kernel<T, DIMS>), rows, THREADS, tiles_bytes(a), s, *x);
    CUDA_LAUNCH((attention_dkv_kernel<T, DIMS>), keys, THREADS, tiles_bytes(a), s, *x);
}

void cuda_attention_dx(struct cuda_stream *s, const struct cuda_attention_dx *x)
{
    const struct cuda_attention_rows *a = &x->of;
    const bool wide = a->head_dim > 4 * WARP_LANES || a->value_dim > 4 * WARP_LANES;
    enum { MOST = CUDA_HEAD_MAX / WARP_LANES };
    TLM_ASSERT(a->head_dim <= CUDA_HEAD_MAX && a->value_dim <= CUDA_VALUE_MAX && a->lse);
    TLM_ASSERT(a->type == DTYPE_F32 || a->type == DTYPE_F16);
    if (!a->rows.most) return;
    const bool latent = attention_rows_latent(a), tiles = !latent && attention_dx_wgmma_fits(x);
    CUDA_LAUNCH(delta_kernel, blocks_for(a->rows.most * a->heads, WARPS), THREADS, 0, s, *x, tiles);
    if (tiles)
        attention_dx_wgmma(s, x);
    else if (!latent && attention_rows_mma_fits(a))
        attention_dx_mma(s, x);
    else if (a->type == DTYPE_F32)
        wide ? launch<float, MOST>(s, x) : launch<float, 4>(s, x);
    else
        wide ? launch<f16, MOST>(s, x) : launch<f16, 4>(s, x);
}
