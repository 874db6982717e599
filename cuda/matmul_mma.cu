// cuda/matmul_mma.cu -- the product of many columns on tensor cores, bf16 in and f32 out: mma.sync m16n8k16.
//
// A block takes 128 rows of x and 128 outputs, eight warps 64 x 32 of them each. Panels of 32 steps of k come through a ring of three stages
// of shared memory by cp.async, two of them on their way while one is multiplied. The rows of a panel are 64 bytes: 16-byte piece c of
// row r stands at place c ^ (r / 2 % 4) of the row, so that the eight rows which ldmatrix reads at once lie in different banks.
//
// Gradients have weights of which k is the row (nn): a panel of them is 32 rows of 256 bytes, piece c of row r at place c ^ (r % 8), and
// ldmatrix turns the fragments round. Where a product has few outputs and a long k, that is cut into parts (blockIdx.z).
#include "cuda/device.h"
#include "cuda/products.h"

enum { ROWS = 128, OUTPUTS = 128, DEPTH = 32, STAGES = 3, THREADS = 256 };
enum { WARP_ROWS = 64, WARP_OUTPUTS = 32, TILES_M = WARP_ROWS / 16, TILES_N = WARP_OUTPUTS / 8 };
enum {
    PANEL = 128 * DEPTH,
    PIECES = DEPTH / 8,
    WIDE_PIECES = OUTPUTS / 8
}; // numbers of a panel; pieces of 16 bytes a row

// Where piece c of row r of a panel stands, in numbers.
__device__ static int piece_at(int row, int c)
{
    return row * DEPTH + (c ^ (row / 2 % 4)) * 8;
}

__device__ static int wide_piece_at(int row, int c)
{
    return row * OUTPUTS + (c ^ row % 8) * 8;
}

// Issues the copies of rows first .. first + 128 of `from` (count, k), columns k0 .. k0 + DEPTH; what is not there becomes zero.
__device__ static void fetch(shared<bf16> panel, const bf16 *from, size_t stride, int64_t first,
                             int64_t count, int64_t k0, int64_t k)
{
    for (int i = (int)threadIdx.x; i < 128 * PIECES; i += THREADS) {
        const int row = i / PIECES, c = i % PIECES;
        const bool there = first + row < count && k0 + c * 8 < k;
        const bf16 *piece = there ? from + (size_t)(first + row) * stride + k0 + c * 8 : from;
        copy_async16(panel + piece_at(row, c), piece, there);
    }
}

// The same of rows k0 .. k0 + DEPTH of `from` (k, count), columns first .. first + OUTPUTS.
__device__ static void fetch_wide(shared<bf16> panel, const bf16 *from, size_t stride, int64_t first,
                                  int64_t count, int64_t k0, int64_t k)
{
    for (int i = (int)threadIdx.x; i < (int)DEPTH * (int)WIDE_PIECES; i += THREADS) {
        const int row = i / WIDE_PIECES, c = i % WIDE_PIECES;
        const bool there = k0 + row < k && first + c * 8 < count;
        const bf16 *piece = there ? from + (size_t)(k0 + row) * stride + first + c * 8 : from;
        copy_async16(panel + wide_piece_at(row, c), piece, there);
    }
}

