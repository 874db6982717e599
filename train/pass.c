#include "train/pass.h"

#include "models/blocks.h"
#include "ops/backend.h"
#include "ops/paged.h"

#include <stdlib.h>
#include <string.h>

// Of logits at a time, and rows at least; a backend has more work to share out.
enum { CHUNK_BYTES = 64 << 20, BACKEND_CHUNK_BYTES = 256 << 20, CHUNK_ROWS = 64 };

static struct node *leaf(struct graph *g, enum dtype type, int64_t rows, void *data)
{
    struct tensor t = tensor_shape(type, 1, rows, 1, 1);
    t.data = data;
    return graph_leaf(g, &t, EXTENT_FIXED);
}

static struct node *node_at(const struct graph *g, int64_t i)
{
    return (struct node *)g->nodes.base + i;
}

// What the layers add to the rows is dropped out in front of the sum. A layer's sums have the rows so far as their first summand.
static void add_dropout(struct graph *g, int64_t first, struct node *seed, double rate)
{
    int64_t count = g->node_count;
    for (int64_t i = first; i < count; i++) {
        struct node *n = node_at(g, i);
        if (n->op != OP_add || n->layer < 0) continue;
        g->layer = n->layer;
        n->in[1] = g_dropout(g, n->in[1], seed, (uint64_t)i, rate);
    }
    g->layer = -1;
}

static void save_attention(struct graph *g, int64_t first)
{
    for (int64_t i = first; i < g->node_count; i++)
        if (node_at(g, i)->op == OP_attention) g_attention_save(g, node_at(g, i));
}

// Attention without a cache: keys and values as they are, in F16 where matrices have fewer bits than that (cuda/attention_rows_mma.cu has
// the reasons).
static void read_rows(struct graph *g, int64_t first, bool narrow)
{
    int64_t count = g->node_count;
    for (int64_t i = first; i < count; i++) {
        struct node *n = node_at(g, i);
        if (n->op != OP_attention) continue;
        g->layer = n->layer;
        const bool latent = n->in[1] == n->in[2]; // the values are in the keys
        for (int j = 0; j < 3; j++) {
            if (n->in[j]->op == OP_kv_write) n->in[j] = n->in[j]->in[0];
            if (narrow && !(j == 2 && latent)) n->in[j] = g_convert(g, n->in[j], DTYPE_F16);
        }
        if (latent) n->in[2] = n->in[1];
    }
    g->layer = -1;
}

// The head in chunks of rows.
struct head_chunks {
    int64_t count;
    struct node **rows, **logits, **losses; // [count]
    struct node **taught;                   // rows of the teacher
};

static int64_t chunk_rows(const struct pass *p)
{
    const int64_t bytes = p->model->backend ? BACKEND_CHUNK_BYTES : CHUNK_BYTES;
    int64_t rows = bytes / (p->model->hparams.vocab * (int64_t)sizeof(float)) / CHUNK_ROWS * CHUNK_ROWS;
    if (rows < CHUNK_ROWS) rows = CHUNK_ROWS;
    return rows < p->config.rows ? rows : p->config.rows;
}

static void add_head(struct pass *p, struct head_chunks *c, struct node *x)
{
    struct graph *g = &p->graph;
    const struct tlm_model *m = p->model;
    struct node *targets = leaf(g, DTYPE_I32, p->config.rows, p->targets);
    struct node *losses = leaf(g, DTYPE_F64, p->config.rows, p->losses),
                *factor = leaf(g, DTYPE_F64, 1, p->factor);
    p->losses_leaf = losses;
    struct node *hidden = p->teacher ? p->teacher->hidden : NULL;
    if (hidden && !p->runner) hidden = graph_leaf(g, &hidden->out, EXTENT_FIXED); // of a graph of its own
    int64_t size = chunk_rows(p);
    for (int64_t i = 0, begin = 0; i < c->count; i++, begin += size) {
        int64_t rows = p->config.rows - begin < size ? p->config.rows - begin : size;
        c->rows[i] = g_rows(g, x, begin, rows);
        c->logits[i] = block_logits(g, m, c->rows[i]);
        if (!hidden) {
            c->losses[i] = g_cross_entropy(g, c->logits[i], targets, losses, factor, begin);
            continue;
        }
        c->taught[i] = g_rows(g, hidden, begin, rows);
        struct node *teacher = block_logits(g, p->teacher->model, c->taught[i]);
        c->losses[i] = g_distill(g, c->logits[i], teacher, targets, losses, factor, begin, p->config.distill);
    }
}

