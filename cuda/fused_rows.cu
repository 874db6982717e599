// cuda/fused_rows.cu -- what stands between products, where neither of them can take it: norms behind a product, and what is done to heads.
#include "cuda/fused_heads.h"

using namespace fused;

// ---- y = base + factor * norm(x) ----------------------------------------------------------------------------

enum { SMALL = 32, LARGE = 256, SMALL_COLUMNS = 512 }; // as in cuda/norm.cu, whose bits these are

template <int N> __device__ static float sum_of(const float *x, int64_t cols, float mean, bool square)
{
    float sum = 0;
    for (int64_t i = (int64_t)threadIdx.x * N; i < cols; i += (int64_t)blockDim.x * N) {
        const vec<float, N> v = load((const vec<float, N> *)(x + i));
        for (int j = 0; j < N; j++) sum += square ? (v.x[j] - mean) * (v.x[j] - mean) : v.x[j];
    }
    return sum;
}

// A block a row.
template <int N> __global__ void norm_add_kernel(struct cuda_fused_norm_add d)
{
    SHARED(float, part, LARGE / WARP_LANES);
    const int64_t row = blockIdx.x, cols = d.cols;
    wait_for_previous();
    let_next_begin();
    if (row >= row_count(d.rows)) return;
    const float *x = d.x + row * cols, *base = d.base + row * cols;
    float mean = 0;
    if (d.norm == FUSED_LAYERNORM) mean = block_sum(sum_of<N>(x, cols, 0, false), part) / (float)cols;
    const float r = 1 / sqrtf(block_sum(sum_of<N>(x, cols, mean, true), part) / (float)cols + d.eps);
    for (int64_t i = (int64_t)threadIdx.x * N; i < cols; i += (int64_t)blockDim.x * N) {
        vec<float, N> v = load((const vec<float, N> *)(x + i));
        const vec<float, N> w = load((const vec<float, N> *)(d.w + i));
        const vec<float, N> to = load((const vec<float, N> *)(base + i));
        vec<float, N> b = {};
        if (d.b) b = load((const vec<float, N> *)(d.b + i));
        for (int j = 0; j < N; j++) v.x[j] = to.x[j] + d.factor * ((v.x[j] - mean) * r * w.x[j] + b.x[j]);
        store((vec<float, N> *)(d.y + row * cols + i), v);
    }
}

void cuda_fused_norm_add(struct cuda_stream *s, const struct cuda_fused_norm_add *p)
{
    const int threads = p->cols <= SMALL_COLUMNS ? SMALL : LARGE;
    const bool wide = p->cols % 4 == 0 && aligned_to(p->y, 16) && aligned_to(p->x, 16) &&
                      aligned_to(p->base, 16) && aligned_to(p->w, 16) && aligned_to(p->b, 16);
    if (!p->rows.most) return;
    if (wide)
        CUDA_LAUNCH_EARLY(norm_add_kernel<4>, blocks_for(p->rows.most, 1), threads, 0, s, *p);
    else
        CUDA_LAUNCH_EARLY(norm_add_kernel<1>, blocks_for(p->rows.most, 1), threads, 0, s, *p);
}

// ---- heads --------------------------------------------------------------------------------------------------

constexpr int WARPS = 4;

// Each block's share, and of it each thread's pieces
__device__ static void bring(const struct cuda_fused_ahead &a)
{
    constexpr int64_t PIECE = 8192;
    const int64_t each = ceil_div(ceil_div(a.bytes, (int64_t)gridDim.x), PIECE) * PIECE;
    const int64_t begin = blockIdx.x * each, end = begin + each < a.bytes ? begin + each : a.bytes;
    for (int64_t at = begin + threadIdx.x * PIECE; at < end; at += blockDim.x * PIECE)
        prefetch((const char *)a.from + at, (unsigned)(end - at < PIECE ? end - at : PIECE));
}

// A warp a head.
static __global__ void heads_kernel(struct cuda_fused_heads d)
{
    SHARED(float, memory, WARPS *(int)FUSED_HEAD);
    const int per_row = d.kind[0].heads + d.kind[1].heads + d.kind[2].heads;
    const int64_t number = (int64_t)blockIdx.x * WARPS + warp_id(), row = number / per_row;
    const shared<float> x = memory + warp_id() * FUSED_HEAD;
    int head = (int)(number % per_row), kind = 0;
    for (int i = 0; i < 2; i++)
        if (d.ahead[i].from) bring(d.ahead[i]);
    wait_for_previous();
    let_next_begin();
    if (row >= row_count(d.rows)) return;
    while (head >= d.kind[kind].heads) head -= d.kind[kind++].heads;
    const struct cuda_fused_head &h = d.kind[kind];
    take_head(h, row, head, x);
    if (h.pairs) turn_head(d, h, row, x);
    if (h.y) {
        put_head(h.y + (row * h.heads + head) * h.dim, x, h.dim);
        return;
    }
    put_cached(h, load(d.slots + row), head, x);
}

void cuda_fused_heads(struct cuda_stream *s, const struct cuda_fused_heads *p)
{
    const int64_t heads = p->kind[0].heads + p->kind[1].heads + p->kind[2].heads;
    if (p->rows.most > 0)
        CUDA_LAUNCH_EARLY(heads_kernel, blocks_for(p->rows.most * heads, WARPS), WARPS * WARP_LANES, 0, s,
                          *p);
}
