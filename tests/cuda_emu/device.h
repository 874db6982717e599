// tests/cuda_emu/device.h -- cuda/device.h's counterpart of cuda/ptx.h: the same names, on the emulation.
#ifndef TESTS_CUDA_EMU_DEVICE_H
#define TESTS_CUDA_EMU_DEVICE_H

#include <math.h>

#include "core/dtype.h"
#include "tests/cuda_emu/emu.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

#define threadIdx (emu::self->index)
#define blockIdx  (emu::self->block->index)
#define blockDim  (emu::grid.block_size)
#define gridDim   (emu::grid.size)

#define SHARED(T, name, count)  const shared<T> name = emu::array<T>(#name, (count))
#define SHARED_DYNAMIC(T, name) const shared<T> name = {0, 0}

template <class U, class T> shared<U> shared_as(shared<T> s)
{
    return {s.at, s.region};
}

#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    (emu::on_stream(stream),                                        \
     emu::launch(#kernel, (grid), (block), (shared_bytes), emu::IN_ORDER, kernel, __VA_ARGS__))
#define CUDA_LAUNCH_TOGETHER(kernel, grid, block, shared_bytes, stream, ...) \
    (emu::on_stream(stream),                                                 \
     emu::launch(#kernel, (grid), (block), (shared_bytes), emu::TOGETHER, kernel, __VA_ARGS__))
#define CUDA_LAUNCH_CLUSTERS(kernel, grid, block, shared_bytes, stream, ...) \
    (emu::on_stream(stream),                                                 \
     emu::launch(#kernel, (grid), (block), (shared_bytes), emu::CLUSTERS, kernel, __VA_ARGS__))
#define CUDA_LAUNCH_EARLY(kernel, grid, block, shared_bytes, stream, ...) \
    (emu::on_stream(stream),                                              \
     emu::launch(#kernel, (grid), (block), (shared_bytes), emu::EARLY, kernel, __VA_ARGS__))

#define CUDA_LAUNCH_EARLY_MADE(made, kernel, grid, block, shared_bytes, stream, ...)           \
    (emu::on_stream(stream), emu::launch(#kernel, (grid), (block), (shared_bytes), emu::EARLY, \
                                         emu::made_or(made, kernel), __VA_ARGS__))
#define CUDA_LAUNCH_MADE(made, kernel, grid, block, shared_bytes, stream, ...)                    \
    (emu::on_stream(stream), emu::launch(#kernel, (grid), (block), (shared_bytes), emu::IN_ORDER, \
                                         emu::made_or(made, kernel), __VA_ARGS__))

// ---- barriers, shuffles, votes ----------------------------------------------------------------------------

inline void __syncthreads(EMU_HERE)
{
    emu::sync_block(file, line);
}

inline void sync_grid(EMU_HERE)
{
    emu::sync_grid(file, line);
}

inline void count_raise(unsigned *counter, unsigned by, EMU_HERE)
{
    emu::global_store(counter, sizeof *counter, sizeof *counter, file, line);
    *counter += by;
}

inline void count_wait(const unsigned *counter, unsigned target, EMU_HERE)
{
    emu::global_check(counter, sizeof *counter, sizeof *counter, "wait for", file, line);
    emu::wait_count(counter, target, file, line);
}

inline void wait_for_previous()
{
    emu::self->waited = true;
}

inline void let_next_begin()
{
}

inline void __syncwarp(unsigned mask = ~0u, EMU_HERE)
{
    emu::meet("__syncwarp", mask, emu::finish_sync, file, line);
}

template <class T> T shuffle(const char *name, unsigned mask, T value, int lane, const char *file, int line)
{
    static_assert(sizeof(T) <= 8, "a shuffle of at most 8 bytes");
    uint32_t word[2] = {0, 0};
    memcpy(word, &value, sizeof value);
    emu::meet_words(name, mask, word, word, sizeof word, lane, emu::finish_shuffle, file, line);
    memcpy(&value, word, sizeof value);
    return value;
}

template <class T> T __shfl_sync(unsigned mask, T value, int lane, EMU_HERE)
{
    return shuffle("__shfl_sync", mask, value, lane & 31, file, line);
}

template <class T> T __shfl_xor_sync(unsigned mask, T value, int other, EMU_HERE)
{
    return shuffle("__shfl_xor_sync", mask, value, ((int)threadIdx.x & 31) ^ other, file, line);
}

template <class T> T __shfl_down_sync(unsigned mask, T value, int distance, EMU_HERE)
{
    const int lane = (int)threadIdx.x & 31;
    return shuffle("__shfl_down_sync", mask, value, lane + distance < 32 ? lane + distance : lane, file,
                   line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_HERE)
{
    uint32_t word = predicate != 0;
    emu::meet_words("__ballot_sync", mask, &word, &word, sizeof word, 0, emu::finish_ballot, file, line);
    return word;
}

inline int __any_sync(unsigned mask, int predicate, EMU_HERE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, EMU_HERE)
{
    return __ballot_sync(mask, predicate, file, line) == mask;
}

inline void __threadfence()
{
}

// ---- atomics: fibers do not interrupt each other ----------------------------------------------------------

template <class T> T atomicAdd(T *at, T value)
{
    T old = *at;
    *at = old + value;
    return old;
}

// ---- numbers ----------------------------------------------------------------------------------------------

inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++) c += (int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i);
    return c;
}

inline int __vsub4(int a, int b)
{
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= ((((unsigned)a >> 8 * i) - ((unsigned)b >> 8 * i)) & 0xff) << 8 * i;
    return (int)out;
}

inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    const uint64_t both = a | (uint64_t)b << 32;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= (unsigned)(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return out;
}

inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

inline float __fdividef(float a, float b)
{
    return a / b;
}

inline float bits_to_f32(unsigned bits)
{
    return f32_of_bits(bits);
}

inline unsigned f32_to_bits(float x)
{
    return bits_of_f32(x);
}

struct f16 {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};

inline float to_f32(f16 h)
{
    return f32_from_f16(h.bits);
}
inline float to_f32(bf16 h)
{
    return f32_from_bf16(h.bits);
}
inline void from_f32(f16 *h, float x)
{
    h->bits = f16_from_f32(x);
}
inline void from_f32(bf16 *h, float x)
{
    h->bits = bf16_from_f32(x);
}

inline uint32_t mul_f16x2(uint32_t a, uint32_t b)
{
    const uint16_t low = f16_from_f32(f32_from_f16((uint16_t)a) * f32_from_f16((uint16_t)b));
    const uint16_t high = f16_from_f32(f32_from_f16((uint16_t)(a >> 16)) * f32_from_f16((uint16_t)(b >> 16)));
    return low | (uint32_t)high << 16;
}

#define CUDA_E4M3 0

// ---- memory -----------------------------------------------------------------------------------------------

template <class T> T load(const T *p, EMU_HERE)
{
    emu::global_check(p, sizeof(T), alignof(T), "load of", file, line);
    return *p;
}

template <class T> T load_stream(const T *p, EMU_HERE)
{
    return load(p, file, line);
}

inline void prefetch(const void *p, unsigned bytes, EMU_HERE)
{
    emu::global_bounds(p, bytes, 16, "prefetch of", file, line);
    if (bytes % 16) emu::fail(file, line, "prefetch of %u bytes: no multiple of 16", bytes);
}

template <class T> void store(T *p, T value, EMU_HERE)
{
    emu::global_store(p, sizeof(T), alignof(T), file, line);
    *p = value;
}

template <class T> void copy_async16(shared<T> to, const T *from, bool there = true, EMU_HERE)
{
    if (there) emu::global_check(from, 16, 16, "cp.async from", file, line);
    emu::shared_copy_async(to.region, to.at, there ? (const void *)from : NULL, 16, file, line);
}

inline void copy_async_commit()
{
    emu::copy_commit();
}

template <int GROUPS> void copy_async_wait(EMU_HERE)
{
    emu::copy_wait(GROUPS, file, line);
}

// ---- tensor cores -----------------------------------------------------------------------------------------

template <int N, class T> void ldmatrix(uint32_t (&to)[N], shared<T> row, EMU_HERE)
{
    emu::load_matrices(to, N, false, row.region, row.at, file, line);
}

template <int N, class T> void ldmatrix_transposed(uint32_t (&to)[N], shared<T> row, EMU_HERE)
{
    emu::load_matrices(to, N, true, row.region, row.at, file, line);
}

template <class C>
void mma_words(C (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], emu::finish_fn *finish,
               const char *file, int line)
{
    uint32_t words[emu::OP_WORDS];
    memcpy(words, a, 16);
    memcpy(words + 4, b, 8);
    memcpy(words + 6, c, 16);
    emu::meet_words("mma.sync", ~0u, words, words, sizeof words, 0, finish, file, line);
    memcpy(c, words, 16);
}

// c += a b: 16 x 16 times 16 x 8, or bytes, 16 x 32 times 32 x 8
inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bf16, EMU_HERE)
{
    mma_words(c, a, b, emu::finish_mma_bf16, file, line);
}
inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], f16, EMU_HERE)
{
    mma_words(c, a, b, emu::finish_mma_f16, file, line);
}
inline void mma(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMU_HERE)
{
    mma_words(c, a, b, emu::finish_mma_s8, file, line);
}

#endif