static int64_t begin_of(const struct node *rows)
{
    return ((const struct rows_params *)rows->params)->begin;
}

// The last chunk comes first, as gradients do; each begins when the one before has handed its gradient to the hidden rows.
static void order_head(struct pass *p, struct head_chunks *c)
{
    for (int64_t i = 0; i + 1 < c->count; i++) {
        c->rows[i]->after = c->losses[i + 1];
        for (int64_t j = 0; j < p->graph.node_count; j++) {
            struct node *n = node_at(&p->graph, j);
            if (n->op == OP_rows_dx && begin_of(n) == begin_of(c->rows[i + 1])) c->rows[i]->after = n;
        }
        if (p->teacher) c->taught[i]->after = c->rows[i]->after;
    }
    // Where the teacher is in this graph it is done with when the first logits come.
    if (p->teacher && p->runner) c->rows[c->count - 1]->after = p->teacher->hidden;
}

// What the caches of a model's layers look like.
struct caches {
    struct paged_kv *keys, *values; // [layers]
    int32_t *group_of;              // [layers], zeros
};

// Adds the layers of p's model to a graph, over the rows of a step: what the head reads, the normed rows behind all layers.
static struct node *add_layers(const struct pass *p, struct graph *g, const struct step *step,
                               const struct caches *c)
{
    const struct tlm_model *m = p->model;
    const int64_t first = g->node_count;
    struct build_inputs in = {
        .step = g_step(g, step, p->config.rows, 1),
        .rope = {graph_leaf(g, &p->rope.freq, EXTENT_FIXED), p->rope.magnitude},
        .rope_local = {graph_leaf(g, &p->rope_local.freq, EXTENT_FIXED), p->rope_local.magnitude},
        .keys = c->keys,
        .values = c->values,
        .group_of = c->group_of,
    };
    in.step.prefix_tiles = NULL; // documents share nothing
    struct node *x = m->arch->build(g, m, &in);
    if (p->config.dropout > 0) add_dropout(g, first, leaf(g, DTYPE_I32, 2, p->seed), p->config.dropout);
    if (p->config.gradients) save_attention(g, first);
    const enum dtype matrices = m->head.weight->type;
    if (m->backend) read_rows(g, first, matrices != DTYPE_F32 && matrices != DTYPE_F16);
    g->layer = -1;
    return block_norm(g, m, x, m->head.norm, m->head.norm_bias);
}

static enum tlm_status plan_hidden(struct pass *p, struct node *x, struct tlm_error *err)
{
    pass_convert(&p->graph, &p->model->kernels);
    p->hidden = x;
    return graph_plan(&p->graph, &x, 1, err);
}

static enum tlm_status plan_losses(struct pass *p, struct head_chunks *c, struct gradient_slot *slots,
                                   int64_t slot_count, struct node **roots, struct node *x,
                                   struct tlm_error *err)
{
    struct graph *g = &p->graph;
    const struct tlm_model *m = p->model;
    const struct kernels *kernels = m->backend ? &m->backend->kernels : &m->kernels;
    add_head(p, c, x);
    pass_convert(g, kernels);
    int roots_count = 0;
    if (p->config.gradients) {
        struct gradient gradient = {.g = g,
                                    .kernels = kernels,
                                    .recompute = p->config.recompute,
                                    .turns = p->runner != NULL,
                                    .slots = slots,
                                    .slot_count = slot_count,
                                    .resumed = leaf(g, DTYPE_I32, 1, p->resumed)};
        enum tlm_status s = gradient_build(&gradient, c->logits, c->losses, (int)c->count, err);
        if (s) return s;
        for (int64_t i = 0; i < slot_count; i++)
            if (slots[i].writer) roots[roots_count++] = slots[i].writer;
    }
    order_head(p, c);
    for (int64_t i = 0; i < c->count; i++) roots[roots_count++] = c->losses[i];
    enum tlm_status s = p->runner ? m->backend->class->place(p->runner, g, err) : TLM_OK;
    if (!s && p->runner) s = m->backend->class->fuse(g, roots, roots_count, err);
    return s ? s : graph_plan(g, roots, roots_count, err);
}

