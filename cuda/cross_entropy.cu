// cuda/cross_entropy.cu -- the loss of rows of logits and its gradient in one launch (ops/cross_entropy.c has the formulas).
//
// A block a row, and as many of its numbers as there is room for stay in shared memory. What is behind them is read again: of a vocabulary of
// 50,000, and two rows on each multiprocessor, 27 MB altogether, which are in the second-level cache. The gradient is of f32, and may take the
// place of the logits (what a thread writes it has read, and the target's logit is taken before the first barrier), or of bf16 as the
// products behind it want it, in rows on boundaries of 16 bytes.
#include "cuda/gradient.h"
#include "cuda/softmax.h"

enum { THREADS = 1024, EACH = 4 };  // numbers that a thread asks for at once
constexpr int64_t KEPT = 24 * 1024; // of a row, 96 KB: every device has so much, larger ones twice

struct kept_logits {
    const float *x;
    int64_t kept;
};

static __device__ float logit(const struct kept_logits &l, shared<float> own, int64_t v)
{
    return v < l.kept ? (float)own[v] : load(l.x + v);
}

template <class D> __global__ void __launch_bounds__(THREADS, 2) cross_entropy_kernel(struct cuda_distill a)
{
    SHARED(float, part, THREADS / WARP_LANES);
    SHARED_DYNAMIC(char, memory);
    const shared<float> own = shared_as<float>(memory);
    const int64_t row = blockIdx.x, vocab = a.vocab;
    if (row >= row_count(a.rows)) return;
    const int32_t target = load(a.targets + row);
    const float factor = (float)load(a.factor);
    const struct kept_logits l = {a.x + row * vocab, vocab < KEPT ? vocab : KEPT};
    D *dx = a.dx ? (D *)a.dx + row * a.dx_stride : NULL, number;
    if (target < 0) { // no loss, no gradient
        if (threadIdx.x == 0) store(a.loss + row, 0.0);
        from_f32(&number, 0.0f);
        for (int64_t v = threadIdx.x; dx && v < a.dx_stride; v += THREADS) store(dx + v, number);
        return;
    }
    const float aim = load(l.x + target);
    struct softmax s;
    for (int64_t v = threadIdx.x; v < vocab; v += EACH * THREADS) {
        float x[EACH], top = -INFINITY;
#pragma unroll
        for (int i = 0; i < EACH; i++)
            x[i] = v + i * THREADS < vocab ? load(l.x + v + i * THREADS) : -INFINITY;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            if (v + i * THREADS < l.kept) own[v + i * THREADS] = x[i];
            top = fmaxf(top, x[i]);
        }
        s.raise(top);
#pragma unroll
        for (int i = 0; i < EACH; i++) s.add(x[i]);
    }
    float shrink;
    s = block_softmax(s, &shrink, part);
    if (threadIdx.x == 0) store(a.loss + row, (double)logf(s.sum) + (s.top - aim));
    const float scale = factor / s.sum;
    for (int64_t v = threadIdx.x; dx && v < a.dx_stride; v += THREADS) {
        const float q = v < vocab ? expf(logit(l, own, v) - s.top) * scale : 0;
        from_f32(&number, v == target ? q - factor : q);
        store(dx + v, number);
    }
}

void cuda_cross_entropy_dx(struct cuda_stream *s, const struct cuda_distill *a)
{
    const size_t bytes = (size_t)(a->vocab < KEPT ? a->vocab : KEPT) * sizeof(float);
    if (!a->rows.most) return;
    if (a->dx_type == DTYPE_BF16)
        CUDA_LAUNCH(cross_entropy_kernel<bf16>, blocks_for(a->rows.most, 1), THREADS, bytes, s, *a);
    else
        CUDA_LAUNCH(cross_entropy_kernel<float>, blocks_for(a->rows.most, 1), THREADS, bytes, s, *a);
}

void cuda_cross_entropy(struct cuda_stream *s, double *loss, float *dx, const float *x,
                        const int32_t *targets, struct cuda_rows rows, int64_t vocab, const double *factor)
{
    struct cuda_distill a = {};
    a.loss = loss, a.dx = dx, a.dx_type = DTYPE_F32, a.dx_stride = vocab;
    a.x = x, a.targets = targets, a.rows = rows, a.vocab = vocab, a.factor = factor;
    cuda_cross_entropy_dx(s, &a);
}
