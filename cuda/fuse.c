// cuda/fuse.c -- rules of fusion, a table: chains of ops that one launch does.
#include "cuda/fuse.h"

#include "cuda/bnb.h"

#include <stdlib.h>
#include <string.h>

#include "cuda/planes.h"
#include "ops/paged.h"

struct fusion {
    struct graph *g;
    struct node *const *roots;
    int root_count;
    int32_t *readers;     // [nodes] among those that the roots need, and the roots' owner; 0: nobody needs it
    struct node **reader; // [nodes] one of them
    struct node **stack;
};

// ---- patterns -----------------------------------------------------------------------------------------------

// A piece of a pattern: which ops, may it be left out, and may others read it, for whom it is then computed once more.
struct piece {
    uint64_t ops;
    bool optional, again;
};

enum { PIECES = 7 };
_Static_assert((int)OP_COUNT <= 64, "ops as bits of a word");

#define BIT(name) (UINT64_C(1) << OP_##name)
#define NORM      (BIT(rmsnorm) | BIT(layernorm))
#define ONE(ops_)     \
    {                 \
        .ops = (ops_) \
    }
#define MAYBE(ops_)                     \
    {                                   \
        .ops = (ops_), .optional = true \
    }
#define COPIED(ops_)                                   \
    {                                                  \
        .ops = (ops_), .optional = true, .again = true \
    }
// A product, and what its input is made of.
#define PRODUCT ONE(BIT(matmul)), COPIED(BIT(convert)), COPIED(NORM)
// A slice of one: some outputs of a matrix. All who read it must be slices of the same launch (is_whole).
#define SHARED(ops_)                 \
    {                                \
        .ops = (ops_), .again = true \
    }
#define SLICED_PRODUCT \
    ONE(BIT(slice)), COPIED(BIT(bias)), SHARED(BIT(matmul)), COPIED(BIT(convert)), COPIED(NORM)

// What was found: the nodes, the last op first, and what the chain reads.
struct match {
    struct node *at[PIECES], *x;
    struct node *other; // the other input of the first
    int count;
};

static struct node *found(const struct match *m, uint64_t ops)
{
    for (int i = 0; i < m->count; i++)
        if (ops >> m->at[i]->op & 1) return m->at[i];
    return NULL;
}

static bool is_one(const struct fusion *f, const struct node *n, const struct piece *s)
{
    return n->op >= 0 && n->op < (int)OP_COUNT && s->ops >> n->op & 1 && f->readers[n->index] > 0 &&
           (s->again || f->readers[n->index] == 1);
}

// The chain of `steps` that ends in n, going on by input `which` of n and by the first ones of all others.
static bool match_chain(const struct fusion *f, struct node *n, const struct piece *steps, int which,
                        struct match *m)
{
    *m = (struct match){.at = {n}, .count = 1, .x = n->in[which]};
    if (n->input_count == 2) m->other = n->in[1 - which];
    for (int i = 1; i < PIECES && steps[i].ops; i++) {
        if (is_one(f, m->x, &steps[i])) {
            m->at[m->count++] = m->x;
            m->x = m->x->in[0];
        } else if (!steps[i].optional) {
            return false;
        }
    }
    return true;
}

static bool match(const struct fusion *f, struct node *n, const struct piece *steps, struct match *m)
{
    if (n->op < 0 || n->op >= (int)OP_COUNT || !(steps[0].ops >> n->op & 1) || !f->readers[n->index])
        return false;
    return match_chain(f, n, steps, 0, m) || (n->op == OP_add && match_chain(f, n, steps, 1, m));
}

// ---- products -----------------------------------------------------------------------------------------------

// A norm of other than whole rows is no part of the chain.
static void drop_norm(struct match *m)
{
    const struct node *norm = found(m, NORM);
    if (!norm) return;
    const struct norm_params *p = norm->params;
    if (p->group == norm->out.ne[0]) return;
    m->x = m->at[--m->count];
}

static bool takes_product(struct match *m)
{
    const struct node *product = found(m, BIT(matmul)), *w = product->in[1], *slice = found(m, BIT(slice));
    drop_norm(m);
    if (slice && ((const struct slice_params *)slice->params)->heads != 1) return false;
    return m->x->out.type == DTYPE_F32 && m->x->out.ne[0] == w->out.ne[0] && w->out.ne[2] == 1 &&
           w->op == GRAPH_LEAF && product->out.ne[1] <= FUSED_ROWS && !bnb_known(w->out.type);
}

