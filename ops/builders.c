// ops/builders.c -- adds ops to a graph; shapes are worked out and checked here.
#include "ops/nodes.h"

static struct node *node(struct graph *g, enum op_id op, struct tensor out, enum extent extent,
                         const void *params, size_t params_size, int input_count, struct node *const *in)
{
    return graph_node(g, (int)op, out, extent, params, params_size, in, input_count);
}
#define INPUTS(...)                                                                          \
    (int)(sizeof((struct node *[]){__VA_ARGS__}) / sizeof(struct node *)), (struct node *[]) \
    {                                                                                        \
        __VA_ARGS__                                                                          \
    }

static struct tensor matrix(const struct graph *g, int64_t cols, int64_t rows)
{
    return tensor_shape(g->real, cols, rows, 1, 1);
}

static struct node *step_leaf(struct graph *g, void *data, int64_t cols, int64_t rows, enum extent extent)
{
    struct tensor t = tensor_shape(DTYPE_I32, cols, rows, 1, 1);
    t.data = data;
    return graph_leaf(g, &t, extent);
}

struct step_leaves g_step(struct graph *g, const struct step *s, int32_t max_rows, int32_t max_outputs)
{
    int64_t tile_words = sizeof(struct attention_tile) / sizeof(int32_t);
    struct step_leaves leaves = {
        .tokens = step_leaf(g, s->tokens, 1, max_rows, EXTENT_ROWS),
        .positions = step_leaf(g, s->positions, 1, max_rows, EXTENT_ROWS),
        .outputs = step_leaf(g, s->outputs, 1, max_outputs, EXTENT_OUTPUTS),
        .tiles = step_leaf(g, s->tiles, tile_words, max_rows, EXTENT_TILES),
    };
    if (s->max_sequences > 1)
        leaves.prefix_tiles = step_leaf(g, s->prefix_tiles, tile_words, max_rows, EXTENT_PREFIX_TILES);
    for (int32_t i = 0; i < s->groups; i++) {
        leaves.slots[i] = step_leaf(g, s->slots[i], 1, max_rows, EXTENT_ROWS);
        leaves.block_tables[i] =
            step_leaf(g, s->block_tables[i], s->blocks_per_sequence, s->max_sequences, EXTENT_FIXED);
    }
    return leaves;
}

struct node *g_weight(struct graph *g, const struct tensor *w)
{
    return graph_leaf(g, w, EXTENT_FIXED);
}

struct node *g_embed(struct graph *g, struct node *w, struct node *tokens)
{
    return node(g, OP_embed, matrix(g, w->out.ne[0], tokens->out.ne[1]), tokens->extent, NULL, 0,
                INPUTS(w, tokens));
}

struct node *g_select(struct graph *g, struct node *x, struct node *outputs)
{
    return node(g, OP_select, matrix(g, x->out.ne[0], outputs->out.ne[1]), outputs->extent, NULL, 0,
                INPUTS(x, outputs));
}

// Blocks are filled up: their type may give the result more columns than x has.
struct node *g_convert(struct graph *g, struct node *x, enum dtype type)
{
    int64_t block = dtype_traits[type].block_size, cols = (x->out.ne[0] + block - 1) / block * block;
    return node(g, OP_convert, tensor_shape(type, cols, x->out.ne[1], 1, 1), x->extent, NULL, 0, INPUTS(x));
}

struct node *g_convert_within(struct graph *g, struct node *x, float limit)
{
    struct node *n = g_convert(g, x, DTYPE_Q8_K);
    struct convert_params *p = arena_alloc(&g->params, sizeof *p);
    *p = (struct convert_params){limit};
    n->params = p;
    return n;
}

static bool norm_fits(const struct node *x, const struct node *w, int64_t group)
{
    int64_t weights = tensor_elements(&w->out);
    return x->out.ne[0] % group == 0 && (weights == group || weights == x->out.ne[0]);
}

struct node *g_rmsnorm(struct graph *g, struct node *x, struct node *w, int64_t group, double eps)
{
    TLM_ASSERT(norm_fits(x, w, group) && w->out.type == g->real);
    struct norm_params p = {eps, group};
    return node(g, OP_rmsnorm, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, &p, sizeof p, INPUTS(x, w));
}

struct node *g_layernorm(struct graph *g, struct node *x, struct node *w, struct node *b, int64_t group,
                         double eps)
{
    TLM_ASSERT(norm_fits(x, w, group) && w->out.type == g->real &&
               (!b || tensor_elements(&b->out) == tensor_elements(&w->out)));
    struct norm_params p = {eps, group};
    return node(g, OP_layernorm, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, &p, sizeof p, b ? 3 : 2,
                (struct node *[]){x, w, b});
}

struct node *g_matmul(struct graph *g, struct node *w, struct node *x)
{
    TLM_ASSERT(w->out.ne[0] == x->out.ne[0]);
    return node(g, OP_matmul, matrix(g, w->out.ne[1], x->out.ne[1]), x->extent, NULL, 0, INPUTS(x, w));
}

