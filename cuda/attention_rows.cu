// cuda/attention_rows.cu -- attention among the rows of a step, as training has it: keys and values stand beside the queries, in no cache.
//
// A block takes 16 rows of a query head, a warp four of them, and walks the rows that they see in tiles of 32: a lane a key scores it, the
// warp takes the softmax, a lane a number of the values adds up (Dao, arXiv 2307.08691). Rows of F16 go by tensor cores where they stand
// on boundaries of 16 bytes (cuda/attention_rows_mma.cu).
#include "cuda/attention_block.h"
#include "cuda/attention_forms.h"

enum { THREADS = 128, WARPS = THREADS / WARP_LANES, ROWS = 16, KEYS = WARP_LANES, EACH = ROWS / WARPS };

// A warp's rows: maximum, sum and weighted values so far. DIMS: numbers of a value a lane.
template <int DIMS> struct state {
    float top[EACH], total[EACH], o[DIMS][EACH];
};

// Scores of the warp's rows and the lane's key become weights in `p` (EACH, KEYS); the state goes on.
template <int DIMS>
__device__ static void soften(const struct cuda_attention_rows &a, struct state<DIMS> &s, shared<float> p,
                              const float (&score)[EACH], const int64_t (&from)[EACH], int64_t row,
                              int64_t key, float slope)
{
    for (int i = 0; i < EACH; i++) {
        float through, x = shaped(a, score[i] * a.scale, slope, key - row - i, &through);
        if (key < from[i] || key > row + i) x = -INFINITY;
        const float now = fmaxf(s.top[i], warp_max(x)), base = now == -INFINITY ? 0 : now;
        const float weight = expf(x - base), rescale = expf(s.top[i] - base);
        s.total[i] = s.total[i] * rescale + warp_sum(weight);
        s.top[i] = now;
        for (int d = 0; d < DIMS; d++) s.o[d][i] *= rescale;
        p[i * KEYS + lane_id()] = weight;
    }
    __syncwarp();
}

template <class T, int DIMS>
__global__ void __launch_bounds__(THREADS) attention_rows_kernel(struct cuda_attention_rows a)
{
    SHARED_DYNAMIC(char, memory);
    SHARED(float, weights, ROWS *KEYS);
    const int32_t head = (int32_t)blockIdx.y, d = a.head_dim, d_v = a.value_dim;
    const int32_t kv_head = head / (a.heads / a.kv_heads), stride = (d > d_v ? d : d_v) + 1;
    const shared<float> q = shared_as<float>(memory), kv = q + ROWS * d,
                        p = weights + warp_id() * EACH * KEYS;
    const int64_t count = row_count(a.rows), first = (int64_t)blockIdx.x * ROWS,
                  row = first + warp_id() * EACH;
    if (first >= count) return;
    const int64_t last = first + ROWS < count ? first + ROWS : count;
    const float slope = a.slopes ? load(a.slopes + head) : 0,
                sink = a.sinks ? load(a.sinks + head) : -INFINITY;
    struct state<DIMS> s = {
    };
    int64_t from[EACH];
    for (int i = 0; i < EACH; i++) {
        from[i] = row + i < count ? first_seen(a, row + i) : INT64_MAX;
        s.top[i] = sink, s.total[i] = a.sinks ? 1.0f : 0.0f;
    }
    stage<ROWS>(q, d, (const T *)a.q + head * d, (int64_t)a.heads * d, first, count, d);
    for (int64_t tile = first_seen(a, first); tile < last; tile += KEYS) {
        stage<KEYS>(kv, stride, (const T *)a.k + kv_head * d, (int64_t)a.kv_heads * d, tile, count, d);
        __syncthreads();
        float score[EACH] = {};
        for (int32_t i = 0; i < d; i++) {
            const float k = kv[lane_id() * stride + i];
            for (int r = 0; r < EACH; r++) score[r] += q[(warp_id() * EACH + r) * d + i] * k;
        }
        soften(a, s, p, score, from, row, tile + lane_id(), slope);
        __syncthreads();
        stage<KEYS>(kv, stride, (const T *)a.v + kv_head * d_v, a.v_stride, tile, count, d_v);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < DIMS; i++)
            if (i * WARP_LANES + lane_id() < d_v)
                for (int key = 0; key < KEYS; key++) {
                    const float v = kv[key * stride + i * WARP_LANES + lane_id()];
                    for (int r = 0; r < EACH; r++) s.o[i][r] += p[r * KEYS + key] * v;
                }
        __syncthreads();
    }
    for (int r = 0; r < EACH && row + r < count; r++) {
        const int64_t at = (row + r) * a.heads + head;
#pragma unroll
        for (int i = 0; i < DIMS; i++)
            if (i * WARP_LANES + lane_id() < d_v)
                store(a.y + at * d_v + i * WARP_LANES + lane_id(), s.o[i][r] / s.total[r]);
        if (a.lse && lane_id() == 0) store(a.lse + at, s.top[r] + logf(s.total[r]));
    }
}

template <class T> static void launch(struct cuda_stream *s, const struct cuda_attention_rows *a)
{
    const dim3 grid((unsigned)ceil_div(a->rows.most, (int64_t)ROWS), (unsigned)a->heads);
    const int32_t widest = a->head_dim > a->value_dim ? a->head_dim : a->value_dim;
    const size_t bytes = sizeof(float) * (size_t)(ROWS * a->head_dim + KEYS * (widest + 1));
    if (a->value_dim <= 4 * WARP_LANES)
        CUDA_LAUNCH((attention_rows_kernel<T, 4>), grid, THREADS, bytes, s, *a);
    else
        CUDA_LAUNCH((attention_rows_kernel<T, CUDA_VALUE_MAX / WARP_LANES>), grid, THREADS, bytes, s, *a);
}

void cuda_attention_rows(struct cuda_stream *s, const struct cuda_attention_rows *a)
{
    TLM_ASSERT(a->head_dim <= CUDA_HEAD_MAX && a->value_dim <= CUDA_VALUE_MAX);
    TLM_ASSERT(a->type == DTYPE_F32 || a->type == DTYPE_F16);
    if (!a->rows.most) return;
    const bool latent = attention_rows_latent(a);
    if (!latent && attention_rows_wgmma(s, a)) return;
    if (!latent && attention_rows_mma_fits(a))
        attention_rows_mma(s, a);
    else if (a->type == DTYPE_F32)
        launch<float>(s, a);
    else
        launch<f16>(s, a);
}
