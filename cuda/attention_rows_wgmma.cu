// cuda/attention_rows_wgmma.cu -- attention among the rows of a step for compute capability 9.0, q, k and v of f16 (cuda/attention_wgmma.h): a block
// takes 128 rows of a query head.
#include "cuda/attention_block.h"
#include "cuda/attention_forms.h"
#include "cuda/attention_wgmma.h"

template <int D>
__global__ void __launch_bounds__(ATTENTION_THREADS, 1)
    attention_rows_wgmma_kernel(const __grid_constant__ struct cuda_tile_map keys,
                                const __grid_constant__ struct cuda_tile_map values,
                                struct cuda_attention_rows a)
{
#if CUDA_HOPPER
    constexpr int KEYS = attention_shape<D>::KEYS;
    SHARED_TILES(char, shared_memory);
    const struct attention_memory m = memory_of<D>(shared_memory);
    // The longest rows of keys first: what is left at the end is short.
    const int64_t count = row_count(a.rows),
                  first = (int64_t)(gridDim.y - 1 - blockIdx.y) * CONSUMERS * GROUP_ROWS;
    const int32_t head = (int32_t)blockIdx.x, kv_head = head / (a.heads / a.kv_heads);
    if (first >= count) return;
    const int64_t last = first + CONSUMERS * GROUP_ROWS < count ? first + CONSUMERS * GROUP_ROWS : count;
    const struct attention_work w = {(int32_t)first_seen(a, first), (int32_t)last};
    make_barriers(m);
    if (threadIdx.x < WARPGROUP) {
        registers_give<REGISTERS_GIVEN>();
        const auto copy = [&](bool value, shared<f16> to, int32_t tile, shared<uint64_t> barrier) {
            for (int c = 0; c < D; c += TILE_COLUMNS)
                copy_tile(to + c * KEYS, value ? &values : &keys, kv_head * D + c, tile, barrier);
        };
        if (threadIdx.x == 0) fetch_tiles<D>(m, w, copy);
        return;
    }
    registers_take<REGISTERS_TAKEN>();
    const int group = (int)threadIdx.x / WARPGROUP - 1;
    const int64_t begin = first + group * GROUP_ROWS;
    const bool idle = begin >= count;
    struct rows_of_lane rows;
    float *to[2];
    for (int r = 0; r < 2; r++) {
        const int64_t row = begin + group_row(r);
        rows.at[r] = row < count ? (int32_t)row : -1;
        rows.from[r] = row < count ? (int32_t)first_seen(a, row) : 0;
        to[r] = row < count ? a.y + (row * a.heads + head) * D : NULL;
    }
    const int64_t end = begin + GROUP_ROWS < count ? begin + GROUP_ROWS : count;
    rows.all_from = idle ? 0 : (int32_t)first_seen(a, end - 1), rows.all_to = (int32_t)begin + 1;
    const vec<f16, 8> zeros = {};
    for (int i = (int)threadIdx.x % WARPGROUP; i < GROUP_ROWS * (D / 8); i += WARPGROUP) {
        const int row = i / (D / 8), c = i % (D / 8);
        const f16 *from = (const f16 *)a.q + ((begin + row) * a.heads + head) * D + c * 8;
        piece_at(m.q + group * attention_shape<D>::QUERIES, GROUP_ROWS, row, c)[0] =
            begin + row < count ? load((const vec<f16, 8> *)from) : zeros;
    }
    shared_written();
    sync_some<1, CONSUMERS * WARPGROUP>();
    const struct shaping how = {a.scale * LOG2_E, a.softcap * LOG2_E,
                                a.slopes ? load(a.slopes + head) * LOG2_E : 0};
    const float sink = a.sinks ? load(a.sinks + head) * LOG2_E : -INFINITY;
    float o[D / 2] = {}, top[2] = {sink, sink}, total[2];
    total[0] = total[1] = a.sinks ? 1.0f : 0.0f;
    if (idle) {
        let_pass<D>(m, w);
        return;
    }
    attend<D>(o, top, total, m, w, how, rows);
    write_rows<D>(to, o, total);
    for (int r = 0; r < 2; r++)
        if (a.lse && to[r] && lane_id() % 4 == 0)
            store(a.lse + (begin + group_row(r)) * a.heads + head, (top[r] + log2f(total[r])) * LN_2);
#endif
}

template <int D> static bool launch_rows(struct cuda_stream *s, const struct cuda_attention_rows *a)
{
    struct cuda_tile_map k, v;
    const int64_t width = (int64_t)a->kv_heads * D;
    const size_t stride = (size_t)width * sizeof(f16);
    if (!cuda_tile_map_make(&k, a->k, width, a->rows.most, stride, attention_shape<D>::KEYS) ||
        !cuda_tile_map_make(&v, a->v, width, a->rows.most, stride, attention_shape<D>::KEYS))
        return false;
    const dim3 grid((unsigned)a->heads, (unsigned)ceil_div(a->rows.most, (int64_t)CONSUMERS * GROUP_ROWS));
    CUDA_LAUNCH(attention_rows_wgmma_kernel<D>, grid, ATTENTION_THREADS, attention_shape<D>::BYTES, s, k, v,
                *a);
    return true;
}

bool attention_rows_wgmma(struct cuda_stream *s, const struct cuda_attention_rows *a)
{
    if (a->type != DTYPE_F16 || a->head_dim != a->value_dim || !aligned_to(a->q, 16)) return false;
    switch (a->head_dim) {
    case 64: return launch_rows<64>(s, a);
    case 128: return launch_rows<128>(s, a);
    case 256: return launch_rows<256>(s, a);
    default: return false;
    }
}
