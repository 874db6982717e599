#include "models/blocks.h"

#include <math.h>

struct rope_tables block_rope_tables(struct graph *g, const struct tlm_model *m,
                                     const struct build_inputs *in)
{
    struct rope_tables t = {0};
    if (m->hparams.rope.pairs)
        t.global = g_rope_table(g, in->step.positions, in->rope.freq, in->rope.magnitude);
    if (m->hparams.rope_local.pairs)
        t.local = g_rope_table(g, in->step.positions, in->rope_local.freq, in->rope_local.magnitude);
    return t;
}

struct node *block_embed(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    const struct weights *w = &m->weights;
    struct node *x = g_embed(g, g_weight(g, w->embed), in->step.tokens);
    if (w->positions) x = g_add(g, x, g_embed(g, g_weight(g, w->positions), in->step.positions));
    if (m->hparams.embedding_scale != 1) x = g_scale(g, x, m->hparams.embedding_scale);
    return block_norm(g, m, x, w->embed_norm, w->embed_norm_bias);
}

static struct node *norm(struct graph *g, const struct tlm_model *m, struct node *x, const struct tensor *w,
                         const struct tensor *b, int64_t group)
{
    if (!w) return x;
    if (!m->hparams.layer_norm) return g_rmsnorm(g, x, g_weight(g, w), group, m->hparams.norm_eps);
    return g_layernorm(g, x, g_weight(g, w), b ? g_weight(g, b) : NULL, group, m->hparams.norm_eps);
}

struct node *block_norm(struct graph *g, const struct tlm_model *m, struct node *x, const struct tensor *w,
                        const struct tensor *b)
{
    return norm(g, m, x, w, b, x->out.ne[0]);
}

struct node *block_linear(struct graph *g, const struct tensor *w, const struct tensor *b, struct node *x)
{
    x = g_matmul(g, g_weight(g, w), x);
    return b ? g_bias(g, x, g_weight(g, b)) : x;
}

struct node *block_logits(struct graph *g, const struct tlm_model *m, struct node *x)
{
    x = block_linear(g, m->head.weight, m->head.bias, x);
    if (m->head.scale != 1) x = g_scale(g, x, m->head.scale);
    return m->head.softcap != 0 ? g_softcap(g, x, m->head.softcap) : x;
}

struct node *block_residual(struct graph *g, const struct tlm_model *m, struct node *x, struct node *y)
{
    double scale = m->hparams.residual_scale;
    return g_add(g, x, scale == 1 ? y : g_scale(g, y, scale));
}

// ---- attention ----------------------------------------------------------------------------------------

static struct node *rotated(struct graph *g, const struct tlm_model *m, const struct layer *w, struct node *x,
                            const struct rope_tables *rope, int64_t heads)
{
    struct node *table = w->local_rope ? rope->local : rope->global;
    if (!table || w->no_rope) return x;
    return g_rope(g, x, table, (int32_t)heads, m->hparams.rope.pairing);
}

static struct attention_params attention_params(const struct tlm_model *m, const struct layer *w)
{
    const struct hparams *h = &m->hparams;
    return (struct attention_params){
        .heads = (int32_t)h->heads,
        .kv_heads = (int32_t)h->kv_heads,
        .head_dim = (int32_t)h->head_dim,
        .value_dim = (int32_t)h->value_dim,
        .window = w->window,
        .scale = h->attention_scale != 0 ? h->attention_scale : 1.0 / sqrt((double)h->head_dim),
        .softcap = h->attention_softcap,
        .sinks = w->sinks,
        .slopes = w->no_slopes ? NULL : m->weights.alibi_slopes,
    };
}

static struct node *latent_norm(struct graph *g, const struct tlm_model *m, struct node *x,
                                const struct tensor *w)
{
    return g_rmsnorm(g, x, g_weight(g, w), x->out.ne[0], m->hparams.latent_norm_eps);
}

int64_t block_hadamard(enum dtype type, int64_t head, int64_t other)
{
    if (type != DTYPE_Q4_0) return 1;
    int64_t both = head | other;
    return both & -both;
}

static struct node *spread(struct graph *g, struct node *x, int64_t block)
{
    return block > 1 ? g_hadamard(g, x, block) : x;
}

