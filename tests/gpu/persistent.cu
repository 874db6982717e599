// tests/gpu/persistent.cu -- the kernel that stays: an interpreter of tasks over the device functions of the fused launches.
#include "tests/gpu/persistent.h"

#include "cuda/attention_few.h"
#include "cuda/fused_heads.h"
#include "cuda/fused_product.h"

using namespace fused;

// Tasks at hand: the one that is done, those whose weights may be brought meanwhile, and room for one more.
constexpr int RING = 4, WORDS = sizeof(struct persistent_task) / sizeof(uint64_t),
              PRODUCT = offsetof(struct persistent_task, product) / sizeof(uint64_t);
static_assert(PERSISTENT_WARPS == WARPS, "of a block");

// ---- what comes -------------------------------------------------------------------------------------------

// A task's description is on its way to shared memory while tasks in front of it are done: whoever has waited for a counter finds nothing in
// the first-level cache. It is there behind the next wait and barrier.
__device__ static void fetch_task(const struct persistent_step &p, int task, shared<uint64_t> ring)
{
    const uint64_t *from = (const uint64_t *)(p.tasks + task);
    for (int i = 2 * (int)threadIdx.x; i < WORDS && task < p.count; i += 2 * THREADS)
        copy_async16(ring + task % RING * WORDS + i, from + i);
    copy_async_commit();
}

// The weights that a warp will read, in the order in which it will: unit `unit` of `task` is the next to be brought, and `bytes` are brought
// and not read yet.
struct stream {
    int task, unit, bytes;
};

__device__ static int unit_bytes(const struct cuda_fused_shape &s)
{
    return (s.code_stride + s.scale_stride) * (s.gated ? 2 : 1);
}

// Weights of norms are read by all blocks at once, and first.
__device__ static void prefetch_norm(const struct cuda_fused_product &d)
{
    const float *from = lane_id() == 0 ? d.norm_w : lane_id() == 1 ? d.norm_b : NULL;
    if (d.shape.norm != FUSED_NO_NORM && from) prefetch(from, (unsigned)d.shape.inputs * sizeof(float));
}

// Goes on until enough bytes are on their way, through the tasks that are at hand in task `now`.
__device__ static void bring(const struct persistent_step &p, int now, shared<uint64_t> ring,
                             struct stream &at)
{
    while (at.bytes < p.ahead && at.task < now + RING - 1 && at.task < p.count) {
        const shared<uint64_t> words = ring + at.task % RING * WORDS;
        const enum persistent_kind kind = shared_as<enum persistent_kind>(words)[0];
        const struct cuda_fused_product &d = shared_as<struct cuda_fused_product>(words + PRODUCT)[0];
        if (kind == PERSISTENT_PRODUCT && at.unit < unit_count(d.shape)) {
            if (at.unit == 0) prefetch_norm(d);
            prefetch_unit(d, at.unit);
            at.bytes += unit_bytes(d.shape), at.unit += unit_step();
        } else {
            at.task++, at.unit = first_unit();
        }
    }
}

// ---- products ---------------------------------------------------------------------------------------------

// Weights of a type, and what multiplies them
template <int TYPE, class W> struct of_type {
    static constexpr int type = TYPE;
    using weights = W;
};

template <class FIRST, class... REST, class A>
__device__ static void product_task(const struct cuda_fused_product &d, int rows, shared<char> memory,
                                    A ahead)
{
    if constexpr (sizeof...(REST) > 0)
        if ((int)d.shape.type != FIRST::type) {
            product_task<REST...>(d, rows, memory, ahead);
            return;
        }
    if (rows == 1)
        walk<typename FIRST::weights, 1>(d, rows, memory, ahead);
    else if (rows)
        walk<typename FIRST::weights, PERSISTENT_ROWS>(d, rows, memory, ahead);
}

// ---- attention --------------------------------------------------------------------------------------------

__host__ __device__ static int attention_units(const struct cuda_attention &a)
{
    return (int)a.tile_count.most * attention_few::part_count(a) * a.splits;
}

// What a unit is: the first stretches, which nearly all rows have, stand in front, so that blocks share them evenly.
struct place {
    int tile, part, split;
};

__device__ static struct place place_of(const struct cuda_attention &a, int unit)
{
    const int parts = attention_few::part_count(a), tiles = (int)a.tile_count.most;
    return {unit / parts % tiles, unit % parts, unit / parts / tiles};
}

__device__ static bool in_cache(const struct cuda_attention &a, int64_t row,
                                const struct attention_few::job &j)
{
    const int32_t key = load(a.pos + row);
    return key >= j.from && key < j.to;
}

