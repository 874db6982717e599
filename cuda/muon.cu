// cuda/muon.cu -- Muon's update of a matrix (train/muon.h has the formulas), in f32 as on the CPU: sums are chains in the same order.
//
// Products are those of cuda/matmul_tile.cu; what stands between them is bound by memory. Of a matrix that is taller than wide the transpose
// is worked on. Where the step is not taken the iterations run over what is there, and nothing is written: a recording has no branches.
#include "cuda/device.h"
#include "cuda/products.h"
#include "cuda/update.h"

enum { THREADS = 256, WARPS = THREADS / WARP_LANES };
static const double coefficient_a = 3.4445, coefficient_b = -4.7750, coefficient_c = 2.0315;

// A warp a row: the momentum goes on, u to `to`, and the sum of its squares as ops/update.h has it.
static __global__ void muon_momentum_kernel(struct update_matrix u, float *to)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + warp_id();
    if (row >= u.rows) return;
    const bool taken = load(&u.verdict->taken);
    const float factor = load(&u.verdict->factor);
    double sum = 0;
    for (int64_t i = row * u.cols + lane_id(); i < (row + 1) * u.cols; i += WARP_LANES) {
        const float scaled = load(u.gradient + i) * factor, old = load(u.momentum + i),
                    m = old + u.slow * (scaled - old), x = u.nesterov ? scaled + u.beta * (m - scaled) : m;
        if (taken) store(u.momentum + i, m);
        store(to + i, x);
        sum += (double)x * x;
    }
    for (int half = WARP_LANES / 2; half; half /= 2) sum += __shfl_down_sync(ALL_LANES, sum, half);
    if (lane_id() == 0) store(u.squares + row, sum);
}

// x *= 1 / ||u||, whose square is the sum over rows, in order.
static __global__ void muon_normalise_kernel(struct update_matrix u)
{
    SHARED(double, part, THREADS);
    const int64_t count = u.rows * u.cols;
    double sum = 0;
    for (int64_t first = 0; first < u.rows; first += THREADS) {
        const int64_t row = first + threadIdx.x;
        __syncthreads();
        part[threadIdx.x] = row < u.rows ? load(u.squares + row) : 0.0;
        __syncthreads();
        for (int i = 0; i < THREADS; i++) sum += part[i];
    }
    const float inverse = (float)(1 / (sqrt(sum) + 1e-7));
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * THREADS)
        store(u.x + i, load(u.x + i) * inverse);
}

// second = b square + c second
static __global__ void muon_combine_kernel(float *second, const float *square, int64_t count)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        store(second + i, (float)coefficient_b * load(square + i) + (float)coefficient_c * load(second + i));
}

static __global__ void muon_write_kernel(struct update_matrix u, const float *from)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= u.rows * u.cols || !load(&u.verdict->taken)) return;
    const struct update_numbers now = load(u.now);
    const double grown = u.rows > u.cols ? (double)u.rows / (double)u.cols : 1;
    const float step = (float)(now.rate * sqrt(grown));
    store(u.value + i, load(u.value + i) * now.keep - step * load(from + i));
}

// y (m, n) = base + left (m, k) right, which is (n, k), or (k, n) where there is a base
static struct cuda_product product(float *y, const float *left, const float *right, int64_t m, int64_t n,
                                   int64_t k, const float *base)
{
    struct cuda_product p = {};
    p.y = y, p.x = left, p.w = right, p.x_type = p.w_type = DTYPE_F32;
    p.x_stride = k, p.w_stride = base ? n : k;
    p.m = {NULL, m}, p.k = {NULL, k}, p.n = n;
    p.base = {base, NULL};
    return p;
}

static void iterate(struct cuda_stream *s, const struct update_matrix *u, float *y, const float *x)
{
    const int64_t r = u->rows < u->cols ? u->rows : u->cols, c = u->rows < u->cols ? u->cols : u->rows;
    const struct cuda_product square = product(u->square, x, x, r, r, c, NULL),
                              second = product(u->second, u->square, u->square, r, r, r, NULL),
                              next = product(y, u->second, x, r, c, r, y);
    matmul_tile_nt(s, &square);
    matmul_tile_nt(s, &second);
    CUDA_LAUNCH(muon_combine_kernel, blocks_for(r * r, THREADS), THREADS, 0, s, u->second, u->square, r * r);
    cuda_scale(s, y, x, {NULL, r}, c, coefficient_a);
    cuda_matmul_nn(s, &next);
}

void cuda_muon(struct cuda_stream *s, const struct update_matrix *u)
{
    const int64_t most = 512;
    const int64_t count = u->rows * u->cols, blocks = ceil_div(count, (int64_t)THREADS);
    const bool tall = u->rows > u->cols;
    float *x = u->x, *y = u->y;
    if (!count) return;
    CUDA_LAUNCH(muon_momentum_kernel, blocks_for(u->rows, WARPS), THREADS, 0, s, *u, tall ? y : x);
    if (tall) cuda_transpose(s, x, y, {NULL, u->rows}, u->cols);
    CUDA_LAUNCH(muon_normalise_kernel, dim3((unsigned)(blocks < most ? blocks : most)), THREADS, 0, s, *u);
    for (int i = 0; i < u->iterations; i++) {
        iterate(s, u, y, x);
        float *next = y;
        y = x, x = next;
    }
    if (tall) cuda_transpose(s, y, x, {NULL, u->cols}, u->rows);
    CUDA_LAUNCH(muon_write_kernel, dim3((unsigned)blocks), THREADS, 0, s, *u, tall ? y : x);
}
