// cuda/sample_choose.cu -- the chain of samplers over the best logits of a row, and the draw; cuda/sample.cu tells the whole.
#include "cuda/sample.h"

using namespace sample;

constexpr int THREADS = DRAW_LIST, EACH = (int)DRAW_VOCAB_MOST / GROUP / THREADS; // groups of a thread
constexpr int COUNT_BITS = 20;                                                    // of a count of groups

struct list {                  // in shared memory
    shared<double> key;        // (DRAW_LIST) what a rank goes by; NaN: no candidate any more
    shared<uint64_t> weight;   // (DRAW_LIST)
    shared<int32_t> id, group; // (DRAW_LIST)
    shared<int> start;         // (DRAW_LIST)
    shared<uint64_t> sums;     // a number a warp, like these
    shared<double> times;
    shared<int> counts;
    shared<int32_t> ids;
};

// The largest of each group, a thread's groups THREADS apart.
struct tops {
    float x[EACH];
};

__device__ static struct tops load_tops(const float *from, int64_t groups)
{
    struct tops t;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int64_t at = (int64_t)i * THREADS + threadIdx.x;
        t.x[i] = at < groups ? load(from + at) : -INFINITY;
    }
    return t;
}

__device__ static int count_from(const struct tops &t, float bound)
{
    int n = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) n += t.x[i] >= bound;
    return n;
}

// Floats in the order of integers, and back.
__device__ static uint32_t rank_of(float x)
{
    const uint32_t u = f32_to_bits(x);
    return u >> 31 ? ~u : u | 0x80000000u;
}

__device__ static float of_rank(uint32_t rank)
{
    return bits_to_f32(rank >> 31 ? rank & 0x7fffffffu : ~rank);
}

// How many groups reach each of three bounds, side by side.
__device__ static uint64_t count_three(const struct tops &t, uint32_t low, uint32_t step,
                                       const struct list &l)
{
    uint64_t n = 0;
    for (int i = 3; i > 0; i--)
        n = n << COUNT_BITS | (uint64_t)count_from(t, of_rank(low + (uint32_t)i * step));
    return fold(n, l.sums, plus);
}

// A bound that at least `want` groups reach, and hardly more; the least number where there are fewer groups with a candidate. The range
// is cut into four until it is a single number.
__device__ static float find_bound(const struct tops &t, float top, int want, const struct list &l)
{
    uint32_t low = rank_of(LEAST), high = rank_of(top) + 1;
    int all = (int)fold((uint64_t)count_from(t, LEAST), l.sums, plus);
    if (all < want) return LEAST;
    while (high - low > 1 && all > want + want / 4) {
        const uint32_t step = (high - low + 3) / 4;
        uint64_t n = count_three(t, low, step, l);
        const uint32_t begin = low;
        for (int i = 1; i <= 3; i++, n >>= COUNT_BITS) {
            const uint32_t rank = begin + (uint32_t)i * step;
            const int reached = (int)(n & ((1u << COUNT_BITS) - 1));
            if (rank >= high) break;
            if (reached < want) {
                high = rank;
                break;
            }
            low = rank, all = reached;
        }
    }
    return of_rank(low);
}

// Lists the logits from the bound on. Returns how many there are; more than DRAW_LIST are not listed.
__device__ static int list_from(const struct tops &t, float bound, const float *x, int64_t vocab,
                                const struct list &l)
{
    int groups, n;
    int at = count_before(count_from(t, bound), l.counts, &groups);
    if (groups > DRAW_LIST) return groups;
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (t.x[i] >= bound) l.group[at++] = (int32_t)(i * THREADS + threadIdx.x);
    __syncthreads();
    for (int pass = 0; pass < 2; pass++) {
        for (int g = warp_id(); g < groups; g += THREADS / WARP_LANES) {
            const int32_t id = l.group[g] * GROUP + lane_id();
            const float logit = id < vocab ? load(x + id) : -INFINITY;
            const unsigned there = __ballot_sync(ALL_LANES, logit >= bound);
            if (!pass) {
                if (lane_id() == 0) l.start[g] = __popc(there);
            } else if (logit >= bound) {
                const int place = l.start[g] + __popc(there & ((1u << lane_id()) - 1));
                l.key[place] = (double)logit;
                l.id[place] = id;
            }
        }
        __syncthreads();
        if (pass) break;
        const int mine = (int)threadIdx.x < groups ? (int)l.start[threadIdx.x] : 0;
        const int before = count_before(mine, l.counts, &n);
        if (n > DRAW_LIST) return n;
        if ((int)threadIdx.x < groups) l.start[threadIdx.x] = before;
        __syncthreads();
    }
    return n;
}

