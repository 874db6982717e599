// ops/nodes_cpu.h -- what the files of the CPU's op table (ops/nodes.c, ops/nodes_experts.c) share.
#ifndef OPS_NODES_CPU_H
#define OPS_NODES_CPU_H

#include "ops/nodes.h"

static inline const struct kernels *kernels_of(const struct graph *g)
{
    return g->kernels;
}

// Units of a product with that many outputs, and bytes of scratch with that much depth.
int64_t REF(matmul_units)(const struct matmul_kernel *k, int64_t outputs);
size_t REF(matmul_scratch)(const struct matmul_kernel *k, int64_t k_count);
// Units begin .. end of the product; a.n_end holds the number of outputs, a.n_begin is set here.
void REF(matmul_run)(const struct graph *g, const struct matmul_kernel *k, struct matmul_args a,
                     int64_t begin, int64_t end);

// ops/nodes_experts.c
#define DECLARE_RUN(name)                                                                         \
    void REF(run_##name)(const struct graph *g, const struct node *n, int64_t begin, int64_t end, \
                         void *scratch)
#define DECLARE_OP(name)                                                    \
    int64_t REF(units_##name)(const struct graph *g, const struct node *n); \
    DECLARE_RUN(name)
DECLARE_OP(route);
DECLARE_OP(sort_experts);
DECLARE_OP(gather_experts);
DECLARE_OP(matmul_experts);
DECLARE_OP(bias_experts);
DECLARE_OP(combine_experts);
size_t REF(scratch_route)(const struct graph *g, const struct node *n);
size_t REF(scratch_matmul_experts)(const struct graph *g, const struct node *n);

// ops/nodes_gradient.c, ops/nodes_experts_gradient.c
// Does a node that writes a weight's gradient add to what is there? Its last input says whether an earlier pass wrote it.
static inline bool adds_to_gradient(const struct node *n)
{
    return n->base || *(const int32_t *)n->in[n->input_count - 1]->out.data;
}

DECLARE_OP(matmul_nn);
DECLARE_OP(transpose);
DECLARE_OP(matmul_heads_dx);
DECLARE_OP(matmul_heads_dw);
DECLARE_RUN(rows);
DECLARE_RUN(rows_dx);
DECLARE_OP(sum_rows);
DECLARE_OP(embed_dw);
DECLARE_OP(rmsnorm_dx);
DECLARE_RUN(activation_dx);
DECLARE_RUN(glu_dx);
DECLARE_RUN(softcap_dx);
DECLARE_RUN(slice_dx);
DECLARE_RUN(sum_heads);
DECLARE_OP(attention_dx);
DECLARE_RUN(dropout);
DECLARE_RUN(cross_entropy);
DECLARE_RUN(distill);
DECLARE_RUN(combine_dx);
DECLARE_RUN(combine_dw);
DECLARE_RUN(gather_dx);
DECLARE_OP(matmul_experts_dx);
DECLARE_OP(matmul_experts_dw);
DECLARE_OP(bias_experts_dw);
DECLARE_RUN(route_dx);
size_t REF(scratch_matmul_nn)(const struct graph *g, const struct node *n);
size_t REF(scratch_attention_dx)(const struct graph *g, const struct node *n);

#endif
