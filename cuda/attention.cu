// cuda/attention.cu -- attention over the paged cache, the keys of a row parted among blocks (cuda/attention_few.h); which form of it runs.
#include "cuda/attention_few.h"
#include "cuda/attention_forms.h"

using namespace attention_few;

enum { THREADS = 128 };

template <int N, class KEYS, class VALUES>
__device__ static void attend_tile(const struct cuda_attention &a, shared<float> q, const KEYS &keys,
                                   const VALUES &values)
{
    wait_for_previous();
    let_next_begin();
    if (blockIdx.x >= row_count(a.tile_count)) return;
    const struct attention_tile tile = load(a.tiles + blockIdx.x);
    for (int32_t r = 0; r < tile.rows; r++) {
        const struct job j = job_of(a, tile, r, (int32_t)blockIdx.y, (int32_t)blockIdx.z);
        take_queries<N, THREADS>(a, j, q);
        attend<N, THREADS>(a, j, q, keys, values);
        if (a.arrived) arrive<THREADS>(a, j);
    }
}

// Registers for four blocks a processor, of eight heads for three: theirs are the loads that hide what memory takes to answer.
template <int N, class ROWS>
__global__ void __launch_bounds__(THREADS, N == HEADS ? 3 : 4) attention_kernel(struct cuda_attention a)
{
    SHARED_DYNAMIC(char, memory);
    attend_tile<N>(a, shared_as<float>(memory), ROWS(), ROWS());
}

template <int N> __global__ void attention_any_kernel(struct cuda_attention a, bool k_fits, bool v_fits)
{
    SHARED_DYNAMIC(char, memory);
    attend_tile<N>(a, shared_as<float>(memory), rows_of_any{a.k, a.head_dim, k_fits},
                   rows_of_any{a.v, a.value_dim, v_fits});
}

// A warp a row and head.
static __global__ void attention_merge_kernel(struct cuda_attention a)
{
    const int64_t at = (int64_t)blockIdx.x * (THREADS / WARP_LANES) + warp_id(), row = at / a.heads;
    if (row < row_count(a.rows)) merge(a, row, at % a.heads);
}

template <int N> static void launch(struct cuda_stream *s, const struct cuda_attention *a)
{
    const dim3 grid((unsigned)a->tile_count.most, (unsigned)part_count(*a), (unsigned)a->splits);
    const size_t bytes = sizeof(float) * N * (size_t)query_stride(*a);
    const bool k_fits = kv_numbers_fit(&a->k, a->head_dim), v_fits = kv_numbers_fit(&a->v, a->value_dim);
#define LAUNCH(ROWS) CUDA_LAUNCH_EARLY((attention_kernel<N, ROWS>), grid, THREADS, bytes, s, *a)
    switch (k_fits && v_fits && a->k.type == a->v.type ? a->k.type : DTYPE_COUNT) {
    case DTYPE_F32: LAUNCH(kv_f32); break;
    case DTYPE_F16: LAUNCH(kv_plain<f16>); break;
    case DTYPE_BF16: LAUNCH(kv_plain<bf16>); break;
    case DTYPE_F8_E4M3: LAUNCH(kv_e4m3); break;
    case DTYPE_Q8_0: LAUNCH(kv_q8_0); break;
    case DTYPE_Q4_0: LAUNCH(kv_q4_0); break;
    default: CUDA_LAUNCH_EARLY(attention_any_kernel<N>, grid, THREADS, bytes, s, *a, k_fits, v_fits);
    }
#undef LAUNCH
}

void cuda_attention(struct cuda_stream *s, const struct cuda_attention *a)
{
    if (!a->rows.most) return;
    TLM_ASSERT(a->splits <= WARP_LANES && a->value_dim <= CUDA_VALUE_MAX && a->k.layout == KV_ROWS &&
               a->v.layout == KV_ROWS);
    if (a->rows.most >= CUDA_ATTENTION_MANY && attention_wgmma(s, a)) return;
    if (a->rows.most >= CUDA_ATTENTION_MANY && attention_mma_fits(a)) {
        attention_mma(s, a);
        return;
    }
    const int32_t group = a->heads / a->kv_heads;
    if (group == 1)
        launch<1>(s, a);
    else if (group == 2)
        launch<2>(s, a);
    else if (group <= 4)
        launch<4>(s, a);
    else
        launch<HEADS>(s, a);
    if (!a->arrived)
        CUDA_LAUNCH(attention_merge_kernel, blocks_for(a->rows.most * a->heads, THREADS / WARP_LANES),
                    THREADS, 0, s, *a);
}