// A thread's candidate, and what is known of the list that it is in.
struct candidate {
    double logit;
    int32_t id;
    bool there;
};
struct known {
    int count;     // candidates listed, among them some that are out again
    bool complete; // there are no others
    double bound;  // of the logits of others
};

__device__ static double highest(const struct candidate &c, const struct list &l)
{
    return fold(c.there ? c.logit : -INFINITY, l.times, larger);
}

// Is the weight of those that are better than this one less than `mass`? True for the best.
__device__ static bool within(const struct candidate &c, double key, uint64_t weight, double mass,
                              double unit, const struct known &k, const struct list &l)
{
    const int i = (int)threadIdx.x;
    if (i < k.count) {
        l.key[i] = c.there ? key : (double)NAN;
        l.weight[i] = weight;
        l.id[i] = c.id;
    }
    __syncthreads();
    uint64_t sum = 0;
    bool best = true;
    if (c.there)
        for (int j = 0; j < k.count; j++) {
            const double other = l.key[j];
            if (!(other > key || (other == key && l.id[j] < c.id))) continue;
            sum += l.weight[j];
            best = false;
        }
    __syncthreads();
    return c.there && (best || (double)sum / unit < mass);
}

// The weights e^(logit - max) as integers, and *sum.
__device__ static uint64_t weigh(const struct candidate &c, double max, double unit, uint64_t *sum,
                                 const struct list &l)
{
    const uint64_t weight = c.there ? draw_weight(draw_exp(c.logit - max), unit) : 0;
    *sum = fold(weight, l.sums, plus);
    return weight;
}

// One step of the chain. False where the list does not hold enough to say.
__device__ static bool apply(struct draw_step step, struct candidate &c, struct known &k, uint64_t row_weight,
                             double unit, const struct list &l)
{
    const double max = highest(c, l);
    uint64_t listed;
    if (step.kind == DRAW_TEMPERATURE) {
        c.logit /= step.value;
        k.bound /= step.value;
        return true;
    }
    if (step.kind == DRAW_MIN_P) {
        const double least = max + step.value;
        c.there = c.there && c.logit >= least;
        k.complete = k.complete || k.bound <= least;
        return k.complete;
    }
    if (step.kind == DRAW_TOP_K) {
        if (!k.complete && step.value > k.count) return false;
        c.there = within(c, c.logit, 1, step.value, 1, k, l);
        k.complete = true;
        return true;
    }
    const uint64_t weight = weigh(c, max, unit, &listed, l);
    const double all = (double)(k.complete ? listed : row_weight) / unit, mass = step.value * all;
    if (step.kind == DRAW_TOP_P) {
        if (!k.complete && (double)listed / unit < mass) return false;
        const double p = c.there ? draw_exp(c.logit - max) : 0;
        c.there = within(c, p, weight, mass, unit, k, l);
        // Others may be as likely as the least of the list, where they round to the same.
        const bool doubt = !k.complete && c.there && p <= draw_exp(k.bound - max) * (1 + 0x1p-40);
        k.complete = fold((int)doubt, l.counts, either) == 0;
        return k.complete;
    }
    if (!k.complete) return false;
    const double share = c.there ? draw_exp(c.logit - max) * (max - c.logit) : 0;
    const uint64_t below = fold(draw_weight(share, unit), l.sums, plus);
    const double mean = -((double)below / unit / all);
    c.there = within(c, -fabs(c.logit - max - mean), weight, mass, unit, k, l);
    return true;
}

// The chain over a list, and the draw.
__device__ static int32_t draw(const struct draw_row &r, struct candidate c, struct known k,
                               uint64_t row_weight, double unit, const struct list &l)
{
    for (int i = 0; i < r.length; i++)
        if (!apply(r.chain[i], c, k, row_weight, unit, l)) return DRAW_NONE;
    if (!k.complete) return DRAW_NONE;
    const double max = highest(c, l);
    uint64_t sum;
    weigh(c, max, unit, &sum, l);
    struct ring first = {INFINITY, INT32_MAX};
    if (c.there) {
        first.id = c.id;
        first = rung(r, c.id, draw_exp(c.logit - max) * (1 / ((double)sum / unit)), first);
    }
    return first_ring(first, l.times, l.ids).id;
}

