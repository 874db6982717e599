// cuda/nodes_experts_gradient.c -- gradients of the ops whose products are of several matrices at once, as the device runs them
// (ops/nodes_experts_gradient.c has the CPU's): experts, and the heads of latent attention.
#include "cuda/experts_gradient.h"
#include "cuda/nodes.h"
#include "ops/nodes_experts.h"

#define RUN(name) CUDA_DECLARE(name)

// ---- rows ---------------------------------------------------------------------------------------------

RUN(sum_heads)
{
    UNUSED;
    const struct slice_params *p = n->params;
    cuda_sum_heads(stream_of(g), n->out.data, input(n, 0), rows(g, n), p->heads, p->count);
}

RUN(combine_dx)
{
    UNUSED;
    const struct cuda_order o = cuda_order_of(n->in[2]);
    cuda_combine_dx(stream_of(g), n->out.data, input(n, 0), input(n, 1), &o, rows(g, n), n->out.ne[0],
                    cuda_experts_used(n->in[2]));
}

RUN(combine_dw)
{
    UNUSED;
    const struct cuda_order o = cuda_order_of(n->in[2]);
    cuda_combine_dw(stream_of(g), n->out.data, input(n, 0), input(n, 1), &o, rows(g, n), n->in[1]->out.ne[0],
                    cuda_experts_used(n->in[2]));
}

RUN(gather_dx)
{
    UNUSED;
    const struct cuda_order o = cuda_order_of(n->in[1]);
    cuda_gather_dx(stream_of(g), n->out.data, input(n, 0), &o, rows(g, n), n->out.ne[0],
                   cuda_experts_used(n->in[1]));
}

RUN(bias_experts_dw)
{
    UNUSED;
    const struct cuda_order o = cuda_order_of(n->in[1]);
    cuda_bias_experts_dw(stream_of(g), n->out.data, input(n, 0), cuda_gradient_base(n), &o, n->out.ne[1],
                         n->out.ne[0]);
}

RUN(route_dx)
{
    UNUSED;
    const struct route_params *p = n->params;
    const struct cuda_route_dx a = {
        .dx = n->out.data,
        .dy = input(n, 0),
        .logits = input(n, 1),
        .out = input(n, 2),
        .rows = rows(g, n),
        .experts = p->experts,
        .used = p->used,
        .gate = p->gate,
        .normalize = p->normalize,
        .scale = (float)p->scale,
    };
    cuda_route_dx(stream_of(g), &a);
}

// ---- products -----------------------------------------------------------------------------------------

// dx of one matrix is dy w; its groups say which rows of which matrix.
static void product_dx(const struct graph *g, const struct node *n, struct cuda_product_groups groups)
{
    const struct node *dy = n->in[0];
    const struct tensor *w = &n->in[1]->out;
    groups.count = w->ne[2];
    groups.w_step = w->ne[0] * w->ne[1];
    const struct cuda_product p = {
        .y = n->out.data,
        .x = dy->out.data,
        .w = w->data,
        .x_type = dy->out.type,
        .w_type = w->type,
        .x_stride = dy->out.ne[0],
        .w_stride = w->ne[0],
        .m = rows(g, n),
        .k = {NULL, w->ne[1]},
        .n = w->ne[0],
        .groups = groups,
    };
    cuda_matmul_nn(stream_of(g), &p);
}

// dw of one matrix is dy^T x.
static void product_dw(const struct graph *g, const struct node *n, struct cuda_product_groups groups)
{
    const struct node *dy = n->in[0], *x = n->in[1];
    groups.count = n->out.ne[2];
    groups.y_step = n->out.ne[0] * n->out.ne[1];
    groups.y_stride = n->out.ne[0];
    const struct cuda_product p = {
        .y = n->out.data,
        .x = dy->out.data,
        .w = x->out.data,
        .x_type = dy->out.type,
        .w_type = x->out.type,
        .x_stride = dy->out.ne[0],
        .w_stride = x->out.ne[0],
        .m = {NULL, n->out.ne[1]},
        .k = rows(g, x),
        .n = n->out.ne[0],
        .base = cuda_gradient_base(n),
        .turned = true,
        .groups = groups,
    };
    cuda_matmul_nn(stream_of(g), &p);
}

RUN(matmul_experts_dx)
{
    UNUSED;
    const int64_t width = n->in[1]->out.ne[0];
    product_dx(g, n,
               (struct cuda_product_groups){.first = cuda_order_of(n->in[2]).offset, .y_stride = width});
}

// An expert's sum is over its pairs, which are rows of dy and x.
RUN(matmul_experts_dw)
{
    UNUSED;
    product_dw(g, n, (struct cuda_product_groups){.first = cuda_order_of(n->in[2]).offset, .over_k = true});
}

RUN(matmul_heads_dx)
{
    UNUSED;
    const struct tensor *w = &n->in[1]->out;
    product_dx(
        g, n, (struct cuda_product_groups){.x_step = w->ne[1], .y_step = w->ne[0], .y_stride = n->out.ne[0]});
}

RUN(matmul_heads_dw)
{
    UNUSED;
    product_dw(g, n, (struct cuda_product_groups){.x_step = n->out.ne[1], .w_step = n->out.ne[0]});
}
