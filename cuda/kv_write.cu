// cuda/kv_write.cu -- rows of keys or values into the blocks of the cache (ops/paged.h), in the cache's type.
#include "cuda/e4m3.h"
#include "quant/quant.h"

enum { THREADS = 256 };

// Where the row of head `head` goes that has the slot `slot`: block * KV_BLOCK + place in the block.
__device__ static char *cache_row(const struct paged_kv &kv, int32_t slot, int64_t head)
{
    return kv.data + (size_t)(slot / KV_BLOCK) * kv.block_stride + (size_t)head * kv.head_stride +
           (size_t)(slot % KV_BLOCK) * kv.token_stride;
}

template <class T>
__global__ void kv_write_kernel(struct paged_kv kv, const float *x, const int32_t *slots,
                                struct cuda_rows rows, int32_t heads, int32_t head_dim)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, head = i / head_dim;
    if (head >= row_count(rows) * heads) return;
    T number;
    from_f32(&number, load(x + i));
    store((T *)cache_row(kv, load(slots + head / heads), head % heads) + i % head_dim, number);
}

// A warp a block of 32 numbers, rounded as quant/q8_0.c does.
static __global__ void kv_write_q8_0_kernel(struct paged_kv kv, const float *x, const int32_t *slots,
                                            struct cuda_rows rows, int32_t heads, int32_t head_dim)
{
    const int64_t block = (int64_t)blockIdx.x * (THREADS / WARP_LANES) + warp_id(), blocks = head_dim / 32;
    const int64_t head = block / blocks;
    if (head >= row_count(rows) * heads) return;
    const float number = load(x + block * 32 + lane_id());
    const float scale = warp_max(fabsf(number)) / 127, inverse = scale == 0 ? 0 : 1 / scale;
    struct block_q8_0 *to =
        (struct block_q8_0 *)cache_row(kv, load(slots + head / heads), head % heads) + block % blocks;
    store(to->qs + lane_id(), (int8_t)roundf(number * inverse));
    if (lane_id()) return;
    f16 d;
    from_f32(&d, scale);
    to->d = d.bits;
}

// Likewise, as quant/q4_0.c does: the number furthest from zero, of equal ones the first, becomes -8.
static __global__ void kv_write_q4_0_kernel(struct paged_kv kv, const float *x, const int32_t *slots,
                                            struct cuda_rows rows, int32_t heads, int32_t head_dim)
{
    const int64_t block = (int64_t)blockIdx.x * (THREADS / WARP_LANES) + warp_id(), blocks = head_dim / 32;
    const int64_t head = block / blocks;
    if (head >= row_count(rows) * heads) return;
    const float number = load(x + block * 32 + lane_id());
    float peak = number;
    int at = lane_id();
    for (int other = WARP_LANES / 2; other; other /= 2) {
        const float p = __shfl_xor_sync(ALL_LANES, peak, other);
        const int a = __shfl_xor_sync(ALL_LANES, at, other);
        if (fabsf(p) > fabsf(peak) || (fabsf(p) == fabsf(peak) && a < at)) peak = p, at = a;
    }
    const float scale = peak / -8, inverse = scale == 0 ? 0 : 1 / scale;
    int code = (int)(number * inverse + 8.5f);
    code = code > 15 ? 15 : code < 0 ? 0 : code;
    const int above = __shfl_xor_sync(ALL_LANES, code, 16);
    struct block_q4_0 *to =
        (struct block_q4_0 *)cache_row(kv, load(slots + head / heads), head % heads) + block % blocks;
    if (lane_id() < 16) store(to->qs + lane_id(), (uint8_t)(code | above << 4));
    if (lane_id()) return;
    f16 d;
    from_f32(&d, scale);
    to->d = d.bits;
}

void cuda_kv_write(struct cuda_stream *s, const struct paged_kv *cache, const float *x, const int32_t *slots,
                   struct cuda_rows rows, int32_t heads, int32_t head_dim)
{
    const int64_t count = rows.most * heads * head_dim;
    const dim3 grid = blocks_for(count, THREADS);
    if (!count) return;
    TLM_ASSERT(cache->layout == KV_ROWS);
#define WRITE(kernel) CUDA_LAUNCH(kernel, grid, THREADS, 0, s, *cache, x, slots, rows, heads, head_dim)
    switch (cache->type) {
    case DTYPE_F32: WRITE(kv_write_kernel<float>); return;
    case DTYPE_F16: WRITE(kv_write_kernel<f16>); return;
    case DTYPE_BF16: WRITE(kv_write_kernel<bf16>); return;
    case DTYPE_F8_E4M3: WRITE(kv_write_kernel<e4m3>); return;
    case DTYPE_Q4_0:
        TLM_ASSERT(head_dim % 32 == 0);
        WRITE(kv_write_q4_0_kernel);
        return;
    default: TLM_ASSERT(cache->type == DTYPE_Q8_0 && head_dim % 32 == 0); WRITE(kv_write_q8_0_kernel);
    }
#undef WRITE
}