// The first of the highest.
__device__ static int32_t first_highest(const struct cuda_sample &a, int64_t row, const struct tops &t,
                                        float top, const struct list &l)
{
    int32_t group = INT32_MAX;
#pragma unroll
    for (int i = EACH - 1; i >= 0; i--)
        if (t.x[i] == top) group = (int32_t)(i * THREADS + threadIdx.x);
    group = first_ring({0, group}, l.times, l.ids).id;
    const int64_t at = (int64_t)group * GROUP + lane_id();
    const float logit = at < a.vocab ? load(a.x + row * a.vocab + at) : -INFINITY;
    return group * GROUP + __ffs((int)__ballot_sync(ALL_LANES, logit == top)) - 1;
}

__device__ static int32_t choose(const struct cuda_sample &a, int64_t row, double unit, const struct list &l)
{
    const struct draw_row &r = a.data->rows[row];
    const struct place from = place_of(a, row);
    if (r.all) {
        struct ring first = {INFINITY, r.last_resort};
        for (int64_t i = threadIdx.x; i < slices_of(a.vocab); i += THREADS)
            first = earlier(first, load(from.rings + i));
        return first_ring(first, l.times, l.ids).id;
    }
    const int64_t groups = ceil_div(a.vocab, (int64_t)GROUP);
    const struct tops t = load_tops(from.group_top, groups);
    float top = -INFINITY;
#pragma unroll
    for (int i = 0; i < EACH; i++) top = fmaxf(top, t.x[i]);
    top = (float)fold((double)top, l.times, larger);
    if (top == -INFINITY) return r.last_resort;
    if (r.greedy) return first_highest(a, row, t, top, l);

    const bool counts = r.length && r.chain[0].kind == DRAW_TOP_K && r.chain[0].value <= (double)DRAW_LIST;
    float bound = top;
    int n = 0;
    for (int want = counts ? (int)r.chain[0].value : DRAW_BOUND; want; want /= 2) {
        bound = top == INFINITY ? top : a.vocab <= DRAW_LIST ? LEAST : find_bound(t, top, want, l);
        n = list_from(t, bound, a.x + row * a.vocab, a.vocab, l);
        if (n <= DRAW_LIST || top == INFINITY) break;
    }
    if (n > DRAW_LIST) return DRAW_NONE;
    struct candidate c = {0, 0, (int)threadIdx.x < n};
    if (c.there) c.logit = top == INFINITY ? 0 : (double)l.key[threadIdx.x], c.id = l.id[threadIdx.x];
    __syncthreads();
    const bool complete = top == INFINITY || bound == LEAST;
    return draw(r, c, {n, complete, (double)bound}, complete || !r.weigh ? 0 : row_sum(a, from, l.sums), unit,
                l);
}

static __global__ void __launch_bounds__(THREADS) choose_kernel(struct cuda_sample a, double unit)
{
    SHARED(double, key, DRAW_LIST);
    SHARED(uint64_t, weight, DRAW_LIST);
    SHARED(int32_t, id, DRAW_LIST);
    SHARED(int32_t, group, DRAW_LIST);
    SHARED(int, start, DRAW_LIST);
    SHARED(uint64_t, sums, WARP_LANES);
    SHARED(double, times, WARP_LANES);
    SHARED(int, counts, WARP_LANES);
    SHARED(int32_t, ids, WARP_LANES);
    wait_for_previous();
    let_next_begin();
    const struct list l = {key, weight, id, group, start, sums, times, counts, ids};
    for (int64_t row = blockIdx.x; row < a.data->count; row += gridDim.x) {
        const int32_t token = a.data->rows[row].length == DRAW_NONE ? DRAW_NONE : choose(a, row, unit, l);
        if (threadIdx.x == 0) store(a.drawn + row, token);
        __syncthreads();
    }
}

void sample_choose(struct cuda_stream *s, const struct cuda_sample *a, double unit)
{
    CUDA_LAUNCH_EARLY(choose_kernel, blocks_for(a->most < MOST_ROWS ? a->most : MOST_ROWS, 1), THREADS, 0, s,
                      *a, unit);
}
