// ops/parts_cut.c -- a place's part of a node that several places share (ops/parts.h): of its inputs, of its weights, of its heads.
#include "ops/parts_share.h"

// ---- where nodes are cut ------------------------------------------------------------------------------

const struct paged_share *parts_heads_of(const struct node *n)
{
    const struct node *write = n->op == OP_attention ? n->in[1] : n;
    if (n->op == OP_attention_prefix) return ((const struct attention_prefix_params *)n->params)->k.share;
    return write->op == OP_kv_write ? ((const struct kv_write_params *)write->params)->cache.share : NULL;
}

void parts_cut_by_heads(const struct node *n, int64_t input[PLACES + 1], int64_t output[PLACES + 1])
{
    const struct paged_share *heads = parts_heads_of(n);
    int64_t in = 0, out = 0; // columns a key-value head
    if (n->op == OP_kv_write) {
        in = out = ((const struct kv_write_params *)n->params)->head_dim;
    } else {
        const struct attention_params *p = n->params; // those of a prefix begin with them
        const int64_t queries = p->heads / p->kv_heads;
        in = queries * p->head_dim;
        out = queries * (n->op == OP_attention ? p->value_dim : attention_state(p->value_dim));
    }
    for (int i = 0; i <= PLACES; i++) input[i] = heads->first[i] * in, output[i] = heads->first[i] * out;
}

bool parts_same_spread(const struct spread *a, const struct spread *b)
{
    if (a->kind != b->kind || !a->cut || !b->cut) return false;
    for (int i = 0; i < PLACES; i++)
        if (a->kind == SPREAD_SUM ? parts_has_some(a->cut, i) != parts_has_some(b->cut, i)
                                  : a->cut[i + 1] != b->cut[i + 1])
            return false;
    return true;
}

int64_t parts_columns_together(const struct node *n)
{
    switch (n->op) {
    case OP_bias:
    case OP_bias_experts:
    case OP_scale:
    case OP_softcap:
    case OP_activation:
    case OP_select:
    case OP_combine_experts: return 1;
    case OP_hadamard: return ((const struct hadamard_params *)n->params)->block;
    case OP_rmsnorm:
    case OP_layernorm: return ((const struct norm_params *)n->params)->group;
    case OP_rope: return ((const struct rope_params *)n->params)->head_dim;
    default: return 0;
    }
}

// ---- parts --------------------------------------------------------------------------------------------

// Of a matrix, or of each of a stack, the place's part; of vectors that stand in one row, their numbers (axis 0).
static struct tensor part_of_tensor(const struct tensor *t, int place, const int64_t *cut, int axis)
{
    struct tensor part = *t;
    const int64_t first = axis ? cut[place] : cut[place] / dtype_traits[t->type].block_size;
    part.data = (char *)t->data + (size_t)first * t->nb[axis];
    part.ne[axis] = cut[place + 1] - cut[place];
    part.cut = NULL;
    part.place = place;
    return part;
}

static struct node *cut_leaf(struct share *s, int place, const struct node *x, const int64_t *cut, int axis)
{
    const struct tensor part = part_of_tensor(&x->out, place, cut, axis);
    return graph_leaf(&s->p->graph[place], &part, x->extent);
}

// Weights of a norm, one for each column.
static struct node *cut_weights(struct share *s, int place, const struct node *x, const int64_t *cut)
{
    struct tensor row = tensor_shape(x->out.type, tensor_elements(&x->out), 1, 1, 1);
    row.data = x->out.data;
    row = part_of_tensor(&row, place, cut, 0);
    return graph_leaf(&s->p->graph[place], &row, x->extent);
}

// The columns of x that the place is to have by `cut`.
static struct node *columns_of(struct share *s, int place, const struct node *x, const int64_t *cut)
{
    const struct spread wanted = {SPREAD_COLUMNS, cut};
    if (parts_same_spread(&s->spread[x->index], &wanted)) return *parts_slot(s, s->part, place, x);
    struct node *whole = parts_seen(s, place, x);
    struct graph *g = &s->p->graph[place];
    g->layer = x->layer;
    struct node *y = g_slice(g, whole, 1, (int32_t)cut[place], (int32_t)(cut[place + 1] - cut[place]));
    y->level = whole->level;
    return y;
}