// ---- memory ---------------------------------------------------------------------------------------------------

static int32_t blocks_of(const struct pass_config *c)
{
    return (c->context + KV_BLOCK - 1) / KV_BLOCK;
}

// What changes from step to step, and on a backend its copy there.
static enum tlm_status open_step(struct pass *p, struct tlm_error *err)
{
    size_t rows = (size_t)p->config.rows;
    size_t more = align_up(4 * rows, ARENA_ALIGN) + align_up(8 * rows, ARENA_ALIGN) + 3 * ARENA_ALIGN;
    enum tlm_status s =
        step_init(&p->step, p->config.rows, 1, p->config.rows, blocks_of(&p->config), 1, more, err);
    if (s) return s;
    p->targets = arena_alloc(&p->step.memory, 4 * rows);
    p->losses = arena_alloc(&p->step.memory, 8 * rows);
    p->factor = arena_alloc(&p->step.memory, sizeof *p->factor);
    p->resumed = arena_alloc(&p->step.memory, sizeof *p->resumed);
    p->seed = arena_alloc(&p->step.memory, 2 * sizeof *p->seed);
    struct backend *b = p->model->backend;
    if (!b || (s = b->class->runner_open(b, &p->runner, err))) return s;
    return b->class->set_step(p->runner, &p->step.memory, err);
}

static void caches_free(struct caches *c)
{
    free(c->keys);
    free(c->group_of);
}

// Documents may be as short as one row, each with blocks of its own; pages that nobody touches cost nothing. All layers have one cache, or
// none on a backend.
static enum tlm_status caches_open(struct pass *p, struct caches *c, struct tlm_error *err)
{
    const struct hparams *h = &p->model->hparams;
    const size_t layers = (size_t)h->layers;
    bool latent = h->kv_rank > 0;
    int32_t blocks = p->config.rows, heads = latent ? 1 : (int32_t)h->kv_heads;
    c->keys = calloc(2 * layers, sizeof *c->keys);
    c->group_of = calloc(layers, sizeof *c->group_of);
    if (!c->keys || !c->group_of)
        return error_set(err, TLM_ERR_MEMORY, "pass: no memory for %zu layers", layers);
    c->values = c->keys + layers;
    struct paged_kv *k = c->keys, *v = c->values;
    *k = paged_layout(p->model->real, latent ? KV_ROWS : KV_KEYS, blocks,
                      (int32_t)(latent ? h->kv_rank + 2 * h->rope.pairs : h->head_dim));
    *v = paged_layout(p->model->real, KV_VALUES, blocks, latent ? 0 : (int32_t)h->value_dim);
    if (!p->model->backend) {
        size_t keys = k->head_stride * (size_t)heads, values = v->head_stride * (size_t)heads;
        enum tlm_status s = arena_init(&p->data, keys + values + 1024, "pass", err);
        if (s) return s;
        k->data = arena_alloc(&p->data, keys);
        v->data = latent ? k->data : arena_alloc(&p->data, values);
    }
    for (size_t l = 1; l < layers; l++) k[l] = *k, v[l] = *v;
    return TLM_OK;
}

static size_t thread_count(const struct pass *p)
{
    return p->threads && !p->runner ? (size_t)threads_count(p->threads) : 1;
}

static enum tlm_status open_memory(struct pass *p, struct tlm_error *err)
{
    size_t shared = align_up(p->graph.arena_bytes, 4096), scratch = p->graph.scratch_bytes * thread_count(p);
    enum tlm_status s = TLM_OK;
    if (p->runner) {
        const struct backend_class *class = p->model->backend->class;
        void *memory = NULL;
        s = class->alloc(p->runner, &memory, shared, "activations", err);
        if (!s) graph_bind(&p->graph, memory, NULL);
        if (!s) s = class->alloc(p->runner, &p->scratch, scratch, "scratch of kernels", err);
        if (!s && p->config.gradients) class->keep(p->runner, &p->graph, true);
        return s;
    }
    s = arena_init(&p->memory, shared + scratch + 4096, "activations", err);
    if (s) return s;
    graph_bind(&p->graph, arena_alloc(&p->memory, shared), NULL);
    p->scratch = arena_alloc(&p->memory, scratch);
    return TLM_OK;
}

