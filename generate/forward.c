#include "generate/forward.h"

#include "models/blocks.h"
#include "models/rows.h"
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

// ---- places -------------------------------------------------------------------------------------------

// The model's place i, 1 and on: a device.
static const struct backend_class *class_at(const struct forward *f, int i)
{
    return f->model->devices[i]->class;
}

static void sites_of(const struct forward *f, struct parts_site sites[PLACES])
{
    const struct tlm_model *m = f->model;
    sites[0] = (struct parts_site){.kernels = &m->kernels, .ops = m->ops, .data = &m->kernels};
    for (int i = 1; i < m->place_count; i++)
        sites[i] = (struct parts_site){.kernels = &m->devices[i]->kernels,
                                       .ops = class_at(f, i)->ops,
                                       .data = f->runners[i],
                                       .on = class_at(f, i),
                                       .runner = f->runners[i]};
}

// The whole computation: build()'s hidden rows, then the head on those rows whose logits are wanted.
static enum tlm_status build(struct forward *f, struct parts *p, int32_t max_rows, int threads,
                             struct tlm_error *err)
{
    const struct tlm_model *m = f->model;
    struct graph *g = &p->whole;
    struct parts_site sites[PLACES];
    int32_t max_outputs = max_rows < f->config.max_outputs ? max_rows : f->config.max_outputs;
    enum tlm_status s = graph_init(g, m->ops, &m->kernels, m->real, f->step.counts, err);
    if (s) return s;
    const struct build_inputs in = build_inputs(f, g, max_rows, max_outputs);
    struct node *x = m->arch->build(g, m, &in);
    x = pass_narrow(g, g_select(g, x, in.step.outputs));
    g->layer = -1;
    x = block_logits(g, m, block_norm(g, m, x, m->head.norm, m->head.norm_bias));
    sites_of(f, sites);
    p->adder = f->adder;
    const struct parts_layers layers = {m->layer_places, m->rows.sharing};
    s = parts_share(p, x, sites, m->place_count, &layers, err);
    return s ? s : parts_plan(p, threads, err);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

// For two graphs, of which one runs at a time.
static size_t shared_bytes(const struct forward *f, int place)
{
    return align_up(larger(f->large.graph[place].arena_bytes, f->small.graph[place].arena_bytes), 4096);
}

static size_t scratch_bytes(const struct forward *f, int place)
{
    return larger(f->large.graph[place].scratch_bytes, f->small.graph[place].scratch_bytes);
}

static enum tlm_status allocate_here(struct forward *f, void **memory, void **local, struct tlm_error *err)
{
    const size_t threads = (size_t)f->config.threads, shared = shared_bytes(f, 0),
                 own = f->small.graph[0].local_bytes * threads, scratch = scratch_bytes(f, 0) * threads;
    const size_t copies = f->model->real == DTYPE_F32 ? 0
                                                      : (size_t)f->config.max_outputs *
                                                            (size_t)f->model->hparams.vocab * sizeof(float);
    enum tlm_status s = TLM_OK;
    if (shared + own + scratch + copies)
        s = arena_init(&f->arena, shared + own + scratch + copies + 4096, "activations", err);
    if (s || !f->arena.base) return s;
    *memory = arena_alloc(&f->arena, shared);
    *local = arena_alloc(&f->arena, own);
    f->scratch[0] = arena_alloc(&f->arena, scratch);
    if (copies) f->float_logits = arena_alloc(&f->arena, copies);
    return TLM_OK;
}

// Where the device of the head can draw tokens, they come back in place of logits.
static enum tlm_status open_draws(struct forward *f, struct tlm_error *err)
{
    const int place = f->large.root_place;
    const struct backend_class *class = class_at(f, place);
    const int64_t vocab = f->model->hparams.vocab;
    if (!class->draw_open || vocab > DRAW_VOCAB_MOST) return TLM_OK;
    enum tlm_status s = TLM_OK;
    for (int i = 0; i < BACKEND_PASSES && !s; i++) {
        struct pass_draws *d = &f->passes[i].draws;
        if (!(s = draws_open(d, f->config.max_outputs, (int32_t)vocab, err)))
            class->pin(f->runners[place], d->memory.base, d->memory.size);
    }
    return s ? s
             : class->draw_open(f->runners[place], f->config.max_outputs, vocab, f->passes[0].draws.room,
                                err);
}

// Logits of a head on a device come back to the host.
static enum tlm_status allocate_logits(struct forward *f, struct tlm_error *err)
{
    const int place = f->large.root_place;
    const size_t bytes = (size_t)f->config.max_outputs * (size_t)f->model->hparams.vocab * sizeof(float);
    enum tlm_status s = place ? arena_init(&f->logits, bytes, "logits", err) : TLM_OK;
    if (s || !place) return s;
    f->float_logits = arena_alloc(&f->logits, bytes);
    class_at(f, place)->pin(f->runners[place], f->logits.base, f->logits.size);
    return open_draws(f, err);
}

static enum tlm_status allocate(struct forward *f, struct tlm_error *err)
{
    void *memory[PLACES] = {NULL}, *local = NULL;
    enum tlm_status s = allocate_here(f, &memory[0], &local, err);
    for (int i = 1; i < f->model->place_count && !s; i++) {
        const size_t shared = shared_bytes(f, i), scratch = scratch_bytes(f, i);
        if (shared) s = class_at(f, i)->alloc(f->runners[i], &memory[i], shared, "activations", err);
        if (!s && scratch)
            s = class_at(f, i)->alloc(f->runners[i], &f->scratch[i], scratch, "scratch of kernels", err);
    }
    if (s || (s = allocate_logits(f, err))) return s;
    parts_bind(&f->large, memory, local);
    parts_bind(&f->small, memory, local);
    return TLM_OK;
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

static enum tlm_status store_alloc(void *user, int place, void **out, size_t bytes, struct tlm_error *err)
{
    const struct forward *f = user;
    return class_at(f, place)->alloc(f->runners[place], out, bytes, "key-value cache", err);
}

static void store_copy(void *user, int place, void *to, const void *from, size_t bytes)
{
    const struct forward *f = user;
    class_at(f, place)->copy(f->runners[place], to, from, bytes);
}

// What adds up the addends of devices that share layers.
static void open_adder(struct forward *f)
{
    const struct tlm_model *m = f->model;
    struct runner *runners[PLACES];
    int count = 0;
    for (int i = 1; i < m->place_count; i++)
        if (m->rows.sharing[i]) runners[count++] = f->runners[i];
    if (count > 1) f->adder = class_at(f, 1)->adder_open(runners, count);
}

// The runners, and the cache in their memory where layers are theirs.
static enum tlm_status open_cache(struct forward *f, struct kv_config *kv, struct tlm_error *err)
{
    const struct tlm_model *m = f->model;
    enum tlm_status s = TLM_OK;
    for (int i = 1; i < m->place_count && !s; i++)
        s = class_at(f, i)->runner_open(m->devices[i], &f->runners[i], err);
    if (s) return s;
    open_adder(f);
    kv->places = m->layer_places;
    if (rows_share_heads(m)) kv->head_cut = m->rows.at[CUT_KV_HEADS];
    kv->store = (struct kv_store){store_alloc, store_copy, f};
    return kv_open(&f->cache, kv, err);
}

static enum tlm_status open_step(struct forward *f, const struct forward_config *c, struct tlm_error *err)
{
    enum tlm_status s = step_init(&f->step, c->max_rows, c->max_outputs, c->sequences,
                                  f->cache.blocks_per_sequence, f->cache.group_count, 0, err);
    for (int i = 1; i < f->model->place_count && !s; i++)
        s = class_at(f, i)->set_step(f->runners[i], &f->step.memory, err);
    return s;
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
    if (f->begun > f->waited) forward_drop(f, NULL);
    if (f->adder) class_at(f, 1)->adder_close(f->adder);
    for (int i = 1; i < PLACES; i++)
        if (f->runners[i]) class_at(f, i)->runner_close(f->runners[i]);
    threads_close(f->threads);
    parts_free(&f->large);
    parts_free(&f->small);
    arena_free(&f->arena);
    arena_free(&f->logits);
    for (int i = 0; i < BACKEND_PASSES; i++) draws_close(&f->passes[i].draws);
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

// ---- passes -------------------------------------------------------------------------------------------

enum { ALONE = 16 }; // passes without another behind them, where a device could not draw a token

static struct forward_pass *pass_at(const struct forward *f, int64_t number)
{
    return (struct forward_pass *)&f->passes[number % BACKEND_PASSES];
}

// The one that was waited for last.
static const struct forward_pass *last_pass(const struct forward *f)
{
    return pass_at(f, f->waited - 1);
}

static enum tlm_status take_logits(struct forward *f, const struct forward_pass *p, struct tlm_error *err)
{
    const int place = p->parts->root_place;
    const struct backend_class *class = class_at(f, place);
    const size_t count = (size_t)p->outputs * (size_t)f->model->hparams.vocab;
    if (!count) return TLM_OK;
    class->take(f->runners[place], f->float_logits, p->parts->root->out.data, count * sizeof(float));
    return class->wait(f->runners[place], err);
}

// Tokens; and the logits, too, where the host has to draw some.
static enum tlm_status wait_for_draws(struct forward *f, const struct forward_pass *p, struct tlm_error *err)
{
    const int place = p->parts->root_place;
    enum tlm_status s =
        class_at(f, place)->reach(f->runners[place], (int)((f->waited - 1) % BACKEND_PASSES), err);
    for (int32_t i = 0; i < p->outputs && !s; i++) {
        if (p->draws.drawn[i] != DRAW_NONE) continue;
        f->alone = ALONE;
        f->lost = f->begun > f->waited;
        return f->lost ? TLM_OK : take_logits(f, p, err);
    }
    return s;
}

// All that the devices and the processor do in a pass; the processor's part has ended then, and those of devices that it waited for.
static enum tlm_status run_parts(struct forward *f, struct forward_pass *p, const struct forward_row *rows,
                                 int32_t count, struct threads *threads, struct tlm_error *err)
{
    const int place = p->parts->root_place;
    const struct draw_run draw = {p->draws.data, p->draws.used, p->draws.drawn};
    bool follows = false;
    for (int32_t i = 0; i < count; i++) follows |= rows[i].token < 0;
    TLM_ASSERT(!follows || (p->drawn && f->begun > f->waited));
    parts_begin(p->parts);
    if (p->drawn) class_at(f, place)->bring_draws(f->runners[place], p->parts->root->out.data, &draw);
    if (follows) class_at(f, place)->follow(f->runners[place], f->step.tokens, count);
    enum tlm_status s = parts_run(p->parts, threads, f->scratch, p->drawn, err);
    if (s || !p->drawn) return s;
    class_at(f, place)->take_draws(f->runners[place], &draw);
    class_at(f, place)->mark(f->runners[place], (int)(f->begun % BACKEND_PASSES));
    return TLM_OK;
}

enum tlm_status forward_wait(struct forward *f, struct tlm_error *err)
{
    TLM_ASSERT(f->begun > f->waited);
    const struct forward_pass *p = pass_at(f, f->waited++);
    const int place = p->parts->root_place;
    enum tlm_status s = TLM_OK;
    f->drawn = p->drawn;
    f->lost = false;
    if (place) s = p->drawn ? wait_for_draws(f, p, err) : take_logits(f, p, err);
    for (int i = 1; i < p->parts->place_count && !s; i++) // a device that has drawn has done its part
        if (p->parts->graph[i].order_count && !(p->drawn && i == place))
            s = class_at(f, i)->wait(f->runners[i], err);
    if (f->model->real != DTYPE_F64) return s;
    const int64_t count = p->outputs * f->model->hparams.vocab;
    for (int64_t i = 0; i < count; i++)
        f->float_logits[i] = (float)((const double *)p->parts->root->out.data)[i];
    return s;
}

enum tlm_status forward_drop(struct forward *f, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    f->waited = f->begun;
    for (int i = 1; i < f->model->place_count; i++)
        if (f->runners[i]) {
            const enum tlm_status own = class_at(f, i)->wait(f->runners[i], err);
            if (!s) s = own;
        }
    return s;
}

bool forward_goes_ahead(const struct forward *f)
{
    if (f->begun != f->waited + 1 || f->alone) return false;
    const struct forward_pass *p = pass_at(f, f->waited);
    return p->drawn && f->small.segment_count == 1 && f->large.segment_count == 1;
}

enum tlm_status forward_launch(struct forward *f, const struct forward_row *rows, int32_t count,
                               struct tlm_error *err)
{
    struct step *s = &f->step;
    struct forward_pass *pass = pass_at(f, f->begun);
    TLM_ASSERT(count > 0 && count <= f->config.max_rows && f->begun - f->waited < BACKEND_PASSES);
    pass->drawn = pass->draws.any;
    pass->draws.any = false;
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
    pass->parts = count <= FORWARD_SMALL ? &f->small : &f->large;
    pass->outputs = s->counts[EXTENT_OUTPUTS];
    enum tlm_status status = run_parts(f, pass, rows, count, small ? NULL : f->threads, err);
    if (status) return status;
    f->alone -= f->alone > 0;
    f->begun++;
    return TLM_OK;
}

enum tlm_status forward_run(struct forward *f, const struct forward_row *rows, int32_t count,
                            struct tlm_error *err)
{
    enum tlm_status status = forward_launch(f, rows, count, err);
    return status ? status : forward_wait(f, err);
}

void forward_watch(struct forward *f, const struct graph_watch *watch)
{
    parts_watch(&f->large, watch);
    parts_watch(&f->small, watch);
}

const struct graph *forward_graph(const struct forward *f, int i)
{
    const int places = f->model->place_count;
    return i < places ? &f->large.graph[i] : i < 2 * places ? &f->small.graph[i - places] : NULL;
}

const float *forward_logits(const struct forward *f, int32_t i)
{
    const float *logits = f->float_logits ? f->float_logits : last_pass(f)->parts->root->out.data;
    return logits + i * f->model->hparams.vocab;
}

void forward_expect_draws(struct forward *f, int32_t outputs)
{
    draws_begin(&pass_at(f, f->begun)->draws, outputs);
}

void forward_expect_draw(struct forward *f, int32_t i, struct tlm_sampler *sampler, const int32_t *ahead,
                         int32_t count)
{
    draws_add(&pass_at(f, f->begun)->draws, i, sampler, ahead, count);
}

int32_t forward_draw(const struct forward *f, int32_t i, struct tlm_sampler *sampler)
{
    const struct pass_draws *d = &last_pass(f)->draws;
    const bool asked = f->drawn && d->data->rows[i].length != DRAW_NONE;
    if (!asked) return tlm_sampler_next(sampler, forward_logits(f, i));
    return sampler_take(sampler, d->drawn[i], forward_logits(f, i));
}
