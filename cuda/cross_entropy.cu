// cuda/cross_entropy.cu -- the loss of rows of logits and its gradient in one launch (ops/cross_entropy.c has the formulas).
//
// A block a row, three readings: the maximum, the sum, the gradient. The logits of a chunk of rows exist at a time, so the gradient may
// take their place: what a thread writes it has read, and the target's logit is taken before the first barrier.
#include "cuda/device.h"

enum { THREADS = 256 };

static __global__ void cross_entropy_kernel(double *loss, float *dx, const float *x, const int32_t *targets,
                                            struct cuda_rows rows, int64_t vocab, const double *all)
{
    SHARED(float, part, THREADS / WARP_LANES);
    const int64_t row = blockIdx.x;
    if (row >= row_count(rows)) return;
    const int32_t target = load(targets + row);
    const float factor = (float)load(all);
    x += row * vocab;
    if (target < 0) { // no loss, no gradient
        if (threadIdx.x == 0) store(loss + row, 0.0);
        for (int64_t v = threadIdx.x; dx && v < vocab; v += THREADS) store(dx + row * vocab + v, 0.0f);
        return;
    }
    const float aim = load(x + target);
    float top = -INFINITY, sum = 0;
    for (int64_t v = threadIdx.x; v < vocab; v += THREADS) top = fmaxf(top, load(x + v));
    top = block_max(top, part);
    for (int64_t v = threadIdx.x; v < vocab; v += THREADS) sum += expf(load(x + v) - top);
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) store(loss + row, (double)logf(sum) + (top - aim));
    const float scale = factor / sum;
    for (int64_t v = threadIdx.x; dx && v < vocab; v += THREADS)
        store(dx + row * vocab + v, expf(load(x + v) - top) * scale - (v == target ? factor : 0));
}

void cuda_cross_entropy(struct cuda_stream *s, double *loss, float *dx, const float *x,
                        const int32_t *targets, struct cuda_rows rows, int64_t vocab, const double *factor)
{
    if (rows.most)
        CUDA_LAUNCH(cross_entropy_kernel, blocks_for(rows.most, 1), THREADS, 0, s, loss, dx, x, targets, rows,
                    vocab, factor);
}
