// cuda/fused_heads.h -- what is done to the heads of a row between projection and attention, a warp a head.
#ifndef CUDA_FUSED_HEADS_H
#define CUDA_FUSED_HEADS_H

#include "cuda/e4m3.h"
#include "cuda/fused.h"

namespace fused
{

// The head's numbers, normed as by cuda/norm.cu with a warp, to shared memory.
__device__ inline void take_head(const struct cuda_fused_head &h, int64_t row, int head, shared<float> to)
{
    const float *x = h.x + (row * h.heads + head) * h.dim;
    const bool wide = h.dim % 4 == 0;
    const int begin = lane_id() * (wide ? 4 : 1), apart = WARP_LANES * (wide ? 4 : 1), each = wide ? 4 : 1;
    float mean = 0, squares = 0, r = 1;
    for (int i = begin; i < h.dim; i += apart)
        for (int j = 0; j < each; j++) to[i + j] = load(x + i + j);
    if (h.norm == FUSED_LAYERNORM) {
        for (int i = begin; i < h.dim; i += apart)
            for (int j = 0; j < each; j++) mean += to[i + j];
        mean = warp_sum(mean) / (float)h.dim;
    }
    if (h.norm != FUSED_NO_NORM) {
        for (int i = begin; i < h.dim; i += apart)
            for (int j = 0; j < each; j++) squares += (to[i + j] - mean) * (to[i + j] - mean);
        r = 1 / sqrtf(warp_sum(squares) / (float)h.dim + h.eps);
        const int at = head % h.weights * h.dim;
        for (int i = begin; i < h.dim; i += apart)
            for (int j = 0; j < each; j++)
                to[i + j] =
                    (to[i + j] - mean) * r * load(h.w + at + i + j) + (h.b ? load(h.b + at + i + j) : 0);
    }
    __syncwarp();
}

// As cuda/rope.cu does it.
__device__ inline void turn_head(const struct cuda_fused_heads &d, const struct cuda_fused_head &h,
                                 int64_t row, shared<float> x)
{
    for (int i = lane_id(); i < h.pairs; i += WARP_LANES) {
        const int first = d.pairing == ROPE_ADJACENT ? 2 * i : i;
        const int second = d.pairing == ROPE_ADJACENT ? first + 1 : i + h.pairs;
        const vec<float, 2> turn = load((const vec<float, 2> *)d.table + row * h.pairs + i);
        const float x0 = x[first], x1 = x[second];
        x[first] = x0 * turn.x[0] - x1 * turn.x[1];
        x[second] = x1 * turn.x[0] + x0 * turn.x[1];
    }
    __syncwarp();
}

template <class T> __device__ void put_head(T *to, shared<float> x, int dim)
{
    for (int i = lane_id(); i < dim; i += WARP_LANES) {
        T number;
        from_f32(&number, x[i]);
        store(to + i, number);
    }
}

// Into the cache, where the row has its place.
__device__ inline void put_cached(const struct cuda_fused_head &h, int32_t slot, int head, shared<float> x)
{
    char *to = h.cache.data + (size_t)(slot / KV_BLOCK) * h.cache.block_stride +
               (size_t)head * h.cache.head_stride + (size_t)(slot % KV_BLOCK) * h.cache.token_stride;
    switch (h.cache.type) {
    case DTYPE_F32: put_head((float *)to, x, h.dim); return;
    case DTYPE_F16: put_head((f16 *)to, x, h.dim); return;
    case DTYPE_F8_E4M3: put_head((e4m3 *)to, x, h.dim); return;
    default: put_head((bf16 *)to, x, h.dim);
    }
}

} // namespace fused

#endif
