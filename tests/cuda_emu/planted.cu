#include "tests/cuda_emu/planted.h"

#include "cuda/device.h"

enum { THREADS = 64 };

// y[i] = x[63 - i] by way of shared memory, in two warps.
static __global__ void turn_kernel(enum planted which, bool wrong, float *y, const float *x)
{
    SHARED(float, tile, THREADS + 4);
    const int t = (int)threadIdx.x, lane = lane_id();
    x += blockIdx.x * THREADS, y += blockIdx.x * THREADS;
    float number = 0;
    switch (which) {
    case PLANTED_BARRIER:
        tile[t] = 0;
        __syncthreads();
        tile[t] = x[t];
        if (!wrong) __syncthreads();
        number = tile[THREADS - 1 - t];
        break;
    case PLANTED_WARP_BARRIER: // each warp turns its own half around, then they swap
        tile[t] = 0;
        __syncthreads();
        tile[t] = x[t];
        if (!wrong) __syncwarp();
        number = tile[t / 32 * 32 + 31 - lane];
        __syncthreads();
        tile[(t + 32) % THREADS] = number;
        __syncthreads();
        number = tile[t];
        break;
    case PLANTED_OVERRUN:
        tile[t + (wrong ? 5 : 4)] = x[t];
        __syncthreads();
        number = tile[THREADS - 1 - t + 4];
        break;
    case PLANTED_UNWRITTEN:
        if (!wrong || t != 40) tile[t] = x[t];
        __syncthreads();
        number = tile[THREADS - 1 - t];
        break;
    case PLANTED_SHUFFLE: {
        float half = 0;
        if (wrong) {
            if (lane != 3) half = __shfl_xor_sync(ALL_LANES, x[t], 31);
        } else {
            half = __shfl_xor_sync(ALL_LANES, x[t], 31);
        }
        tile[(t + 32) % THREADS] = half;
        __syncthreads();
        number = tile[t];
        break;
    }
    case PLANTED_EARLY_END:
        if (wrong && t == 7) return;
        tile[(t + 32) % THREADS] = __shfl_xor_sync(ALL_LANES, x[t], 31);
        __syncthreads();
        number = tile[t];
        break;
    case PLANTED_WAIT:
    case PLANTED_NEVER_WAITED:
        if (t < THREADS / 4) copy_async16(tile + 4 * t, x + 4 * t);
        copy_async_commit();
        if (!wrong) copy_async_wait<0>();
        __syncthreads();
        number = which == PLANTED_WAIT || !wrong ? (float)tile[THREADS - 1 - t] : 0;
        break;
    case PLANTED_MISALIGNED: {
        tile[t] = x[t];
        __syncthreads();
        const shared<vec<float, 4>> wide = shared_as<vec<float, 4>>(tile + (wrong ? 1 : 0));
        const vec<float, 4> four = wide[(THREADS - 1 - t) / 4];
        number = four.x[(THREADS - 1 - t) % 4];
        break;
    }
    case PLANTED_GLOBAL: number = load(x + THREADS - 1 - t + (wrong && blockIdx.x == 1 ? 1 : 0)); break;
    case PLANTED_STUCK:
        tile[t] = x[t];
        if (wrong && t / 32 == 1) __syncwarp(1u << lane | 1u); // lane 0 names itself alone
        __syncthreads();
        number = tile[THREADS - 1 - t];
        break;
    case PLANTED_PREVIOUS: // y is turned already
        if (!wrong) wait_for_previous();
        number = load(y + t);
        wait_for_previous();
        break;
    case PLANTED_NO_PREVIOUS:
        if (!wrong || t != 5) wait_for_previous();
        tile[t] = x[t];
        __syncthreads();
        number = tile[THREADS - 1 - t];
        break;
    case PLANTED_COUNT: break;
    }
    if (which != PLANTED_NO_PREVIOUS || !wrong) store(y + t, number);
}

void planted_run(enum planted which, bool wrong, float *y, const float *x)
{
    if (which != PLANTED_PREVIOUS && which != PLANTED_NO_PREVIOUS) {
        CUDA_LAUNCH(turn_kernel, 2, THREADS, 0, NULL, which, wrong, y, x);
        return;
    }
    CUDA_LAUNCH(turn_kernel, 2, THREADS, 0, NULL, PLANTED_GLOBAL, false, y, x);
    CUDA_LAUNCH_EARLY(turn_kernel, 2, THREADS, 0, NULL, which, wrong, y, x);
}