// A warp a head: the job's queries to q (HEADS, dim), and into the cache what its stretch has of the keys and values of this step. Rows of a
// tile may write the same ones, and write the same.
__device__ static void make_heads(const struct persistent_attention &t, const struct attention_tile &tile,
                                  const struct attention_few::job &j, shared<float> q)
{
    const struct cuda_fused_heads &d = t.heads;
    const struct cuda_attention &a = t.of;
    const int rows = (int)(j.row - tile.row) + 1, queries = attention_few::HEADS;
    for (int item = warp_id(); item < queries + 2 * rows; item += WARPS) {
        const shared<float> x = q + item * a.head_dim;
        const int kind = item < queries ? 0 : 1 + (item - queries) % 2;
        const int64_t row = kind ? tile.row + (item - queries) / 2 : j.row;
        const int head = kind ? (int)j.kv_head : j.head + item;
        const struct cuda_fused_head &h = d.kind[kind];
        if (!kind && (item >= j.heads || !h.heads)) {
            for (int i = lane_id(); i < a.head_dim; i += WARP_LANES)
                x[i] = item < j.heads ? load(a.q + (row * a.heads + head) * a.head_dim + i) : 0;
            continue;
        }
        if (kind && !in_cache(a, row, j)) continue;
        take_head(h, row, head, x);
        if (h.pairs) turn_head(d, h, row, x);
        if (kind) put_cached(h, load(d.slots + row), head, x);
    }
    __syncthreads();
}

// Keys and values of former steps, while those of this one are not there yet.
__device__ static void prefetch_keys(const struct cuda_attention &a, int unit)
{
    const struct place at = place_of(a, unit);
    if (at.tile >= row_count(a.tile_count)) return;
    const struct attention_few::job j =
        attention_few::job_of(a, load(a.tiles + at.tile), 0, at.part, at.split);
    const int first = j.from / KV_BLOCK,
              blocks = j.to > j.from ? ceil_div(j.to, (int32_t)KV_BLOCK) - first : 0;
    for (int i = (int)threadIdx.x; i < 2 * blocks; i += THREADS) {
        const struct paged_kv &kv = i % 2 ? a.v : a.k;
        prefetch(cache_row(kv, j.table, (first + i / 2) * KV_BLOCK, j.kv_head),
                 (unsigned)(KV_BLOCK * kv.token_stride));
    }
}

__device__ static void attention_task(const struct persistent_attention &t, shared<char> memory)
{
    const struct cuda_attention &a = t.of;
    const shared<float> q = shared_as<float>(memory);
    for (int unit = (int)blockIdx.x; unit < attention_units(a); unit += (int)gridDim.x) {
        const struct place at = place_of(a, unit);
        if (at.tile >= row_count(a.tile_count)) continue;
        const struct attention_tile tile = load(a.tiles + at.tile);
        for (int32_t r = 0; r < tile.rows; r++) {
            const struct attention_few::job j = attention_few::job_of(a, tile, r, at.part, at.split);
            if (j.from < j.to) make_heads(t, tile, j, q);
            attention_few::attend<attention_few::HEADS, THREADS>(a, j, q, kv_plain<f16>(), kv_plain<f16>());
            attention_few::arrive<THREADS>(a, j);
        }
    }
}

// ---- the step ---------------------------------------------------------------------------------------------

__host__ __device__ static int task_units(const struct persistent_task &t)
{
    return t.kind == PERSISTENT_PRODUCT ? unit_count(t.product.shape) : attention_units(t.attention.of);
}

// The block that is done last leaves the counters as they were.
__device__ static void leave(const struct persistent_step &p)
{
    if (threadIdx.x) return;
    __threadfence();
    if (atomicAdd(p.counters + p.count, 1u) != gridDim.x - 1) return;
    __threadfence();
    for (int i = 0; i <= p.count; i++) store(p.counters + i, 0u);
}

