// ops/builders_gradient.c -- adds the ops of training to a graph; shapes are worked out and checked here.
#include "ops/gradient.h"

static struct tensor matrix(const struct graph *g, int64_t cols, int64_t rows)
{
    return tensor_shape(g->real, cols, rows, 1, 1);
}

static struct node *add(struct graph *g, enum op_id op, struct tensor out, enum extent extent,
                        const void *params, size_t params_size, struct node *base, int count,
                        struct node *const *in)
{
    struct node *n = graph_node(g, (int)op, out, extent, params, params_size, in, count);
    TLM_ASSERT(!base || (base->out.ne[0] == out.ne[0] && base->out.ne[1] == out.ne[1]));
    n->base = base;
    return n;
}
#define INPUTS(...)                                                                          \
    (int)(sizeof((struct node *[]){__VA_ARGS__}) / sizeof(struct node *)), (struct node *[]) \
    {                                                                                        \
        __VA_ARGS__                                                                          \
    }

// A node that writes a weight's gradient; `resumed` becomes its last input.
static struct node *add_gradient(struct graph *g, enum op_id op, const void *params, size_t params_size,
                                 const struct weight_gradient *w, int count, struct node *const *in)
{
    struct node *all[GRAPH_MAX_INPUTS];
    TLM_ASSERT(count < GRAPH_MAX_INPUTS && w->to->type == g->real);
    for (int i = 0; i < count; i++) all[i] = in[i];
    all[count] = w->resumed;
    struct node *n = graph_node(g, (int)op, *w->to, EXTENT_FIXED, params, params_size, all, count + 1);
    n->base = w->earlier;
    n->effect = EFFECT_GRADIENT;
    return n;
}

struct node *g_matmul_nn(struct graph *g, struct node *x, struct node *w, struct node *base)
{
    TLM_ASSERT(x->out.ne[0] == w->out.ne[1]);
    return add(g, OP_matmul_nn, matrix(g, w->out.ne[0], x->out.ne[1]), x->extent, NULL, 0, base,
               INPUTS(x, w));
}

// dy of `outputs` columns, as it stands or transposed, beside x
static bool dy_fits(const struct node *dy, const struct node *x, int64_t outputs)
{
    const int axis = dy->op == OP_transpose; // that of the columns
    return dy->out.ne[axis] == outputs && dy->out.ne[!axis] == x->out.ne[1];
}

struct node *g_matmul_dw(struct graph *g, struct node *dy, struct node *x, const struct weight_gradient *w)
{
    TLM_ASSERT(dy_fits(dy, x, w->to->ne[1]) && w->to->ne[0] <= x->out.ne[0]);
    return add_gradient(g, OP_matmul_nn, NULL, 0, w, INPUTS(dy, x));
}

struct node *g_transpose(struct graph *g, struct node *x, enum dtype type)
{
    return add(g, OP_transpose, tensor_shape(type, x->out.ne[1], x->out.ne[0], 1, 1), EXTENT_FIXED, NULL, 0,
               NULL, INPUTS(x));
}

struct node *g_matmul_heads_dx(struct graph *g, struct node *w, struct node *dy)
{
    TLM_ASSERT(w->out.ne[1] * w->out.ne[2] == dy->out.ne[0]);
    return add(g, OP_matmul_heads_dx, matrix(g, w->out.ne[0] * w->out.ne[2], dy->out.ne[1]), dy->extent, NULL,
               0, NULL, INPUTS(dy, w));
}

struct node *g_matmul_heads_dw(struct graph *g, struct node *dy, struct node *x,
                               const struct weight_gradient *w)
{
    TLM_ASSERT(dy_fits(dy, x, w->to->ne[1] * w->to->ne[2]));
    return add_gradient(g, OP_matmul_heads_dw, NULL, 0, w, INPUTS(dy, x));
}