static void add_part(struct fused_product_params *p, const struct match *m, const struct node *out)
{
    const struct node *w = found(m, BIT(matmul))->in[1], *bias = found(m, BIT(bias)),
                      *slice = found(m, BIT(slice));
    const struct cuda_matrix matrix = planes_matrix(&w->out, w->out.data, 0);
    const struct slice_params whole = {1, 0, (int32_t)matrix.outputs}, *s = slice ? slice->params : &whole;
    const int32_t i = p->launch.shape.parts++;
    p->launch.shape.outputs[i] = s->count;
    p->launch.part[i].codes = (const char *)matrix.codes + (size_t)s->offset * matrix.code_stride;
    if (matrix.scales)
        p->launch.part[i].scales = (const char *)matrix.scales + (size_t)s->offset * matrix.scale_stride;
    if (bias) p->launch.part[i].bias = (const float *)bias->in[1]->out.data + s->offset;
    p->out[i] = out;
}

static void begin_product(struct fused_product_params *p, const struct match *m)
{
    const struct node *w = found(m, BIT(matmul))->in[1], *norm = found(m, NORM),
                      *scale = found(m, BIT(scale));
    const struct node *cap = found(m, BIT(softcap)), *act = found(m, BIT(activation) | BIT(glu));
    const struct cuda_matrix matrix = planes_matrix(&w->out, w->out.data, 0);
    struct cuda_fused_product *l = &p->launch;
    *p = (struct fused_product_params){.launch.shape = cuda_fused_shape_of(&matrix)};
    l->shape.parts = 0;
    l->factor = scale ? (float)((const struct factor_params *)scale->params)->factor : 1;
    l->cap = cap ? (float)((const struct factor_params *)cap->params)->factor : 0;
    if (act) l->shape.kind = ((const struct activation_params *)act->params)->kind;
    l->shape.activated = act && act->op == OP_activation, l->shape.gated = act && act->op == OP_glu;
    if (!norm) return;
    l->shape.norm = norm->op == OP_rmsnorm ? FUSED_RMSNORM : FUSED_LAYERNORM;
    l->norm_w = norm->in[1]->out.data;
    l->norm_b = norm->input_count == 3 ? norm->in[2]->out.data : NULL;
    l->eps = (float)((const struct norm_params *)norm->params)->eps;
}

// The node becomes one that reads what is not NULL of `in` alone. Nodes of one launch read the same, so that they share a phase, in which
// the results of all have their places.
static void become(struct fusion *f, struct node *n, enum cuda_op op, const void *params, size_t size,
                   struct node *const *in, int count)
{
    if (size) n->params = memcpy(arena_alloc(&f->g->params, size), params, size);
    n->op = (int)op;
    n->input_count = 0;
    for (int i = 0; i < count; i++)
        if (in[i]) n->in[n->input_count++] = in[i];
}

// What a product of `count` matches becomes.
static void become_product(struct fusion *f, struct node *last, enum cuda_op op,
                           struct fused_product_params *p, const struct match *parts, int count,
                           struct node *base)
{
    struct node *in[2 + FUSED_PARTS] = {parts->x, base};
    for (int i = 0; i < count; i++) {
        struct node *w = found(&parts[i], BIT(matmul))->in[1];
        bool known = false;
        for (int j = 0; j < i; j++) known |= in[2 + j] == w;
        in[2 + i] = known ? NULL : w;
    }
    p->added = base != NULL;
    become(f, last, op, p, sizeof *p, in, 2 + count);
}

// What is sliced: NULL where the product is taken whole.
static const struct node *sliced_of(const struct match *m)
{
    for (int i = 0; i + 1 < m->count; i++)
        if (m->at[i]->op == OP_slice) return m->at[i + 1];
    return NULL;
}

// Two products of the same rows, which are made in the same way, by weights of one type.
static bool alike(const struct match *a, const struct match *b)
{
    const struct node *u = found(a, BIT(matmul))->in[1], *v = found(b, BIT(matmul))->in[1];
    return a->x == b->x && found(a, NORM) == found(b, NORM) && u->out.type == v->out.type &&
           !found(a, BIT(convert)) == !found(b, BIT(convert)) && !sliced_of(a) == !sliced_of(b);
}

// ---- the conditions of rules: true where the first node of the match has become `op` -----------------------

static bool fuse_product(struct fusion *f, struct match *m, enum cuda_op op)
{
    struct fused_product_params p;
    struct node *last = m->at[0];
    if (!takes_product(m)) return false;
    begin_product(&p, m);
    add_part(&p, m, last);
    if (!cuda_fused_product_fits(&p.launch.shape, last->out.ne[1])) return false;
    become_product(f, last, op, &p, m, 1, last->op == OP_add ? m->other : NULL);
    return true;
}

