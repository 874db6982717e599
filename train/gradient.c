#include "train/gradient.h"

#include <stdlib.h>
#include <string.h>

struct node *gradient_source(struct node *x)
{
    while (x->op == OP_convert) x = x->in[0];
    return x;
}

struct gradient_slot *gradient_slot_of(const struct gradient *c, const void *weight)
{
    for (int64_t i = 0; i < c->slot_count; i++)
        if (c->slots[i].weight == weight) return &c->slots[i];
    return NULL;
}

struct weight_gradient gradient_of_slot(const struct gradient *c, const struct gradient_slot *s)
{
    return (struct weight_gradient){&s->to, s->writer, c->resumed};
}

bool gradient_needed(const struct gradient *c, const struct node *x)
{
    return c->needed[x->index];
}

struct node *gradient_base(const struct gradient *c, struct node *x)
{
    return c->of[gradient_source(x)->index];
}

void gradient_set(struct gradient *c, struct node *x, struct node *dx)
{
    c->of[gradient_source(x)->index] = dx;
}

void gradient_add(struct gradient *c, struct node *x, struct node *dx)
{
    struct node *base = gradient_base(c, x);
    gradient_set(c, x, base ? g_rows_dx(c->g, dx, base, 0, dx->out.ne[1], dx->extent) : dx);
}

// The nodes in front of the outputs and these, each behind its inputs, into `order`: passes append nodes, so the order of adding is none.
static int64_t sort_nodes(struct gradient *c, struct node *const *outputs, int count, struct node **order,
                          struct node **stack)
{
    int64_t found = 0;
    bool *seen = c->needed; // free until the order is known
    for (int i = 0; i < count; i++) {
        int64_t depth = 0;
        stack[depth++] = outputs[i];
        while (depth) {
            struct node *n = stack[depth - 1], *open = NULL;
            for (int j = 0; j < n->input_count && !open; j++)
                if (!seen[n->in[j]->index]) open = n->in[j];
            if (open) {
                stack[depth++] = open;
                continue;
            }
            depth--;
            if (!seen[n->index]) order[found++] = n;
            seen[n->index] = true;
        }
    }
    memset(seen, 0, (size_t)c->count * sizeof *seen);
    return found;
}

static bool finds_needed(const struct gradient *c, const struct node *n)
{
    if (n->op == GRAPH_LEAF) return gradient_slot_of(c, n->out.data) != NULL;
    if (n->op == OP_sort_experts) return false; // who goes where is taken as given
    for (int i = 0; i < n->input_count; i++)
        if (c->needed[n->in[i]->index]) return true;
    return false;
}

// Marks what stands in front of attention in its own layer.
static void give_up(struct gradient *c, struct node *const *order, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const struct node *n = order[i];
        bool attention = n->op == OP_attention || n->op == OP_kv_write || n->op == GRAPH_LEAF || n->layer < 0;
        c->kept[n->index] = attention || c->recompute != RECOMPUTE_LAYER;
    }
    for (int64_t i = count - 1; i >= 0 && c->recompute == RECOMPUTE_ATTENTION; i--) {
        const struct node *n = order[i];
        if (n->op != OP_attention && n->op != OP_kv_write && c->kept[n->index]) continue;
        for (int j = 0; j < n->input_count; j++) {
            const struct node *in = n->in[j];
            if (in->layer == n->layer && in->layer >= 0 && in->op != OP_kv_write && in->op != GRAPH_LEAF)
                c->kept[in->index] = false;
        }
    }
}

struct node *gradient_value(struct gradient *c, struct node *x)
{
    if (x->index >= c->count || c->kept[x->index] || x->layer != c->g->layer) return x;
    if (!c->again[x->index]) {
        struct node *in[GRAPH_MAX_INPUTS];
        for (int i = 0; i < x->input_count; i++) in[i] = gradient_value(c, x->in[i]);
        struct node *n = graph_node(c->g, x->op, x->out, x->extent, NULL, 0, in, x->input_count);
        n->params = x->params;
        n->after = c->entry;
        c->again[x->index] = n;
    }
    return c->again[x->index];
}

static enum tlm_status walk(struct gradient *c, struct node *const *order, int64_t count,
                            struct tlm_error *err)
{
    for (int64_t i = 0; i < count; i++) c->needed[order[i]->index] = finds_needed(c, order[i]);
    for (int64_t i = count - 1; i >= 0; i--) {
        struct node *n = order[i], *dy = c->of[n->index];
        if (n->op == GRAPH_LEAF || n->op == OP_convert || !dy || !c->needed[n->index]) continue;
        if (n->layer != c->g->layer) c->entry = dy;
        c->g->layer = n->layer;
        if (!gradient_rule(c, n, dy))
            return error_set(err, TLM_ERR_UNSUPPORTED, "gradient: op %s has no rule", c->g->ops[n->op].name);
    }
    return TLM_OK;
}

enum tlm_status gradient_build(struct gradient *c, struct node *const *outputs, struct node *const *seeds,
                               int count, struct tlm_error *err)
{
    c->count = c->g->node_count;
    c->of = calloc((size_t)c->count, sizeof *c->of);
    c->again = calloc((size_t)c->count, sizeof *c->again);
    c->needed = calloc((size_t)c->count, sizeof *c->needed);
    c->kept = calloc((size_t)c->count, sizeof *c->kept);
    struct node **order = malloc(2 * (size_t)c->count * sizeof *order);
    enum tlm_status s = TLM_OK;
    if (!c->of || !c->again || !c->needed || !c->kept || !order) {
        s = error_set(err, TLM_ERR_MEMORY, "gradient: no memory for %lld nodes", (long long)c->count);
    } else {
        int64_t found = sort_nodes(c, outputs, count, order, order + c->count);
        give_up(c, order, found);
        for (int i = 0; i < count; i++) gradient_add(c, outputs[i], seeds[i]);
        s = walk(c, order, found, err);
    }
    c->g->layer = -1;
    free(order);
    free(c->of);
    free(c->again);
    free(c->needed);
    free(c->kept);
    c->of = c->again = NULL, c->needed = c->kept = NULL;
    return s;
}
