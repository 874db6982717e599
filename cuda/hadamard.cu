// cuda/hadamard.cu -- blocks of numbers times a Hadamard matrix (ops/hadamard.c): a block of threads each, in shared memory.
#include "cuda/device.h"

enum { THREADS = 128 };

static __global__ void hadamard_kernel(float *y, const float *x, struct cuda_rows rows, int64_t cols,
                                       int32_t block)
{
    SHARED_DYNAMIC(char, memory);
    const shared<float> b = shared_as<float>(memory);
    const int64_t at = (int64_t)blockIdx.x * block;
    if (at >= row_count(rows) * cols) return;
    for (int32_t i = (int32_t)threadIdx.x; i < block; i += THREADS) b[i] = load(x + at + i);
    for (int32_t half = 1; half < block; half *= 2) {
        __syncthreads();
        for (int32_t i = (int32_t)threadIdx.x; i < block / 2; i += THREADS) {
            const int32_t j = i / half * 2 * half + i % half;
            const float low = b[j], high = b[j + half];
            b[j] = low + high;
            b[j + half] = low - high;
        }
    }
    __syncthreads();
    const float scale = 1 / sqrtf((float)block);
    for (int32_t i = (int32_t)threadIdx.x; i < block; i += THREADS) store(y + at + i, b[i] * scale);
}

void cuda_hadamard(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t cols,
                   int32_t block)
{
    if (rows.most)
        CUDA_LAUNCH(hadamard_kernel, blocks_for(rows.most * cols, block), THREADS,
                    sizeof(float) * (size_t)block, s, y, x, rows, cols, block);
}
