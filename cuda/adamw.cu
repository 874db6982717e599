// cuda/adamw.cu -- one step of AdamW, bit for bit that of ops/update.c, moments in f32 or bf16.
//
// Bound by memory: value, gradient and both moments are read once, and value, moments and the bf16 copy written.
#include "cuda/device.h"

enum { THREADS = 256 };

// 32 bits of chance for number i of a tensor, as in ops/update.c.
__device__ static uint32_t chance_bits(uint32_t key, int64_t i)
{
    uint32_t x = (uint32_t)i * 0x9E3779B9u + key;
    x ^= x >> 16, x *= 0x7feb352du;
    x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ x >> 16;
}

__device__ static float moment_load(const float *p)
{
    return load(p);
}
__device__ static float moment_load(const bf16 *p)
{
    return to_f32(load(p));
}

// m moves fast and rounds to nearest; v, whose steps are less than half a step of bf16, rounds up or down by chance.
__device__ static void store_nearest(float *p, float x)
{
    store(p, x);
}
__device__ static void store_nearest(bf16 *p, float x)
{
    bf16 h;
    from_f32(&h, x);
    store(p, h);
}
__device__ static void store_by_chance(float *p, float x, uint32_t)
{
    store(p, x);
}
__device__ static void store_by_chance(bf16 *p, float x, uint32_t chance)
{
    bf16 h;
    h.bits = (uint16_t)((f32_to_bits(x) + (chance & 0xffff)) >> 16);
    store(p, h);
}

template <class T> __global__ void adamw_kernel(struct update_args a)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.count) return;
    T *ms = (T *)a.m.data + i, *vs = (T *)a.v.data + i;
    float m = moment_load(ms), v = moment_load(vs);
    const float g = load(a.gradient + i) * a.factor;
    m = fmaf(g - m, a.slow1, m);
    v = fmaf(g * a.slow2, g, v * a.beta2);
    const float ratio = m / fmaf(sqrtf(v), a.root_factor, a.eps);
    const float value = fmaf(-a.rate, ratio, load(a.value + i) * a.keep);
    store(a.value + i, value);
    if (a.copy) store_nearest((bf16 *)a.copy + i, value);
    store_nearest(ms, m);
    store_by_chance(vs, v, chance_bits(a.key, a.first + i));
}

void cuda_adamw(struct cuda_stream *s, const struct update_args *a)
{
    TLM_ASSERT(a->moments == DTYPE_F32 || a->moments == DTYPE_BF16);
    if (!a->count) return;
    if (a->moments == DTYPE_F32)
        CUDA_LAUNCH(adamw_kernel<float>, blocks_for(a->count, THREADS), THREADS, 0, s, *a);
    else
        CUDA_LAUNCH(adamw_kernel<bf16>, blocks_for(a->count, THREADS), THREADS, 0, s, *a);
}
