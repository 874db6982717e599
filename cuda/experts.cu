// cuda/experts.cu -- mixtures of experts: who gets which row, the order of the rows, and the way back (ops/route.c and ops/nodes_experts.c have
// the formulas and the layouts). Products of experts: cuda_matmul_grouped().
#include "cuda/device.h"
#include "cuda/experts.h"

enum { THREADS = 256, SORT_THREADS = 1024 };

// ---- route: a warp a row ------------------------------------------------------------------------------------

struct choice {
    float value;
    int32_t expert;
};

// The largest of the numbers, of equal ones the first; expert -1 where there is none above -inf.
__device__ static struct choice best_of(shared<float> from, int32_t count)
{
    struct choice best = {-INFINITY, -1};
    for (int32_t e = lane_id(); e < count; e += WARP_LANES)
        if (from[e] > best.value) best = {from[e], e};
    for (int other = WARP_LANES / 2; other; other /= 2) {
        const struct choice c = {__shfl_xor_sync(ALL_LANES, best.value, other),
                                 __shfl_xor_sync(ALL_LANES, best.expert, other)};
        const bool equal = c.value == best.value && c.expert >= 0 && c.expert < best.expert;
        if (c.value > best.value || equal) best = c;
    }
    return best;
}

// p (experts): softmax, sigmoid, or the logits themselves
__device__ static void score(shared<float> p, const float *logits, const struct cuda_route &a)
{
    float top = -INFINITY, sum = 0;
    for (int32_t e = lane_id(); e < a.experts; e += WARP_LANES) top = fmaxf(top, load(logits + e));
    top = warp_max(top);
    for (int32_t e = lane_id(); e < a.experts; e += WARP_LANES) {
        const float x = load(logits + e);
        const float s = a.gate == ROUTE_SOFTMAX   ? expf(x - top)
                        : a.gate == ROUTE_SIGMOID ? 1 / (1 + expf(-x))
                                                  : x;
        sum += s;
        p[e] = s;
    }
    sum = warp_sum(sum);
    if (a.gate == ROUTE_SOFTMAX)
        for (int32_t e = lane_id(); e < a.experts; e += WARP_LANES) p[e] = p[e] / sum;
}

// Experts outside the best groups cannot be chosen: their choice becomes -inf.
__device__ static void limit_groups(shared<float> choice, shared<float> group, const struct cuda_route &a)
{
    const int32_t size = a.experts / a.groups;
    for (int32_t g = lane_id(); g < a.groups; g += WARP_LANES) {
        float first = -INFINITY, second = -INFINITY;
        for (int32_t e = g * size; e < (g + 1) * size; e++) {
            const float c = choice[e];
            if (c > first)
                second = first, first = c;
            else if (c > second)
                second = c;
        }
        group[g] = a.choice_bias && size > 1 ? first + second : first;
    }
    __syncwarp();
    for (int32_t i = 0; i < a.groups_used; i++) {
        const struct choice best = best_of(group, a.groups);
        __syncwarp();
        if (lane_id() == 0 && best.expert >= 0) group[best.expert] = -INFINITY;
        __syncwarp();
    }
    for (int32_t e = lane_id(); e < a.experts; e += WARP_LANES)
        if (group[e / size] > -INFINITY) choice[e] = -INFINITY; // not taken
    __syncwarp();
}

// The weights of the chosen, by one lane: there are few.
__device__ static void weigh(float *w, const struct cuda_route &a)
{
    float sum = 0, top = load(w);
    const bool softmax = a.gate == ROUTE_SOFTMAX_CHOSEN;
    for (int32_t i = 1; i < a.used; i++) top = fmaxf(top, load(w + i));
    for (int32_t i = 0; i < a.used; i++) {
        if (softmax) store(w + i, expf(load(w + i) - top));
        sum += load(w + i);
    }
    const bool divide = a.normalize || softmax;
    for (int32_t i = 0; i < a.used; i++) store(w + i, (divide ? load(w + i) / sum : load(w + i)) * a.scale);
}

static __global__ void route_kernel(struct cuda_route a)
{
    SHARED_DYNAMIC(char, memory);
    const int64_t row = blockIdx.x;
    if (row >= row_count(a.rows)) return;
    const shared<float> p = shared_as<float>(memory), choice = p + a.experts, group = choice + a.experts;
    float *w = a.out + row * 2 * a.used;
    int32_t *chosen = (int32_t *)(w + a.used);
    score(p, a.logits + row * a.experts, a);
    for (int32_t e = lane_id(); e < a.experts; e += WARP_LANES)
        choice[e] = p[e] + (a.choice_bias ? load(a.choice_bias + e) : 0);
    __syncwarp();
    if (a.groups > 1) limit_groups(choice, group, a);
    for (int32_t i = 0; i < a.used; i++) {
        const struct choice best = best_of(choice, a.experts);
        __syncwarp();
        if (lane_id() == 0) {
            const int32_t e = best.expert < 0 ? i : best.expert; // logits that are all NaN
            store(chosen + i, e);
            store(w + i, (float)p[e]);
            choice[e] = -INFINITY;
        }
        __syncwarp();
    }
    if (lane_id() == 0) weigh(w, a);
}

void cuda_route(struct cuda_stream *s, const struct cuda_route *a)
{
    const size_t bytes = sizeof(float) * (size_t)(2 * a->experts + a->groups);
    if (a->rows.most) CUDA_LAUNCH(route_kernel, blocks_for(a->rows.most, 1), WARP_LANES, bytes, s, *a);
}

// ---- sort: one block; a warp an expert looks through all pairs, 32 at a time ----------------------------------

__device__ static int32_t chosen_at(const float *route, int32_t used, int64_t pair)
{
    return load((const int32_t *)(route + pair / used * 2 * used + used) + pair % used);
}