struct pass_bytes pass_size(const struct pass *p)
{
    struct pass_bytes b = {p->graph.arena_bytes, p->graph.scratch_bytes * thread_count(p), p->data.size};
    if (!p->teacher) return b;
    struct pass_bytes more = pass_size(p->teacher);
    return (struct pass_bytes){b.activations + more.activations, b.scratch + more.scratch,
                               b.cache + more.cache};
}

// ---- opening --------------------------------------------------------------------------------------------------

static enum tlm_status open_rotation(struct pass *p, struct tlm_error *err)
{
    const struct tlm_model *m = p->model;
    enum tlm_status s = rope_source_open(&p->rope, m, &m->hparams.rope, p->config.context, err);
    return s ? s : rope_source_open(&p->rope_local, m, &m->hparams.rope_local, p->config.context, err);
}

// On a backend the teacher's layers stand in the graph of the one that learns, and so are one launch with it.
static enum tlm_status add_teacher(struct pass *p, struct tlm_error *err)
{
    struct pass *t = p->teacher;
    struct caches c = {0};
    enum tlm_status s = open_rotation(t, err);
    if (!s) s = caches_open(t, &c, err);
    const int64_t first = p->graph.node_count;
    if (!s) t->hidden = add_layers(t, &p->graph, &p->step, &c);
    // The step counts the experts' rows of the one that learns; a pass is always of all rows.
    for (int64_t i = first; i < p->graph.node_count; i++)
        if (node_at(&p->graph, i)->extent == EXTENT_ROUTED_ROWS) node_at(&p->graph, i)->extent = EXTENT_FIXED;
    caches_free(&c);
    return s;
}

// With slots and losses, or up to what the head reads.
static enum tlm_status open_pass(struct pass *p, struct gradient_slot *slots, int64_t slot_count, bool hidden,
                                 struct tlm_error *err)
{
    const struct tlm_model *m = p->model;
    struct head_chunks c = {.count = (p->config.rows + chunk_rows(p) - 1) / chunk_rows(p)};
    struct node **lists = calloc(5 * (size_t)c.count + (size_t)slot_count, sizeof *lists);
    struct caches caches = {0};
    enum tlm_status s = lists ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "pass: no memory for its graph");
    if (s || (s = open_rotation(p, err)) || (s = open_step(p, err)) || (s = caches_open(p, &caches, err)) ||
        (s = graph_init(&p->graph, m->backend ? m->backend->class->ops : m->ops,
                        m->backend ? (const void *)p->runner : &m->kernels, m->real, p->step.counts, err)))
        goto done;
    c.rows = lists, c.logits = lists + c.count, c.losses = lists + 2 * c.count;
    c.taught = lists + 3 * c.count;
    struct node *x = add_layers(p, &p->graph, &p->step, &caches);
    if (p->runner && p->teacher && (s = add_teacher(p, err))) goto done;
    s = hidden ? plan_hidden(p, x, err) : plan_losses(p, &c, slots, slot_count, lists + 4 * c.count, x, err);
    if (!s) s = open_memory(p, err);
done:
    free(lists);
    caches_free(&caches);
    return s;
}

static enum tlm_status open_teacher(struct pass *p, struct tlm_error *err)
{
    const struct tlm_model *m = p->config.teacher;
    if (!m) return TLM_OK;
    TLM_ASSERT(m->hparams.vocab == p->model->hparams.vocab && !m->backend == !p->model->backend);
    p->teacher = malloc(sizeof *p->teacher);
    if (!p->teacher) return error_set(err, TLM_ERR_MEMORY, "pass: no memory for a teacher");
    *p->teacher = (struct pass){
        .model = m, .config = {.rows = p->config.rows, .context = p->config.context}, .threads = p->threads};
    return m->backend ? TLM_OK : open_pass(p->teacher, NULL, 0, true, err);
}

