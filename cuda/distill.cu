// cuda/distill.cu -- the loss of rows of logits beside a teacher's and its gradient in one launch (ops/distill.c has the formulas).
//
// A block a row, two readings of both: sums, then the gradient. The divergence is sum_v p_v ((t_v - goal) - (x_v - top)) and what the sums'
// logarithms add; without the maxima, which are not known while it is summed, it is that of p_v (t_v - x_v). The gradient may take the
// place of the logits: what a thread writes it has read, and the target's logit is taken before the first barrier.
#include "cuda/gradient.h"
#include "cuda/softmax.h"

enum { THREADS = 512, EACH = 4 }; // numbers that a thread asks for at once

struct distilled {
    struct softmax own, taught;
    float apart;
};

// Numbers v, v + THREADS, ... of both rows.
__device__ static void meet(struct distilled &d, const float *x, const float *teacher, int64_t v,
                            int64_t vocab)
{
    float a[EACH], b[EACH], top = -INFINITY, goal = -INFINITY;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const bool there = v + i * THREADS < vocab;
        a[i] = there ? load(x + v + i * THREADS) : -INFINITY;
        b[i] = there ? load(teacher + v + i * THREADS) : -INFINITY;
        top = fmaxf(top, a[i]), goal = fmaxf(goal, b[i]);
    }
    d.own.raise(top);
    const float shrink = d.taught.raise(goal);
    d.apart = shrink == 0 ? 0 : d.apart * shrink; // infinite where a logit is missing
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        d.own.add(a[i]);
        const float p = d.taught.add(b[i]);
        if (p != 0) d.apart += p * (b[i] - a[i]); // 0 log 0 is 0
    }
}

template <class D> __global__ void __launch_bounds__(THREADS) distill_kernel(struct cuda_distill a)
{
    SHARED(float, part, THREADS / WARP_LANES);
    const int64_t row = blockIdx.x;
    if (row >= row_count(a.rows)) return;
    const int32_t target = load(a.targets + row);
    const float factor = (float)load(a.factor);
    const float *x = a.x + row * a.vocab, *teacher = a.teacher + row * a.vocab;
    D *dx = (D *)a.dx + row * a.dx_stride, number;
    if (target < 0) { // no loss, no gradient
        if (threadIdx.x == 0) store(a.loss + row, 0.0);
        from_f32(&number, 0.0f);
        for (int64_t v = threadIdx.x; v < a.dx_stride; v += THREADS) store(dx + v, number);
        return;
    }
    const float aim = load(x + target), share = (float)a.share;
    struct distilled d = {};
    for (int64_t v = threadIdx.x; v < a.vocab; v += EACH * THREADS) meet(d, x, teacher, v, a.vocab);
    float shrink;
    const struct softmax own = block_softmax(d.own, &shrink, part),
                         taught = block_softmax(d.taught, &shrink, part);
    const float apart = block_sum(shrink == 0 ? 0 : d.apart * shrink, part) / taught.sum;
    if (threadIdx.x == 0) {
        const float heavier = logf(own.sum),
                    divergence = (apart - (taught.top - own.top)) + (heavier - logf(taught.sum));
        store(a.loss + row,
              (1 - a.share) * (double)(heavier + (own.top - aim)) + a.share * (double)divergence);
    }
    const float scale = factor / own.sum, less = share * factor / taught.sum, rest = (1 - share) * factor;
    for (int64_t v = threadIdx.x; v < a.dx_stride; v += THREADS) {
        float d = 0;
        if (v < a.vocab)
            d = expf(load(x + v) - own.top) * scale - expf(load(teacher + v) - taught.top) * less;
        from_f32(&number, v == target ? d - rest : d);
        store(dx + v, number);
    }
}

void cuda_distill(struct cuda_stream *s, const struct cuda_distill *a)
{
    if (!a->rows.most) return;
    if (a->dx_type == DTYPE_BF16)
        CUDA_LAUNCH(distill_kernel<bf16>, blocks_for(a->rows.most, 1), THREADS, 0, s, *a);
    else
        CUDA_LAUNCH(distill_kernel<float>, blocks_for(a->rows.most, 1), THREADS, 0, s, *a);
}
