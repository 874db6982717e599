// cuda/device.h -- the words that kernels are written in, the same for nvcc and for the emulation of tests/cuda_emu/.
//
// Kernels are CUDA C++ but for what the emulation must see:
//   SHARED(float, tile, 64);      a __shared__ array; SHARED_DYNAMIC(char, memory) what the launch asked for
//   shared<float> p = tile + 8;   a pointer into one; p[i] is checked there, so no address of an element is taken
//   load(p), store(p, v)          checked accesses to global memory; wide ones (struct vec) go through them
//   CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments ...)
//   CUDA_LAUNCH_EARLY(...) likewise, but blocks may begin while launches in front still run: every thread calls wait_for_previous()
//       before it touches what launches write. let_next_begin() lets the next launch begin, where that is an early one.
//   CUDA_LAUNCH_MADE(made, ...), CUDA_LAUNCH_EARLY_MADE(made, ...) likewise of a kernel that cuda/jit.h made in the place of the one that is named, or NULL
//   CUDA_LAUNCH_TOGETHER(...) likewise, of blocks that may wait for each other: count_wait(counter, n) until count_raise(counter, 1) was called
//       n times. More blocks than fit at once are an error.
//   copy_async16(), ldmatrix(), mma()
// Blocks have whole warps. Threads of a warp stay together where they shuffle: no lane leaves a loop or returns earlier.
#ifndef CUDA_DEVICE_H
#define CUDA_DEVICE_H

#include <stdint.h>

#define _Static_assert static_assert // C's word, in headers that both languages read

#ifdef __CUDACC__
#include "cuda/ptx.h"
#else
#include "tests/cuda_emu/device.h"
#endif
#include "cuda/gradient.h"

constexpr unsigned ALL_LANES = ~0u;
constexpr int WARP_LANES = 32;

__device__ inline float to_f32(float x)
{
    return x;
}

__device__ inline void from_f32(float *y, float x)
{
    *y = x;
}

// N numbers side by side, which move as one access of up to 16 bytes.
template <class T, int N> struct alignas(sizeof(T) * N) vec {
    T x[N];
};

// Rows that this step has; a launch may be for more.
__device__ inline int64_t row_count(struct cuda_rows rows)
{
    return rows.count ? *rows.count : rows.most;
}

// Is there something that a result is added to, in this step?
__device__ inline bool has_base(struct cuda_base base)
{
    return base.from && (!base.resumed || *base.resumed);
}

__device__ inline int lane_id()
{
    return (int)(threadIdx.x % WARP_LANES);
}

__device__ inline int warp_id()
{
    return (int)(threadIdx.x / WARP_LANES);
}

// All lanes get the sum, or the maximum: the same tree for each.
__device__ inline float warp_sum(float x)
{
    for (int other = WARP_LANES / 2; other; other /= 2) x += __shfl_xor_sync(ALL_LANES, x, other);
    return x;
}

__device__ inline float warp_max(float x)
{
    for (int other = WARP_LANES / 2; other; other /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, other));
    return x;
}

// The sum over the block, of up to 32 warps, for all threads; `part` has room for a number a warp, and may be used again after a
// barrier.
__device__ inline float block_sum(float x, shared<float> part)
{
    const int warps = (int)blockDim.x / WARP_LANES;
    x = warp_sum(x);
    if (lane_id() == 0) part[warp_id()] = x;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < warps; i++) sum += part[i];
    __syncthreads();
    return sum;
}

__device__ inline float block_max(float x, shared<float> part)
{
    const int warps = (int)blockDim.x / WARP_LANES;
    x = warp_max(x);
    if (lane_id() == 0) part[warp_id()] = x;
    __syncthreads();
    float top = part[0];
    for (int i = 1; i < warps; i++) top = fmaxf(top, part[i]);
    __syncthreads();
    return top;
}

template <class T> __host__ __device__ constexpr T ceil_div(T n, T by)
{
    return (n + by - 1) / by;
}

static inline bool aligned_to(const void *p, size_t n)
{
    return (uintptr_t)p % n == 0;
}

// A grid's x may have 2^31 - 1 blocks.
static inline dim3 blocks_for(int64_t units, int64_t a_block)
{
    return dim3((unsigned)ceil_div(units, a_block));
}

#endif