static __global__ void sort_kernel(struct cuda_order o, const float *route, struct cuda_rows rows,
                                   int32_t experts, int32_t used)
{
    SHARED_DYNAMIC(char, memory);
    const shared<int32_t> begin = shared_as<int32_t>(memory); // (experts + 1)
    const int64_t pairs = row_count(rows) * used;
    const int32_t warps = SORT_THREADS / WARP_LANES, lane = lane_id();
    for (int32_t e = warp_id(); e < experts; e += warps) {
        int32_t count = 0;
        for (int64_t i = 0; i < pairs; i += WARP_LANES) {
            const bool mine = i + lane < pairs && chosen_at(route, used, i + lane) == e;
            count += __popc(__ballot_sync(ALL_LANES, mine));
        }
        if (lane == 0) begin[e + 1] = count;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int32_t active = 0, sum = 0;
        begin[0] = 0;
        for (int32_t e = 0; e < experts; e++) {
            const int32_t count = begin[e + 1];
            if (count) store(o.active + active++, e);
            store(o.offset + e, sum);
            begin[e] = sum;
            sum += count;
        }
        store(o.offset + experts, sum);
        store(o.active_count, active);
    }
    __syncthreads();
    for (int32_t e = warp_id(); e < experts; e += warps) {
        int32_t at = begin[e];
        for (int64_t i = 0; i < pairs; i += WARP_LANES) {
            const bool mine = i + lane < pairs && chosen_at(route, used, i + lane) == e;
            const unsigned all = __ballot_sync(ALL_LANES, mine);
            const int32_t place = at + __popc(all & ((1u << lane) - 1));
            if (mine) {
                store(o.source + place, (int32_t)(i + lane));
                store(o.expert + place, e);
                store(o.place + i + lane, place);
            }
            at += __popc(all);
        }
    }
}

void cuda_sort_experts(struct cuda_stream *s, const struct cuda_order *o, const float *route,
                       struct cuda_rows rows, int32_t experts, int32_t used)
{
    if (rows.most)
        CUDA_LAUNCH(sort_kernel, dim3(1), SORT_THREADS, sizeof(int32_t) * (size_t)(experts + 1), s, *o, route,
                    rows, experts, used);
}

// ---- between and behind: a block a row ------------------------------------------------------------------------

// Rows of `cols` numbers that are as wide as T
template <class T>
__global__ void gather_kernel(T *y, const T *x, struct cuda_order o, struct cuda_rows pairs, int64_t cols,
                              int32_t used)
{
    const int64_t pair = blockIdx.x;
    if (pair >= row_count(pairs)) return;
    const T *from = x + load(o.source + pair) / used * cols;
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) store(y + pair * cols + i, load(from + i));
}

template <class T>
static void gather(struct cuda_stream *s, void *y, const void *x, const struct cuda_order *o,
                   struct cuda_rows pairs, int64_t cols, int32_t used)
{
    CUDA_LAUNCH(gather_kernel<T>, blocks_for(pairs.most, 1), THREADS, 0, s, (T *)y, (const T *)x, *o, pairs,
                cols, used);
}

void cuda_gather_experts(struct cuda_stream *s, void *y, const void *x, enum dtype type,
                         const struct cuda_order *o, struct cuda_rows pairs, int64_t cols, int32_t used)
{
    if (!pairs.most) return;
    if (type == DTYPE_F32) {
        gather<uint32_t>(s, y, x, o, pairs, cols, used);
    } else if (type == DTYPE_BF16) {
        gather<uint16_t>(s, y, x, o, pairs, cols, used);
    } else { // codes, and their scales behind all of them
        const struct cuda_q8 to = cuda_q8_at(y, pairs.most, cols),
                             from = cuda_q8_at((void *)x, pairs.most / used, cols);
        TLM_ASSERT(type == DTYPE_Q8_1);
        gather<uint32_t>(s, to.codes, from.codes, o, pairs, cols / 4, used);
        gather<uint32_t>(s, to.scales, from.scales, o, pairs, cols / 32, used);
    }
}

static __global__ void bias_experts_kernel(float *y, const float *x, const float *b, struct cuda_order o,
                                           struct cuda_rows pairs, int64_t cols)
{
    const int64_t pair = blockIdx.x;
    if (pair >= row_count(pairs)) return;
    const float *bias = b + load(o.expert + pair) * cols;
    for (int64_t i = threadIdx.x; i < cols; i += THREADS)
        store(y + pair * cols + i, load(x + pair * cols + i) + load(bias + i));
}

void cuda_bias_experts(struct cuda_stream *s, float *y, const float *x, const float *b,
                       const struct cuda_order *o, struct cuda_rows pairs, int64_t cols)
{
    if (pairs.most)
        CUDA_LAUNCH(bias_experts_kernel, blocks_for(pairs.most, 1), THREADS, 0, s, y, x, b, *o, pairs, cols);
}

static __global__ void combine_kernel(float *y, const float *x, const float *route, struct cuda_order o,
                                      struct cuda_rows rows, int64_t cols, int32_t used)
{
    const int64_t row = blockIdx.x;
    if (row >= row_count(rows)) return;
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) {
        float sum = 0;
        for (int32_t c = 0; c < used; c++)
            sum += load(route + row * 2 * used + c) * load(x + load(o.place + row * used + c) * cols + i);
        store(y + row * cols + i, sum);
    }
}

void cuda_combine_experts(struct cuda_stream *s, float *y, const float *x, const float *route,
                          const struct cuda_order *o, struct cuda_rows rows, int64_t cols, int32_t used)
{
    if (rows.most)
        CUDA_LAUNCH(combine_kernel, blocks_for(rows.most, 1), THREADS, 0, s, y, x, route, *o, rows, cols,
                    used);
}
