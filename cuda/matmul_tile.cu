// cuda/matmul_tile.cu -- products of many rows without tensor cores, by tiles of 64 x 64: F32 and F16 weights, which keep every bit, and
// BF16 ones whose rows are not on boundaries of 16 bytes.
//
//     nt   y[m][n] = sum over k of x[m][k] w[n][k]          nn   y[m][n] = base + sum over k of x[m][k] w[k][n]
//                                                       turned   y[m][n] = base + sum over k of x[k][m] w[k][n]
//
// A block of 256 threads takes a tile, a thread 4 x 4 of it. Panels of 16 steps of k stand in shared memory, k by k, so that a thread
// reads its four numbers of either at once. An output is one chain of fused multiply-adds in the order of k from 0 or base, as on the CPU.
#include "cuda/groups.h"
#include "cuda/products.h"

enum { TILE = 64, DEPTH = 16, THREADS = 256, EACH = 4, STRIDE = TILE + 4 };

__device__ static vec<float, EACH> four(shared<float> panel, int at)
{
    return shared_as<vec<float, EACH>>(panel + at)[0];
}

// Rows first .. first + TILE of a matrix (count, k) into a panel, turned round.
template <class T>
__device__ static void fetch_rows(shared<float> panel, const T *from, int64_t stride, int64_t first,
                                  int64_t count, int64_t k0, int64_t k)
{
    for (int i = (int)threadIdx.x; i < TILE * DEPTH; i += THREADS) {
        const int row = i / DEPTH, step = i % DEPTH;
        const bool there = first + row < count && k0 + step < k;
        panel[step * STRIDE + row] = there ? to_f32(load(from + (first + row) * stride + k0 + step)) : 0;
    }
}

// Columns first .. first + TILE of a matrix (k, count)
template <class T>
__device__ static void fetch_columns(shared<float> panel, const T *from, int64_t stride, int64_t first,
                                     int64_t count, int64_t k0, int64_t k)
{
    for (int i = (int)threadIdx.x; i < TILE * DEPTH; i += THREADS) {
        const int step = i / TILE, column = i % TILE;
        const bool there = first + column < count && k0 + step < k;
        panel[step * STRIDE + column] =
            there ? to_f32(load(from + (k0 + step) * stride + first + column)) : 0;
    }
}

template <class X, class W, bool NN>
__global__ void __launch_bounds__(THREADS) matmul_tile_kernel(struct cuda_product p)
{
    SHARED(float, xs, DEPTH *STRIDE);
    SHARED(float, ws, DEPTH *STRIDE);
    const struct product_part q = part_of(p, blockIdx.z);
    const X *x = (const X *)p.x + q.x;
    const W *w = (const W *)p.w + q.w;
    float *y = p.y + q.y;
    const bool based = has_base(p.base);
    const int64_t m_count = q.rows, k_count = q.k_end;
    const int64_t m0 = (int64_t)blockIdx.y * TILE, n0 = (int64_t)blockIdx.x * TILE;
    const int m = (int)threadIdx.x / 16 * EACH, n = (int)threadIdx.x % 16 * EACH;
    if (m0 >= m_count) return;
    const bool has_outputs = m0 + m < m_count && n0 + n < p.n;
    float sum[EACH][EACH] = {};
    for (int i = 0; based && i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            if (m0 + m + i < m_count && n0 + n + j < p.n)
                sum[i][j] = load(p.base.from + q.y + (m0 + m + i) * q.y_stride + n0 + n + j);
    for (int64_t k0 = q.k_begin; k0 < k_count; k0 += DEPTH) {
        if (NN && p.turned)
            fetch_columns(xs, x, p.x_stride, m0, m_count, k0, k_count);
        else
            fetch_rows(xs, x, p.x_stride, m0, m_count, k0, k_count);
        if constexpr (NN)
            fetch_columns(ws, w, p.w_stride, n0, p.n, k0, k_count);
        else
            fetch_rows(ws, w, p.w_stride, n0, p.n, k0, k_count);
        __syncthreads();
        for (int k = 0; k < DEPTH && has_outputs; k++) {
            const vec<float, EACH> a = four(xs, k * STRIDE + m), b = four(ws, k * STRIDE + n);
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) sum[i][j] = fmaf(a.x[i], b.x[j], sum[i][j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            if (m0 + m + i < m_count && n0 + n + j < p.n)
                store(y + (m0 + m + i) * q.y_stride + n0 + n + j, sum[i][j]);
}

template <bool NN> static void launch(struct cuda_stream *s, const struct cuda_product *p)
{
    const dim3 grid((unsigned)ceil_div(p->n, (int64_t)TILE), (unsigned)ceil_div(p->m.most, (int64_t)TILE),
                    (unsigned)(p->groups.count ? p->groups.count : 1));
    if (p->w_type == DTYPE_F32)
        CUDA_LAUNCH((matmul_tile_kernel<float, float, NN>), grid, THREADS, 0, s, *p);
    else if (p->w_type == DTYPE_F16)
        CUDA_LAUNCH((matmul_tile_kernel<float, f16, NN>), grid, THREADS, 0, s, *p);
    else
        CUDA_LAUNCH((matmul_tile_kernel<bf16, bf16, NN>), grid, THREADS, 0, s, *p);
}

void matmul_tile_nt(struct cuda_stream *s, const struct cuda_product *p)
{
    launch<false>(s, p);
}

// Matrices of a group begin on boundaries, too.
static bool on_boundaries(const void *p, int64_t stride, int64_t step)
{
    return stride % 8 == 0 && step % 8 == 0 && aligned_to(p, 16);
}

void cuda_matmul_nn(struct cuda_stream *s, const struct cuda_product *p)
{
    TLM_ASSERT(p->x_type == (p->w_type == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32));
    if (!p->m.most || !p->n) return;
    if (p->w_type == DTYPE_BF16 && on_boundaries(p->x, p->x_stride, p->groups.x_step) &&
        on_boundaries(p->w, p->w_stride, p->groups.w_step))
        matmul_mma_nn(s, p);
    else
        launch<true>(s, p);
}
