// ops/nodes_experts.c -- mixtures of experts as the CPU runs them.
//
//     route    (rows, 2 used)    weights of the chosen experts, then their numbers as int32
//     sort     int32             the (row, choice) pairs in the order of experts: counts first, so nothing is padded
//     gather   (pairs, D)        the rows of x in that order
//     matmul   (pairs, N)        each expert's rows as one product; experts without rows cost nothing
//     combine  (rows, D)         sum over a row's choices, best first, of weight * result
//
// An expert's rows stand side by side, whatever their number: each product is the grouped GEMM's part of one expert. Sorting
// is one unit of work: a few thousand numbers.
#include "ops/nodes_experts.h"

// ---- route --------------------------------------------------------------------------------------------

int64_t REF(units_route)(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n);
}

size_t REF(scratch_route)(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct route_params *p = n->params;
    return 3 * (size_t)p->experts * sizeof(real);
}

void REF(run_route)(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    const struct route_params *p = n->params;
    kernels_of(g)->route_fwd(&(struct route_args){
        .out = tensor_row(&n->out, begin),
        .logits = tensor_row(&n->in[0]->out, begin),
        .choice_bias = n->input_count == 2 ? n->in[1]->out.data : NULL,
        .rows = end - begin,
        .experts = p->experts,
        .used = p->used,
        .groups = p->groups,
        .groups_used = p->groups_used,
        .gate = p->gate,
        .normalize = p->normalize,
        .scale = p->scale,
        .scratch = scratch,
    });
}

static const int32_t *chosen(const struct node *route, int64_t row)
{
    const struct route_params *p = route->params;
    return (const int32_t *)((const real *)tensor_row(&route->out, row) + p->used);
}

// ---- sort ---------------------------------------------------------------------------------------------

int64_t REF(units_sort_experts)(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n->in[0]) ? 1 : 0;
}

void REF(run_sort_experts)(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                           void *scratch)
{
    (void)begin, (void)end, (void)scratch;
    const struct route_params *p = n->params;
    struct order o = order_of(n);
    int64_t rows = graph_rows(g, n->in[0]);
    memset(o.offset, 0, (size_t)(p->experts + 1) * sizeof *o.offset);
    for (int64_t r = 0; r < rows; r++)
        for (int32_t i = 0; i < p->used; i++) o.offset[chosen(n->in[0], r)[i] + 1]++;
    *o.active_count = 0;
    for (int32_t e = 0; e < p->experts; e++) {
        if (o.offset[e + 1]) o.active[(*o.active_count)++] = e;
        o.offset[e + 1] += o.offset[e];
    }
    // offset[e] runs up to the next expert's first pair while pairs are placed, and is set back behind.
    for (int64_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < p->used; i++) {
            int32_t e = chosen(n->in[0], r)[i], pair = (int32_t)(r * p->used + i), place = o.offset[e]++;
            o.source[place] = pair;
            o.expert[place] = e;
            o.place[pair] = place;
        }
    }
    for (int32_t e = p->experts; e > 0; e--) o.offset[e] = o.offset[e - 1];
    o.offset[0] = 0;
}

// ---- between ------------------------------------------------------------------------------------------

int64_t REF(units_gather_experts)(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n);
}

void REF(run_gather_experts)(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                             void *scratch)
{
    (void)g, (void)scratch;
    const struct route_params *p = n->in[1]->params;
    struct order o = order_of(n->in[1]);
    for (int64_t i = begin; i < end; i++)
        memcpy(tensor_row(&n->out, i), tensor_row(&n->in[0]->out, o.source[i] / p->used), n->out.nb[1]);
}

int64_t REF(units_matmul_experts)(const struct graph *g, const struct node *n)
{
    const struct matmul_kernel *k = &kernels_of(g)->matmul[n->in[1]->out.type];
    return graph_rows(g, n) ? *order_of(n->in[2]).active_count * REF(matmul_units)(k, n->out.ne[0]) : 0;
}

size_t REF(scratch_matmul_experts)(const struct graph *g, const struct node *n)
{
    return REF(matmul_scratch)(&kernels_of(g)->matmul[n->in[1]->out.type], n->in[1]->out.ne[0]);
}

void REF(run_matmul_experts)(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                             void *scratch)
{
    const struct tensor *x = &n->in[0]->out, *w = &n->in[1]->out;
    const struct matmul_kernel *k = &kernels_of(g)->matmul[w->type];
    struct order o = order_of(n->in[2]);
    int64_t units = REF(matmul_units)(k, n->out.ne[0]);
    for (int64_t u = begin, next; u < end; u = next) {
        int64_t i = u / units;
        int32_t e = o.active[i];
        next = (i + 1) * units < end ? (i + 1) * units : end;
        struct matmul_args a = {
            .y = tensor_row(&n->out, o.offset[e]),
            .y_stride = (size_t)n->out.ne[0],
            .x = tensor_row(x, o.offset[e]),
            .x_stride = (size_t)x->ne[0],
            .w = (const char *)w->data + (size_t)e * w->nb[2],
            .w_type = w->type,
            .w_stride = w->nb[1],
            .n_end = n->out.ne[0],
            .t_count = o.offset[e + 1] - o.offset[e],
            .k_count = w->ne[0],
            .scratch = scratch,
        };
        REF(matmul_run)(g, k, a, u - i * units, next - i * units);
    }
}

int64_t REF(units_bias_experts)(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n);
}

void REF(run_bias_experts)(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                           void *scratch)
{
    (void)scratch;
    struct order o = order_of(n->in[2]);
    for (int64_t i = begin; i < end; i++)
        kernels_of(g)->add_fwd(tensor_row(&n->out, i), tensor_row(&n->in[0]->out, i),
                               tensor_row(&n->in[1]->out, o.expert[i]), n->out.ne[0]);
}

// ---- combine ------------------------------------------------------------------------------------------

int64_t REF(units_combine_experts)(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n);
}

void REF(run_combine_experts)(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                              void *scratch)
{
    (void)scratch;
    const struct node *x = n->in[0], *route = n->in[1];
    const struct route_params *p = route->params;
    struct order o = order_of(n->in[2]);
    for (int64_t r = begin; r < end; r++) {
        const real *weights = tensor_row(&route->out, r);
        real *y = tensor_row(&n->out, r);
        memset(y, 0, n->out.nb[1]);
        for (int32_t i = 0; i < p->used; i++)
            kernels_of(g)->add_scaled_fwd(y, tensor_row(&x->out, o.place[r * p->used + i]), weights[i],
                                          n->out.ne[0]);
    }
}