// Multi-head latent attention in its absorbed form: queries are carried into the space of the compressed keys, which are the
// values too, so all heads share one cached row of kv_rank + rope numbers. DeepSeek-V2, arXiv 2405.04434, section 2.1.
//
//     [c | k_r] = w_kv_a x,   c = norm(c),   q_h = [w_k_b,h q_n,h | rope(q_r,h)],   k = [c | rope(k_r)],   v = c
//     y_h = w_v_b,h attention(q_h, k, c)
static struct node *latent_attention(struct graph *g, const struct tlm_model *m,
                                     const struct build_inputs *in, int64_t l, struct node *x,
                                     const struct rope_tables *rope)
{
    const struct hparams *h = &m->hparams;
    const struct layer *w = &m->weights.layer[l];
    int32_t heads = (int32_t)h->heads, rank = (int32_t)h->kv_rank, nope = (int32_t)h->nope_dim;
    int32_t turned = (int32_t)(2 * h->rope.pairs);
    struct node *q = w->wq_a ? block_linear(g, w->wq_b, NULL,
                                            latent_norm(g, m, block_linear(g, w->wq_a, NULL, x), w->q_a_norm))
                             : block_linear(g, w->wq, NULL, x);
    struct node *q_rope = rotated(g, m, w, g_slice(g, q, heads, nope, turned), rope, heads);
    q = g_matmul_heads(g, g_weight(g, w->wk_b), g_slice(g, q, heads, 0, nope));
    q = g_concat(g, q, q_rope, heads, false);

    struct node *kv = block_linear(g, w->wkv_a, NULL, x);
    struct node *k_rope = rotated(g, m, w, g_slice(g, kv, 1, rank, turned), rope, 1);
    struct node *k = latent_norm(g, m, g_slice(g, kv, 1, 0, rank), w->kv_a_norm);
    k = g_concat(g, k, k_rope, 1, false);
    int64_t block = block_hadamard(in->keys[l].type, rank + turned, rank);
    q = spread(g, q, block);
    k = g_kv_write(g, spread(g, k, block), in->step.slots[in->group_of[l]], in->keys[l], 1);

    struct attention_params p =
        attention_params(m, w); // the scale is that of the heads before they were absorbed
    p.kv_heads = 1;
    p.head_dim = rank + turned;
    p.value_dim = rank;
    struct node *y = spread(g, g_attention(g, q, k, k, &in->step, in->group_of[l], &p), block);
    return block_linear(g, w->wo, w->bo, g_matmul_heads(g, g_weight(g, w->wv_b), y));
}

struct node *block_attention(struct graph *g, const struct tlm_model *m, const struct build_inputs *in,
                             int64_t l, struct node *x, const struct rope_tables *rope)
{
    const struct hparams *h = &m->hparams;
    const struct layer *w = &m->weights.layer[l];
    if (h->kv_rank) return latent_attention(g, m, in, l, x, rope);
    int32_t heads = (int32_t)h->heads, kv_heads = (int32_t)h->kv_heads;
    struct node *q, *k, *v;
    if (!w->wq) {
        int32_t qs = (int32_t)(h->heads * h->head_dim), ks = (int32_t)(h->kv_heads * h->head_dim);
        struct node *qkv = block_linear(g, w->wqkv, w->bqkv, x);
        q = g_slice(g, qkv, 1, 0, qs);
        k = g_slice(g, qkv, 1, qs, ks);
        v = g_slice(g, qkv, 1, qs + ks, (int32_t)(h->kv_heads * h->value_dim));
    } else {
        q = block_linear(g, w->wq, w->bq, x);
        k = block_linear(g, w->wk, w->bk, x);
        v = block_linear(g, w->wv, w->bv, x);
    }
    // A norm with one weight of the whole row spans the row; all others span a head.
    if (w->q_norm) q = norm(g, m, q, w->q_norm, NULL, w->q_norm->ne[0]);
    if (w->k_norm) k = norm(g, m, k, w->k_norm, NULL, w->k_norm->ne[0]);
    q = rotated(g, m, w, q, rope, heads);
    k = rotated(g, m, w, k, rope, kv_heads);
    int64_t k_block = block_hadamard(in->keys[l].type, h->head_dim, h->head_dim);
    int64_t v_block = block_hadamard(in->values[l].type, h->value_dim, h->value_dim);
    q = spread(g, q, k_block);
    k = spread(g, k, k_block);
    v = spread(g, v, v_block);
    struct node *keys = g_kv_write(g, k, in->step.slots[in->group_of[l]], in->keys[l], kv_heads);
    struct node *values = g_kv_write(g, v, in->step.slots[in->group_of[l]], in->values[l], kv_heads);
    struct attention_params p = attention_params(m, w);
    struct node *y = g_attention(g, q, keys, values, &in->step, in->group_of[l], &p);
    return block_linear(g, w->wo, w->bo, spread(g, y, v_block));
}

// ---- feed-forward -------------------------------------------------------------------------------------

