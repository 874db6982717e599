#include "generate/forward.h"

#include "models/blocks.h"
#include "ops/backend.h"

enum { SMALL_STEP = 4 << 20 }; // bytes of weights times rows

static struct build_inputs build_inputs(const struct forward *f, struct graph *g, int32_t max_rows,
                                        int32_t max_outputs)
{
    return (struct build_inputs){
        .step = g_step(g, &f->step, max_rows, max_outputs),
        .rope = {graph_leaf(g, &f->rope.freq, EXTENT_FIXED), f->rope.magnitude},
        .rope_local = {graph_leaf(g, &f->rope_local.freq, EXTENT_FIXED), f->rope_local.magnitude},
        .keys = f->cache.keys,
        .values = f->cache.values,
        .group_of = f->cache.group_of,
    };
}

// ---- layers of the CPU in front of those of a backend -------------------------------------------------------

static struct node *node_at(const struct graph *g, int64_t i)
{
    return (struct node *)g->nodes.base + i;
}

static bool in_front(const struct forward *f, const struct node *n)
{
    return n->layer >= 0 && n->layer < f->model->host_layers;
}

// The one node of the layers in front whose rows those behind read. What stands in front of all layers (rows of the embedding, tables of
// rotation) is computed on both sides.
static enum tlm_status find_border(const struct forward *f, const struct graph *g, struct node **border,
                                   struct tlm_error *err)
{
    *border = NULL;
    for (int64_t i = 0; i < g->node_count; i++) {
        const struct node *n = node_at(g, i);
        for (int j = 0; j < n->input_count && !in_front(f, n); j++) {
            struct node *x = n->in[j];
            if (x->op == GRAPH_LEAF || !in_front(f, x) || x == *border) continue;
            if (*border || x->extent != EXTENT_ROWS || x->out.type != DTYPE_F32)
                return error_set(
                    err, TLM_ERR_UNSUPPORTED,
                    "layers: those of %s hand on more than hidden rows, and cannot be shared between "
                    "processor and GPU",
                    f->model->arch->name);
            *border = x;
        }
    }
    TLM_ASSERT(*border);
    return TLM_OK;
}

static enum tlm_status build_front(struct forward *f, struct forward_pass *pass, int32_t max_rows,
                                   int threads, struct tlm_error *err)
{
    const struct tlm_model *m = f->model;
    struct graph *g = &pass->front;
    enum tlm_status s = graph_init(g, m->ops, &m->kernels, m->real, f->step.counts, err);
    if (s) return s;
    g->threads = threads;
    const struct build_inputs in = build_inputs(f, g, max_rows, 1);
    m->arch->build(g, m, &in);
    if ((s = find_border(f, g, &pass->border, err))) return s;
    pass_convert(g, &m->kernels);
    return graph_plan(g, &pass->border, 1, err);
}

// In the graph of the layers behind, the border is a leaf, and nothing is left of those in front.
static void cut_front(const struct forward *f, struct graph *g, const struct node *border)
{
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *n = node_at(g, i);
        if (!in_front(f, n)) continue;
        n->op = GRAPH_LEAF;
        n->input_count = 0;
        n->out.data = n->index == border->index ? f->entry : NULL;
    }
}

// ---- the pass -----------------------------------------------------------------------------------------

