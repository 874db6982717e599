// cuda/ptx.h -- what device.h is made of on a device: CUDA's own words, and the PTX instructions that have none.
#ifndef CUDA_PTX_H
#define CUDA_PTX_H

// Kernels that are compiled while the program runs (cuda/jit.h) find no header of CUDA, and have no host.
#ifndef __CUDACC_RTC__
#include <cooperative_groups.h>
#include <cuda_runtime.h>
#endif
#include <string.h>

#include "core/dtype.h"
#include "cuda/runtime.h"

template <class T> using shared = T *;

#define SHARED(T, name, count)  __shared__ __align__(16) T name[count]
#define SHARED_DYNAMIC(T, name) extern __shared__ __align__(16) T name[]

template <class U, class T> __device__ inline U *shared_as(T *s)
{
    return reinterpret_cast<U *>(s);
}

#ifndef __CUDACC_RTC__
enum launch_kind { LAUNCH_IN_ORDER, LAUNCH_TOGETHER, LAUNCH_EARLY, LAUNCH_CLUSTERS };

// Does the code that runs here wait? That of compute capability 8.0, from which newer devices' may be made, has no instruction for it.
static inline bool can_wait(const void *kernel)
{
    cudaFuncAttributes code;
    return cudaFuncGetAttributes(&code, kernel) == cudaSuccess && code.ptxVersion >= 90;
}

// More shared memory than 48 KiB has to be asked for; never for less than before, since a recording may have a launch with more.
static inline void allow_shared(const void *kernel, int bytes)
{
    cudaFuncAttributes code;
    if (cudaFuncGetAttributes(&code, kernel) == cudaSuccess && code.maxDynamicSharedSizeBytes < bytes)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

// Every launch that fails comes by here, and is told by the next cuda_sync() (cuda/runtime.cu).
void cuda_launch_failed(const char *name, const cudaLaunchConfig_t *config);

// Of a kernel that was `made` for the arguments `own` is the type.
template <class... P, class... A>
static inline void cuda_launch(const char *name, const struct cuda_kernel *made, void (*own)(P...), dim3 grid,
                               dim3 block, size_t shared_bytes, struct cuda_stream *stream,
                               enum launch_kind kind, A... arguments)
{
    const void *kernel = made ? cuda_kernel_code(made) : (const void *)own;
    cudaLaunchAttribute attribute = {};
    if (kind == LAUNCH_TOGETHER) {
        attribute.id = cudaLaunchAttributeCooperative;
        attribute.val.cooperative = 1;
    } else if (kind == LAUNCH_CLUSTERS) {
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim.x = CUDA_CLUSTER;
        attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    } else {
        attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attribute.val.programmaticStreamSerializationAllowed = 1;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes;
    config.stream = (cudaStream_t)stream;
    config.attrs = &attribute;
    config.numAttrs =
        kind == LAUNCH_TOGETHER || kind == LAUNCH_CLUSTERS || (kind == LAUNCH_EARLY && can_wait(kernel));
    if (shared_bytes > 48 * 1024) allow_shared(kernel, (int)shared_bytes);
    const auto launch = [&](P... values) {
        void *pointers[] = {(void *)&values...};
        if (cudaLaunchKernelExC(&config, kernel, pointers) != cudaSuccess) cuda_launch_failed(name, &config);
    };
    launch(P(arguments)...);
}
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    cuda_launch(#kernel, NULL, kernel, grid, block, shared_bytes, stream, LAUNCH_IN_ORDER, __VA_ARGS__)
#define CUDA_LAUNCH_TOGETHER(kernel, grid, block, shared_bytes, stream, ...) \
    cuda_launch(#kernel, NULL, kernel, grid, block, shared_bytes, stream, LAUNCH_TOGETHER, __VA_ARGS__)
#define CUDA_LAUNCH_CLUSTERS(kernel, grid, block, shared_bytes, stream, ...) \
    cuda_launch(#kernel, NULL, kernel, grid, block, shared_bytes, stream, LAUNCH_CLUSTERS, __VA_ARGS__)
#define CUDA_LAUNCH_EARLY(kernel, grid, block, shared_bytes, stream, ...) \
    cuda_launch(#kernel, NULL, kernel, grid, block, shared_bytes, stream, LAUNCH_EARLY, __VA_ARGS__)
#define CUDA_LAUNCH_EARLY_MADE(made, kernel, grid, block, shared_bytes, stream, ...) \
    cuda_launch(#kernel, made, kernel, grid, block, shared_bytes, stream, LAUNCH_EARLY, __VA_ARGS__)
#define CUDA_LAUNCH_MADE(made, kernel, grid, block, shared_bytes, stream, ...) \
    cuda_launch(#kernel, made, kernel, grid, block, shared_bytes, stream, LAUNCH_IN_ORDER, __VA_ARGS__)

__device__ inline void sync_grid()
{
    cooperative_groups::this_grid().sync();
}
#endif

// A counter in global memory, by which blocks of a cooperative launch wait for each other. Whoever waited sees what the threads that raised it
// wrote before, and so do those that wait at a barrier of the block behind it.
__device__ inline void count_raise(unsigned *counter, unsigned by)
{
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(counter)), "r"(by)
                 : "memory");
}

__device__ inline void count_wait(const unsigned *counter, unsigned target)
{
    unsigned count;
    do
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                     : "=r"(count)
                     : "l"(__cvta_generic_to_global(counter))
                     : "memory");
    while (count < target);
}

// Until the launches in front have ended, and what they wrote is there to be read.
__device__ inline void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void let_next_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- numbers ----------------------------------------------------------------------------------------------

__device__ inline float bits_to_f32(unsigned bits)
{
    return __uint_as_float(bits);
}

__device__ inline unsigned f32_to_bits(float x)
{
    return __float_as_uint(x);
}

struct f16 {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};

__device__ inline float to_f32(f16 h)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h.bits));
    return x;
}
__device__ inline float to_f32(bf16 h)
{
    return __uint_as_float((unsigned)h.bits << 16);
}
__device__ inline void from_f32(f16 *h, float x)
{
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h->bits) : "f"(x));
}
__device__ inline void from_f32(bf16 *h, float x)
{
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h->bits) : "f"(x));
}