struct node *g_bias(struct graph *g, struct node *x, struct node *b)
{
    TLM_ASSERT(b->out.ne[0] == x->out.ne[0] && b->out.type == g->real);
    return node(g, OP_bias, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, NULL, 0, INPUTS(x, b));
}

struct node *g_add(struct graph *g, struct node *a, struct node *b)
{
    TLM_ASSERT(a->out.ne[0] == b->out.ne[0] && a->extent == b->extent);
    return node(g, OP_add, matrix(g, a->out.ne[0], a->out.ne[1]), a->extent, NULL, 0, INPUTS(a, b));
}

struct node *g_matmul_heads(struct graph *g, struct node *w, struct node *x)
{
    TLM_ASSERT(w->out.ne[0] * w->out.ne[2] == x->out.ne[0]);
    return node(g, OP_matmul_heads, matrix(g, w->out.ne[1] * w->out.ne[2], x->out.ne[1]), x->extent, NULL, 0,
                INPUTS(x, w));
}

static struct node *element_wise(struct graph *g, enum op_id op, struct node *x, const void *params,
                                 size_t size)
{
    return node(g, op, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, params, size, INPUTS(x));
}

struct node *g_scale(struct graph *g, struct node *x, double factor)
{
    return element_wise(g, OP_scale, x, &(struct factor_params){factor}, sizeof(struct factor_params));
}

struct node *g_hadamard(struct graph *g, struct node *x, int64_t block)
{
    TLM_ASSERT(block > 0 && (block & (block - 1)) == 0 && x->out.ne[0] % block == 0);
    return element_wise(g, OP_hadamard, x, &(struct hadamard_params){block}, sizeof(struct hadamard_params));
}

struct node *g_softcap(struct graph *g, struct node *x, double cap)
{
    return element_wise(g, OP_softcap, x, &(struct factor_params){cap}, sizeof(struct factor_params));
}

struct node *g_activation(struct graph *g, struct node *x, enum activation kind)
{
    return element_wise(g, OP_activation, x, &(struct activation_params){kind},
                        sizeof(struct activation_params));
}

struct node *g_glu(struct graph *g, struct node *gate, struct node *up, enum activation kind)
{
    TLM_ASSERT(gate->out.ne[0] == up->out.ne[0] && gate->extent == up->extent);
    struct activation_params p = {kind};
    return node(g, OP_glu, matrix(g, up->out.ne[0], up->out.ne[1]), up->extent, &p, sizeof p,
                INPUTS(gate, up));
}

struct node *g_slice(struct graph *g, struct node *x, int32_t heads, int32_t offset, int32_t count)
{
    TLM_ASSERT(x->out.ne[0] % heads == 0 && offset + count <= x->out.ne[0] / heads);
    struct slice_params p = {heads, offset, count};
    return node(g, OP_slice, matrix(g, (int64_t)heads * count, x->out.ne[1]), x->extent, &p, sizeof p,
                INPUTS(x));
}

struct node *g_concat(struct graph *g, struct node *a, struct node *b, int32_t heads, bool b_shared)
{
    TLM_ASSERT(a->out.ne[0] % heads == 0 && (b_shared || b->out.ne[0] % heads == 0) &&
               a->extent == b->extent);
    struct concat_params p = {heads, b_shared};
    int64_t cols = a->out.ne[0] + (b_shared ? heads : 1) * b->out.ne[0];
    return node(g, OP_concat, matrix(g, cols, a->out.ne[1]), a->extent, &p, sizeof p, INPUTS(a, b));
}

struct node *g_rope_table(struct graph *g, struct node *positions, struct node *freq, double magnitude)
{
    TLM_ASSERT(freq->out.type == DTYPE_F64);
    struct rope_table_params p = {magnitude, false};
    return node(g, OP_rope_table, matrix(g, 2 * freq->out.ne[0], positions->out.ne[1]), positions->extent, &p,
                sizeof p, INPUTS(positions, freq));
}

struct node *g_rope_inverse(struct graph *g, const struct node *table)
{
    struct rope_table_params p = *(const struct rope_table_params *)table->params;
    p.inverse = !p.inverse;
    return node(g, OP_rope_table, table->out, table->extent, &p, sizeof p, table->input_count, table->in);
}

struct node *g_rope(struct graph *g, struct node *x, struct node *table, int32_t heads,
                    enum rope_pairing pairing)
{
    TLM_ASSERT(x->out.ne[0] % heads == 0 && table->out.ne[0] <= x->out.ne[0] / heads);
    struct rope_params p = {heads, (int32_t)(x->out.ne[0] / heads), (int32_t)(table->out.ne[0] / 2), pairing};
    return node(g, OP_rope, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, &p, sizeof p, INPUTS(x, table));
}

