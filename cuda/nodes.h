// cuda/nodes.h -- what the files of the device's op table (cuda/nodes.c, cuda/nodes_experts.c, cuda/nodes_gradient.c) share.
#ifndef CUDA_NODES_H
#define CUDA_NODES_H

#include "core/dtype.h"
#include "cuda/backend.h"
#include "cuda/experts.h"
#include "cuda/gradient.h"
#include "ops/gradient.h"

static inline struct cuda_stream *stream_of(const struct graph *g)
{
    return cuda_runner_of(g)->stream;
}

// So many of `most` rows as the step has, read on the device.
static inline struct cuda_rows rows_of(const struct graph *g, enum extent extent, int64_t most)
{
    const int32_t *counts = (const int32_t *)cuda_runner_of(g)->device_step;
    return (struct cuda_rows){extent == EXTENT_FIXED ? NULL : counts + extent, most};
}

static inline struct cuda_rows rows(const struct graph *g, const struct node *n)
{
    return rows_of(g, n->extent, n->out.ne[1]);
}

static inline const void *input(const struct node *n, int i)
{
    return n->in[i]->out.data;
}

// Do products of these activations bring weights into the form that tensor cores take (cuda_matmul_many())? Recordings serve every count, and
// never do; what a node of quantized weights is given follows from this too, so it is a question about the activations, all of whose readers agree.
static inline bool has_many_rows(const struct graph *g, const struct node *x)
{
    return g->counts[EXTENT_ROWS] >= CUDA_MANY_ROWS && graph_rows(g, x) >= many_rows(x);
}
// The type that activations of quantized weights are then converted to.
static inline enum dtype type_of_activations(const struct graph *g, const struct node *x)
{
    return x->out.type == DTYPE_Q8_1 && has_many_rows(g, x) ? DTYPE_BF16 : x->out.type;
}

// Of a run function whose work is not divided; scratch serves one node after the other, in order.
#define UNUSED (void)begin, (void)end, (void)scratch

// Keys and values of the cache, not rows of the step.
static inline bool is_paged(const struct node *attention)
{
    return attention->in[1]->effect == EFFECT_CACHE_WRITE;
}

#define CUDA_DECLARE(name)                                                                        \
    void cuda_run_##name(const struct graph *g, const struct node *n, int64_t begin, int64_t end, \
                         void *scratch)

// ---- cuda/nodes.c

// The product of n's rows x, of which there are as many as `counted` has, with all that is behind *w.
void cuda_multiply(const struct graph *g, const struct node *n, const void *x, const struct node *counted,
                   const struct cuda_matrix *w, struct cuda_groups groups, void *scratch);
size_t cuda_multiply_scratch(const struct graph *g, const struct node *n);
// By the library, where it is the better one; base: what it is added to, or NULL. False, and nothing is done, elsewhere.
bool cuda_multiply_library(const struct graph *g, const struct node *n, const struct cuda_matrix *w,
                           const float *base);

// ---- cuda/nodes_experts.c

// What sort_experts leaves, and how many experts a row uses.
struct cuda_order cuda_order_of(const struct node *sort);
int32_t cuda_experts_used(const struct node *sort);
CUDA_DECLARE(route);
CUDA_DECLARE(sort_experts);
CUDA_DECLARE(gather_experts);
CUDA_DECLARE(matmul_experts);
CUDA_DECLARE(bias_experts);
CUDA_DECLARE(combine_experts);
CUDA_DECLARE(matmul_heads);
size_t cuda_scratch_matmul_heads(const struct graph *g, const struct node *n);

// ---- cuda/nodes_fused.c

CUDA_DECLARE(product);
CUDA_DECLARE(norm_add);
CUDA_DECLARE(heads);
CUDA_DECLARE(linear);
size_t cuda_scratch_linear(const struct graph *g, const struct node *n);

// ---- cuda/nodes_experts_gradient.c

CUDA_DECLARE(sum_heads);
CUDA_DECLARE(combine_dx);
CUDA_DECLARE(combine_dw);
CUDA_DECLARE(gather_dx);
CUDA_DECLARE(bias_experts_dw);
CUDA_DECLARE(route_dx);
CUDA_DECLARE(matmul_experts_dx);
CUDA_DECLARE(matmul_experts_dw);
CUDA_DECLARE(matmul_heads_dx);
CUDA_DECLARE(matmul_heads_dw);

// ---- cuda/nodes_gradient.c

CUDA_DECLARE(matmul_nn);
CUDA_DECLARE(rows);
CUDA_DECLARE(rows_dx);
CUDA_DECLARE(sum_rows);
CUDA_DECLARE(embed_dw);
CUDA_DECLARE(rmsnorm_dx);
CUDA_DECLARE(layernorm_dx);
CUDA_DECLARE(activation_dx);
CUDA_DECLARE(glu_dx);
CUDA_DECLARE(softcap_dx);
CUDA_DECLARE(slice_dx);
CUDA_DECLARE(attention_dx);
CUDA_DECLARE(dropout);
CUDA_DECLARE(cross_entropy);
CUDA_DECLARE(distill);
// What a gradient is added to.
struct cuda_base cuda_gradient_base(const struct node *n);
size_t cuda_scratch_matmul_nn(const struct graph *g, const struct node *n);
size_t cuda_scratch_norm_dx(const struct graph *g, const struct node *n);
size_t cuda_scratch_attention_dx(const struct graph *g, const struct node *n);
// An attention node whose keys and values are rows of the step, with what its gradient computes again in the place of q, k and v.
struct cuda_attention_rows cuda_attention_node(const struct graph *g, const struct node *attention,
                                               const struct node *q, const struct node *k,
                                               const struct node *v);
// What cuda_node_check() asks of the ops of training. Errors: UNSUPPORTED.
enum tlm_status cuda_gradient_check(const struct node *n, struct tlm_error *err);

#endif
