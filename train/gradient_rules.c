// train/gradient_rules.c -- the table of rules: for each op, the nodes of its gradient with respect to its inputs and its weights.
//
// Rules whose node can add to what is there take the gradient so far as its base; the others hand theirs to gradient_add().
#include "train/gradient.h"

#include <string.h>

typedef void rule(struct gradient *c, struct node *n, struct node *dy);

// dy as products with weights of type `w` want it.
static struct node *as_factor(struct gradient *c, struct node *dy, enum dtype w)
{
    enum dtype want = c->kernels->matmul_nn[w].x_type;
    return want == dy->out.type ? dy : g_convert(c->g, dy, want);
}

// dy for products with x, transposed, or where these turn it themselves what as_factor() may have made of it already.
static struct node *as_rows(struct gradient *c, struct node *dy, struct node *factor, const struct node *x)
{
    const enum dtype want = c->kernels->matmul_nn[x->out.type].x_type;
    if (!c->turns) return g_transpose(c->g, dy, want);
    return factor && factor->out.type == want ? factor : as_factor(c, dy, x->out.type);
}

static void rule_matmul(struct gradient *c, struct node *n, struct node *dy)
{
    struct node *x = n->in[0], *w = n->in[1];
    struct gradient_slot *s = gradient_slot_of(c, w->out.data);
    struct node *factor = gradient_needed(c, x) ? as_factor(c, dy, w->out.type) : NULL;
    if (factor) gradient_set(c, x, g_matmul_nn(c->g, factor, w, gradient_base(c, x)));
    if (!s) return;
    struct weight_gradient to = gradient_of_slot(c, s);
    s->writer = g_matmul_dw(c->g, as_rows(c, dy, factor, x), gradient_value(c, x), &to);
}

static void rule_matmul_heads(struct gradient *c, struct node *n, struct node *dy)
{
    struct node *x = n->in[0], *w = n->in[1];
    struct gradient_slot *s = gradient_slot_of(c, w->out.data);
    struct node *factor = gradient_needed(c, x) ? as_factor(c, dy, w->out.type) : NULL;
    if (factor) gradient_add(c, x, g_matmul_heads_dx(c->g, w, factor));
    if (!s) return;
    struct weight_gradient to = gradient_of_slot(c, s);
    s->writer = g_matmul_heads_dw(c->g, as_rows(c, dy, factor, x), gradient_value(c, x), &to);
}

static void rule_embed(struct gradient *c, struct node *n, struct node *dy)
{
    struct gradient_slot *s = gradient_slot_of(c, n->in[0]->out.data);
    struct weight_gradient to = gradient_of_slot(c, s);
    s->writer = g_embed_dw(c->g, dy, n->in[1], &to);
}

static void rule_norm(struct gradient *c, struct node *n, struct node *dy)
{
    struct node *x = n->in[0], *b = n->input_count == 3 ? n->in[2] : NULL;
    struct gradient_slot *s = gradient_slot_of(c, n->in[1]->out.data);
    struct gradient_slot *sb = b ? gradient_slot_of(c, b->out.data) : NULL;
    struct node *dx = g_norm_dx(c->g, n, dy, gradient_value(c, x), gradient_base(c, x), s || sb);
    gradient_set(c, x, dx);
    if (s) {
        struct weight_gradient to = gradient_of_slot(c, s);
        s->writer = g_sum_rows(c->g, dx, true, 0, &to);
    }
    if (sb) {
        struct weight_gradient to = gradient_of_slot(c, sb);
        sb->writer = g_sum_rows(c->g, dx, true, tensor_elements(&n->in[1]->out), &to);
    }
}

static void rule_bias(struct gradient *c, struct node *n, struct node *dy)
{
    struct gradient_slot *s = gradient_slot_of(c, n->in[1]->out.data);
    if (gradient_needed(c, n->in[0])) gradient_add(c, n->in[0], dy);
    if (!s) return;
    struct weight_gradient to = gradient_of_slot(c, s);
    s->writer = g_sum_rows(c->g, dy, false, 0, &to);
}

static void rule_add(struct gradient *c, struct node *n, struct node *dy)
{
    for (int i = 0; i < 2; i++)
        if (gradient_needed(c, n->in[i])) gradient_add(c, n->in[i], dy);
}

