// cuda/fuse.h -- ops of a step of few rows that stand together become one launch.
#ifndef CUDA_FUSE_H
#define CUDA_FUSE_H

#include "cuda/fused.h"
#include "ops/nodes.h"

// The device's own ops, behind those of ops/ops.def in its table: name and what runs it (cuda/nodes_fused.c).
#define CUDA_FUSED(X)      \
    X(matmul_glu, product) \
    X(matmul_add, product) \
    X(matmul_act, product) \
    X(matmul_cap, product) \
    X(matmul_all, product) \
    X(norm_add, norm_add)  \
    X(heads, heads)

enum cuda_op {
    FUSED_part = OP_COUNT, // what the launch of another node computes, too
    FUSED_linear,          // of many rows: a product with bias and residual
#define OP(name, run) FUSED_##name,
    CUDA_FUSED(OP)
#undef OP
        CUDA_OP_COUNT
};

// Parameters of the fused ops. Addresses of weights are there; those of other inputs and of results are known when the graph is bound.
struct fused_product_params { // in: x, the base where there is one, weights, which are there for who measures
    struct cuda_fused_product launch;
    const struct node *out[FUSED_PARTS];
    bool added; // to a base
};
// y = base + (x w^T + bias). in: x, w; the node's base, or NULL
struct fused_linear_params {
    const float *bias; // (N) or NULL
};
struct fused_norm_add_params { // in: x, the base
    struct cuda_fused_norm_add launch;
};
// Keys and values of a layer into the cache, and its queries, where something is done to them. in: k, v, then q and the table of rotation.
struct fused_heads_params {
    struct kv_write_params keys; // first: attention reads them here
    struct cuda_fused_heads launch;
    const struct node *x[3], *q, *table; // what the heads are made of; q: where they go; NULL: none
};

// Between placing and planning. Of nodes of more than FUSED_ROWS rows only products of many become others (FUSED_linear); what nobody needs for
// the roots stays as it is. Errors: MEMORY.
enum tlm_status cuda_fuse(struct graph *g, struct node *const *roots, int root_count, struct tlm_error *err);

#endif
