// cuda/matmul_mma.cu -- the product of many columns on tensor cores, bf16 in and f32 out: mma.sync m16n8k16.
//
// A block takes 128 rows of x and 128 outputs, eight warps 64 x 32 of them each. Panels of 32 steps of k come through a ring of three stages
// of shared memory by cp.async, two of them on their way while one is multiplied. The rows of a panel are 64 bytes: 16-byte piece c of
// row r stands at place c ^ (r / 2 % 4) of the row, so that the eight rows which ldmatrix reads at once lie in different banks.
#include "cuda/device.h"
#include "cuda/products.h"

enum { ROWS = 128, OUTPUTS = 128, DEPTH = 32, STAGES = 3, THREADS = 256 };
enum { WARP_ROWS = 64, WARP_OUTPUTS = 32, TILES_M = WARP_ROWS / 16, TILES_N = WARP_OUTPUTS / 8 };
enum { PANEL = 128 * DEPTH, PIECES = DEPTH / 8 }; // numbers of a panel; pieces of 16 bytes a row

// Where piece c of row r of a panel stands, in numbers.
__device__ static int piece_at(int row, int c)
{
    return row * DEPTH + (c ^ (row / 2 % 4)) * 8;
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

// Multiplies the warp's part of two panels.
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
            ldmatrix(both, w + piece_at(n0 + n * 8 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
            b[n][0] = both[0], b[n][1] = both[1], b[n + 1][0] = both[2], b[n + 1][1] = both[3];
        }
        for (int m = 0; m < TILES_M; m++)
            for (int n = 0; n < TILES_N; n++) mma(c[m][n], a[m], b[n], bf16());
    }
}

static __global__ void __launch_bounds__(THREADS)
    matmul_mma_kernel(float *y, const bf16 *x, struct cuda_matrix w, struct cuda_rows rows)
{
    SHARED_DYNAMIC(char, memory);
    const shared<bf16> panels = shared_as<bf16>(memory);
    const int64_t t0 = (int64_t)blockIdx.y * ROWS, n0 = (int64_t)blockIdx.x * OUTPUTS, k = w.inputs;
    const int64_t t_count = row_count(rows), n_count = w.outputs;
    if (t0 >= t_count) return;
    const int64_t steps = ceil_div(k, (int64_t)DEPTH);
    float c[TILES_M][TILES_N][4] = {};
    for (int64_t i = 0; i < steps + STAGES - 1; i++) {
        if (i < steps) {
            const shared<bf16> stage = panels + i % STAGES * 2 * PANEL;
            fetch(stage, x, (size_t)k, t0, t_count, i * DEPTH, k);
            fetch(stage + PANEL, (const bf16 *)w.codes, w.code_stride / sizeof(bf16), n0, n_count, i * DEPTH,
                  k);
        }
        copy_async_commit();
        if (i < STAGES - 1) continue;
        copy_async_wait<STAGES - 1>();
        __syncthreads();
        const shared<bf16> stage = panels + (i - (STAGES - 1)) % STAGES * 2 * PANEL;
        multiply(c, stage, stage + PANEL);
        __syncthreads();
    }
    const int64_t row = t0 + warp_id() / 4 * WARP_ROWS + lane_id() / 4;
    const int64_t column = n0 + warp_id() % 4 * WARP_OUTPUTS + lane_id() % 4 * 2;
    for (int m = 0; m < TILES_M; m++)
        for (int n = 0; n < TILES_N; n++)
            for (int i = 0; i < 4; i++) {
                const int64_t t = row + m * 16 + i / 2 * 8, o = column + n * 8 + i % 2;
                if (t < t_count && o < n_count) store(y + t * n_count + o, c[m][n][i]);
            }
}

void matmul_mma(struct cuda_stream *s, float *y, const bf16 *x, const struct cuda_matrix *w,
                struct cuda_rows rows)
{
    const dim3 grid((unsigned)ceil_div(w->outputs, (int64_t)OUTPUTS),
                    (unsigned)ceil_div(rows.most, (int64_t)ROWS));
    CUDA_LAUNCH(matmul_mma_kernel, grid, THREADS, STAGES * 2 * PANEL * sizeof(bf16), s, y, x, *w, rows);
}