static void rule_scale(struct gradient *c, struct node *n, struct node *dy)
{
    const struct factor_params *p = n->params;
    gradient_add(c, n->in[0], g_scale(c->g, dy, p->factor));
}

static void rule_softcap(struct gradient *c, struct node *n, struct node *dy)
{
    const struct factor_params *p = n->params;
    gradient_add(c, n->in[0], g_softcap_dx(c->g, dy, gradient_value(c, n), p->factor));
}

// The matrix is symmetric.
static void rule_hadamard(struct gradient *c, struct node *n, struct node *dy)
{
    const struct hadamard_params *p = n->params;
    gradient_add(c, n->in[0], g_hadamard(c->g, dy, p->block));
}

static void rule_activation(struct gradient *c, struct node *n, struct node *dy)
{
    const struct activation_params *p = n->params;
    gradient_add(c, n->in[0], g_activation_dx(c->g, dy, gradient_value(c, n->in[0]), p->kind));
}

static void rule_glu(struct gradient *c, struct node *n, struct node *dy)
{
    const struct activation_params *p = n->params;
    int32_t cols = (int32_t)n->out.ne[0];
    struct node *both = g_glu_dx(c->g, dy, gradient_value(c, n->in[0]), gradient_value(c, n->in[1]), p->kind);
    for (int i = 0; i < 2; i++)
        if (gradient_needed(c, n->in[i])) gradient_add(c, n->in[i], g_slice(c->g, both, 1, i * cols, cols));
}

static void rule_slice(struct gradient *c, struct node *n, struct node *dy)
{
    struct node *x = n->in[0];
    gradient_set(c, x, g_slice_dx(c->g, dy, gradient_base(c, x), n->params, x->out.ne[0]));
}

static void rule_concat(struct gradient *c, struct node *n, struct node *dy)
{
    const struct concat_params *p = n->params;
    int32_t first = (int32_t)(n->in[0]->out.ne[0] / p->heads), part = (int32_t)(n->out.ne[0] / p->heads);
    if (gradient_needed(c, n->in[0])) gradient_add(c, n->in[0], g_slice(c->g, dy, p->heads, 0, first));
    if (!gradient_needed(c, n->in[1])) return;
    struct node *second = g_slice(c->g, dy, p->heads, first, part - first);
    gradient_add(c, n->in[1], p->b_shared ? g_sum_heads(c->g, second, p->heads) : second);
}

// The table of turns back is made once for all layers.
static struct node *inverse_of(struct gradient *c, const struct node *table)
{
    struct node *nodes = (struct node *)c->g->nodes.base;
    for (int64_t i = c->count; i < c->g->node_count; i++)
        if (nodes[i].op == OP_rope_table && nodes[i].in[1] == table->in[1]) return &nodes[i];
    return g_rope_inverse(c->g, table);
}

static void rule_rope(struct gradient *c, struct node *n, struct node *dy)
{
    const struct rope_params *p = n->params;
    gradient_add(c, n->in[0], g_rope(c->g, dy, inverse_of(c, n->in[1]), p->heads, p->pairing));
}

// Keys and values stand in front of the nodes that write them to the cache, where there is one.
static struct node *written(struct node *n)
{
    return n->op == OP_kv_write ? n->in[0] : n;
}

static void rule_attention(struct gradient *c, struct node *n, struct node *dy)
{
    const struct attention_params *p = n->params;
    struct node *q = n->in[0], *k = written(n->in[1]), *v = written(n->in[2]);
    int32_t qs = p->heads * p->head_dim, ks = p->kv_heads * p->head_dim, vs = p->kv_heads * p->value_dim;
    struct node *all =
        g_attention_dx(c->g, n, dy, gradient_value(c, q), gradient_value(c, k), gradient_value(c, v));
    if (gradient_needed(c, q)) gradient_add(c, q, g_slice(c->g, all, 1, 0, qs));
    if (gradient_needed(c, k)) gradient_add(c, k, g_slice(c->g, all, 1, qs, ks));
    if (gradient_needed(c, v)) {
        struct node *dv = g_slice(c->g, all, 1, qs + ks, vs);
        struct slice_params first = {1, 0,
                                     vs}; // latent attention: the values are the first numbers of the keys
        if (v == k)
            gradient_set(c, k, g_slice_dx(c->g, dv, gradient_base(c, k), &first, k->out.ne[0]));
        else
            gradient_add(c, v, dv);
    }
    struct gradient_slot *s = p->sinks ? gradient_slot_of(c, p->sinks->data) : NULL;
    if (!s) return;
    struct weight_gradient to = gradient_of_slot(c, s);
    s->writer = g_sum_rows(c->g, all, true, 0, &to);
}

