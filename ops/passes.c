// ops/passes.c -- rewrites of a graph between building and planning. They add nodes and turn inputs around; what nobody
// reads any more is left out by graph_plan().
#include "ops/nodes.h"

static struct node *nodes_of(const struct graph *g)
{
    return (struct node *)g->nodes.base;
}

// Row r of the output depends on row r of each input of as many rows, and on nothing else of it.
static bool row_wise(const struct node *n)
{
    switch (n->op) {
    case OP_convert:
    case OP_rmsnorm:
    case OP_matmul:
    case OP_bias:
    case OP_add:
    case OP_swiglu: return true;
    default: return false;
    }
}

struct narrow {
    struct graph *g;
    struct node *outputs;
    char *kept;         // [nodes] somebody reads rows that were not asked for
    struct node **copy; // [nodes] what was made of a node: one that is reached on two ways is narrowed once
};

static struct node *narrow(struct narrow *c, struct node *x);

static struct node *narrowed(struct narrow *c, const struct node *x)
{
    struct node *in[GRAPH_MAX_INPUTS];
    for (int i = 0; i < x->input_count; i++)
        in[i] = x->in[i]->extent == EXTENT_ROWS ? narrow(c, x->in[i]) : x->in[i];
    struct tensor out = tensor_shape(x->out.type, x->out.ne[0], c->outputs->out.ne[1], 1, 1);
    c->g->layer = x->layer;
    struct node *copy = graph_node(c->g, x->op, out, c->outputs->extent, NULL, 0, in, x->input_count);
    copy->params = x->params;
    return copy;
}

static struct node *narrow(struct narrow *c, struct node *x)
{
    int64_t index = x - nodes_of(c->g);
    if (!c->copy[index]) {
        c->g->layer = x->layer;
        bool moves = !c->kept[index] && row_wise(x);
        c->copy[index] = moves ? narrowed(c, x) : g_select(c->g, x, c->outputs);
    }
    return c->copy[index];
}

struct node *pass_narrow(struct graph *g, struct node *select)
{
    TLM_ASSERT(select->op == OP_select);
    struct narrow c = {.g = g, .outputs = select->in[1]};
    int64_t count = g->node_count;
    c.kept = arena_alloc(&g->params, (size_t)count);
    c.copy = arena_alloc(&g->params, (size_t)count * sizeof *c.copy);
    // Readers stand behind what they read: backwards, a node that stays keeps its inputs.
    for (int64_t i = count - 1; i >= 0; i--) {
        struct node *n = &nodes_of(g)[i];
        if (n == select || (row_wise(n) && !c.kept[i])) continue;
        for (int j = 0; j < n->input_count; j++) c.kept[n->in[j] - nodes_of(g)] = 1;
    }
    return narrow(&c, select->in[0]);
}

void pass_convert(struct graph *g, const struct kernels *k)
{
    int64_t count = g->node_count;
    for (int64_t i = 0; i < count; i++) {
        struct node *n = &nodes_of(g)[i];
        if (n->op != OP_matmul) continue;
        enum dtype want = k->matmul[n->in[1]->out.type].x_type;
        struct node *x = n->in[0], *converted = NULL;
        if (x->out.type == want) continue;
        for (int64_t j = count; j < g->node_count && !converted; j++) {
            struct node *c = &nodes_of(g)[j];
            if (c->op == OP_convert && c->in[0] == x && c->out.type == want) converted = c;
        }
        g->layer = n->layer;
        n->in[0] = converted ? converted : g_convert(g, x, want);
    }
}
