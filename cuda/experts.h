// cuda/experts.h -- launchers of mixtures of experts, as cuda/kernels.h has them of all else (cuda/experts.cu).
#ifndef CUDA_EXPERTS_H
#define CUDA_EXPERTS_H

#include "cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// out (rows, 2 used): the weights of the chosen experts, then their numbers as int32
struct cuda_route {
    float *out;
    const float *logits;      // (rows, experts)
    const float *choice_bias; // (experts) or NULL
    struct cuda_rows rows;
    int32_t experts, used, groups, groups_used;
    enum route_gate gate;
    bool normalize;
    float scale;
};
void cuda_route(struct cuda_stream *s, const struct cuda_route *a);

// The (row, choice) pairs in the order of experts: what struct order of ops/nodes_experts.h is.
struct cuda_order {
    int32_t *active_count, *active, *offset, *source, *expert, *place;
};
void cuda_sort_experts(struct cuda_stream *s, const struct cuda_order *o, const float *route,
                       struct cuda_rows rows, int32_t experts, int32_t used);
// y (pairs, D) of x (rows, D), both F32, BF16, or Q8_1 for struct cuda_q8; pairs.most is `used` times the rows of x
void cuda_gather_experts(struct cuda_stream *s, void *y, const void *x, enum dtype type,
                         const struct cuda_order *o, struct cuda_rows pairs, int64_t cols, int32_t used);
// b (experts, N)
void cuda_bias_experts(struct cuda_stream *s, float *y, const float *x, const float *b,
                       const struct cuda_order *o, struct cuda_rows pairs, int64_t cols);
// y (rows, D) of x (pairs, D)
void cuda_combine_experts(struct cuda_stream *s, float *y, const float *x, const float *route,
                          const struct cuda_order *o, struct cuda_rows rows, int64_t cols, int32_t used);

#ifdef __cplusplus
}
#endif

#endif
