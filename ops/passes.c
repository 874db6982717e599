// ops/passes.c -- rewrites of a graph between building and planning. They add nodes and turn inputs around; what nobody
// reads any more is left out by graph_plan().
#include "ops/nodes.h"

static struct node *nodes_of(const struct graph *g)
{
    return (struct node *)g->nodes.base;
}

// Row r of the output depends on row r of each input of as many rows, and on nothing else of it. A mixture of experts is so
// from end to end: route to combine are narrowed together.
static bool row_wise(const struct node *n)
{
    switch (n->op) {
    case OP_convert:
    case OP_rmsnorm:
    case OP_layernorm:
    case OP_matmul:
    case OP_matmul_heads:
    case OP_bias:
    case OP_add:
    case OP_scale:
    case OP_softcap:
    case OP_hadamard:
    case OP_activation:
    case OP_glu:
    case OP_slice:
    case OP_concat:
    case OP_route:
    case OP_sort_experts:
    case OP_gather_experts:
    case OP_matmul_experts:
    case OP_bias_experts:
    case OP_combine_experts: return true;
    default: return false;
    }
}

struct narrow {
    struct graph *g;
    struct node *outputs;
    int64_t rows;       // of the bucket
    char *kept;         // [nodes] somebody reads rows that were not asked for
    struct node **copy; // [nodes] what was made of a node: one that is reached on two ways is narrowed once
};

static struct node *narrow(struct narrow *c, struct node *x);

static bool has_rows(const struct node *n)
{
    return n->extent == EXTENT_ROWS || n->extent == EXTENT_ROUTED_ROWS || n->op == OP_sort_experts;
}

static struct node *narrowed(struct narrow *c, const struct node *x)
{
    struct node *in[GRAPH_MAX_INPUTS];
    for (int i = 0; i < x->input_count; i++) in[i] = has_rows(x->in[i]) ? narrow(c, x->in[i]) : x->in[i];
    c->g->layer = x->layer;
    if (x->op == OP_sort_experts) return g_sort_experts(c->g, in[0]);
    bool routed = x->extent == EXTENT_ROUTED_ROWS;
    int64_t used = routed ? x->out.ne[1] / c->rows : 1;
    struct tensor out = tensor_shape(x->out.type, x->out.ne[0], c->outputs->out.ne[1] * used, 1, 1);
    enum extent extent = routed ? EXTENT_ROUTED_OUTPUTS : c->outputs->extent;
    struct node *copy = graph_node(c->g, x->op, out, extent, NULL, 0, in, x->input_count);
    copy->params = x->params;
    return copy;
}

static struct node *narrow(struct narrow *c, struct node *x)
{
    int64_t index = x - nodes_of(c->g);
    if (!c->copy[index]) {
        c->g->layer = x->layer;
        bool moves = !c->kept[index] && row_wise(x);
        TLM_ASSERT(moves || x->extent == EXTENT_ROWS); // a part of a mixture of experts cannot stay behind
        c->copy[index] = moves ? narrowed(c, x) : g_select(c->g, x, c->outputs);
    }
    return c->copy[index];
}

struct node *pass_narrow(struct graph *g, struct node *select)
{
    TLM_ASSERT(select->op == OP_select);
    struct narrow c = {.g = g, .outputs = select->in[1], .rows = select->in[0]->out.ne[1]};
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

static float limit_of(const struct node *convert)
{
    const struct convert_params *p = convert->params;
    return p ? p->limit : 0;
}

// What an earlier call added.
static struct node *added_convert(const struct graph *g, int64_t first, const struct node *x, enum dtype type,
                                  float limit)
{
    for (int64_t j = first; j < g->node_count; j++) {
        struct node *n = &nodes_of(g)[j];
        if (n->op == OP_convert && n->in[0] == x && n->out.type == type && limit_of(n) == limit) return n;
    }
    return NULL;
}

static struct node *added_gather(const struct graph *g, int64_t first, const struct node *x,
                                 const struct node *sorted)
{
    for (int64_t j = first; j < g->node_count; j++) {
        struct node *n = &nodes_of(g)[j];
        if (n->op == OP_gather_experts && n->in[0] == x && n->in[1] == sorted) return n;
    }
    return NULL;
}

// x as the kernel wants it. What gather_experts copies is converted before it is copied.
static struct node *converted(struct graph *g, struct node *x, enum dtype want, float limit, int64_t first)
{
    struct node *done;
    if (x->op == OP_gather_experts) {
        struct node *source = converted(g, x->in[0], want, limit, first);
        done = added_gather(g, first, source, x->in[1]);
        return done ? done : g_gather_experts(g, source, x->in[1]);
    }
    done = added_convert(g, first, x, want, limit);
    if (done) return done;
    return limit > 0 ? g_convert_within(g, x, limit) : g_convert(g, x, want);
}

void pass_convert(struct graph *g, const struct kernels *k)
{
    int64_t count = g->node_count;
    for (int64_t i = 0; i < count; i++) {
        struct node *n = &nodes_of(g)[i];
        if (n->op != OP_matmul && n->op != OP_matmul_experts) continue;
        enum dtype want = k->matmul[n->in[1]->out.type].x_type;
        if (n->in[0]->out.type == want) continue;
        g->layer = n->layer;
        float limit = want == DTYPE_Q8_K ? n->in[1]->out.input_limit : 0;
        n->in[0] = converted(g, n->in[0], want, limit, count);
    }
}
