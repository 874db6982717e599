#include "models/blocks.h"

#include <math.h>

struct node *block_linear(struct graph *g, const struct tensor *w, const struct tensor *b, struct node *x)
{
    x = g_matmul(g, g_weight(g, w), x);
    return b ? g_bias(g, x, g_weight(g, b)) : x;
}

struct node *block_attention(struct graph *g, const struct tlm_model *m, const struct build_inputs *in,
                             int64_t l, struct node *x, struct node *rope_table)
{
    const struct hparams *h = &m->hparams;
    const struct layer *w = &m->weights.layer[l];
    int32_t heads = (int32_t)h->heads, kv_heads = (int32_t)h->kv_heads;
    struct node *q = g_rope(g, block_linear(g, w->wq, w->bq, x), rope_table, heads, h->rope.pairing);
    struct node *k = g_rope(g, block_linear(g, w->wk, w->bk, x), rope_table, kv_heads, h->rope.pairing);
    struct node *v = block_linear(g, w->wv, w->bv, x);
    struct node *keys = g_kv_write(g, k, in->step.slots, in->keys[l], kv_heads);
    struct node *values = g_kv_write(g, v, in->step.slots, in->values[l], kv_heads);
    struct attention_params p = {
        .heads = heads,
        .kv_heads = kv_heads,
        .head_dim = (int32_t)h->head_dim,
        .value_dim = (int32_t)h->value_dim,
        .scale = 1.0 / sqrt((double)h->head_dim),
    };
    return block_linear(g, w->wo, w->bo, g_attention(g, q, keys, values, &in->step, &p));
}

struct node *block_swiglu(struct graph *g, const struct layer *w, struct node *x)
{
    struct node *gate = block_linear(g, w->gate, w->gate_bias, x),
                *up = block_linear(g, w->up, w->up_bias, x);
    return block_linear(g, w->down, w->down_bias, g_swiglu(g, gate, up));
}