static const struct piece biased[PIECES] = {ONE(BIT(bias)), PRODUCT}, bare[PIECES] = {PRODUCT},
                          sliced[PIECES] = {SLICED_PRODUCT};

static bool match_linear(const struct fusion *f, struct node *n, struct match *m)
{
    const struct node *reader = f->reader[n->index];
    if (n->op == OP_matmul && f->readers[n->index] == 1 && reader && reader->op == OP_bias) return false;
    return (match(f, n, biased, m) || match(f, n, bare, m) || match(f, n, sliced, m)) && takes_product(m);
}

// Are all slices of what the matches slice among them?
static bool is_whole(const struct fusion *f, const struct match *m, int count)
{
    for (int i = 0; i < count; i++) {
        const struct node *all = sliced_of(&m[i]);
        int slices = 0;
        for (int j = 0; j < count; j++) slices += all && sliced_of(&m[j]) == all;
        if (all && slices != f->readers[all->index]) return false;
    }
    return true;
}

static bool fuse_glu(struct fusion *f, struct match *gate, enum cuda_op op)
{
    struct fused_product_params p;
    struct match up;
    struct node *last = gate->at[0];
    if (!takes_product(gate) || f->readers[gate->other->index] != 1 || !match_linear(f, gate->other, &up) ||
        !alike(gate, &up) || !is_whole(f, (struct match[]){*gate, up}, 2))
        return false;
    begin_product(&p, gate);
    add_part(&p, gate, last);
    add_part(&p, &up, last);
    if (!cuda_fused_product_fits(&p.launch.shape, last->out.ne[1])) return false;
    become_product(f, last, op, &p, (struct match[]){*gate, up}, 2, NULL);
    return true;
}

// Of many rows, whose product writes its results once: what is added to them is added before. The planner puts them where the residual is.
static bool fuse_linear(struct fusion *f, struct match *m, enum cuda_op op)
{
    struct node *last = m->at[0], *product = found(m, BIT(matmul)), *w = product->in[1],
                *base = last->op == OP_add ? m->other : NULL;
    const struct node *bias = found(m, BIT(bias));
    if (last->out.ne[1] < CUDA_MANY_ROWS || w->op != GRAPH_LEAF || w->out.ne[2] != 1) return false;
    const struct fused_linear_params p = {bias ? (const float *)bias->in[1]->out.data : NULL};
    become(f, last, op, &p, sizeof p, (struct node *[]){product->in[0], w}, 2);
    last->base = base;
    return true;
}

// With all that others multiply the same rows with.
static bool fuse_all(struct fusion *f, struct match *m, enum cuda_op op)
{
    struct fused_product_params p;
    struct match parts[FUSED_PARTS];
    struct node *last = m->at[0], *nodes = (struct node *)f->g->nodes.base;
    int count = 1;
    if (!match_linear(f, last, &parts[0])) return false;
    for (int64_t i = 0; i < f->g->node_count && count < FUSED_PARTS; i++)
        count +=
            &nodes[i] != last && match_linear(f, &nodes[i], &parts[count]) && alike(&parts[0], &parts[count]);
    begin_product(&p, &parts[0]);
    for (int i = 0; i < count; i++) add_part(&p, &parts[i], parts[i].at[0]);
    if (!is_whole(f, parts, count) || !cuda_fused_product_fits(&p.launch.shape, last->out.ne[1]))
        return false;
    become_product(f, last, op, &p, parts, count, NULL);
    for (int i = 1; i < count; i++) become(f, parts[i].at[0], FUSED_part, NULL, 0, &parts[0].x, 1);
    return true;
}

static bool fuse_norm_add(struct fusion *f, struct match *m, enum cuda_op op)
{
    const struct node *norm = found(m, NORM), *scale = found(m, BIT(scale));
    const struct norm_params *n = norm->params;
    struct node *last = m->at[0];
    if (n->group != norm->out.ne[0] || last->out.ne[1] > FUSED_ROWS) return false;
    const struct fused_norm_add_params p = {
        {.norm = norm->op == OP_rmsnorm ? FUSED_RMSNORM : FUSED_LAYERNORM,
         .w = norm->in[1]->out.data,
         .b = norm->input_count == 3 ? norm->in[2]->out.data : NULL,
         .factor = scale ? (float)((const struct factor_params *)scale->params)->factor : 1,
         .eps = (float)n->eps}};
    become(f, last, op, &p, sizeof p, (struct node *[]){m->x, m->other}, 2);
    return true;
}

