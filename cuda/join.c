// cuda/join.c -- gradients that are parts of one array, which would be copied out of it only to be put side by side again.
//
// Where one product makes queries, keys and values, or a gate and what it is multiplied with, their gradients come from one launch, in rows
// that have all of them (attention_dx, glu_dx). A rule of the gradient takes each input's part out; the slices of the product's output then put
// these back, one by one. In the numbers of a step that is three passes over memory for what already stands where it belongs: those who
// read the sum read the array itself.
#include "cuda/nodes.h"

// n has numbers [offset, offset + count) of an array's rows in the same columns of its own.
static bool is_part(const struct node *n)
{
    const struct node *x = n->in[0];
    if (n->op != OP_slice_dx || x->op != OP_slice) return false;
    const struct slice_params *to = n->params, *from = x->params;
    return to->heads == 1 && from->heads == 1 && to->offset == from->offset && to->count == from->count;
}

static bool overlap(const struct node *a, const struct node *b)
{
    const struct slice_params *p = a->params, *q = b->params;
    return p->offset < q->offset + q->count && q->offset < p->offset + p->count;
}

// The array whose parts n and its bases have put together, all of them and each once; NULL: there is none.
static struct node *joined(const struct node *n)
{
    struct node *all = is_part(n) ? n->in[0]->in[0] : NULL;
    int64_t columns = 0;
    if (!all || all->out.type != n->out.type || all->out.ne[0] != n->out.ne[0] || all->extent != n->extent)
        return NULL;
    for (const struct node *part = n; part; part = part->base) {
        if (!is_part(part) || part->in[0]->in[0] != all) return NULL;
        for (const struct node *other = n; other != part; other = other->base)
            if (overlap(part, other)) return NULL;
        columns += ((const struct slice_params *)part->params)->count;
    }
    return columns == all->out.ne[0] ? all : NULL;
}

void cuda_join_gradients(struct graph *g)
{
    struct node *nodes = (struct node *)g->nodes.base;
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *sum = &nodes[i], *all = sum->op == OP_slice_dx ? joined(sum) : NULL;
        for (int64_t j = 0; all && j < g->node_count; j++) {
            struct node *n = &nodes[j];
            for (int k = 0; k < n->input_count; k++)
                if (n->in[k] == sum) n->in[k] = all;
            if (n->base == sum) n->base = all;
            if (n->after == sum) n->after = all;
        }
    }
}