struct node *g_rows(struct graph *g, struct node *x, int64_t begin, int64_t count)
{
    struct rows_params p = {begin};
    TLM_ASSERT(begin + count <= x->out.ne[1]);
    return add(g, OP_rows, matrix(g, x->out.ne[0], count), EXTENT_FIXED, &p, sizeof p, NULL, INPUTS(x));
}

struct node *g_rows_dx(struct graph *g, struct node *dy, struct node *base, int64_t begin, int64_t rows,
                       enum extent extent)
{
    struct rows_params p = {begin};
    return add(g, OP_rows_dx, matrix(g, dy->out.ne[0], rows), extent, &p, sizeof p, base, INPUTS(dy));
}

struct node *g_sum_rows(struct graph *g, struct node *x, bool saved, int64_t offset,
                        const struct weight_gradient *w)
{
    struct sum_rows_params p = {saved, offset};
    TLM_ASSERT(offset + tensor_elements(w->to) <= (saved ? x->saved : x->out).ne[0]);
    return add_gradient(g, OP_sum_rows, &p, sizeof p, w, INPUTS(x));
}

struct node *g_embed_dw(struct graph *g, struct node *dy, struct node *tokens,
                        const struct weight_gradient *w)
{
    TLM_ASSERT(w->to->ne[0] == dy->out.ne[0]);
    return add_gradient(g, OP_embed_dw, NULL, 0, w, INPUTS(dy, tokens));
}

struct node *g_norm_dx(struct graph *g, const struct node *norm, struct node *dy, struct node *x,
                       struct node *base, bool weights)
{
    struct node *w = norm->in[1];
    enum op_id op = norm->op == OP_rmsnorm ? OP_rmsnorm_dx : OP_layernorm_dx;
    struct node *n = add(g, op, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, norm->params,
                         sizeof(struct norm_params), base, INPUTS(dy, x, w));
    int64_t parts = (x->out.ne[1] + GRADIENT_ROWS - 1) / GRADIENT_ROWS;
    if (weights) n->saved = matrix(g, tensor_elements(&w->out) * (norm->input_count == 3 ? 2 : 1), parts);
    return n;
}

struct node *g_activation_dx(struct graph *g, struct node *dy, struct node *x, enum activation kind)
{
    struct activation_params p = {kind};
    return add(g, OP_activation_dx, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, &p, sizeof p, NULL,
               INPUTS(dy, x));
}

struct node *g_glu_dx(struct graph *g, struct node *dy, struct node *gate, struct node *up,
                      enum activation kind)
{
    struct activation_params p = {kind};
    return add(g, OP_glu_dx, matrix(g, 2 * up->out.ne[0], up->out.ne[1]), up->extent, &p, sizeof p, NULL,
               INPUTS(dy, gate, up));
}

struct node *g_softcap_dx(struct graph *g, struct node *dy, struct node *y, double cap)
{
    struct factor_params p = {cap};
    return add(g, OP_softcap_dx, matrix(g, y->out.ne[0], y->out.ne[1]), y->extent, &p, sizeof p, NULL,
               INPUTS(dy, y));
}

struct node *g_slice_dx(struct graph *g, struct node *dy, struct node *base, const struct slice_params *p,
                        int64_t cols)
{
    TLM_ASSERT(dy->out.ne[0] == (int64_t)p->heads * p->count);
    return add(g, OP_slice_dx, matrix(g, cols, dy->out.ne[1]), dy->extent, p, sizeof *p, base, INPUTS(dy));
}

struct node *g_sum_heads(struct graph *g, struct node *x, int32_t heads)
{
    struct slice_params p = {heads, 0, (int32_t)(x->out.ne[0] / heads)};
    return add(g, OP_sum_heads, matrix(g, p.count, x->out.ne[1]), x->extent, &p, sizeof p, NULL, INPUTS(x));
}

void g_attention_save(struct graph *g, struct node *attention)
{
    const struct attention_params *p = attention->params;
    attention->saved = matrix(g, p->heads, attention->out.ne[1]);
}

