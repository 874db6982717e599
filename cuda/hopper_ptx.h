// cuda/hopper_ptx.h -- cuda/hopper.h on a device.
#ifndef CUDA_HOPPER_PTX_H
#define CUDA_HOPPER_PTX_H

#include "cuda/hopper.h"

#define SHARED_TILES(T, name) extern __shared__ __align__(1024) T name[]

__device__ inline unsigned shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

// ---- barriers ---------------------------------------------------------------------------------------------

__device__ inline void barrier_init(uint64_t *barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
                 : "memory");
}

__device__ inline void barriers_made()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void barrier_expect(uint64_t *barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

__device__ inline void barrier_arrive(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

__device__ inline void barrier_wait(uint64_t *barrier, unsigned phase)
{
    const unsigned at = shared_address(barrier);
    unsigned done = 0;
    while (!done)
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}"
                     : "=r"(done)
                     : "r"(at), "r"(phase)
                     : "memory");
}

// Without .release.cluster, for which the compiler waits until all that the thread has written is seen by the whole device, results included:
// what is told is that reads by wgmma have ended.
__device__ inline void barrier_arrive_in(uint64_t *barrier, int rank)
{
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
                 "}" ::"r"(shared_address(barrier)),
                 "r"(rank)
                 : "memory");
}

__device__ inline void sync_cluster()
{
    asm volatile("barrier.cluster.arrive.release;\n"
                 "barrier.cluster.wait.acquire;" ::
                     : "memory");
}

template <int ID, int THREADS> __device__ inline void sync_some()
{
    asm volatile("bar.sync %0, %1;" ::"n"(ID), "n"(THREADS) : "memory");
}

__device__ inline void shared_written()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

template <int N> __device__ inline void registers_take()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N> __device__ inline void registers_give()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- copies -----------------------------------------------------------------------------------------------

struct alignas(64) cuda_tile_map {
    unsigned char opaque[128]; // CUtensorMap
};

template <class T>
__device__ inline void copy_tile(T *to, const struct cuda_tile_map *map, int64_t column, int64_t row,
                                 uint64_t *barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
                 "l"(map), "r"((int)column), "r"((int)row), "r"(shared_address(barrier))
                 : "memory");
}

template <class T>
__device__ inline void copy_tile_to(unsigned ranks, T *to, const struct cuda_tile_map *map, int64_t column,
                                    int64_t row, uint64_t *barrier)
{
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
        "l"(map), "r"((int)column), "r"((int)row), "r"(shared_address(barrier)), "h"((uint16_t)ranks)
        : "memory");
}

template <class T> __device__ inline void copy_bytes(T *to, const void *from, int bytes, uint64_t *barrier)
{
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
}

// ---- products ---------------------------------------------------------------------------------------------

// PTX's matrix descriptor: address, leading and stride offsets in units of 16 bytes, and the 128-byte swizzle. Groups of eight rows are 1024
// bytes apart.
template <class T, bool TURNED> struct tile_operand {
    uint64_t bits;
};

__device__ inline uint64_t tile_bits(const void *at, unsigned leading)
{
    return (uint64_t)(shared_address(at) >> 4 & 0x3fff) | (uint64_t)(leading >> 4) << 16 |
           (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

template <class T> __device__ inline tile_operand<T, false> tile_rows(T *at)
{
    return {tile_bits(at, 16)};
}

template <class T> __device__ inline tile_operand<T, true> tile_columns(T *at, unsigned apart)
{
    return {tile_bits(at, apart)};
}

__device__ inline void wgmma_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ inline void wgmma_end()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int GROUPS> __device__ inline void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(GROUPS) : "memory");
}

template <class T> struct wgmma_type;
template <> struct wgmma_type<bf16> {
    static constexpr bool is_bf16 = true;
};
template <> struct wgmma_type<f16> {
    static constexpr bool is_bf16 = false;
};

