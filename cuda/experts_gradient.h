// cuda/experts_gradient.h -- launchers of the gradients of experts (cuda/experts_dx.cu), in the manner of cuda/gradient.h; their products are
// cuda_matmul_nn()'s.
#ifndef CUDA_EXPERTS_GRADIENT_H
#define CUDA_EXPERTS_GRADIENT_H

#include "cuda/experts.h"
#include "cuda/gradient.h"

#ifdef __cplusplus
extern "C" {
#endif

// y (rows, count) of x (rows, heads, count)
void cuda_sum_heads(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int32_t heads,
                    int64_t count);
// dx (pairs, D): the weight of the pair times dy (rows, D) of its row; route (rows, 2 used)
void cuda_combine_dx(struct cuda_stream *s, float *dx, const float *dy, const float *route,
                     const struct cuda_order *o, struct cuda_rows pairs, int64_t cols, int32_t used);
// dw (rows, 2 used): of the weights, then zeros; x (pairs, D) is what the forward pass weighed
void cuda_combine_dw(struct cuda_stream *s, float *dw, const float *dy, const float *x,
                     const struct cuda_order *o, struct cuda_rows rows, int64_t cols, int32_t used);
// dx (rows, D): the sum of dy (pairs, D) over a row's choices, in their order
void cuda_gather_dx(struct cuda_stream *s, float *dx, const float *dy, const struct cuda_order *o,
                    struct cuda_rows rows, int64_t cols, int32_t used);
// db (experts, cols) = base + the sums of dy (pairs, cols) over each expert's pairs
void cuda_bias_experts_dw(struct cuda_stream *s, float *db, const float *dy, struct cuda_base base,
                          const struct cuda_order *o, int64_t experts, int64_t cols);

struct cuda_route_dx {
    float *dx;           // (rows, experts)
    const float *dy;     // (rows, 2 used)
    const float *logits; // (rows, experts)
    const float *out;    // of the forward pass (rows, 2 used)
    struct cuda_rows rows;
    int32_t experts, used;
    enum route_gate gate;
    bool normalize;
    float scale;
};
void cuda_route_dx(struct cuda_stream *s, const struct cuda_route_dx *a);

#ifdef __cplusplus
}
#endif

#endif
