// cuda/attention.cu -- attention over the paged cache, the keys of a row parted among blocks (cuda/attention_few.h); which form of it runs.
#include "cuda/attention_few.h"
#include "cuda/attention_forms.h"

using namespace attention_few;

enum { THREADS = 128 };

template <int N> __global__ void attention_kernel(struct cuda_attention a)
{
    SHARED_DYNAMIC(char, memory);
    const shared<float> q = shared_as<float>(memory);
    wait_for_previous();
    let_next_begin();
    if (blockIdx.x >= row_count(a.tile_count)) return;
    const struct attention_tile tile = load(a.tiles + blockIdx.x);
    for (int32_t r = 0; r < tile.rows; r++) {
        const struct job j = job_of(a, tile, r, (int32_t)blockIdx.y, (int32_t)blockIdx.z);
        take_queries<THREADS>(a, j, q);
        attend<N, THREADS>(a, j, q);
        if (a.arrived) arrive<THREADS>(a, j);
    }
}

// A warp a row and head.
static __global__ void attention_merge_kernel(struct cuda_attention a)
{
    const int64_t at = (int64_t)blockIdx.x * (THREADS / WARP_LANES) + warp_id(), row = at / a.heads;
    if (row < row_count(a.rows)) merge(a, row, at % a.heads);
}

void cuda_attention(struct cuda_stream *s, const struct cuda_attention *a)
{
    const dim3 grid((unsigned)a->tile_count.most, (unsigned)part_count(*a), (unsigned)a->splits);
    const size_t bytes = sizeof(float) * HEADS * (size_t)a->head_dim;
    if (!a->rows.most) return;
    TLM_ASSERT(a->splits <= WARP_LANES && a->value_dim <= CUDA_VALUE_MAX && a->k.layout == KV_ROWS &&
               a->v.layout == KV_ROWS);
    if (a->rows.most >= CUDA_ATTENTION_MANY && attention_wgmma(s, a)) return;
    if (a->rows.most >= CUDA_ATTENTION_MANY && attention_mma_fits(a)) {
        attention_mma(s, a);
        return;
    }
    if (kv_numbers_fit(&a->k, a->head_dim))
        CUDA_LAUNCH_EARLY(attention_kernel<8>, grid, THREADS, bytes, s, *a);
    else
        CUDA_LAUNCH_EARLY(attention_kernel<1>, grid, THREADS, bytes, s, *a);
    if (!a->arrived)
        CUDA_LAUNCH(attention_merge_kernel, blocks_for(a->rows.most * a->heads, THREADS / WARP_LANES),
                    THREADS, 0, s, *a);
}