__device__ inline uint32_t mul_f16x2(uint32_t a, uint32_t b)
{
    uint32_t y;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
    return y;
}

// E4M3 (cuda/e4m3.h), the first number in the low half
#if __CUDA_ARCH__ >= 890
#define CUDA_E4M3 1
__device__ inline uint32_t e4m3x2_to_f16x2(uint16_t codes)
{
    uint32_t y;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(y) : "h"(codes));
    return y;
}
__device__ inline uint16_t f32x2_to_e4m3x2(float first, float second)
{
    uint16_t codes;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(second), "f"(first));
    return codes;
}
#else
#define CUDA_E4M3 0
#endif

// ---- memory -----------------------------------------------------------------------------------------------

template <class T> __device__ inline T load(const T *p)
{
    return *p;
}

// What is read once need not stay in the caches: weights of a single row's product.
template <class T> __device__ inline T load_stream(const T *p)
{
    T value;
    if constexpr (sizeof(T) == 16) {
        const uint4 u = __ldcs((const uint4 *)p);
        memcpy(&value, &u, 16);
    } else {
        value = *p;
    }
    return value;
}

// Brings weights into the second-level cache, in front of wait_for_previous(): a multiple of 16 bytes.
__device__ inline void prefetch(const void *p, unsigned bytes)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(bytes));
#endif
}

template <class T> __device__ inline void store(T *p, T value)
{
    *p = value;
}

// 16 bytes on their way to shared memory, or zeros where nothing is there.
template <class T> __device__ inline void copy_async16(T *to, const T *from, bool there = true)
{
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    const int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes)
                 : "memory");
}

__device__ inline void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int GROUPS> __device__ inline void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

// ---- tensor cores -----------------------------------------------------------------------------------------

// 8 x 8 matrices of 16-bit numbers: lane 8 i + r gives the begin of row r of matrix i.
#define LDMATRIX(trans)                                                                          \
    const unsigned from = (unsigned)__cvta_generic_to_shared(row);                               \
    if constexpr (N == 4)                                                                        \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])                        \
                     : "r"(from)                                                                 \
                     : "memory");                                                                \
    else                                                                                         \
        asm volatile("ldmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 {%0, %1}, [%2];"         \
                     : "=r"(to[0]), "=r"(to[1])                                                  \
                     : "r"(from)                                                                 \
                     : "memory")
template <int N, class T> __device__ inline void ldmatrix(uint32_t (&to)[N], T *row)
{
    LDMATRIX("");
}
template <int N, class T> __device__ inline void ldmatrix_transposed(uint32_t (&to)[N], T *row)
{
    LDMATRIX(".trans");
}
#undef LDMATRIX

// c += a b: 16 x 16 times 16 x 8, or bytes, 16 x 32 times 32 x 8
#define MMA(shape, types, constraint)                                                     \
    asm volatile("mma.sync.aligned." shape ".row.col." types                              \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"       \
                 : constraint(c[0]), constraint(c[1]), constraint(c[2]), constraint(c[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bf16)
{
    MMA("m16n8k16", "f32.bf16.bf16.f32", "+f");
}
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], f16)
{
    MMA("m16n8k16", "f32.f16.f16.f32", "+f");
}
__device__ inline void mma(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    MMA("m16n8k32", "s32.s8.s8.s32", "+r");
}
#undef MMA

#endif
