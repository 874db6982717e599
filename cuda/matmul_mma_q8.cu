// cuda/matmul_mma_q8.cu -- products of quantized weights with many columns, on tensor cores over codes of 8 bits: mma.sync m16n8k32.
//
// A block takes 64 rows of x and 64 outputs, four warps 32 x 32 of them each, and walks k by 256 numbers. Weights are decoded once a block
// (cuda/decode.h) to codes in shared memory, with a scale and a minimum for each 16 of them; activations come as they are, with their sum
// for each 16. 32 numbers have two scales, so a fragment of weights is multiplied half by half, the other half zero. Sums are those of
// cuda/matmul_quantized.cu, in another order. Rows of shared memory are 272 bytes, so that eight of them lie in different banks.
#include "cuda/decode.h"
#include "cuda/groups.h"
#include "cuda/products.h"

constexpr int ROWS = 64, OUTPUTS = 64, CHUNK = 256, THREADS = 128, TILES_M = 2, TILES_N = 4;
constexpr int STRIDE = CHUNK + 16, WORDS = STRIDE / 4; // of a row of codes, in bytes and words
constexpr int HALVES = CHUNK / 16, BLOCKS = CHUNK / 32;
constexpr size_t SHARED_BYTES = (size_t)(ROWS + OUTPUTS) * STRIDE +
                                sizeof(float) * (2 * OUTPUTS * HALVES + ROWS * BLOCKS + ROWS * HALVES);

struct panels {
    shared<int> x, w;         // (64, WORDS): four codes a word
    shared<float> scale, min; // (OUTPUTS, HALVES)
    shared<float> x_scale;    // (ROWS, BLOCKS)
    shared<int> x_sum;        // (ROWS, HALVES)
};

__device__ static struct panels panels_at(shared<char> memory)
{
    struct panels p = {shared_as<int>(memory),
                       shared_as<int>(memory + ROWS * STRIDE),
                       shared_as<float>(memory + (ROWS + OUTPUTS) * STRIDE),
                       {},
                       {},
                       {}};
    p.min = p.scale + OUTPUTS * HALVES;
    p.x_scale = p.min + OUTPUTS * HALVES;
    p.x_sum = shared_as<int>(p.x_scale + ROWS * BLOCKS);
    return p;
}

__device__ static void fetch_x(const struct panels &p, const struct cuda_q8 &x, const struct group &group,
                               int64_t t0, int64_t k0, int64_t k)
{
    for (int i = (int)threadIdx.x; i < ROWS * HALVES; i += THREADS) {
        const int row = i / HALVES, h = i % HALVES;
        const bool there = t0 + row < group.rows && k0 + h * 16 < k;
        const int64_t at = group.x + (t0 + row) * group.x_stride + k0 + h * 16;
        vec<int, 4> codes = {};
        int sum = 0;
        if (there) codes = load((const vec<int, 4> *)(x.codes + at));
        for (int j = 0; j < 4; j++) {
            p.x[row * WORDS + h * 4 + j] = codes.x[j];
            sum = __dp4a(codes.x[j], 0x01010101, sum);
        }
        p.x_sum[i] = sum;
        if (h % 2 == 0) p.x_scale[row * BLOCKS + h / 2] = there ? load(x.scales + at / 32) : 0;
    }
}

template <class F>
__device__ static void fetch_w(const struct panels &p, const struct cuda_matrix &w, const struct group &group,
                               int64_t n0, int64_t k0)
{
    for (int i = (int)threadIdx.x; i < OUTPUTS * BLOCKS; i += THREADS) {
        const int n = i / BLOCKS;
        const int64_t item = k0 / 32 + i % BLOCKS;
        struct half_item half[2] = {};
        if (n0 + n < w.outputs && item < w.inputs / 32)
            F::decode(half, group.codes + (n0 + n) * (int64_t)w.code_stride,
                      group.scales + (n0 + n) * (int64_t)w.scale_stride, item);
        else // zeros, in the places that nobody else fills
            for (int h = 0; h < 2; h++) half[h].at = (int32_t)item * 32 + h * 16;
        for (int h = 0; h < 2; h++) {
            const int at = half[h].at - (int)k0;
            for (int j = 0; j < 4; j++) p.w[n * WORDS + at / 4 + j] = half[h].code[j];
            p.scale[n * HALVES + at / 16] = half[h].scale;
            p.min[n * HALVES + at / 16] = half[h].min;
        }
    }
}

