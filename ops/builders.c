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

struct step_leaves g_step(struct graph *g, const struct step *s)
{
    int64_t tile_words = sizeof(struct attention_tile) / sizeof(int32_t);
    return (struct step_leaves){
        .tokens = step_leaf(g, s->tokens, 1, s->max_rows, EXTENT_ROWS),
        .positions = step_leaf(g, s->positions, 1, s->max_rows, EXTENT_ROWS),
        .slots = step_leaf(g, s->slots, 1, s->max_rows, EXTENT_ROWS),
        .outputs = step_leaf(g, s->outputs, 1, s->max_outputs, EXTENT_OUTPUTS),
        .tiles = step_leaf(g, s->tiles, tile_words, s->max_rows, EXTENT_TILES),
        .block_tables = step_leaf(g, s->block_tables, s->blocks_per_sequence, s->max_sequences, EXTENT_FIXED),
    };
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

struct node *g_convert(struct graph *g, struct node *x, enum dtype type)
{
    return node(g, OP_convert, tensor_shape(type, x->out.ne[0], x->out.ne[1], 1, 1), x->extent, NULL, 0,
                INPUTS(x));
}

struct node *g_rmsnorm(struct graph *g, struct node *x, struct node *w, double eps)
{
    TLM_ASSERT(w->out.ne[0] == x->out.ne[0] && w->out.type == g->real);
    struct rmsnorm_params p = {eps};
    return node(g, OP_rmsnorm, matrix(g, x->out.ne[0], x->out.ne[1]), x->extent, &p, sizeof p, INPUTS(x, w));
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

struct node *g_swiglu(struct graph *g, struct node *gate, struct node *up)
{
    TLM_ASSERT(gate->out.ne[0] == up->out.ne[0] && gate->extent == up->extent);
    return node(g, OP_swiglu, matrix(g, up->out.ne[0], up->out.ne[1]), up->extent, NULL, 0, INPUTS(gate, up));
}

struct node *g_rope_table(struct graph *g, struct node *positions, struct node *freq, double magnitude)
{
    TLM_ASSERT(freq->out.type == DTYPE_F64);
    struct rope_table_params p = {magnitude};
    return node(g, OP_rope_table, matrix(g, 2 * freq->out.ne[0], positions->out.ne[1]), positions->extent, &p,
                sizeof p, INPUTS(positions, freq));
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
                         const struct step_leaves *step, const struct attention_params *p)
{
    TLM_ASSERT(k_written->op == OP_kv_write && v_written->op == OP_kv_write);
    TLM_ASSERT(q->out.ne[0] == (int64_t)p->heads * p->head_dim && p->heads % p->kv_heads == 0);
    struct tensor out = matrix(g, (int64_t)p->heads * p->value_dim, q->out.ne[1]);
    return node(g, OP_attention, out, q->extent, p, sizeof *p,
                INPUTS(q, k_written, v_written, step->positions, step->tiles, step->block_tables));
}