// Lists of the registers of C: of 32 (N = 64), 64 (N = 128), 96 (N = 192) or 128 (N = 256).
#define REGISTERS_0                                                          \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define REGISTERS_1                                                                    \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define REGISTERS_2                                                                    \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define REGISTERS_3                                                                                \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define LIST_64  REGISTERS_0
#define LIST_128 REGISTERS_0 ", " REGISTERS_1
#define LIST_192 LIST_128 ", " REGISTERS_2
#define LIST_256 LIST_192 ", " REGISTERS_3
#define C4(i)    "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define C16(i)   C4(i), C4(i + 4), C4(i + 8), C4(i + 12)
#define C_64     C16(0), C16(16)
#define C_128    C_64, C16(32), C16(48)
#define C_192    C_128, C16(64), C16(80)
#define C_256    C_192, C16(96), C16(112)

// %a, %b: descriptors of A and B, %d: 0 where C is not added, %s, %t: are they turned; for a C of so many registers.
#define WGMMA_SHARED(N, types, a_, b_, d_, s_, t_)                                     \
    asm volatile("{\n"                                                                 \
                 ".reg .pred p;\n"                                                     \
                 "setp.ne.b32 p, %" d_ ", 0;\n"                                        \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." types " {" LIST_##N \
                 "}, "                                                                 \
                 "%" a_ ", %" b_ ", p, 1, 1, %" s_ ", %" t_ ";\n"                      \
                 "}"                                                                   \
                 : C_##N                                                               \
                 : "l"(a.bits), "l"(b.bits), "r"((int)add), "n"(A), "n"(B))
#define WGMMA_REGISTERS(N, types, a0, a1, a2, a3, b_, d_, t_)                          \
    asm volatile("{\n"                                                                 \
                 ".reg .pred p;\n"                                                     \
                 "setp.ne.b32 p, %" d_ ", 0;\n"                                        \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." types " {" LIST_##N \
                 "}, "                                                                 \
                 "{%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b_ ", p, 1, 1, %" t_ ";\n"  \
                 "}"                                                                   \
                 : C_##N                                                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits), "r"((int)add), "n"(B))
#define WGMMA_TYPES(form, N, ...)              \
    do {                                       \
        if constexpr (wgmma_type<T>::is_bf16)  \
            form(N, "bf16.bf16", __VA_ARGS__); \
        else                                   \
            form(N, "f16.f16", __VA_ARGS__);   \
    } while (0)

// C (64, N) = A B^T, or C + A B^T
template <int N, class T, bool A, bool B>
__device__ inline void wgmma(float (&c)[N / 2], tile_operand<T, A> a, tile_operand<T, B> b, bool add)
{
    static_assert(N == 64 || N == 128 || N == 192 || N == 256, "N of a list above");
    if constexpr (N == 64)
        WGMMA_TYPES(WGMMA_SHARED, 64, "32", "33", "34", "35", "36");
    else if constexpr (N == 128)
        WGMMA_TYPES(WGMMA_SHARED, 128, "64", "65", "66", "67", "68");
    else if constexpr (N == 192)
        WGMMA_TYPES(WGMMA_SHARED, 192, "96", "97", "98", "99", "100");
    else
        WGMMA_TYPES(WGMMA_SHARED, 256, "128", "129", "130", "131", "132");
}

// A from registers: each warp's 16 rows as mma() takes them
template <int N, class T, bool B>
__device__ inline void wgmma(float (&c)[N / 2], const uint32_t (&a)[4], tile_operand<T, B> b, bool add)
{
    static_assert(N == 64 || N == 128 || N == 192 || N == 256, "N of a list above");
    if constexpr (N == 64)
        WGMMA_TYPES(WGMMA_REGISTERS, 64, "32", "33", "34", "35", "36", "37", "38");
    else if constexpr (N == 128)
        WGMMA_TYPES(WGMMA_REGISTERS, 128, "64", "65", "66", "67", "68", "69", "70");
    else if constexpr (N == 192)
        WGMMA_TYPES(WGMMA_REGISTERS, 192, "96", "97", "98", "99", "100", "101", "102");
    else
        WGMMA_TYPES(WGMMA_REGISTERS, 256, "128", "129", "130", "131", "132", "133", "134");
}

#undef WGMMA_TYPES
#undef WGMMA_REGISTERS
#undef WGMMA_SHARED
#undef C_256
#undef C_192
#undef C_128
#undef C_64
#undef C16
#undef C4
#undef LIST_256
#undef LIST_192
#undef LIST_128
#undef LIST_64
#undef REGISTERS_3
#undef REGISTERS_2
#undef REGISTERS_1
#undef REGISTERS_0

#endif