// What is done to the heads of n, back to what *x receives; n itself is left, whoever reads it, where it is `kept`.
static void take_head(const struct fusion *f, struct node *n, bool kept, struct fused_heads_params *p, int i)
{
    struct cuda_fused_head *h = &p->launch.kind[i];
    if (n->op == OP_rope && (kept || f->readers[n->index] == 1)) {
        const struct rope_params *rope = n->params;
        h->pairs = rope->pairs;
        p->launch.pairing = rope->pairing;
        p->table = n->in[1];
        n = n->in[0], kept = false;
    }
    if (n->op >= 0 && n->op < (int)OP_COUNT && NORM >> n->op & 1 && (kept || f->readers[n->index] == 1) &&
        ((const struct norm_params *)n->params)->group == h->dim) {
        h->norm = n->op == OP_rmsnorm ? FUSED_RMSNORM : FUSED_LAYERNORM;
        h->w = n->in[1]->out.data;
        h->b = n->input_count == 3 ? n->in[2]->out.data : NULL;
        h->weights = (int32_t)(tensor_elements(&n->in[1]->out) / h->dim);
        h->eps = (float)((const struct norm_params *)n->params)->eps;
        n = n->in[0];
    }
    p->x[i] = n;
}

static bool writes_plain(const struct node *write)
{
    const struct kv_write_params *p = write->params;
    const enum dtype type = p->cache.type;
    return write->op == OP_kv_write && p->head_dim <= FUSED_HEAD && p->cache.layout == KV_ROWS &&
           (type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || type == DTYPE_F8_E4M3);
}

// The writing of keys becomes the launch, which attention and queries then wait for.
static bool fuse_heads(struct fusion *f, struct match *m, enum cuda_op op)
{
    struct node *attention = m->at[0], *q = attention->in[0], *keys = attention->in[1],
                *values = attention->in[2];
    const struct attention_params *a = attention->params;
    struct fused_heads_params p = {0};
    if (attention->out.ne[1] > FUSED_ROWS || keys == values || !writes_plain(keys) || !writes_plain(values) ||
        keys->in[1] != values->in[1] || a->head_dim > FUSED_HEAD)
        return false;
    const struct kv_write_params *k = keys->params, *v = values->params;
    p.keys = *k;
    p.launch.slots = keys->in[1]->out.data;
    p.launch.kind[0] = (struct cuda_fused_head){.heads = a->heads, .dim = a->head_dim};
    p.launch.kind[1] = (struct cuda_fused_head){.heads = k->heads, .dim = k->head_dim, .cache = k->cache};
    p.launch.kind[2] = (struct cuda_fused_head){.heads = v->heads, .dim = v->head_dim, .cache = v->cache};
    take_head(f, keys->in[0], false, &p, 1);
    take_head(f, values->in[0], false, &p, 2);
    const struct node *table = p.table;
    take_head(f, q, true, &p, 0);
    if (p.table != table) return false; // queries turn with the keys
    p.q = p.x[0] == q ? NULL : q;
    if (!p.q) p.launch.kind[0].heads = 0;
    struct node *in[] = {(struct node *)p.x[1], (struct node *)p.x[2], p.q ? (struct node *)p.x[0] : NULL,
                         (struct node *)p.table};
    become(f, keys, op, &p, sizeof p, in, 4);
    become(f, values, FUSED_part, NULL, 0, in, 4);
    if (p.q) become(f, q, FUSED_part, NULL, 0, in, 4);
    return true;
}

// Heads and attention leave the memory idle: meanwhile the weights of the product behind them are on their way.
static void look_ahead(struct fusion *f)
{
    struct node *nodes = (struct node *)f->g->nodes.base;
    for (int64_t i = 0; i < f->g->node_count; i++) {
        struct node *n = &nodes[i], *attention = n->input_count ? n->in[0] : NULL;
        const bool product = n->op >= (int)FUSED_matmul_glu && n->op <= (int)FUSED_matmul_all;
        if (!product || !f->readers[i] || attention->op != OP_attention ||
            attention->in[1]->op != FUSED_heads)
            continue;
        const struct cuda_fused_product *l = &((const struct fused_product_params *)n->params)->launch;
        struct cuda_fused_heads *heads = &((struct fused_heads_params *)attention->in[1]->params)->launch;
        const int64_t codes = (int64_t)l->shape.outputs[0] * l->shape.code_stride,
                      scales = (int64_t)l->shape.outputs[0] * l->shape.scale_stride;
        const int64_t most = FUSED_AHEAD_MOST;
        heads->ahead[0] = (struct cuda_fused_ahead){l->part[0].codes, codes < most ? codes : most};
        if (scales)
            heads->ahead[1] = (struct cuda_fused_ahead){l->part[0].scales, scales < most ? scales : most};
    }
}