struct node *block_glu(struct graph *g, const struct tlm_model *m, const struct layer *w, struct node *x,
                       enum activation act)
{
    struct node *gate, *up;
    if (!w->gate) {
        int32_t n = (int32_t)m->hparams.feed_forward;
        struct node *both = block_linear(g, w->gate_up, NULL, x);
        gate = g_slice(g, both, 1, 0, n);
        up = g_slice(g, both, 1, n, n);
    } else {
        gate = block_linear(g, w->gate, w->gate_bias, x);
        up = block_linear(g, w->up, w->up_bias, x);
    }
    return block_linear(g, w->down, w->down_bias, g_glu(g, gate, up, act));
}

struct node *block_mlp(struct graph *g, const struct layer *w, struct node *x, enum activation act)
{
    return block_linear(g, w->down, w->down_bias,
                        g_activation(g, block_linear(g, w->up, w->up_bias, x), act));
}

static struct node *expert_linear(struct graph *g, const struct tensor *w, const struct tensor *b,
                                  struct node *x, struct node *sorted)
{
    x = g_matmul_experts(g, g_weight(g, w), x, sorted);
    return b ? g_bias_experts(g, x, g_weight(g, b), sorted) : x;
}

struct node *block_experts(struct graph *g, const struct tlm_model *m, const struct layer *w, struct node *x,
                           enum activation act)
{
    const struct expert_hparams *e = &m->hparams.experts;
    struct route_params p = {
        .experts = (int32_t)e->count,
        .used = (int32_t)e->used,
        .groups = (int32_t)e->groups,
        .groups_used = (int32_t)e->groups_used,
        .gate = e->gate,
        .normalize = e->normalize,
        .scale = e->scale,
    };
    struct node *logits = block_linear(g, w->router, w->router_bias, x);
    struct node *route = g_route(g, logits, w->choice_bias ? g_weight(g, w->choice_bias) : NULL, &p);
    struct node *sorted = g_sort_experts(g, route), *rows = g_gather_experts(g, x, sorted);
    struct node *gate = expert_linear(g, w->experts_gate, w->experts_gate_bias, rows, sorted);
    struct node *up = expert_linear(g, w->experts_up, w->experts_up_bias, rows, sorted);
    struct node *down =
        expert_linear(g, w->experts_down, w->experts_down_bias, g_glu(g, gate, up, act), sorted);
    struct node *y = g_combine_experts(g, down, route, sorted);
    if (!w->shared_gate) return y;
    gate = block_linear(g, w->shared_gate, NULL, x);
    up = block_linear(g, w->shared_up, NULL, x);
    return g_add(g, y, block_linear(g, w->shared_down, NULL, g_glu(g, gate, up, act)));
}

struct node *block_feed_forward(struct graph *g, const struct tlm_model *m, const struct layer *w,
                                struct node *x, enum activation act)
{
    return w->router ? block_experts(g, m, w, x, act) : block_glu(g, m, w, x, act);
}

// What a layer lacks; NULL where it is whole.
static const char *missing_feed_forward(const struct layer *w)
{
    if (w->router)
        return !w->experts_gate   ? "ffn_gate_exps"
               : !w->experts_up   ? "ffn_up_exps"
               : !w->experts_down ? "ffn_down_exps"
                                  : NULL;
    return !w->gate ? "ffn_gate" : !w->up ? "ffn_up" : !w->down ? "ffn_down" : NULL;
}

enum tlm_status block_check_feed_forward(const struct tlm_model *m, struct tlm_error *err)
{
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        const char *name = missing_feed_forward(w);
        bool both =
            w->router ? w->gate || w->up || w->down : w->experts_gate || w->experts_up || w->experts_down;
        if (name || both)
            return error_set(err, TLM_ERR_FORMAT,
                             "blk.%lld: expected one feed-forward part or experts, found %s%s", (long long)l,
                             name ? "no " : "both", name ? name : "");
    }
    return TLM_OK;
}

struct node *block_pre_norm_mlp_layers(struct graph *g, const struct tlm_model *m,
                                       const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *h = block_norm(g, m, x, w->attn_norm, w->attn_norm_bias);
        x = g_add(g, x, block_attention(g, m, in, l, h, &rope));
        h = block_norm(g, m, x, w->ffn_norm, w->ffn_norm_bias);
        x = g_add(g, x, block_mlp(g, w, h, ACT_GELU_TANH));
    }
    g->layer = -1;
    return x;
}

struct node *block_pre_norm_layers(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *h = block_norm(g, m, x, w->attn_norm, NULL);
        x = block_residual(g, m, x, block_attention(g, m, in, l, h, &rope));
        h = block_norm(g, m, x, w->ffn_norm, NULL);
        x = block_residual(g, m, x, block_feed_forward(g, m, w, h, ACT_SILU));
    }
    g->layer = -1;
    return x;
}