static __global__ void mma_kernel(bool wrong, float *c, const uint16_t *a, const uint16_t *b)
{
    const int g = lane_id() / 4, t = lane_id() % 4;
    uint32_t fragment[4], other[2];
    for (int r = 0; r < 4; r++) {
        const int row = g + 8 * (wrong ? r / 2 : r % 2), column = 2 * t + 8 * (wrong ? r % 2 : r / 2);
        fragment[r] = load((const uint32_t *)(a + row * 16 + column));
    }
    for (int r = 0; r < 2; r++) other[r] = load((const uint32_t *)(b + g * 16 + 2 * t + 8 * r));
    float sum[4] = {};
    mma(sum, fragment, other, bf16());
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

void planted_mma(bool wrong, float *c, const uint16_t *a, const uint16_t *b)
{
    CUDA_LAUNCH(mma_kernel, 1, 32, 0, NULL, wrong, c, a, b);
}

static __global__ void ldmatrix_kernel(float *c, const uint16_t *a, const uint16_t *b)
{
    SHARED(uint16_t, tile, 16 * 16);
    SHARED(uint16_t, other, 16 * 8);
    const int lane = lane_id();
    for (int i = lane; i < 16 * 16; i += 32) tile[i] = a[i];
    for (int i = lane; i < 16 * 8; i += 32) other[i] = b[i];
    __syncwarp();
    uint32_t fragment[4], columns[2];
    ldmatrix(fragment, tile + lane % 16 * 16 + lane / 16 * 8);
    ldmatrix_transposed(columns, other + lane % 16 * 8);
    float sum[4] = {};
    mma(sum, fragment, columns, bf16());
    for (int i = 0; i < 4; i++) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

void planted_ldmatrix(float *c, const uint16_t *a, const uint16_t *b)
{
    CUDA_LAUNCH(ldmatrix_kernel, 1, 32, 0, NULL, c, a, b);
}

static __global__ void mma_s8_kernel(int32_t *c, const int8_t *a, const int8_t *b)
{
    const int g = lane_id() / 4, t = lane_id() % 4;
    uint32_t fragment[4], other[2];
    for (int r = 0; r < 4; r++)
        fragment[r] = load((const uint32_t *)(a + (g + 8 * (r % 2)) * 32 + 4 * t + 16 * (r / 2)));
    for (int r = 0; r < 2; r++) other[r] = load((const uint32_t *)(b + g * 32 + 4 * t + 16 * r));
    int sum[4] = {};
    mma(sum, fragment, other);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

void planted_mma_s8(int32_t *c, const int8_t *a, const int8_t *b)
{
    CUDA_LAUNCH(mma_s8_kernel, 1, 32, 0, NULL, c, a, b);
}

// Each block leaves its sum; behind the barrier each adds up those of all.
static __global__ void grid_sum_kernel(float *sums, const float *x)
{
    SHARED(float, part, 1);
    const float own = block_sum(x[blockIdx.x * 32 + threadIdx.x], part);
    if (threadIdx.x == 0) sums[1 + blockIdx.x] = own;
    sync_grid();
    float all = 0;
    for (unsigned i = 0; i < gridDim.x; i++) all += sums[1 + i];
    if (blockIdx.x == gridDim.x - 1 && threadIdx.x == 0) sums[0] = all;
}

void planted_grid_sum(bool together, float *sums, const float *x, int blocks)
{
    if (together)
        CUDA_LAUNCH_TOGETHER(grid_sum_kernel, (unsigned)blocks, 32, 0, NULL, sums, x);
    else
        CUDA_LAUNCH(grid_sum_kernel, (unsigned)blocks, 32, 0, NULL, sums, x);
}

// y[b] = y[b - 1] + sum of x (blocks, 32) in row b: each block waits for the one in front, and lets the next one go on.
static __global__ void chain_kernel(enum planted_chain which, float *y, unsigned *counters, const float *x)
{
    SHARED(float, part, 1);
    const unsigned b = blockIdx.x;
    const float own = block_sum(x[b * 32 + threadIdx.x], part);
    if (threadIdx.x == 0 && (b || which == CHAIN_CIRCLE)) {
        if (which != CHAIN_NOT_AWAITED) count_wait(counters + b, 1);
        if (which != CHAIN_NOT_RESET) store(counters + b, 0u);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        store(y + b, (b ? load(y + b - 1) : 0) + own);
        count_raise(counters + (b + 1) % gridDim.x, b + 1 < gridDim.x);
    }
}

void planted_chain(enum planted_chain which, float *y, unsigned *counters, const float *x, int blocks)
{
    if (which == CHAIN_APART)
        CUDA_LAUNCH(chain_kernel, (unsigned)blocks, 32, 0, NULL, which, y, counters, x);
    else
        CUDA_LAUNCH_TOGETHER(chain_kernel, (unsigned)blocks, 32, 0, NULL, which, y, counters, x);
}
