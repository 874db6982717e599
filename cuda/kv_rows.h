// cuda/kv_rows.h -- rows of a cache of any type as numbers (ops/paged.h, KV_ROWS).
#ifndef CUDA_KV_ROWS_H
#define CUDA_KV_ROWS_H

#include "cuda/e4m3.h"
#include "quant/quant.h"

// Where the row of a key and head stands, from kv.data on
__device__ inline int64_t cache_place(const struct paged_kv &kv, const int32_t *table, int64_t key,
                                      int64_t head)
{
    return (int64_t)((size_t)load(table + key / KV_BLOCK) * kv.block_stride + (size_t)head * kv.head_stride +
                     (size_t)(key % KV_BLOCK) * kv.token_stride);
}

__device__ inline const char *cache_row(const struct paged_kv &kv, const int32_t *table, int64_t key,
                                        int64_t head)
{
    return kv.data + cache_place(kv, table, key, head);
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

// Eight numbers of a row of each type, from i on, a multiple of 8: read() brings what widen() makes numbers of, so that a thread may have
// several on their way. Rows of plain types stand on boundaries of 8 numbers, or 16 bytes; blocks on boundaries of two, and so are their
// codes read.
template <class T> struct kv_plain {
    using raw = vec<T, 8>;
    __device__ raw read(const char *row, int32_t i) const
    {
        return load((const raw *)((const T *)row + i));
    }
    __device__ vec<float, 8> widen(const raw &x, int32_t) const
    {
        vec<float, 8> y;
        for (int j = 0; j < 8; j++) y.x[j] = to_f32(x.x[j]);
        return y;
    }
};

struct kv_f32 {
    using raw = vec<float, 8>;
    __device__ raw read(const char *row, int32_t i) const
    {
        raw y;
        for (int half = 0; half < 8; half += 4) {
            const vec<float, 4> x = load((const vec<float, 4> *)((const float *)row + i + half));
            for (int j = 0; j < 4; j++) y.x[half + j] = x.x[j];
        }
        return y;
    }
    __device__ vec<float, 8> widen(const raw &x, int32_t) const
    {
        return x;
    }
};

// Codes stand on boundaries of 8 bytes.
struct kv_e4m3 {
    using raw = vec<uint16_t, 4>;
    __device__ raw read(const char *row, int32_t i) const
    {
        return load((const raw *)(row + i));
    }
    __device__ vec<f16, 8> halves(const raw &x) const
    {
        vec<f16, 8> y;
        for (int j = 0; j < 4; j++) {
            const uint32_t two = e4m3_halves(x.x[j]);
            y.x[2 * j].bits = (uint16_t)two, y.x[2 * j + 1].bits = (uint16_t)(two >> 16);
        }
        return y;
    }
    __device__ vec<float, 8> widen(const raw &x, int32_t) const
    {
        const vec<f16, 8> h = halves(x);
        vec<float, 8> y;
        for (int j = 0; j < 8; j++) y.x[j] = to_f32(h.x[j]);
        return y;
    }
};

struct kv_codes {
    f16 scale;
    uint16_t two[4];
};

// (code - zero) scale of eight codes of a byte, as it would be rounded: a code in bits 8 to 15 is 2^15 + code as a float, and (2^15 + zero) scale
// is exact, since a scale has 11 bits and 2^15 + zero no more than 13. A byte costs two instructions so, and a conversion would be slow.
__device__ inline vec<float, 8> kv_scaled(uint32_t low, uint32_t high, float scale, float zero)
{
    const float less = -(32768.0f + zero) * scale;
    vec<float, 8> y;
    for (unsigned j = 0; j < 8; j++)
        y.x[j] =
            fmaf(bits_to_f32(__byte_perm(j < 4 ? low : high, 0x47000000, 0x7504 | j % 4 << 4)), scale, less);
    return y;
}

struct kv_q8_0 {
    using raw = struct kv_codes;
    __device__ raw read(const char *row, int32_t i) const
    {
        const char *block = row + i / 32 * (int)sizeof(struct block_q8_0);
        raw x = {load((const f16 *)block)};
        for (int j = 0; j < 4; j++) x.two[j] = load((const uint16_t *)(block + 2 + i % 32) + j);
        return x;
    }
    __device__ vec<float, 8> widen(const raw &x, int32_t) const
    {
        const uint32_t low = x.two[0] | (uint32_t)x.two[1] << 16, high = x.two[2] | (uint32_t)x.two[3] << 16;
        return kv_scaled(low ^ 0x80808080, high ^ 0x80808080, to_f32(x.scale), 128);
    }
};

struct kv_q4_0 {
    using raw = struct kv_codes;
    __device__ raw read(const char *row, int32_t i) const
    {
        const char *block = row + i / 32 * (int)sizeof(struct block_q4_0);
        raw x = {load((const f16 *)block)};
        for (int j = 0; j < 4; j++) x.two[j] = load((const uint16_t *)(block + 2 + i % 16) + j);
        return x;
    }
    __device__ vec<float, 8> widen(const raw &x, int32_t i) const
    {
        const uint32_t low = x.two[0] | (uint32_t)x.two[1] << 16, high = x.two[2] | (uint32_t)x.two[3] << 16;
        const int shift = i % 32 / 16 * 4;
        return kv_scaled(low >> shift & 0x0f0f0f0f, high >> shift & 0x0f0f0f0f, to_f32(x.scale), 8);
    }
};

// Calls what(rows) with the reader of the cache's type.
template <class F> __device__ inline void kv_reader(const struct paged_kv &kv, F what)
{
    switch (kv.type) {
    case DTYPE_F32: what(kv_f32()); break;
    case DTYPE_F16: what(kv_plain<f16>()); break;
    case DTYPE_BF16: what(kv_plain<bf16>()); break;
    case DTYPE_F8_E4M3: what(kv_e4m3()); break;
    case DTYPE_Q4_0: what(kv_q4_0()); break;
    default: what(kv_q8_0()); break;
    }
}

// Numbers i .. i + 8
__device__ inline vec<float, 8> kv_numbers(const struct paged_kv &kv, const char *row, int32_t i)
{
    vec<float, 8> y;
    kv_reader(kv, [&](auto rows) { y = rows.widen(rows.read(row, i), i); });
    return y;
}

// The same as f16, as products on tensor cores take them; what bf16 holds above its range becomes its largest number.
__device__ inline vec<f16, 8> kv_halves(const struct paged_kv &kv, const char *row, int32_t i)
{
    if (kv.type == DTYPE_F8_E4M3) return kv_e4m3().halves(kv_e4m3().read(row, i));
    const vec<float, 8> x = kv_numbers(kv, row, i);
    vec<f16, 8> y;
    for (int j = 0; j < 8; j++) from_f32(&y.x[j], fminf(fmaxf(x.x[j], -65504.0f), 65504.0f));
    return y;
}

// Can kv_reader()'s readers read the rows?
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