// Input i of x, for the place's part of it.
static struct node *input_of_part(struct share *s, int place, const struct node *x, int i)
{
    const struct node *in = x->in[i];
    const struct tensor *w = &x->in[1 < x->input_count]->out; // of products
    int64_t input[PLACES + 1], output[PLACES + 1];
    switch (x->op) {
    case OP_matmul:
    case OP_matmul_experts:
        if (i == 1) return cut_leaf(s, place, in, w->cut, w->axis);
        return i == 0 && w->axis == 0 ? columns_of(s, place, in, w->cut) : parts_seen(s, place, in);
    case OP_kv_write:
    case OP_attention:
    case OP_attention_prefix:
        parts_cut_by_heads(x, input, output);
        if (i == 0) return columns_of(s, place, in, input);
        return in->op == OP_kv_write || in->op == OP_attention_prefix ? *parts_slot(s, s->part, place, in)
                                                                      : parts_seen(s, place, in);
    case OP_bias:
    case OP_bias_experts:
        if (i == 1) return cut_leaf(s, place, in, s->spread[x->index].cut, 0);
        break;
    case OP_rmsnorm:
    case OP_layernorm:
        if (i && tensor_elements(&in->out) > parts_columns_together(x))
            return cut_weights(s, place, in, s->spread[x->index].cut);
        break;
    default: break;
    }
    return i == 0 || x->op == OP_add || x->op == OP_glu ? *parts_slot(s, s->part, place, in)
                                                        : parts_seen(s, place, in);
}

// Of a number a head, those of the place's heads.
static const struct tensor *part_of_heads(struct graph *g, int place, const struct tensor *t,
                                          const struct attention_params *p, const struct paged_share *heads)
{
    int64_t cut[PLACES + 1];
    if (!t) return NULL;
    for (int i = 0; i <= PLACES; i++) cut[i] = heads->first[i] * p->heads / p->kv_heads;
    struct tensor *part = arena_alloc(&g->params, sizeof *part);
    *part = part_of_tensor(t, place, cut, 0);
    return part;
}

static void part_of_cache(struct paged_kv *kv, int place)
{
    kv->data = kv->share->data[place];
    kv->share = NULL;
}

static const void *params_of_part(struct share *s, int place, const struct node *x)
{
    struct graph *g = &s->p->graph[place];
    const struct paged_share *heads = parts_heads_of(x);
    const int32_t count = heads ? (int32_t)(heads->first[place + 1] - heads->first[place]) : 0;
    if (x->op == OP_kv_write) {
        struct kv_write_params *p = arena_alloc(&g->params, sizeof *p);
        *p = *(const struct kv_write_params *)x->params;
        part_of_cache(&p->cache, place);
        p->heads = count;
        return p;
    }
    if (x->op == OP_rope) {
        const struct spread *spread = &s->spread[x->index];
        struct rope_params *p = arena_alloc(&g->params, sizeof *p);
        *p = *(const struct rope_params *)x->params;
        p->heads = (int32_t)((spread->cut[place + 1] - spread->cut[place]) / p->head_dim);
        return p;
    }
    if (x->op != OP_attention && x->op != OP_attention_prefix) return x->params;
    struct attention_prefix_params *p = arena_alloc(&g->params, sizeof *p);
    if (x->op == OP_attention_prefix) {
        *p = *(const struct attention_prefix_params *)x->params;
        part_of_cache(&p->k, place), part_of_cache(&p->v, place);
    } else {
        p->attention = *(const struct attention_params *)x->params;
    }
    struct attention_params *a = &p->attention;
    a->sinks = part_of_heads(g, place, a->sinks, a, heads);
    a->slopes = part_of_heads(g, place, a->slopes, a, heads);
    a->heads = count * (a->heads / a->kv_heads);
    a->kv_heads = count;
    return p;
}

struct node *parts_part_of(struct share *s, int place, const struct node *x)
{
    const struct spread *spread = &s->spread[x->index];
    struct node *in[GRAPH_MAX_INPUTS];
    struct tensor out = x->out;
    if (spread->kind == SPREAD_COLUMNS && x->op != OP_kv_write)
        out = tensor_shape(out.type, spread->cut[place + 1] - spread->cut[place], out.ne[1], 1, 1);
    for (int i = 0; i < x->input_count; i++) in[i] = input_of_part(s, place, x, i);
    return parts_add_node(s, place, x, out, params_of_part(s, place, x), in);
}
