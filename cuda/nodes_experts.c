// cuda/nodes_experts.c -- ops whose products are of several matrices at once, as the device runs them: experts, and the heads of latent
// attention.
#include "ops/nodes_experts.h"
#include "cuda/experts.h"
#include "cuda/nodes.h"
#include "cuda/planes.h"

#define RUN(name) CUDA_DECLARE(name)

struct cuda_order cuda_order_of(const struct node *sort)
{
    const struct order o = order_of(sort);
    return (struct cuda_order){o.active_count, o.active, o.offset, o.source, o.expert, o.place};
}

int32_t cuda_experts_used(const struct node *sort)
{
    return ((const struct route_params *)sort->params)->used;
}

RUN(route)
{
    UNUSED;
    const struct route_params *p = n->params;
    const struct cuda_route a = {
        .out = n->out.data,
        .logits = input(n, 0),
        .choice_bias = n->input_count == 2 ? input(n, 1) : NULL,
        .rows = rows(g, n),
        .experts = p->experts,
        .used = p->used,
        .groups = p->groups,
        .groups_used = p->groups_used,
        .gate = p->gate,
        .normalize = p->normalize,
        .scale = (float)p->scale,
    };
    cuda_route(stream_of(g), &a);
}

RUN(sort_experts)
{
    UNUSED;
    const struct route_params *p = n->params;
    const struct cuda_order o = cuda_order_of(n);
    cuda_sort_experts(stream_of(g), &o, input(n, 0), rows(g, n->in[0]), p->experts, p->used);
}

RUN(gather_experts)
{
    UNUSED;
    const struct cuda_order o = cuda_order_of(n->in[1]);
    cuda_gather_experts(stream_of(g), n->out.data, input(n, 0), type_of_activations(g, n->in[0]), &o,
                        rows(g, n), n->out.ne[0], cuda_experts_used(n->in[1]));
}

RUN(matmul_experts)
{
    (void)begin, (void)end;
    const struct node *x = n->in[0];
    const struct tensor *w = &n->in[1]->out;
    const struct cuda_matrix first = planes_matrix(w, w->data, 0);
    cuda_multiply(g, n, x->out.data, x->op == OP_gather_experts ? x->in[0] : x, &first,
                  (struct cuda_groups){w->ne[2], cuda_order_of(n->in[2]).offset}, scratch);
}

RUN(bias_experts)
{
    UNUSED;
    const struct cuda_order o = cuda_order_of(n->in[2]);
    cuda_bias_experts(stream_of(g), n->out.data, input(n, 0), input(n, 1), &o, rows(g, n), n->out.ne[0]);
}

RUN(combine_experts)
{
    UNUSED;
    const struct cuda_order o = cuda_order_of(n->in[2]);
    cuda_combine_experts(stream_of(g), n->out.data, input(n, 0), input(n, 1), &o, rows(g, n), n->out.ne[0],
                         cuda_experts_used(n->in[1]));
}

// Activations come in f32, whatever the weights are; the scratch has them as these take them, and then what the product wants.
static size_t bytes_of_heads(const struct node *x)
{
    return align_up(sizeof(float) * (size_t)tensor_elements(&x->out), 256); // as much as any type takes
}

RUN(matmul_heads)
{
    (void)begin, (void)end;
    const struct node *x = n->in[0];
    const struct tensor *w = &n->in[1]->out;
    const struct cuda_matrix first = planes_matrix(w, w->data, 0);
    const enum dtype type =
        has_many_rows(g, x) ? cuda_matmul_many_input(w->type) : cuda_matmul_input(w->type);
    if (type != DTYPE_F32) cuda_convert(stream_of(g), scratch, type, x->out.data, rows(g, x), x->out.ne[0]);
    cuda_multiply(g, n, type == DTYPE_F32 ? x->out.data : scratch, x, &first,
                  (struct cuda_groups){w->ne[2], NULL}, (char *)scratch + bytes_of_heads(x));
}

size_t cuda_scratch_matmul_heads(const struct graph *g, const struct node *n)
{
    return bytes_of_heads(n->in[0]) + cuda_multiply_scratch(g, n);
}
