// ops/nodes_experts_gradient.c -- gradients of mixtures of experts as the CPU runs them. See ops/nodes_experts.c.
#include "ops/gradient.h"
#include "ops/nodes_experts.h"

#define RUN(name)                                                                                 \
    void REF(run_##name)(const struct graph *g, const struct node *n, int64_t begin, int64_t end, \
                         void *scratch)

// dx of pair i: the weight of its (row, choice) times dy of the row.
RUN(combine_dx)
{
    (void)scratch;
    const struct node *dy = n->in[0], *route = n->in[1], *sorted = n->in[2];
    const struct route_params *p = route->params;
    struct order o = order_of(sorted);
    for (int64_t i = begin; i < end; i++) {
        int64_t row = o.source[i] / p->used;
        const real *weights = tensor_row(&route->out, row);
        kernels_of(g)->scale_fwd(tensor_row(&n->out, i), tensor_row(&dy->out, row), n->out.ne[0],
                                 weights[o.source[i] % p->used]);
    }
}

// By a row's weights: dy . x of each choice.
RUN(combine_dw)
{
    (void)g, (void)scratch;
    const struct node *dy = n->in[0], *x = n->in[1], *sorted = n->in[2];
    const struct route_params *p = sorted->params;
    struct order o = order_of(sorted);
    for (int64_t r = begin; r < end; r++) {
        real *to = tensor_row(&n->out, r);
        const real *d = tensor_row(&dy->out, r);
        for (int32_t i = 0; i < p->used; i++) {
            const real *of = tensor_row(&x->out, o.place[r * p->used + i]);
            to[i] = 0;
            to[p->used + i] = 0;
            for (int64_t c = 0; c < x->out.ne[0]; c++) to[i] += d[c] * of[c];
        }
    }
}

RUN(gather_dx)
{
    (void)scratch;
    const struct node *dy = n->in[0], *sorted = n->in[1];
    const struct route_params *p = sorted->params;
    struct order o = order_of(sorted);
    for (int64_t r = begin; r < end; r++) {
        real *y = tensor_row(&n->out, r);
        memset(y, 0, n->out.nb[1]);
        for (int32_t i = 0; i < p->used; i++)
            kernels_of(g)->add_fwd(y, y, tensor_row(&dy->out, o.place[r * p->used + i]), n->out.ne[0]);
    }
}

// ---- products: units are experts ----------------------------------------------------------------------

int64_t REF(units_matmul_experts_dx)(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n) ? n->in[1]->out.ne[2] : 0;
}

int64_t REF(units_matmul_experts_dw)(const struct graph *g, const struct node *n)
{
    (void)g;
    return n->out.ne[2];
}

int64_t REF(units_bias_experts_dw)(const struct graph *g, const struct node *n)
{
    (void)g;
    return n->out.ne[1];
}

RUN(matmul_experts_dx)
{
    const struct tensor *dy = &n->in[0]->out, *w = &n->in[1]->out;
    struct order o = order_of(n->in[2]);
    for (int64_t e = begin; e < end; e++) {
        if (o.offset[e] == o.offset[e + 1]) continue;
        kernels_of(g)->matmul_nn[w->type].fwd(&(struct matmul_args){
            .y = tensor_row(&n->out, o.offset[e]),
            .y_stride = (size_t)n->out.ne[0],
            .x = tensor_row(dy, o.offset[e]),
            .x_stride = (size_t)dy->ne[0],
            .w = (const char *)w->data + (size_t)e * w->nb[2],
            .w_type = w->type,
            .w_stride = w->nb[1],
            .n_end = w->ne[0],
            .t_count = o.offset[e + 1] - o.offset[e],
            .k_count = w->ne[1],
            .scratch = scratch,
        });
    }
}

RUN(matmul_experts_dw)
{
    const struct tensor *dy = &n->in[0]->out, *x = &n->in[1]->out, *w = &n->out;
    struct order o = order_of(n->in[2]);
    for (int64_t e = begin; e < end; e++) {
        void *to = (char *)w->data + (size_t)e * w->nb[2];
        if (!adds_to_gradient(n) && o.offset[e] == o.offset[e + 1]) memset(to, 0, w->nb[2]);
        if (o.offset[e] == o.offset[e + 1]) continue;
        kernels_of(g)->matmul_nn[x->type].fwd(&(struct matmul_args){
            .y = to,
            .y_stride = (size_t)w->ne[0],
            .x = (const char *)dy->data + (size_t)o.offset[e] * dtype_row_bytes(dy->type, 1),
            .x_stride = (size_t)dy->ne[0],
            .w = tensor_row(x, o.offset[e]),
            .w_type = x->type,
            .w_stride = x->nb[1],
            .n_end = w->ne[0],
            .t_count = w->ne[1],
            .k_count = o.offset[e + 1] - o.offset[e],
            .add = adds_to_gradient(n),
            .scratch = scratch,
        });
    }
}

RUN(bias_experts_dw)
{
    (void)scratch;
    const struct tensor *dy = &n->in[0]->out;
    struct order o = order_of(n->in[1]);
    for (int64_t e = begin; e < end; e++)
        kernels_of(g)->sum_rows(tensor_row(&n->out, e), tensor_row(dy, o.offset[e]),
                                o.offset[e + 1] - o.offset[e], n->out.ne[0], (size_t)dy->ne[0],
                                adds_to_gradient(n));
}

RUN(route_dx)
{
    const struct node *dy = n->in[0], *logits = n->in[1], *route = n->in[2];
    const struct route_params *p = n->params;
    (void)scratch;
    kernels_of(g)->route_dx(&(struct route_dx_args){
        .dx = tensor_row(&n->out, begin),
        .dy = tensor_row(&dy->out, begin),
        .logits = tensor_row(&logits->out, begin),
        .out = tensor_row(&route->out, begin),
        .rows = end - begin,
        .experts = p->experts,
        .used = p->used,
        .gate = p->gate,
        .normalize = p->normalize,
        .scale = p->scale,
    });
}