struct node *g_attention_dx(struct graph *g, struct node *attention, struct node *dy, struct node *q,
                            struct node *k, struct node *v)
{
    const struct attention_params *p = attention->params;
    struct node *tiles = attention->in[4];
    TLM_ASSERT(attention->saved.ne[0] == p->heads);
    int64_t cols = (int64_t)(p->heads + p->kv_heads) * p->head_dim + (int64_t)p->kv_heads * p->value_dim;
    struct node *n = add(g, OP_attention_dx, matrix(g, cols, q->out.ne[1]), q->extent, p, sizeof *p, NULL,
                         INPUTS(dy, attention, q, k, v, tiles));
    if (p->sinks) n->saved = matrix(g, p->heads, tiles->out.ne[1]);
    return n;
}

struct node *g_dropout(struct graph *g, struct node *x, struct node *seed, uint64_t stream, double rate)
{
    struct dropout_params p = {stream, rate};
    return add(g, OP_dropout, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, &p, sizeof p, NULL,
               INPUTS(x, seed));
}

struct node *g_cross_entropy(struct graph *g, struct node *logits, struct node *targets, struct node *losses,
                             struct node *factor, int64_t begin)
{
    struct rows_params p = {begin};
    return add(g, OP_cross_entropy, logits->out, logits->extent, &p, sizeof p, logits,
               INPUTS(targets, losses, factor));
}

struct node *g_distill(struct graph *g, struct node *logits, struct node *teacher, struct node *targets,
                       struct node *losses, struct node *factor, int64_t begin, double share)
{
    struct distill_params p = {begin, share};
    TLM_ASSERT(logits->out.ne[0] == teacher->out.ne[0] && logits->out.ne[1] == teacher->out.ne[1]);
    return add(g, OP_distill, logits->out, logits->extent, &p, sizeof p, logits,
               INPUTS(targets, losses, factor, teacher));
}

// ---- mixtures of experts ------------------------------------------------------------------------------

struct node *g_combine_dx(struct graph *g, struct node *dy, struct node *x, struct node *route,
                          struct node *sorted)
{
    return add(g, OP_combine_dx, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, NULL, 0, NULL,
               INPUTS(dy, route, sorted));
}

struct node *g_combine_dw(struct graph *g, struct node *dy, struct node *x, struct node *route,
                          struct node *sorted)
{
    return add(g, OP_combine_dw, matrix(g, route->out.ne[0], route->out.ne[1]), route->extent, NULL, 0, NULL,
               INPUTS(dy, x, sorted));
}

struct node *g_gather_dx(struct graph *g, const struct node *x, struct node *sorted, struct node *dy)
{
    return add(g, OP_gather_dx, matrix(g, dy->out.ne[0], x->out.ne[1]), x->extent, NULL, 0, NULL,
               INPUTS(dy, sorted));
}

struct node *g_matmul_experts_dx(struct graph *g, struct node *w, struct node *sorted, struct node *dy)
{
    return add(g, OP_matmul_experts_dx, matrix(g, w->out.ne[0], dy->out.ne[1]), dy->extent, NULL, 0, NULL,
               INPUTS(dy, w, sorted));
}

struct node *g_matmul_experts_dw(struct graph *g, struct node *dy, struct node *x, struct node *sorted,
                                 const struct weight_gradient *w)
{
    TLM_ASSERT(dy_fits(dy, x, w->to->ne[1]));
    return add_gradient(g, OP_matmul_experts_dw, NULL, 0, w, INPUTS(dy, x, sorted));
}

struct node *g_bias_experts_dw(struct graph *g, struct node *dy, struct node *sorted,
                               const struct weight_gradient *w)
{
    return add_gradient(g, OP_bias_experts_dw, NULL, 0, w, INPUTS(dy, sorted));
}

struct node *g_route_dx(struct graph *g, struct node *route, struct node *dy)
{
    struct node *logits = route->in[0];
    return add(g, OP_route_dx, matrix(g, logits->out.ne[0], logits->out.ne[1]), logits->extent, route->params,
               sizeof(struct route_params), NULL, INPUTS(dy, logits, route));
}
