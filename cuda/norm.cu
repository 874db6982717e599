// cuda/norm.cu -- RMSNorm and LayerNorm of each `group` columns (ops/rmsnorm.c and ops/layernorm.c have the formulas).
//
// A block takes a group: a warp's worth of threads for the heads of queries and keys, 256 for whole rows. Numbers are read by 16 bytes
// where rows stand on such boundaries; the second and third reading come from the first-level cache.
#include "cuda/device.h"
#include "cuda/narrow.h"

enum { SMALL = 32, LARGE = 256, SMALL_COLUMNS = 512 };

struct norm {
    void *y;
    const float *x, *w, *b; // b may be NULL
    struct cuda_rows rows;
    int64_t groups, group, weights; // of a row; columns; groups that have weights of their own
    float eps;
};

// Calls f(column, numbers x) for the columns of this thread.
template <int N, class F> __device__ static void each(const float *x, int64_t cols, F f)
{
    for (int64_t i = (int64_t)threadIdx.x * N; i < cols; i += (int64_t)blockDim.x * N)
        f(i, load((const vec<float, N> *)(x + i)));
}

template <int N, bool CENTRED, class T> __global__ void norm_kernel(struct norm n)
{
    SHARED(float, part, LARGE / WARP_LANES);
    const int64_t at = blockIdx.x;
    if (at >= row_count(n.rows) * n.groups) return;
    const float *x = n.x + at * n.group, *w = n.w + at % n.weights * n.group;
    const float *b = n.b ? n.b + at % n.weights * n.group : NULL;
    float mean = 0, squares = 0;
    if (CENTRED) {
        each<N>(x, n.group, [&](int64_t, vec<float, N> v) {
            for (int i = 0; i < N; i++) mean += v.x[i];
        });
        mean = block_sum(mean, part) / (float)n.group;
    }
    each<N>(x, n.group, [&](int64_t, vec<float, N> v) {
        for (int i = 0; i < N; i++) squares += (v.x[i] - mean) * (v.x[i] - mean);
    });
    const float r = 1 / sqrtf(block_sum(squares, part) / (float)n.group + n.eps);
    T *y = (T *)n.y + at * n.group;
    each<N>(x, n.group, [&](int64_t column, vec<float, N> v) {
        const vec<float, N> scale = load((const vec<float, N> *)(w + column));
        vec<float, N> shift = {};
        if (b) shift = load((const vec<float, N> *)(b + column));
        vec<T, N> to;
        for (int i = 0; i < N; i++) from_f32(&to.x[i], (v.x[i] - mean) * r * scale.x[i] + shift.x[i]);
        store((vec<T, N> *)(y + column), to);
    });
}

template <bool CENTRED, class T> static void norm(struct cuda_stream *s, struct norm n)
{
    const int64_t groups = n.rows.most * n.groups;
    const int threads = n.group <= SMALL_COLUMNS ? SMALL : LARGE;
    if (!groups) return;
    if (n.group % 4 == 0 && aligned_to(n.y, 16) && aligned_to(n.x, 16) && aligned_to(n.w, 16) &&
        aligned_to(n.b, 16))
        CUDA_LAUNCH((norm_kernel<4, CENTRED, T>), blocks_for(groups, 1), threads, 0, s, n);
    else
        CUDA_LAUNCH((norm_kernel<1, CENTRED, T>), blocks_for(groups, 1), threads, 0, s, n);
}

template <bool CENTRED> static void norm_to(struct cuda_stream *s, enum dtype type, struct norm n)
{
    if (type == DTYPE_BF16)
        norm<CENTRED, bf16>(s, n);
    else if (type == DTYPE_F16)
        norm<CENTRED, f16>(s, n);
    else
        norm<CENTRED, float>(s, n);
}

void cuda_rmsnorm_to(struct cuda_stream *s, void *y, enum dtype type, const float *x, const float *w,
                     struct cuda_rows rows, int64_t cols, int64_t group, int64_t weights, double eps)
{
    norm_to<false>(s, type, {y, x, w, NULL, rows, cols / group, group, weights, (float)eps});
}

void cuda_layernorm_to(struct cuda_stream *s, void *y, enum dtype type, const float *x, const float *w,
                       const float *b, struct cuda_rows rows, int64_t cols, int64_t group, int64_t weights,
                       double eps)
{
    norm_to<true>(s, type, {y, x, w, b, rows, cols / group, group, weights, (float)eps});
}

void cuda_rmsnorm(struct cuda_stream *s, float *y, const float *x, const float *w, struct cuda_rows rows,
                  int64_t cols, int64_t group, int64_t weights, double eps)
{
    cuda_rmsnorm_to(s, y, DTYPE_F32, x, w, rows, cols, group, weights, eps);
}

void cuda_layernorm(struct cuda_stream *s, float *y, const float *x, const float *w, const float *b,
                    struct cuda_rows rows, int64_t cols, int64_t group, int64_t weights, double eps)
{
    cuda_layernorm_to(s, y, DTYPE_F32, x, w, b, rows, cols, group, weights, eps);
}