static void rule_rows(struct gradient *c, struct node *n, struct node *dy)
{
    const struct rows_params *p = n->params;
    struct node *x = n->in[0];
    gradient_set(c, x, g_rows_dx(c->g, dy, gradient_base(c, x), p->begin, x->out.ne[1], x->extent));
}

static void rule_dropout(struct gradient *c, struct node *n, struct node *dy)
{
    const struct dropout_params *p = n->params;
    gradient_add(c, n->in[0], g_dropout(c->g, dy, n->in[1], p->stream, p->rate));
}

// ---- mixtures of experts ------------------------------------------------------------------------------

static void rule_route(struct gradient *c, struct node *n, struct node *dy)
{
    gradient_add(c, n->in[0], g_route_dx(c->g, gradient_value(c, n), dy));
}

static void rule_gather_experts(struct gradient *c, struct node *n, struct node *dy)
{
    gradient_add(c, n->in[0], g_gather_dx(c->g, n->in[0], gradient_value(c, n->in[1]), dy));
}

static void rule_matmul_experts(struct gradient *c, struct node *n, struct node *dy)
{
    struct node *x = n->in[0], *w = n->in[1];
    struct gradient_slot *s = gradient_slot_of(c, w->out.data);
    struct node *factor = gradient_needed(c, x) ? as_factor(c, dy, w->out.type) : NULL;
    if (factor) gradient_add(c, x, g_matmul_experts_dx(c->g, w, gradient_value(c, n->in[2]), factor));
    if (!s) return;
    struct weight_gradient to = gradient_of_slot(c, s);
    s->writer = g_matmul_experts_dw(c->g, as_rows(c, dy, factor, x), gradient_value(c, x),
                                    gradient_value(c, n->in[2]), &to);
}

static void rule_bias_experts(struct gradient *c, struct node *n, struct node *dy)
{
    struct gradient_slot *s = gradient_slot_of(c, n->in[1]->out.data);
    if (gradient_needed(c, n->in[0])) gradient_add(c, n->in[0], dy);
    if (!s) return;
    struct weight_gradient to = gradient_of_slot(c, s);
    s->writer = g_bias_experts_dw(c->g, dy, gradient_value(c, n->in[2]), &to);
}

static void rule_combine_experts(struct gradient *c, struct node *n, struct node *dy)
{
    struct node *x = gradient_value(c, n->in[0]), *route = gradient_value(c, n->in[1]),
                *sorted = gradient_value(c, n->in[2]);
    if (gradient_needed(c, n->in[0])) gradient_add(c, n->in[0], g_combine_dx(c->g, dy, x, route, sorted));
    if (gradient_needed(c, n->in[1])) gradient_add(c, n->in[1], g_combine_dw(c->g, dy, x, route, sorted));
}

static rule *const rules[OP_COUNT] = {
    [OP_matmul] = rule_matmul,
    [OP_matmul_heads] = rule_matmul_heads,
    [OP_embed] = rule_embed,
    [OP_rmsnorm] = rule_norm,
    [OP_layernorm] = rule_norm,
    [OP_bias] = rule_bias,
    [OP_add] = rule_add,
    [OP_scale] = rule_scale,
    [OP_softcap] = rule_softcap,
    [OP_hadamard] = rule_hadamard,
    [OP_activation] = rule_activation,
    [OP_glu] = rule_glu,
    [OP_slice] = rule_slice,
    [OP_concat] = rule_concat,
    [OP_rope] = rule_rope,
    [OP_attention] = rule_attention,
    [OP_rows] = rule_rows,
    [OP_dropout] = rule_dropout,
    [OP_route] = rule_route,
    [OP_gather_experts] = rule_gather_experts,
    [OP_matmul_experts] = rule_matmul_experts,
    [OP_bias_experts] = rule_bias_experts,
    [OP_combine_experts] = rule_combine_experts,
};

bool gradient_rule(struct gradient *c, struct node *n, struct node *dy)
{
    if (!rules[n->op]) return false;
    rules[n->op](c, n, dy);
    return true;
}