struct node *g_kv_write(struct graph *g, struct node *x, struct node *slots, struct paged_kv cache,
                        int32_t heads)
{
    TLM_ASSERT(x->out.ne[0] % heads == 0);
    struct kv_write_params p = {cache, heads, (int32_t)(x->out.ne[0] / heads)};
    struct tensor out = tensor_shape(DTYPE_I8, 0, 0, 1, 1);
    struct node *n = node(g, OP_kv_write, out, x->extent, &p, sizeof p, INPUTS(x, slots));
    n->effect = EFFECT_CACHE_WRITE;
    return n;
}

struct node *g_attention(struct graph *g, struct node *q, struct node *k_written, struct node *v_written,
                         const struct step_leaves *step, int32_t group, const struct attention_params *p)
{
    TLM_ASSERT(k_written->op == OP_kv_write && v_written->op == OP_kv_write);
    TLM_ASSERT(q->out.ne[0] == (int64_t)p->heads * p->head_dim && p->heads % p->kv_heads == 0);
    struct node *positions = step->positions, *tables = step->block_tables[group], *states = NULL;
    if (step->prefix_tiles &&
        group == 0) { // the other groups have windows: they keep few keys, not always the same
        const struct kv_write_params *k = k_written->params, *v = v_written->params;
        struct attention_prefix_params prefix = {*p, k->cache, v->cache};
        states =
            node(g, OP_attention_prefix, matrix(g, p->heads * attention_state(p->value_dim), q->out.ne[1]),
                 q->extent, &prefix, sizeof prefix, INPUTS(q, positions, step->prefix_tiles, tables));
    }
    return node(g, OP_attention, matrix(g, (int64_t)p->heads * p->value_dim, q->out.ne[1]), q->extent, p,
                sizeof *p, states ? 7 : 6,
                (struct node *[]){q, k_written, v_written, positions, step->tiles, tables, states});
}

// ---- mixtures of experts ------------------------------------------------------------------------------

static enum extent routed(enum extent rows)
{
    TLM_ASSERT(rows == EXTENT_ROWS || rows == EXTENT_OUTPUTS);
    return rows == EXTENT_ROWS ? EXTENT_ROUTED_ROWS : EXTENT_ROUTED_OUTPUTS;
}

struct node *g_route(struct graph *g, struct node *logits, struct node *choice_bias,
                     const struct route_params *p)
{
    TLM_ASSERT(logits->out.ne[0] == p->experts && p->used <= p->experts);
    return node(g, OP_route, matrix(g, 2 * p->used, logits->out.ne[1]), logits->extent, p, sizeof *p,
                choice_bias ? 2 : 1, (struct node *[]){logits, choice_bias});
}

struct node *g_sort_experts(struct graph *g, struct node *route)
{
    const struct route_params *p = route->params;
    TLM_ASSERT(route->op == OP_route);
    int64_t head = 2 * p->experts + 2, pairs = route->out.ne[1] * p->used;
    return node(g, OP_sort_experts, tensor_shape(DTYPE_I32, 1, head + 3 * pairs, 1, 1), EXTENT_FIXED, p,
                sizeof *p, INPUTS(route));
}

struct node *g_gather_experts(struct graph *g, struct node *x, struct node *sorted)
{
    const struct route_params *p = sorted->params;
    struct tensor out = tensor_shape(x->out.type, x->out.ne[0], x->out.ne[1] * p->used, 1, 1);
    return node(g, OP_gather_experts, out, routed(x->extent), NULL, 0, INPUTS(x, sorted));
}

struct node *g_matmul_experts(struct graph *g, struct node *w, struct node *x, struct node *sorted)
{
    TLM_ASSERT(w->out.ne[0] == x->out.ne[0] && sorted->op == OP_sort_experts);
    return node(g, OP_matmul_experts, matrix(g, w->out.ne[1], x->out.ne[1]), x->extent, NULL, 0,
                INPUTS(x, w, sorted));
}

struct node *g_bias_experts(struct graph *g, struct node *x, struct node *b, struct node *sorted)
{
    TLM_ASSERT(b->out.ne[0] == x->out.ne[0] && b->out.type == g->real);
    return node(g, OP_bias_experts, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, NULL, 0,
                INPUTS(x, b, sorted));
}

struct node *g_combine_experts(struct graph *g, struct node *x, struct node *route, struct node *sorted)
{
    TLM_ASSERT(x->extent == routed(route->extent));
    return node(g, OP_combine_experts, matrix(g, x->out.ne[0], route->out.ne[1]), route->extent, NULL, 0,
                INPUTS(x, route, sorted));
}

struct node *g_move(struct graph *g, const struct node *from, int level)
{
    struct tensor out = from->out;
    out.data = NULL;
    g->layer = from->layer;
    struct node *n = node(g, OP_move, out, from->extent, NULL, 0, 0, NULL);
    n->params = from->params; // which readers look at
    n->level = level;
    return n;
}