// Adds the part of 32 numbers, block b of the chunk, to one tile of 16 x 8; row and column of its first number.
__device__ static void multiply(float (&c)[4], const struct panels &p, const uint32_t (&a)[4], int row,
                                int column, int b)
{
    const int g = lane_id() / 4, t = lane_id() % 4, word = (column + g) * WORDS + b * 8 + t;
    const uint32_t first[2] = {(uint32_t)(int)p.w[word], 0}, second[2] = {0, (uint32_t)(int)p.w[word + 4]};
    int low[4] = {}, high[4] = {};
    mma(low, a, first);
    mma(high, a, second);
    for (int i = 0; i < 4; i++) {
        const int r = row + g + i / 2 * 8, s = (column + 2 * t + i % 2) * HALVES + 2 * b,
                  h = r * HALVES + 2 * b;
        const float dot = p.scale[s] * (float)low[i] + p.scale[s + 1] * (float)high[i];
        const float less = p.min[s] * (float)(int)p.x_sum[h] + p.min[s + 1] * (float)(int)p.x_sum[h + 1];
        c[i] += p.x_scale[r * BLOCKS + b] * (dot - less);
    }
}

// Rows t0 .. of a group's.
template <class F>
__device__ static void multiply_tile(float *y, const struct cuda_q8 &x, const struct cuda_matrix &w,
                                     const struct group &group, const struct panels &p, int64_t t0)
{
    const int64_t n0 = (int64_t)blockIdx.x * OUTPUTS;
    const int row = warp_id() % 2 * 32, column = warp_id() / 2 * 32, g = lane_id() / 4, t = lane_id() % 4;
    float c[TILES_M][TILES_N][4] = {};
    for (int64_t k0 = 0; k0 < w.inputs; k0 += CHUNK) {
        fetch_x(p, x, group, t0, k0, w.inputs);
        fetch_w<F>(p, w, group, n0, k0);
        __syncthreads();
        // Sums stay in registers where the loops over tiles are unrolled, and the loop over blocks is not.
#pragma unroll 1
        for (int b = 0; b < BLOCKS; b++)
#pragma unroll
            for (int m = 0; m < TILES_M; m++) {
                const int at = (row + m * 16 + g) * WORDS + b * 8 + t;
                const uint32_t a[4] = {(uint32_t)(int)p.x[at], (uint32_t)(int)p.x[at + 8 * WORDS],
                                       (uint32_t)(int)p.x[at + 4], (uint32_t)(int)p.x[at + 8 * WORDS + 4]};
#pragma unroll
                for (int n = 0; n < TILES_N; n++) multiply(c[m][n], p, a, row + m * 16, column + n * 8, b);
            }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < TILES_M; m++)
#pragma unroll
        for (int n = 0; n < TILES_N; n++)
            for (int i = 0; i < 4; i++) {
                const int64_t to = t0 + row + m * 16 + g + i / 2 * 8, o = n0 + column + n * 8 + 2 * t + i % 2;
                if (to < group.rows && o < w.outputs)
                    store(y + group.y + to * group.y_stride + o, c[m][n][i]);
            }
}

template <class F>
__global__ void __launch_bounds__(THREADS)
    matmul_mma_q8_kernel(float *y, struct cuda_q8 x, struct cuda_matrix w, struct cuda_rows rows,
                         struct cuda_groups groups)
{
    SHARED_DYNAMIC(char, memory);
    const struct panels p = panels_at(memory);
    const struct group group = group_of(w, rows, groups);
    for (int64_t t0 = (int64_t)blockIdx.y * ROWS; t0 < group.rows; t0 += gridDim.y * ROWS)
        multiply_tile<F>(y, x, w, group, p, t0);
}

void matmul_mma_q8(struct cuda_stream *s, float *y, struct cuda_q8 x, const struct cuda_matrix *w,
                   struct cuda_rows rows, struct cuda_groups groups)
{
    const dim3 grid((unsigned)ceil_div(w->outputs, (int64_t)OUTPUTS), tiles_for(rows, groups, ROWS),
                    (unsigned)groups.count);
    switch (w->type) {
#define PRODUCT(name)                                                                                    \
    case DTYPE_##name:                                                                                   \
        CUDA_LAUNCH(matmul_mma_q8_kernel<decode_##name>, grid, THREADS, SHARED_BYTES, s, y, x, *w, rows, \
                    groups);                                                                             \
        return;
        CUDA_QUANTIZED(PRODUCT)
    default: TLM_ASSERT(!"a quantized type with kernels");
    }
}
