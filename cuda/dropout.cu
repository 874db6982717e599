// cuda/dropout.cu -- dropout by a counter (ops/dropout.c): the draws of core/rng.h, so what the CPU drops is dropped here.
//
// A thread takes four numbers, which are a block of the counter; rows begin with a block of their own.
#include "cuda/device.h"

enum { THREADS = 256, DRAWS = 4 };

// Philox 4x32, ten rounds
__device__ static vec<uint32_t, DRAWS> draw(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32), k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return {{c0, c1, c2, c3}};
}

static __global__ void dropout_kernel(float *y, const float *x, const uint32_t *seed, struct cuda_rows rows,
                                      int64_t cols, uint64_t stream, uint32_t limit, float factor)
{
    const int64_t blocks = ceil_div(cols, (int64_t)DRAWS), i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= row_count(rows) * blocks) return;
    const uint64_t key = (uint64_t)load(seed + 1) << 32 | load(seed);
    const vec<uint32_t, DRAWS> drawn = draw(key, stream, (uint64_t)i);
    const int64_t first = i % blocks * DRAWS, row = i / blocks * cols;
    for (int j = 0; j < DRAWS && first + j < cols; j++)
        store(y + row + first + j, drawn.x[j] < limit ? 0 : load(x + row + first + j) * factor);
}

void cuda_dropout(struct cuda_stream *s, float *y, const float *x, const uint32_t *seed,
                  struct cuda_rows rows, int64_t cols, uint64_t stream, double rate)
{
    const int64_t blocks = rows.most * ceil_div(cols, (int64_t)DRAWS);
    if (blocks)
        CUDA_LAUNCH(dropout_kernel, blocks_for(blocks, THREADS), THREADS, 0, s, y, x, seed, rows, cols,
                    stream, (uint32_t)(rate * 0x1p32), (float)(1 / (1 - rate)));
}
