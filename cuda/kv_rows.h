// cuda/kv_rows.h -- rows of a cache of any type as numbers (ops/paged.h, KV_ROWS).
#ifndef CUDA_KV_ROWS_H
#define CUDA_KV_ROWS_H

#include "cuda/e4m3.h"
#include "quant/quant.h"

__device__ inline const char *cache_row(const struct paged_kv &kv, const int32_t *table, int64_t key,
                                        int64_t head)
{
    return kv.data + (size_t)load(table + key / KV_BLOCK) * kv.block_stride + (size_t)head * kv.head_stride +
           (size_t)(key % KV_BLOCK) * kv.token_stride;
}

// Number i of a row
__device__ inline float kv_number(const struct paged_kv &kv, const char *row, int32_t i)
{
    switch (kv.type) {
    case DTYPE_F32: return load((const float *)row + i);
    case DTYPE_F16: return to_f32(load((const f16 *)row + i));
    case DTYPE_BF16: return to_f32(load((const bf16 *)row + i));
    case DTYPE_F8_E4M3: return to_f32(load((const e4m3 *)row + i));
    case DTYPE_Q4_0: {
        const char *block = row + i / 32 * (int)sizeof(struct block_q4_0);
        const int pair = load((const uint8_t *)block + 2 + i % 16);
        return to_f32(load((const f16 *)block)) * (float)((pair >> i % 32 / 16 * 4 & 15) - 8);
    }
    default: { // Q8_0
        const char *block = row + i / 32 * (int)sizeof(struct block_q8_0);
        return to_f32(load((const f16 *)block)) * (float)load((const int8_t *)block + 2 + i % 32);
    }
    }
}

template <class T> __device__ inline vec<float, 8> kv_widen(const char *row, int32_t i)
{
    const vec<T, 8> x = load((const vec<T, 8> *)((const T *)row + i));
    vec<float, 8> y;
    for (int j = 0; j < 8; j++) y.x[j] = to_f32(x.x[j]);
    return y;
}

// Eight numbers of E4M3, which stand on a boundary of 8 bytes
__device__ inline vec<f16, 8> e4m3_pieces(const char *row, int32_t i)
{
    const vec<uint16_t, 4> codes = load((const vec<uint16_t, 4> *)(row + i));
    vec<f16, 8> y;
    for (int j = 0; j < 4; j++) {
        const uint32_t two = e4m3_halves(codes.x[j]);
        y.x[2 * j].bits = (uint16_t)two, y.x[2 * j + 1].bits = (uint16_t)(two >> 16);
    }
    return y;
}

// Numbers i .. i + 8 of it, i a multiple of 8. Rows of plain types stand on boundaries of 8 numbers, or 16 bytes; blocks on boundaries of
// two, and so are their codes read.
__device__ inline vec<float, 8> kv_numbers(const struct paged_kv &kv, const char *row, int32_t i)
{
    vec<float, 8> y;
    switch (kv.type) {
    case DTYPE_F16: return kv_widen<f16>(row, i);
    case DTYPE_BF16: return kv_widen<bf16>(row, i);
    case DTYPE_F8_E4M3: {
        const vec<f16, 8> x = e4m3_pieces(row, i);
        for (int j = 0; j < 8; j++) y.x[j] = to_f32(x.x[j]);
        return y;
    }
    case DTYPE_F32:
        for (int half = 0; half < 8; half += 4) {
            const vec<float, 4> x = load((const vec<float, 4> *)((const float *)row + i + half));
            for (int j = 0; j < 4; j++) y.x[half + j] = x.x[j];
        }
        return y;
    case DTYPE_Q4_0: {
        const char *block = row + i / 32 * (int)sizeof(struct block_q4_0);
        const float scale = to_f32(load((const f16 *)block));
        for (int j = 0; j < 4; j++) {
            const int two = load((const uint16_t *)(block + 2 + i % 16) + j) >> i % 32 / 16 * 4;
            y.x[2 * j] = scale * (float)((two & 15) - 8),
                    y.x[2 * j + 1] = scale * (float)((two >> 8 & 15) - 8);
        }
        return y;
    }
    default: { // Q8_0
        const char *block = row + i / 32 * (int)sizeof(struct block_q8_0);
        const float scale = to_f32(load((const f16 *)block));
        for (int j = 0; j < 4; j++) {
            const unsigned two = load((const uint16_t *)(block + 2 + i % 32) + j);
            y.x[2 * j] = scale * (float)(int8_t)two, y.x[2 * j + 1] = scale * (float)(int8_t)(two >> 8);
        }
        return y;
    }
    }
}

// The same as f16, as products on tensor cores take them; what bf16 holds above its range becomes its largest number.
__device__ inline vec<f16, 8> kv_halves(const struct paged_kv &kv, const char *row, int32_t i)
{
    if (kv.type == DTYPE_F8_E4M3) return e4m3_pieces(row, i);
    const vec<float, 8> x = kv_numbers(kv, row, i);
    vec<f16, 8> y;
    for (int j = 0; j < 8; j++) from_f32(&y.x[j], fminf(fmaxf(x.x[j], -65504.0f), 65504.0f));
    return y;
}

// Can kv_numbers() read the rows?
static inline bool kv_numbers_fit(const struct paged_kv *kv, int32_t d)
{
    const bool blocks = kv->type == DTYPE_Q8_0 || kv->type == DTYPE_Q4_0;
    const size_t piece = kv->type == DTYPE_F8_E4M3 ? 8 : 16;
    return kv->layout == KV_ROWS && d % 8 == 0 &&
           (blocks || (kv->token_stride % piece == 0 && aligned_to(kv->data, piece)));
}

// And kv_halves()? A cache of F32 would lose by it what it was asked for.
static inline bool kv_halves_fit(const struct paged_kv *kv, int32_t d)
{
    return kv->type != DTYPE_F32 && kv_numbers_fit(kv, d);
}

#endif