// ---- the table ----------------------------------------------------------------------------------------------

// To add a rule: a line in CUDA_FUSED() (cuda/fuse.h), a launcher (cuda/fused.h), its run function in cuda/nodes_fused.c, and a line here:
// the pattern, the last op first, each piece the op that the piece in front of it reads; and the condition, which works out the op's
// parameters and makes the last node of the match that op by become(). Nothing else is to be done: nodes in between that nobody else
// reads are left out by graph_plan(), and one that others read too may only be a COPIED piece. Rules are tried one after the other over
// the whole graph, so what is long comes first.
static const struct rule {
    enum cuda_op op;
    struct piece pattern[PIECES];
    bool (*fuse)(struct fusion *f, struct match *m, enum cuda_op op);
} rules[] = {
    {FUSED_heads, {ONE(BIT(attention))}, fuse_heads},
    {FUSED_norm_add, {ONE(BIT(add)), MAYBE(BIT(scale)), ONE(NORM)}, fuse_norm_add},
    {FUSED_matmul_glu, {ONE(BIT(glu)), MAYBE(BIT(bias)), PRODUCT}, fuse_glu},
    {FUSED_matmul_glu, {ONE(BIT(glu)), SLICED_PRODUCT}, fuse_glu},
    {FUSED_matmul_add, {ONE(BIT(add)), MAYBE(BIT(scale)), MAYBE(BIT(bias)), PRODUCT}, fuse_product},
    {FUSED_matmul_act, {ONE(BIT(activation)), MAYBE(BIT(bias)), PRODUCT}, fuse_product},
    {FUSED_matmul_cap, {ONE(BIT(softcap)), MAYBE(BIT(scale)), MAYBE(BIT(bias)), PRODUCT}, fuse_product},
    {FUSED_matmul_cap, {ONE(BIT(scale)), MAYBE(BIT(bias)), PRODUCT}, fuse_product},
    {FUSED_matmul_all, {SLICED_PRODUCT}, fuse_all},
    {FUSED_matmul_all, {ONE(BIT(bias)), PRODUCT}, fuse_all},
    {FUSED_matmul_all, {PRODUCT}, fuse_all},
    {FUSED_linear, {ONE(BIT(add)), MAYBE(BIT(bias)), ONE(BIT(matmul))}, fuse_linear},
    {FUSED_linear, {ONE(BIT(bias)), ONE(BIT(matmul))}, fuse_linear},
};

// Who reads what, of all that the roots need.
static void count_readers(struct fusion *f)
{
    int64_t depth = 0;
    memset(f->readers, 0, (size_t)f->g->node_count * sizeof *f->readers);
    memset(f->reader, 0, (size_t)f->g->node_count * sizeof(struct node *));
    for (int i = 0; i < f->root_count; i++)
        if (!f->readers[f->roots[i]->index]++) f->stack[depth++] = f->roots[i];
    while (depth) {
        struct node *n = f->stack[--depth];
        for (int i = 0; i <= n->input_count; i++) {
            struct node *in = i < n->input_count ? n->in[i] : n->base;
            if (!in) continue;
            f->reader[in->index] = n;
            if (!f->readers[in->index]++) f->stack[depth++] = in;
        }
    }
}

static void apply(struct fusion *f, const struct rule *rule)
{
    struct node *nodes = (struct node *)f->g->nodes.base;
    struct match m;
    for (int64_t i = 0; i < f->g->node_count; i++)
        if (match(f, &nodes[i], rule->pattern, &m) && rule->fuse(f, &m, rule->op)) count_readers(f);
}

enum tlm_status cuda_fuse(struct graph *g, struct node *const *roots, int root_count, struct tlm_error *err)
{
    struct fusion f = {.g = g, .roots = roots, .root_count = root_count};
    const size_t count = (size_t)g->node_count;
    f.readers = malloc(count * sizeof *f.readers);
    f.reader = malloc(count * sizeof *f.reader);
    f.stack = malloc(count * sizeof *f.stack);
    enum tlm_status s = TLM_OK;
    if (f.readers && f.reader && f.stack) {
        count_readers(&f);
        for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) apply(&f, &rules[i]);
        look_ahead(&f);
    } else {
        s = error_set(err, TLM_ERR_MEMORY, "cuda: no memory to fuse %zu nodes", count);
    }
    free(f.readers);
    free(f.reader);
    free(f.stack);
    return s;
}