// The whole computation: build()'s hidden rows, then the head on those rows whose logits are wanted.
static enum tlm_status build(struct forward *f, struct forward_pass *pass, int32_t max_rows, int threads,
                             struct tlm_error *err)
{
    const struct tlm_model *m = f->model;
    struct graph *g = &pass->graph;
    int32_t max_outputs = max_rows < f->config.max_outputs ? max_rows : f->config.max_outputs;
    const struct backend *b = m->backend;
    enum tlm_status s = TLM_OK;
    if (m->host_layers && (s = build_front(f, pass, max_rows, threads, err))) return s;
    if ((s = graph_init(g, b ? b->class->ops : m->ops, b ? (const void *)f->runner : &m->kernels, m->real,
                        f->step.counts, err)))
        return s;
    g->threads = b ? 0 : threads;
    const struct build_inputs in = build_inputs(f, g, max_rows, max_outputs);
    struct node *x = m->arch->build(g, m, &in);
    if (m->host_layers) cut_front(f, g, pass->border);
    x = pass_narrow(g, g_select(g, x, in.step.outputs));
    g->layer = -1;
    pass->logits = block_logits(g, m, block_norm(g, m, x, m->head.norm, m->head.norm_bias));
    pass_convert(g, b ? &b->kernels : &m->kernels);
    if (b && ((s = b->class->place(f->runner, g, err)) || (s = b->class->fuse(g, &pass->logits, 1, err))))
        return s;
    return graph_plan(g, &pass->logits, 1, err);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

// Where the device can draw tokens, they come back in place of logits.
static enum tlm_status open_draws(struct forward *f, struct tlm_error *err)
{
    const struct backend_class *class = f->model->backend->class;
    const int64_t vocab = f->model->hparams.vocab;
    if (!class->draw_open || vocab > DRAW_VOCAB_MOST) return TLM_OK;
    enum tlm_status s = draws_open(&f->draws, f->config.max_outputs, (int32_t)vocab, err);
    if (!s) s = class->draw_open(f->runner, f->config.max_outputs, vocab, f->draws.room, err);
    if (!s) class->pin(f->runner, f->draws.memory.base, f->draws.memory.size);
    return s;
}

// On the backend's device; logits come back to the host.
static enum tlm_status allocate_elsewhere(struct forward *f, size_t shared, size_t scratch,
                                          struct tlm_error *err)
{
    const struct backend_class *class = f->model->backend->class;
    void *memory;
    enum tlm_status s = class->alloc(f->runner, &memory, shared, "activations", err);
    if (s || (s = class->alloc(f->runner, &f->scratch, scratch, "scratch of kernels", err))) return s;
    graph_bind(&f->large.graph, memory, NULL);
    graph_bind(&f->small.graph, memory, NULL);
    const size_t logits = (size_t)f->config.max_outputs * (size_t)f->model->hparams.vocab * sizeof(float);
    if ((s = arena_init(&f->arena, logits, "logits", err))) return s;
    f->float_logits = arena_alloc(&f->arena, logits);
    class->pin(f->runner, f->arena.base, f->arena.size);
    class->keep(f->runner, &f->large.graph);
    class->keep(f->runner, &f->small.graph);
    return open_draws(f, err);
}

// Memory of the host for two graphs, of which one runs at a time, and `more` bytes behind it, which *rest receives.
static enum tlm_status allocate_here(const struct forward *f, struct arena *arena, struct graph *large,
                                     struct graph *small, void **scratch, size_t more, void **rest,
                                     struct tlm_error *err)
{
    const size_t threads = (size_t)f->config.threads;
    size_t shared = align_up(larger(large->arena_bytes, small->arena_bytes), 4096);
    size_t local = small->local_bytes * threads;
    size_t all = larger(large->scratch_bytes, small->scratch_bytes) * threads;
    enum tlm_status s = arena_init(arena, shared + local + all + more + 4096, "activations", err);
    if (s) return s;
    char *memory = arena_alloc(arena, shared), *own = arena_alloc(arena, local);
    graph_bind(large, memory, NULL);
    graph_bind(small, memory, own);
    *scratch = arena_alloc(arena, all);
    *rest = more ? arena_alloc(arena, more) : NULL;
    return TLM_OK;
}

static enum tlm_status allocate(struct forward *f, struct tlm_error *err)
{
    struct graph *large = &f->large.graph, *small = &f->small.graph;
    const size_t copies = (size_t)f->config.max_outputs * (size_t)f->model->hparams.vocab * 4;
    void *rest;
    if (f->runner) {
        const size_t scratch = larger(large->scratch_bytes, small->scratch_bytes);
        enum tlm_status s = TLM_OK;
        if (f->model->host_layers)
            s = allocate_here(f, &f->front, &f->large.front, &f->small.front, &f->front_scratch, 0, &rest,
                              err);
        return s ? s
                 : allocate_elsewhere(f, align_up(larger(large->arena_bytes, small->arena_bytes), 4096),
                                      scratch, err);
    }
    enum tlm_status s = allocate_here(f, &f->arena, large, small, &f->scratch,
                                      f->model->real == DTYPE_F32 ? 0 : copies, &rest, err);
    f->float_logits = s ? NULL : rest;
    return s;
}

static struct kv_config cache_config(const struct tlm_model *m, const struct forward_config *config)
{
    const struct hparams *h = &m->hparams;
    bool latent = h->kv_rank > 0;
    return (struct kv_config){
        .layers = (int32_t)h->layers,
        .kv_heads = latent ? 1 : (int32_t)h->kv_heads,
        .head_dim = (int32_t)(latent ? h->kv_rank + 2 * h->rope.pairs : h->head_dim),
        .value_dim = latent ? 0 : (int32_t)h->value_dim, // the values are a part of the keys
        .type_k = config->type_k,
        .type_v = config->type_v,
        .sequences = config->sequences,
        .context = config->context,
        .policy = config->policy,
        .rows = config->max_rows,
        .blocks = config->blocks,
    };
}

size_t forward_cache_bytes(const struct tlm_model *m, const struct forward_config *config)
{
    struct kv_config kv = cache_config(m, config);
    return kv_storage_bytes(&kv);
}

// [layers], for the caller to free().
static enum tlm_status layer_windows(const struct tlm_model *m, int32_t **windows, struct tlm_error *err)
{
    *windows = malloc((size_t)m->hparams.layers * sizeof **windows);
    if (!*windows)
        return error_set(err, TLM_ERR_MEMORY, "session: no memory for %d layers", (int)m->hparams.layers);
    for (int64_t l = 0; l < m->hparams.layers; l++) (*windows)[l] = m->weights.layer[l].window;
    return TLM_OK;
}

static enum tlm_status store_alloc(void *user, void **out, size_t bytes, struct tlm_error *err)
{
    const struct forward *f = user;
    return f->model->backend->class->alloc(f->runner, out, bytes, "key-value cache", err);
}

static void store_copy(void *user, void *to, const void *from, size_t bytes)
{
    const struct forward *f = user;
    f->model->backend->class->copy(f->runner, to, from, bytes);
}

// The runner, and the cache in its memory.
static enum tlm_status open_cache(struct forward *f, struct kv_config *kv, struct tlm_error *err)
{
    struct backend *b = f->model->backend;
    if (!b) return kv_open(&f->cache, kv, err);
    enum tlm_status s = b->class->runner_open(b, &f->runner, err);
    if (s) return s;
    kv->store = (struct kv_store){store_alloc, store_copy, f};
    kv->host_layers = (int32_t)f->model->host_layers;
    const size_t entry = (size_t)f->config.max_rows * (size_t)f->model->hparams.width * sizeof(float);
    if (kv->host_layers && (s = b->class->alloc(f->runner, &f->entry, entry, "hidden rows", err))) return s;
    return kv_open(&f->cache, kv, err);
}

static enum tlm_status open_step(struct forward *f, const struct forward_config *c, struct tlm_error *err)
{
    enum tlm_status s = step_init(&f->step, c->max_rows, c->max_outputs, c->sequences,
                                  f->cache.blocks_per_sequence, f->cache.group_count, 0, err);
    return s || !f->runner ? s : f->model->backend->class->set_step(f->runner, &f->step.memory, err);
}

enum tlm_status forward_open(struct forward *f, const struct tlm_model *m,
                             const struct forward_config *config, struct tlm_error *err)
{
    const struct hparams *h = &m->hparams;
    if (m->weights.positions && config->context > m->weights.positions->ne[1])
        return error_set(err, TLM_ERR_ARGUMENT,
                         "context: expected at most the %lld positions that the model has learned, found %d",
                         (long long)m->weights.positions->ne[1], config->context);
    int32_t *windows;
    int32_t small_rows = config->max_rows < FORWARD_SMALL ? config->max_rows : FORWARD_SMALL;
    *f = (struct forward){.model = m, .config = *config};
    struct kv_config kv = cache_config(m, config);
    enum tlm_status s = layer_windows(m, &windows, err);
    kv.windows = windows;
    if (s || (s = rope_source_open(&f->rope, m, &h->rope, config->context, err)) ||
        (s = rope_source_open(&f->rope_local, m, &h->rope_local, config->context, err)) ||
        (s = threads_open(&f->threads, config->threads, err)) || (s = open_cache(f, &kv, err)) ||
        (s = open_step(f, config, err)) || (s = build(f, &f->large, config->max_rows, 0, err)) ||
        (s = build(f, &f->small, small_rows, config->threads, err)) || (s = allocate(f, err)))
        forward_close(f);
    free(windows);
    return s;
}

void forward_close(struct forward *f)
{
    if (f->runner) f->model->backend->class->runner_close(f->runner);
    threads_close(f->threads);
    graph_free(&f->large.graph);
    graph_free(&f->small.graph);
    graph_free(&f->large.front);
    graph_free(&f->small.front);
    arena_free(&f->arena);
    arena_free(&f->front);
    draws_close(&f->draws);
    step_free(&f->step);
    kv_close(&f->cache);
    rope_source_close(&f->rope);
    rope_source_close(&f->rope_local);
    *f = (struct forward){0};
}

// Rows of one sequence side by side, cut into tiles; the last tile grows while rows fit.
static void add_to_tiles(struct step *s, int32_t row, int32_t sequence)
{
    int32_t *count = &s->counts[EXTENT_TILES];
    struct attention_tile *last = *count ? &s->tiles[*count - 1] : NULL;
    if (last && last->sequence == sequence && last->rows < ATTENTION_ROWS)
        last->rows++;
    else
        s->tiles[(*count)++] = (struct attention_tile){row, 1, sequence, 0};
}

enum { PREFIX_KEYS = 128, PREFIX_ROWS = 32 };

// The first position of this pass of the tile's sequence: what is in front of it was computed in earlier passes.
static int32_t pass_begin(const struct step *s, const struct attention_tile *tile)
{
    while (tile > s->tiles && tile[-1].sequence == tile->sequence) tile--;
    return s->positions[tile->row];
}

// Keys of earlier passes that the sequences of tiles a and b have in the same blocks, or that have passed out of the windows of both.
static int32_t shared_keys(const struct forward *f, const struct attention_tile *a,
                           const struct attention_tile *b)
{
    int32_t begin_a = pass_begin(&f->step, a), begin_b = pass_begin(&f->step, b);
    int32_t most = (begin_a < begin_b ? begin_a : begin_b) / KV_BLOCK;
    for (int32_t g = 0; g < f->cache.group_count; g++) {
        const int32_t *of_a = kv_table(&f->cache, g, a->sequence),
                      *of_b = kv_table(&f->cache, g, b->sequence);
        int32_t blocks = 0;
        while (blocks < most && of_a[blocks] == of_b[blocks]) blocks++;
        most = blocks;
    }
    return most * KV_BLOCK / ATTENTION_TILE * ATTENTION_TILE;
}

// Tiles side by side whose sequences begin alike get a prefix tile. One more of them joins as long as that leaves fewer keys to be
// read in all: n tiles with k keys in common save (n - 1) k.
static void share_prefixes(struct forward *f)
{
    struct step *s = &f->step;
    struct attention_tile *tiles = s->tiles;
    int64_t count = s->counts[EXTENT_TILES];
    s->counts[EXTENT_PREFIX_TILES] = 0;
    for (int64_t i = 0, end; i < count; i = end) {
        int32_t rows = tiles[i].rows, keys = 0;
        for (end = i + 1; end < count && rows + tiles[end].rows <= PREFIX_ROWS; rows += tiles[end++].rows) {
            int32_t common = shared_keys(f, &tiles[end - 1], &tiles[end]);
            if (keys && common > keys) common = keys;
            if (common < PREFIX_KEYS || (end - i) * common < (end - i - 1) * keys) break;
            keys = common;
        }
        if (keys)
            s->prefix_tiles[s->counts[EXTENT_PREFIX_TILES]++] =
                (struct attention_tile){tiles[i].row, rows, tiles[i].sequence, keys};
        for (int64_t j = i; j < end; j++) tiles[j].keys = keys;
    }
}

// Rows first .. end - 1, which are of one sequence: their places in the cache, and its tables.
static enum tlm_status enter_sequence(struct forward *f, const struct forward_row *rows, int32_t first,
                                      int32_t end, struct tlm_error *err)
{
    struct step *s = &f->step;
    int32_t q = rows[first].sequence;
    TLM_ASSERT(rows[first].position <= f->cache.sequences[q].length);
    enum tlm_status status = kv_reserve(&f->cache, q, rows[end - 1].position + 1, err);
    if (status) return status;
    for (int32_t g = 0; g < f->cache.group_count; g++) {
        const int32_t *table = kv_table(&f->cache, g, q);
        for (int32_t i = first; i < end; i++)
            s->slots[g][i] = table[rows[i].position / KV_BLOCK] * KV_BLOCK + rows[i].position % KV_BLOCK;
        memcpy(s->block_tables[g] + (int64_t)q * s->blocks_per_sequence, table,
               (size_t)f->cache.sequences[q].blocks * sizeof *table);
    }
    for (int32_t i = first; i < end; i++) add_to_tiles(s, i, q);
    return TLM_OK;
}

// The layers in front, whose rows then go to the device.
static void run_front(struct forward *f, struct threads *threads)
{
    const struct forward_pass *pass = f->last;
    const size_t rows = (size_t)f->step.counts[EXTENT_ROWS];
    graph_run(&pass->front, threads, f->front_scratch);
    f->model->backend->class->bring(f->runner, f->entry, pass->border->out.data,
                                    rows * pass->border->out.nb[1]);
}

// On the backend's device: logits come back, or tokens.
static enum tlm_status run_elsewhere(struct forward *f, struct tlm_error *err)
{
    const struct backend_class *class = f->model->backend->class;
    const int32_t outputs = f->step.counts[EXTENT_OUTPUTS];
    const size_t bytes = (size_t)outputs * (size_t)f->model->hparams.vocab * sizeof(float);
    void *logits = f->last->logits->out.data;
    const struct draw_run draw = {f->draws.data, f->draws.used, f->draws.drawn};
    return f->drawn ? class->run_draw(f->runner, &f->last->graph, f->scratch, f->float_logits, logits, bytes,
                                      &draw, err)
                    : class->run(f->runner, &f->last->graph, f->scratch, f->float_logits, logits, bytes, err);
}

enum tlm_status forward_run(struct forward *f, const struct forward_row *rows, int32_t count,
                            struct tlm_error *err)
{
    struct step *s = &f->step;
    TLM_ASSERT(count > 0 && count <= f->config.max_rows);
    f->drawn = f->draws.any;
    f->draws.any = false;
    s->counts[EXTENT_ROWS] = count;
    s->counts[EXTENT_OUTPUTS] = s->counts[EXTENT_TILES] = 0;
    for (int32_t i = 0; i < count; i++) {
        s->tokens[i] = rows[i].token;
        s->positions[i] = rows[i].position;
        if (!rows[i].output) continue;
        TLM_ASSERT(s->counts[EXTENT_OUTPUTS] < f->config.max_outputs);
        s->outputs[s->counts[EXTENT_OUTPUTS]++] = i;
    }
    for (int32_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && rows[end].sequence == rows[i].sequence; end++)
            TLM_ASSERT(rows[end].position == rows[end - 1].position + 1);
        enum tlm_status status = enter_sequence(f, rows, i, end, err);
        if (status) return status;
    }
    share_prefixes(f);
    s->counts[EXTENT_ROUTED_ROWS] = count * (int32_t)f->model->hparams.experts.used;
    s->counts[EXTENT_ROUTED_OUTPUTS] = s->counts[EXTENT_OUTPUTS] * (int32_t)f->model->hparams.experts.used;
    // Where a step takes about as long as the barriers between its phases, more threads only wait for each other.
    bool small = f->model->weight_bytes * (uint64_t)count < SMALL_STEP;
    f->last = count <= FORWARD_SMALL ? &f->small : &f->large;
    if (f->model->host_layers) run_front(f, small ? NULL : f->threads);
    if (f->runner) return run_elsewhere(f, err);
    graph_run(&f->last->graph, small ? NULL : f->threads, f->scratch);
    if (f->float_logits) {
        const double *logits = f->last->logits->out.data;
        int64_t n = s->counts[EXTENT_OUTPUTS] * f->model->hparams.vocab;
        for (int64_t i = 0; i < n; i++) f->float_logits[i] = (float)logits[i];
    }
    return TLM_OK;
}

void forward_watch(struct forward *f, const struct graph_watch *watch)
{
    f->large.graph.watch = f->small.graph.watch = watch;
}

const float *forward_logits(const struct forward *f, int32_t i)
{
    const float *logits = f->float_logits ? f->float_logits : f->last->logits->out.data;
    return logits + i * f->model->hparams.vocab;
}

void forward_expect_draws(struct forward *f, int32_t outputs)
{
    draws_begin(&f->draws, outputs);
}

void forward_expect_draw(struct forward *f, int32_t i, struct tlm_sampler *sampler, const int32_t *ahead,
                         int32_t count)
{
    draws_add(&f->draws, i, sampler, ahead, count);
}

int32_t forward_draw(const struct forward *f, int32_t i, struct tlm_sampler *sampler)
{
    const bool asked = f->drawn && f->draws.data->rows[i].length != DRAW_NONE;
    if (!asked) return tlm_sampler_next(sampler, forward_logits(f, i));
    return sampler_take(sampler, f->draws.drawn[i], forward_logits(f, i));
}