enum tlm_status pass_open(struct pass *p, const struct tlm_model *m, struct gradient_slot *slots,
                          int64_t slot_count, const struct pass_config *config, struct threads *threads,
                          struct tlm_error *err)
{
    *p = (struct pass){.model = m, .config = *config, .threads = threads};
    enum tlm_status s = open_teacher(p, err);
    if (!s) s = open_pass(p, slots, slot_count, false, err);
    if (s) pass_close(p);
    return s;
}

void pass_close(struct pass *p)
{
    if (p->teacher) pass_close(p->teacher);
    free(p->teacher);
    if (p->runner) p->model->backend->class->runner_close(p->runner);
    graph_free(&p->graph);
    arena_free(&p->memory);
    arena_free(&p->data);
    step_free(&p->step);
    rope_source_close(&p->rope);
    rope_source_close(&p->rope_local);
    *p = (struct pass){0};
}

// ---- running --------------------------------------------------------------------------------------------------

// Rows begin .. end - 1 are document `sequence`: positions from 0, blocks of its own from `block` on. Returns the next free block.
static int32_t enter_document(struct pass *p, int32_t sequence, int32_t begin, int32_t end, int32_t block)
{
    struct step *s = &p->step;
    int32_t blocks = (end - begin + KV_BLOCK - 1) / KV_BLOCK,
            *table = s->block_tables[0] + (int64_t)sequence * s->blocks_per_sequence;
    TLM_ASSERT(end - begin <= p->config.context);
    for (int32_t i = 0; i < blocks; i++) table[i] = block + i;
    for (int32_t r = begin; r < end; r++) {
        s->positions[r] = r - begin;
        s->slots[0][r] = block * KV_BLOCK + (r - begin);
    }
    for (int32_t r = begin; r < end; r += ATTENTION_ROWS)
        s->tiles[s->counts[EXTENT_TILES]++] =
            (struct attention_tile){r, end - r < ATTENTION_ROWS ? end - r : ATTENTION_ROWS, sequence, 0};
    return block + blocks;
}

// Fills the step.
static void enter(struct pass *p, const struct pass_batch *b)
{
    struct step *s = &p->step;
    int32_t rows = p->config.rows, block = 0, sequence = 0, used = (int32_t)p->model->hparams.experts.used;
    s->counts[EXTENT_ROWS] = rows;
    s->counts[EXTENT_ROUTED_ROWS] = rows * used;
    s->counts[EXTENT_TILES] = 0;
    memcpy(s->tokens, b->tokens, (size_t)rows * sizeof *s->tokens);
    for (int32_t begin = 0, end; begin < rows; begin = end) {
        for (end = begin + 1; end < rows && b->documents[end] == b->documents[begin]; end++) {
        }
        block = enter_document(p, sequence++, begin, end, block);
    }
}

static enum tlm_status run_elsewhere(struct pass *p, struct tlm_error *err)
{
    const struct backend_class *class = p->model->backend->class;
    class->begin(p->runner);
    enum tlm_status s = class->launch(p->runner, &p->graph, p->scratch, false, err);
    if (s) return s;
    class->take(p->runner, p->losses, p->losses_leaf->out.data, (size_t)p->config.rows * sizeof *p->losses);
    return class->wait(p->runner, err);
}

enum tlm_status pass_run(struct pass *p, const struct pass_batch *b, double factor, bool resumed,
                         uint64_t seed, double *sum, struct tlm_error *err)
{
    const int32_t rows = p->config.rows;
    if (p->teacher && !p->runner) {
        enter(p->teacher, b);
        graph_run(&p->teacher->graph, p->threads, p->teacher->scratch);
    }
    enter(p, b);
    memcpy(p->targets, b->targets, (size_t)rows * sizeof *p->targets);
    *p->factor = factor;
    *p->resumed = resumed;
    memcpy(p->seed, &seed, sizeof seed);
    enum tlm_status status = TLM_OK;
    if (p->runner)
        status = run_elsewhere(p, err);
    else
        graph_run(&p->graph, p->threads, p->scratch);
    *sum = 0;
    for (int32_t r = 0; r < rows; r++) *sum += p->losses[r];
    return status;
}
