// cuda/experts_dx.cu -- gradients of a mixture of experts but for its products (ops/nodes_experts_gradient.c, ops/route.c have the sums).
#include "cuda/device.h"
#include "cuda/experts_gradient.h"

enum { THREADS = 256, WARPS = THREADS / WARP_LANES };

static __global__ void sum_heads_kernel(float *y, const float *x, struct cuda_rows rows, int32_t heads,
                                        int64_t count)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, row = i / count;
    if (row >= row_count(rows)) return;
    float sum = 0;
    for (int32_t h = 0; h < heads; h++) sum += load(x + (row * heads + h) * count + i % count);
    store(y + i, sum);
}

void cuda_sum_heads(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int32_t heads,
                    int64_t count)
{
    if (rows.most)
        CUDA_LAUNCH(sum_heads_kernel, blocks_for(rows.most * count, THREADS), THREADS, 0, s, y, x, rows,
                    heads, count);
}

// A block a pair
static __global__ void combine_dx_kernel(float *dx, const float *dy, const float *route, struct cuda_order o,
                                         struct cuda_rows pairs, int64_t cols, int32_t used)
{
    const int64_t pair = blockIdx.x;
    if (pair >= row_count(pairs)) return;
    const int32_t source = load(o.source + pair);
    const int64_t row = source / used;
    const float weight = load(route + row * 2 * used + source % used);
    for (int64_t i = threadIdx.x; i < cols; i += THREADS)
        store(dx + pair * cols + i, load(dy + row * cols + i) * weight);
}

void cuda_combine_dx(struct cuda_stream *s, float *dx, const float *dy, const float *route,
                     const struct cuda_order *o, struct cuda_rows pairs, int64_t cols, int32_t used)
{
    if (pairs.most)
        CUDA_LAUNCH(combine_dx_kernel, blocks_for(pairs.most, 1), THREADS, 0, s, dx, dy, route, *o, pairs,
                    cols, used);
}

// A warp a row and choice: dy x
static __global__ void combine_dw_kernel(float *dw, const float *dy, const float *x, struct cuda_order o,
                                         struct cuda_rows rows, int64_t cols, int32_t used)
{
    const int64_t choice = (int64_t)blockIdx.x * WARPS + warp_id(), row = choice / used;
    if (row >= row_count(rows)) return;
    const float *of = x + load(o.place + choice) * cols;
    float sum = 0;
    for (int64_t i = lane_id(); i < cols; i += WARP_LANES) sum += load(dy + row * cols + i) * load(of + i);
    sum = warp_sum(sum);
    if (lane_id()) return;
    store(dw + row * 2 * used + choice % used, sum);
    store(dw + row * 2 * used + used + choice % used, 0.0f);
}

void cuda_combine_dw(struct cuda_stream *s, float *dw, const float *dy, const float *x,
                     const struct cuda_order *o, struct cuda_rows rows, int64_t cols, int32_t used)
{
    if (rows.most)
        CUDA_LAUNCH(combine_dw_kernel, blocks_for(rows.most * used, WARPS), THREADS, 0, s, dw, dy, x, *o,
                    rows, cols, used);
}

static __global__ void gather_dx_kernel(float *dx, const float *dy, struct cuda_order o,
                                        struct cuda_rows rows, int64_t cols, int32_t used)
{
    const int64_t row = blockIdx.x;
    if (row >= row_count(rows)) return;
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) {
        float sum = 0;
        for (int32_t c = 0; c < used; c++) sum += load(dy + load(o.place + row * used + c) * cols + i);
        store(dx + row * cols + i, sum);
    }
}

void cuda_gather_dx(struct cuda_stream *s, float *dx, const float *dy, const struct cuda_order *o,
                    struct cuda_rows rows, int64_t cols, int32_t used)
{
    if (rows.most)
        CUDA_LAUNCH(gather_dx_kernel, blocks_for(rows.most, 1), THREADS, 0, s, dx, dy, *o, rows, cols, used);
}

// A thread a column, its rows in order.
static __global__ void bias_experts_dw_kernel(float *db, const float *dy, struct cuda_base base,
                                              struct cuda_order o, int64_t cols)
{
    const int64_t column = (int64_t)blockIdx.x * THREADS + threadIdx.x, expert = blockIdx.y;
    if (column >= cols) return;
    const int32_t last = load(o.offset + expert + 1);
    float sum = has_base(base) ? load(base.from + expert * cols + column) : 0;
    for (int64_t pair = load(o.offset + expert); pair < last; pair++) sum += load(dy + pair * cols + column);
    store(db + expert * cols + column, sum);
}

void cuda_bias_experts_dw(struct cuda_stream *s, float *db, const float *dy, struct cuda_base base,
                          const struct cuda_order *o, int64_t experts, int64_t cols)
{
    const dim3 grid((unsigned)ceil_div(cols, (int64_t)THREADS), (unsigned)experts);
    CUDA_LAUNCH(bias_experts_dw_kernel, grid, THREADS, 0, s, db, dy, base, *o, cols);
}

// ---- the router ---------------------------------------------------------------------------------------

// A warp a row; scores are worked out again (ops/route.c has the derivation).
static __global__ void route_dx_kernel(struct cuda_route_dx a)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + warp_id();
    if (row >= row_count(a.rows)) return;
    const float *logits = a.logits + row * a.experts, *dy = a.dy + row * 2 * a.used;
    const float *w = a.out + row * 2 * a.used;
    const int32_t *chosen = (const int32_t *)(w + a.used);
    const bool sigmoid = a.gate == ROUTE_SIGMOID, divide = a.normalize || a.gate == ROUTE_SOFTMAX_CHOSEN;
    float top = -INFINITY, all = 0;
    for (int32_t e = lane_id(); e < a.experts; e += WARP_LANES) top = fmaxf(top, load(logits + e));
    top = warp_max(top);
    const auto score = [&](int32_t e) {
        const float x = load(logits + e);
        return sigmoid ? 1 / (1 + expf(-x)) : expf(x - top);
    };
    for (int32_t e = lane_id(); e < a.experts; e += WARP_LANES) all += score(e);
    all = sigmoid ? 1 : warp_sum(all);
    float sum = 0, through = 0, total = 0;
    for (int32_t i = 0; i < a.used; i++) { // few: each lane for itself
        const float p = score(load(chosen + i));
        sum += p;
        through += load(dy + i) * load(w + i);
        if (!divide) total += a.scale * load(dy + i) * p / all;
    }
    for (int32_t e = lane_id(); e < a.experts; e += WARP_LANES) {
        const float p = score(e);
        float d = 0; // p times the gradient by p
        for (int32_t i = 0; i < a.used; i++)
            if (load(chosen + i) == e)
                d = divide ? (a.scale * load(dy + i) - through) * p / sum : a.scale * load(dy + i) * p / all;
        store(a.dx + row * a.experts + e, sigmoid ? d * (1 - p) : d - p / all * total);
    }
}

void cuda_route_dx(struct cuda_stream *s, const struct cuda_route_dx *a)
{
    if (a->rows.most) CUDA_LAUNCH(route_dx_kernel, blocks_for(a->rows.most, WARPS), THREADS, 0, s, *a);
}