// Multiplies the warp's part of two panels.
template <bool NN>
__device__ static void multiply(float (&c)[TILES_M][TILES_N][4], shared<bf16> x, shared<bf16> w)
{
    const int lane = lane_id(), m0 = warp_id() / 4 * WARP_ROWS, n0 = warp_id() % 4 * WARP_OUTPUTS;
    for (int step = 0; step < DEPTH / 16; step++) {
        uint32_t a[TILES_M][4], b[TILES_N][2];
        // Matrices of an A fragment: rows 0-7 and 8-15 of the first eight steps of k, then of the next eight.
        for (int m = 0; m < TILES_M; m++)
            ldmatrix(a[m], x + piece_at(m0 + m * 16 + lane % 16, step * 2 + lane / 16));
        // Two B fragments at once: outputs 0-7 of both halves of k, then outputs 8-15.
        for (int n = 0; n < TILES_N; n += 2) {
            uint32_t both[4];
            if constexpr (NN)
                ldmatrix_transposed(both, w + wide_piece_at(step * 16 + lane % 16, n0 / 8 + n + lane / 16));
            else
                ldmatrix(both, w + piece_at(n0 + n * 8 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
            b[n][0] = both[0], b[n][1] = both[1], b[n + 1][0] = both[2], b[n + 1][1] = both[3];
        }
        for (int m = 0; m < TILES_M; m++)
            for (int n = 0; n < TILES_N; n++) mma(c[m][n], a[m], b[n], bf16());
    }
}

template <bool NN> __global__ void __launch_bounds__(THREADS) matmul_mma_kernel(struct cuda_product p)
{
    SHARED_DYNAMIC(char, memory);
    const shared<bf16> panels = shared_as<bf16>(memory);
    const int64_t t0 = (int64_t)blockIdx.y * ROWS, n0 = (int64_t)blockIdx.x * OUTPUTS;
    const int64_t t_count = row_count(p.m), n_count = p.n, all = row_count(p.k);
    if (t0 >= t_count) return;
    const int64_t each = ceil_div(ceil_div(p.k.most, (int64_t)DEPTH), (int64_t)gridDim.z) * DEPTH;
    const int64_t k0 = blockIdx.z * each, k = k0 + each < all ? k0 + each : all; // of this part
    const int64_t steps = k > k0 ? ceil_div(k - k0, (int64_t)DEPTH) : 0;
    float c[TILES_M][TILES_N][4] = {};
    for (int64_t i = 0; i < steps + STAGES - 1; i++) {
        if (i < steps) {
            const shared<bf16> stage = panels + i % STAGES * 2 * PANEL;
            fetch(stage, (const bf16 *)p.x, (size_t)p.x_stride, t0, t_count, k0 + i * DEPTH, k);
            if constexpr (NN)
                fetch_wide(stage + PANEL, (const bf16 *)p.w, (size_t)p.w_stride, n0, n_count, k0 + i * DEPTH,
                           k);
            else
                fetch(stage + PANEL, (const bf16 *)p.w, (size_t)p.w_stride, n0, n_count, k0 + i * DEPTH, k);
        }
        copy_async_commit();
        if (i < STAGES - 1) continue;
        copy_async_wait<STAGES - 1>();
        __syncthreads();
        const shared<bf16> stage = panels + (i - (STAGES - 1)) % STAGES * 2 * PANEL;
        multiply<NN>(c, stage, stage + PANEL);
        __syncthreads();
    }
    const bool based = has_base(p.base);
    float *y = p.y + blockIdx.z * p.m.most * n_count; // of this part
    const int64_t row = t0 + warp_id() / 4 * WARP_ROWS + lane_id() / 4;
    const int64_t column = n0 + warp_id() % 4 * WARP_OUTPUTS + lane_id() % 4 * 2;
#pragma unroll // c is registers
    for (int m = 0; m < TILES_M; m++)
#pragma unroll
        for (int n = 0; n < TILES_N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int64_t t = row + m * 16 + i / 2 * 8, o = column + n * 8 + i % 2;
                if (t >= t_count || o >= n_count) continue;
                const int64_t at = t * n_count + o;
                store(y + at, based ? load(p.base.from + at) + c[m][n][i] : c[m][n][i]);
            }
}

// The parts in order.
static __global__ void add_parts_kernel(struct cuda_product p, int64_t parts)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= row_count(p.m) * p.n) return;
    float sum = has_base(p.base) ? load(p.base.from + i) : 0;
    for (int64_t part = 0; part < parts; part++) sum += load(p.parts + part * p.m.most * p.n + i);
    store(p.y + i, sum);
}

template <bool NN> static void launch(struct cuda_stream *s, const struct cuda_product *p, int64_t parts)
{
    if (matmul_wgmma(s, p, NN, parts)) return;
    const dim3 grid((unsigned)ceil_div(p->n, (int64_t)OUTPUTS), (unsigned)ceil_div(p->m.most, (int64_t)ROWS),
                    (unsigned)parts);
    CUDA_LAUNCH(matmul_mma_kernel<NN>, grid, THREADS, STAGES * 2 * PANEL * sizeof(bf16), s, *p);
}

void matmul_mma(struct cuda_stream *s, float *y, const bf16 *x, const struct cuda_matrix *w,
                struct cuda_rows rows)
{
    struct cuda_product p = {};
    p.y = y, p.x = x, p.w = w->codes;
    p.x_type = p.w_type = DTYPE_BF16;
    p.x_stride = w->inputs, p.w_stride = (int64_t)(w->code_stride / sizeof(bf16));
    p.m = rows, p.k = {NULL, w->inputs}, p.n = w->outputs;
    launch<false>(s, &p, 1);
}

void matmul_mma_nn(struct cuda_stream *s, const struct cuda_product *p)
{
    const int64_t parts = cuda_product_parts(DTYPE_BF16, p->m.most, p->n, p->k.most);
    struct cuda_product part = *p;
    if (parts > 1) part.y = p->parts, part.base = {NULL, NULL};
    launch<true>(s, &part, parts);
    if (parts > 1)
        CUDA_LAUNCH(add_parts_kernel, blocks_for(p->m.most * p->n, THREADS), THREADS, 0, s, *p, parts);
}