// A block a processor: of bf16 its threads have eight loads of 16 bytes on their way, 48 KiB in all, where a memory of 4.8 TB/s that answers in
// 0.7 us wants 26 KiB of each of 132 processors. With room for two blocks, threads would have to keep registers in memory.
template <class... TYPES> __global__ void __launch_bounds__(THREADS, 1) step_kernel(struct persistent_step p)
{
    SHARED_DYNAMIC(char, memory);
    SHARED(uint64_t, ring, RING * WORDS);
    struct stream at = {0, first_unit(), 0};
    for (int i = 0; i < RING - 1; i++) fetch_task(p, i, ring);
    copy_async_wait<0>();
    __syncthreads();
    for (int i = 0; i < p.count; i++) {
        const struct persistent_task &t = shared_as<struct persistent_task>(ring)[i % RING];
        const bool product = t.kind == PERSISTENT_PRODUCT;
        fetch_task(p, i + RING - 1, ring);
        bring(p, i, ring, at);
        if ((int)blockIdx.x < task_units(t)) {
            const int rows = (int)(product ? row_count(t.product.rows) : row_count(t.attention.of.rows));
            if (!product) prefetch_keys(t.attention.of, (int)blockIdx.x);
            if (threadIdx.x == 0 && t.wait >= 0) count_wait(p.counters + t.wait, t.target);
            __syncthreads();
            if (product)
                product_task<TYPES...>(t.product, rows, memory, [&](int) {
                    at.bytes -= unit_bytes(t.product.shape);
                    bring(p, i, ring, at);
                });
            else if (rows)
                attention_task(t.attention, memory);
        }
        copy_async_wait<0>();
        __syncthreads();
        if (threadIdx.x == 0 && t.raise >= 0 && (int)blockIdx.x < task_units(t))
            count_raise(p.counters + t.raise, 1);
    }
    leave(p);
}

// ---- the host ---------------------------------------------------------------------------------------------

static bool task_fits(const struct persistent_task *t)
{
    const struct cuda_attention *a = &t->attention.of;
    const struct cuda_fused_heads *h = &t->attention.heads;
    if (t->kind == PERSISTENT_PRODUCT)
        return t->product.rows.most <= PERSISTENT_ROWS &&
               cuda_fused_product_fits(&t->product.shape, t->product.rows.most);
    return a->rows.most <= PERSISTENT_ROWS && a->arrived && !a->states && a->splits <= WARP_LANES &&
           a->k.type == DTYPE_F16 && a->v.type == DTYPE_F16 && a->head_dim <= FUSED_HEAD &&
           h->kind[1].dim == a->head_dim && h->kind[2].dim == a->head_dim &&
           kv_numbers_fit(&a->k, a->head_dim) && kv_numbers_fit(&a->v, a->value_dim);
}

bool persistent_plan(struct persistent_task *tasks, int32_t count, int blocks)
{
    for (int32_t i = 0; i < count; i++) {
        if (!task_fits(&tasks[i])) return false;
        const int before = i ? task_units(tasks[i - 1]) : 0;
        tasks[i].wait = i - 1, tasks[i].raise = i + 1 < count ? i : -1;
        tasks[i].target = (uint32_t)(before < blocks ? before : blocks);
    }
    return true;
}

template <class W> static size_t task_bytes(const struct persistent_task *t)
{
    const size_t heads = attention_few::HEADS + 2 * PERSISTENT_ROWS;
    return t->kind == PERSISTENT_PRODUCT ? PERSISTENT_ROWS * W::column_bytes(t->product.shape.inputs)
                                         : heads * (size_t)t->attention.of.head_dim * sizeof(float);
}

template <class FIRST, class... REST>
static bool launched(struct cuda_stream *s, const struct persistent_step *p, int blocks)
{
    size_t bytes = 0;
    for (int32_t i = 0; i < p->count; i++) {
        const struct persistent_task *t = &p->host[i];
        const size_t own = task_bytes<typename FIRST::weights>(t);
        const int type = t->kind == PERSISTENT_PRODUCT ? (int)t->product.shape.type : FIRST::type;
        if (type != FIRST::type && !((type == REST::type) || ...)) return false;
        bytes = own > bytes ? own : bytes;
    }
    CUDA_LAUNCH_TOGETHER((step_kernel<FIRST, REST...>), (unsigned)blocks, THREADS, bytes, s, *p);
    return true;
}

bool persistent_run(struct cuda_stream *s, const struct persistent_step *p, int blocks)
{
    return launched<of_type<DTYPE_BF16, plain<bf16, bf16>>>(s, p, blocks) ||
           launched<of_type<DTYPE_Q8_0, quantized<decode_Q8_0>>>(s, p, blocks) ||
           launched<of_type<DTYPE_Q4_K, quantized<decode_Q4_K>>, of_type<DTYPE_Q6_K, quantized<decode_Q6_K>>>(
               s, p, blocks);
}

void persistent_launches(struct cuda_stream *s, const struct persistent_task *tasks, int32_t count,
                         int processors)
{
    for (int32_t i = 0; i < count; i++) {
        if (tasks[i].kind == PERSISTENT_PRODUCT) {
            cuda_fused_product(s, &tasks[i].product, processors);
        } else {
            cuda_fused_heads(s, &tasks[i].attention.heads);
            cuda_attention(s, &tasks[i].attention.of);
        }
    }
}
