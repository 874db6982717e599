// ops/gradient.h -- builders of the ops that training adds to a graph: gradients, the loss, dropout.
//
// `base` is a node that the result is added to, or NULL. Gradients of weights go where a tensor says that outlives the step; such a
// node adds to what is there if `earlier`, the node that wrote it before in this pass, is not NULL, or if the leaf `resumed` (one I32) is
// not 0: an earlier pass of the batch wrote it.
#ifndef OPS_GRADIENT_H
#define OPS_GRADIENT_H

#include "ops/nodes.h"

struct rows_params {
    int64_t begin;
};
struct sum_rows_params {
    bool saved;     // rows of what the input's node saved, instead of its output
    int64_t offset; // first column
};
struct distill_params {
    int64_t begin;
    double share; // of the loss that is the divergence from the teacher
};
struct dropout_params {
    uint64_t stream;
    double rate;
};
enum {
    GRADIENT_ROWS = 32
}; // rows whose parts of a weight's gradient are added up one after the other; then these sums

// Where the gradient of a weight goes, see above.
struct weight_gradient {
    const struct tensor *to; // of the weight's shape, `real`
    struct node *earlier, *resumed;
};

// (T, N) of x (T, K) and w (K, N): a weight matrix, or an activation whose rows are summed over
struct node *g_matmul_nn(struct graph *g, struct node *x, struct node *w, struct node *base);
// w's gradient (N, K) of dy (T, N), the gradient of w's outputs, and x (T, K). dy comes transposed (g_transpose) where the backend's
// products want it; these take it either way, as do those of heads and experts.
struct node *g_matmul_dw(struct graph *g, struct node *dy, struct node *x, const struct weight_gradient *w);
// (C, T) in `type` of x (T, C)
struct node *g_transpose(struct graph *g, struct node *x, enum dtype type);
struct node *g_matmul_heads_dx(struct graph *g, struct node *w, struct node *dy);
struct node *g_matmul_heads_dw(struct graph *g, struct node *dy, struct node *x,
                               const struct weight_gradient *w);
// rows begin .. begin + count of x, and the way back: dy's rows added to a matrix of `rows` rows
struct node *g_rows(struct graph *g, struct node *x, int64_t begin, int64_t count);
struct node *g_rows_dx(struct graph *g, struct node *dy, struct node *base, int64_t begin, int64_t rows,
                       enum extent extent);
// The sum of x's rows, or of what x's node saved
struct node *g_sum_rows(struct graph *g, struct node *x, bool saved, int64_t offset,
                        const struct weight_gradient *w);
struct node *g_embed_dw(struct graph *g, struct node *dy, struct node *tokens,
                        const struct weight_gradient *w);
// With respect to x. What it saves, (T / GRADIENT_ROWS, weights) or twice as many columns, adds up to dw (and db behind it).
struct node *g_norm_dx(struct graph *g, const struct node *norm, struct node *dy, struct node *x,
                       struct node *base, bool weights);
struct node *g_activation_dx(struct graph *g, struct node *dy, struct node *x, enum activation kind);
// (T, 2F): dgate, then dup
struct node *g_glu_dx(struct graph *g, struct node *dy, struct node *gate, struct node *up,
                      enum activation kind);
struct node *g_softcap_dx(struct graph *g, struct node *dy, struct node *y, double cap);
struct node *g_slice_dx(struct graph *g, struct node *dy, struct node *base, const struct slice_params *p,
                        int64_t cols);
// (T, C) of x (T, heads C)
struct node *g_sum_heads(struct graph *g, struct node *x, int32_t heads);
// Lets an attention node keep its log-sum-exp.
void g_attention_save(struct graph *g, struct node *attention);
// (T, H d + G d + G d_v): dq, dk, dv. It saves the sinks' part, (tiles, H), where there are sinks.
struct node *g_attention_dx(struct graph *g, struct node *attention, struct node *dy, struct node *q,
                            struct node *k, struct node *v);
// x / (1 - rate) where the counter's draw says so, else 0; seed: a leaf of two I32. The gradient is the same op on dy.
struct node *g_dropout(struct graph *g, struct node *x, struct node *seed, uint64_t stream, double rate);
// The gradient of the loss by the logits, in their place; rows `begin` and on of targets (I32), losses (F64, written), factor (F64, one number).
struct node *g_cross_entropy(struct graph *g, struct node *logits, struct node *targets, struct node *losses,
                             struct node *factor, int64_t begin);
// Likewise of the loss beside a teacher's logits (ops/distill.c)
struct node *g_distill(struct graph *g, struct node *logits, struct node *teacher, struct node *targets,
                       struct node *losses, struct node *factor, int64_t begin, double share);

// ---- mixtures of experts
struct node *g_combine_dx(struct graph *g, struct node *dy, struct node *x, struct node *route,
                          struct node *sorted); // (pairs, D)
struct node *g_combine_dw(struct graph *g, struct node *dy, struct node *x, struct node *route,
                          struct node *sorted); // as route's output
struct node *g_gather_dx(struct graph *g, const struct node *x, struct node *sorted,
                         struct node *dy); // (rows, D)
struct node *g_matmul_experts_dx(struct graph *g, struct node *w, struct node *sorted, struct node *dy);
struct node *g_matmul_experts_dw(struct graph *g, struct node *dy, struct node *x, struct node *sorted,
                                 const struct weight_gradient *w);
struct node *g_bias_experts_dw(struct graph *g, struct node *dy, struct node *sorted,
                               const struct weight_gradient *w);
struct node *g_route_dx(struct graph *g, struct node *route, struct node *dy); // by the logits

#endif
