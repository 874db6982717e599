// generate/layers.c -- see generate/layers.h.
#include "generate/layers.h"

#include "models/blocks.h"

// ---- the graph, and where it is cut -------------------------------------------------------------------

// A node's stage is its layer; -1 in front of the layers, and the number of layers behind them. What stands in front is computed again
// wherever it is needed: rows of the embedding, tables of rotation.
struct cut {
    struct graph graph;
    int64_t *stage; // [nodes]
    int64_t *last;  // [nodes] the last stage that reads the output, if that is a later one; else -1
    int64_t count;
};

static struct node *node_at(const struct cut *c, int64_t i)
{
    return (struct node *)c->graph.nodes.base + i;
}

static enum tlm_status build(const struct layers *p, struct graph *g, struct tlm_error *err)
{
    const struct tlm_model *m = p->model;
    enum tlm_status s = graph_init(g, m->ops, &m->kernels, m->real, p->step.counts, err);
    if (s) return s;
    struct build_inputs in = {
        .step = g_step(g, &p->step, p->config.rows, 1),
        .rope = {graph_leaf(g, &p->rope.freq, EXTENT_FIXED), p->rope.magnitude},
        .rope_local = {graph_leaf(g, &p->rope_local.freq, EXTENT_FIXED), p->rope_local.magnitude},
        .keys = p->keys,
        .values = p->values,
        .group_of = p->group_of,
    };
    struct node *x = m->arch->build(g, m, &in);
    g->layer = -1;
    block_logits(g, m, block_norm(g, m, x, m->head.norm, m->head.norm_bias));
    return TLM_OK;
}

// `reader` reads n at stage s. Keys and values are not kept: who reads those of an earlier layer writes them again.
static void read_at(struct cut *c, const struct node *n, int64_t s)
{
    int64_t i = n->index;
    if (n->op == GRAPH_LEAF || c->stage[i] < 0 || c->stage[i] >= s) return;
    if (n->effect == EFFECT_CACHE_WRITE) {
        for (int j = 0; j < n->input_count; j++) read_at(c, n->in[j], s);
    } else if (c->last[i] < s) {
        c->last[i] = s;
    }
}

static void cut_free(struct cut *c)
{
    graph_free(&c->graph);
    free(c->stage);
    free(c->last);
}

// The graph with its stages. Nodes stand behind what they read, as the builders add them.
static enum tlm_status cut_init(const struct layers *p, struct cut *c, struct tlm_error *err)
{
    *c = (struct cut){0};
    enum tlm_status s = build(p, &c->graph, err);
    if (!s) {
        c->count = c->graph.node_count;
        c->stage = malloc((size_t)c->count * sizeof *c->stage);
        c->last = malloc((size_t)c->count * sizeof *c->last);
        if (!c->stage || !c->last)
            s = error_set(err, TLM_ERR_MEMORY, "layers: no memory for %lld nodes", (long long)c->count);
    }
    for (int64_t i = 0; i < c->count && !s; i++) {
        const struct node *n = node_at(c, i);
        c->stage[i] = n->op == GRAPH_LEAF ? -1 : n->layer;
        c->last[i] = -1;
        for (int j = 0; j < n->input_count && n->layer < 0; j++)
            if (c->stage[n->in[j]->index] >= 0) c->stage[i] = p->model->hparams.layers;
        for (int j = 0; j < n->input_count; j++) read_at(c, n->in[j], c->stage[i]);
    }
    if (s) cut_free(c);
    return s;
}

// ---- opening ------------------------------------------------------------------------------------------

size_t layers_bytes(const struct tlm_model *m, const struct layers_config *config)
{
    return (size_t)config->texts * (size_t)config->rows * dtype_row_bytes(m->real, m->hparams.width);
}

static enum tlm_status open_cache(struct layers *p, struct tlm_error *err)
{
    const struct hparams *h = &p->model->hparams;
    bool latent = h->kv_rank > 0;
    struct kv_config kv = {
        .layers = 1,
        .kv_heads = latent ? 1 : (int32_t)h->kv_heads,
        .head_dim = (int32_t)(latent ? h->kv_rank + 2 * h->rope.pairs : h->head_dim),
        .value_dim = latent ? 0 : (int32_t)h->value_dim,
        .type_k = p->model->real,
        .type_v = p->model->real,
        .policy = KV_CONTIGUOUS,
        .sequences = 1,
        .context = p->config.rows,
        .rows = p->config.rows,
    };
    enum tlm_status s = kv_open(&p->cache, &kv, err);
    if (s || (s = kv_reserve(&p->cache, 0, p->config.rows, err))) return s;
    size_t layers = (size_t)h->layers;
    p->keys = calloc(2 * layers, sizeof *p->keys);
    p->group_of = calloc(layers, sizeof *p->group_of);
    if (!p->keys || !p->group_of)
        return error_set(err, TLM_ERR_MEMORY, "layers: no memory for %zu of them", layers);
    p->values = p->keys + layers;
    for (size_t l = 0; l < layers; l++) p->keys[l] = p->cache.keys[0], p->values[l] = p->cache.values[0];
    return TLM_OK;
}

// All but the tokens is the same for every text.
static void fill_step(struct layers *p)
{
    struct step *s = &p->step;
    int32_t rows = p->config.rows;
    const int32_t *table = kv_table(&p->cache, 0, 0);
    s->counts[EXTENT_ROWS] = rows;
    s->counts[EXTENT_ROUTED_ROWS] = rows * (int32_t)p->model->hparams.experts.used;
    memcpy(s->block_tables[0], table, (size_t)p->cache.blocks_per_sequence * sizeof *table);
    for (int32_t r = 0; r < rows; r++) {
        s->positions[r] = r;
        s->slots[0][r] = table[r / KV_BLOCK] * KV_BLOCK + r % KV_BLOCK;
    }
    for (int32_t r = 0; r < rows; r += ATTENTION_ROWS)
        s->tiles[s->counts[EXTENT_TILES]++] =
            (struct attention_tile){r, rows - r < ATTENTION_ROWS ? rows - r : ATTENTION_ROWS, 0, 0};
}

enum tlm_status layers_open(struct layers *p, struct tlm_model *m, const struct layers_config *config,
                            struct tlm_error *err)
{
    int32_t rows = config->rows;
    *p = (struct layers){.model = m, .config = *config};
    if (m->weights.positions && rows > m->weights.positions->ne[1])
        return error_set(err, TLM_ERR_ARGUMENT,
                         "context: expected at most the %lld positions that the model has learned, found %d",
                         (long long)m->weights.positions->ne[1], rows);
    enum tlm_status s;
    if ((s = rope_source_open(&p->rope, m, &m->hparams.rope, rows, err)) ||
        (s = rope_source_open(&p->rope_local, m, &m->hparams.rope_local, rows, err)) ||
        (s = open_cache(p, err)) ||
        (s = step_init(&p->step, rows, 1, 1, p->cache.blocks_per_sequence, 1, 0, err))) {
        layers_close(p);
        return s;
    }
    fill_step(p);
    return TLM_OK;
}

void layers_close(struct layers *p)
{
    for (int i = 0; i < p->kept_count; i++) free(p->kept[i].rows);
    free(p->keys);
    free(p->group_of);
    step_free(&p->step);
    kv_close(&p->cache);
    rope_source_close(&p->rope);
    rope_source_close(&p->rope_local);
    *p = (struct layers){0};
}

// ---- the products of a layer --------------------------------------------------------------------------

struct search {
    const struct tlm_model *model;
    const void *data;
    struct layers_product *found;
};

static void match(void *user, const struct weight_spec *spec, const char *name, const struct tensor **slot)
{
    struct search *s = user;
    (void)spec;
    if ((*slot)->data != s->data) return;
    snprintf(s->found->name, sizeof s->found->name, "%s", name);
    s->found->slot = slot;
}

// False for matrices that no tensor of the file is: those that the architecture worked out.
static bool name_product(struct tlm_model *m, const struct tensor *matrix, struct layers_product *out)
{
    struct search s = {m, matrix->data, out};
    *out = (struct layers_product){.matrix = matrix, .sorted = -1};
    model_each_weight(m, match, &s);
    if (!out->slot && matrix->data == m->head.weight->data) { // packed apart from the embedding that it is
        snprintf(out->name, sizeof out->name, "token_embd.weight");
        out->slot = &m->head.weight;
    }
    return out->slot != NULL;
}

enum tlm_status layers_products(struct layers *p, int64_t l, struct layers_product *out, int *count,
                                struct tlm_error *err)
{
    struct cut c;
    enum tlm_status s = cut_init(p, &c, err);
    *count = 0;
    if (s) return s;
    for (int64_t i = 0; i < c.count && *count < LAYERS_PRODUCTS; i++) {
        const struct node *n = node_at(&c, i);
        bool product = n->op == OP_matmul || n->op == OP_matmul_experts || n->op == OP_matmul_heads;
        struct layers_product *to = &out[*count];
        if (!product || c.stage[i] != l || !name_product(p->model, &n->in[1]->out, to)) continue;
        to->matrix = *to->slot;
        to->input = n->in[0]->index;
        if (n->op == OP_matmul_experts) to->sorted = n->in[2]->index;
        ++*count;
    }
    cut_free(&c);
    return TLM_OK;
}

// ---- what stands in front of a product ----------------------------------------------------------------

// The only reader of n; NULL where there are several, or none.
static const struct node *only_reader(const struct cut *c, const struct node *n)
{
    const struct node *found = NULL;
    for (int64_t i = 0; i < c->count; i++) {
        const struct node *r = node_at(c, i);
        for (int j = 0; j < r->input_count; j++) {
            if (r->in[j] != n) continue;
            if (found) return NULL;
            found = r;
        }
    }
    return found;
}

// Marks the products that read n, or its rows gathered for experts. False where anything else reads it.
static bool mark_readers(const struct cut *c, const struct node *n, const struct layers_product *products,
                         int count, uint64_t *readers)
{
    for (int64_t i = 0; i < c->count; i++) {
        const struct node *r = node_at(c, i);
        bool reads = false, known = false;
        for (int j = 0; j < r->input_count; j++) reads |= r->in[j] == n;
        if (!reads) continue;
        if (r->op == OP_gather_experts) {
            if (!mark_readers(c, r, products, count, readers)) return false;
            continue;
        }
        bool product = r->op == OP_matmul || r->op == OP_matmul_experts;
        for (int k = 0; k < count && product; k++) {
            if (products[k].matrix->data != r->in[1]->out.data) continue;
            *readers |= (uint64_t)1 << k;
            known = true;
        }
        if (!known) return false;
    }
    return true;
}

static bool name_weight(const struct layers *p, const struct node *leaf, char name[WEIGHT_NAME])
{
    struct layers_product found;
    if (leaf->op != GRAPH_LEAF || !name_product(p->model, &leaf->out, &found)) return false;
    if (!gguf_find_tensor(p->model->gguf, found.name)) return false;
    memcpy(name, found.name, sizeof found.name);
    return true;
}

// The matrix whose rows n is made of, all of them or a slice, with or without bias. Each node on the way has one reader.
static bool find_rows(const struct layers *p, const struct cut *c, const struct node *n,
                      struct layers_source *out)
{
    if (!only_reader(c, n)) return false;
    if (n->op == OP_slice) {
        const struct slice_params *s = n->params;
        if (s->heads != 1) return false;
        out->row = s->offset;
        n = n->in[0];
    }
    if (n->op == OP_bias) {
        if (!name_weight(p, n->in[1], out->bias)) return false;
        n = n->in[0];
        if (!only_reader(c, n)) return false;
    }
    return n->op == OP_matmul && name_weight(p, n->in[1], out->weight);
}

static bool find_source(const struct layers *p, const struct cut *c, const struct node *x,
                        struct layers_source *out)
{
    out->heads = out->kv_heads = 1;
    out->dim = (int32_t)x->out.ne[0];
    if (x->op == OP_rmsnorm || x->op == OP_layernorm) {
        const struct norm_params *norm = x->params;
        out->norm = true;
        if (norm->group != x->out.ne[0] || !name_weight(p, x->in[1], out->weight)) return false;
        return x->input_count < 3 || name_weight(p, x->in[2], out->bias);
    }
    if (x->op == OP_glu && ((const struct activation_params *)x->params)->kind == ACT_SWIGLU_CLAMPED)
        return false; // not linear in what is gated
    if (x->op == OP_glu) return find_rows(p, c, x->in[1], out);
    if (x->op != OP_attention || x->in[2]->op != OP_kv_write || x->in[1] == x->in[2]) return false;
    const struct attention_params *a = x->params;
    out->heads = a->heads;
    out->kv_heads = a->kv_heads;
    out->dim = a->value_dim;
    return find_rows(p, c, x->in[2]->in[0], out);
}

bool layers_source(struct layers *p, int64_t l, const struct layers_product *products, int count, int i,
                   struct layers_source *out)
{
    struct cut c;
    *out = (struct layers_source){0};
    if (cut_init(p, &c, NULL)) return false;
    const struct node *x = node_at(&c, products[i].input);
    if (x->op == OP_gather_experts) x = x->in[0];
    out->node = x->index;
    bool found = c.stage[x->index] == l && find_source(p, &c, x, out) &&
                 mark_readers(&c, x, products, count, &out->readers);
    cut_free(&c);
    return found;
}

// ---- running ------------------------------------------------------------------------------------------

// Nodes of earlier layers become leaves; which of them are in use is in leaves[0..count), beside where their rows are kept.
struct inputs {
    struct node *leaf[LAYERS_KEPT];
    const struct layers_kept *kept[LAYERS_KEPT];
    int count;
};

static void cut_at(const struct layers *p, struct cut *c, int64_t layer, struct inputs *in)
{
    *in = (struct inputs){0};
    for (int k = 0; k < p->kept_count; k++) {
        const struct layers_kept *kept = &p->kept[k];
        struct node *n = node_at(c, kept->node);
        if (kept->last < layer) continue;
        n->op = GRAPH_LEAF;
        n->input_count = 0;
        in->leaf[in->count] = n;
        in->kept[in->count++] = kept;
    }
}

// What a run that advances keeps: the nodes, and a place for the rows of each, which may be that of rows that this layer is the
// last to read.
struct outputs {
    int32_t node[LAYERS_KEPT];
    int place[LAYERS_KEPT]; // in p->kept
    int count;
};

static enum tlm_status find_place(struct layers *p, const struct outputs *out, int64_t layer, size_t bytes,
                                  int *place, struct tlm_error *err)
{
    for (int k = 0; k < p->kept_count; k++) {
        bool taken = p->kept[k].last > layer || p->kept[k].bytes != bytes;
        for (int i = 0; i < out->count; i++) taken |= out->place[i] == k;
        if (taken) continue;
        *place = k;
        return TLM_OK;
    }
    if (p->kept_count == LAYERS_KEPT)
        return error_set(err, TLM_ERR_UNSUPPORTED, "layers: more than %d tensors stand between two of them",
                         LAYERS_KEPT);
    struct layers_kept *k = &p->kept[p->kept_count];
    size_t all;
    k->rows = __builtin_mul_overflow(bytes, (size_t)p->config.texts, &all) ? NULL : malloc(all);
    if (!k->rows)
        return error_set(err, TLM_ERR_MEMORY, "layers: no memory for %lld texts of %zu bytes between layers",
                         (long long)p->config.texts, bytes);
    k->bytes = bytes;
    k->last = -1;
    *place = p->kept_count++;
    return TLM_OK;
}

static enum tlm_status find_outputs(struct layers *p, const struct cut *c, int64_t layer, struct outputs *out,
                                    struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (int64_t i = 0; i < c->count && !s; i++) {
        if (c->stage[i] != layer || c->last[i] < 0) continue;
        if (out->count == LAYERS_KEPT)
            return error_set(err, TLM_ERR_UNSUPPORTED,
                             "layers: more than %d tensors stand between two of them", LAYERS_KEPT);
        int place = 0;
        s = find_place(p, out, layer, tensor_bytes(&node_at(c, i)->out), &place, err);
        out->node[out->count] = (int32_t)i;
        out->place[out->count++] = place;
    }
    return s;
}

static void keep(struct layers *p, const struct cut *c, const struct outputs *out, int64_t text)
{
    for (int i = 0; i < out->count; i++) {
        const struct layers_kept *k = &p->kept[out->place[i]];
        memcpy(k->rows + (size_t)text * k->bytes, node_at(c, out->node[i])->out.data, k->bytes);
    }
}

static enum tlm_status run_texts(struct layers *p, struct cut *c, const struct layers_run *r,
                                 const struct inputs *in, const struct outputs *out,
                                 struct node *const *roots, struct tlm_error *err)
{
    struct graph *g = &c->graph;
    struct arena memory;
    size_t shared = align_up(g->arena_bytes, 4096),
           scratch = g->scratch_bytes * (size_t)threads_count(p->config.threads);
    enum tlm_status s = arena_init(&memory, shared + scratch + 4096, "activations", err);
    if (s) return s;
    graph_bind(g, arena_alloc(&memory, shared), NULL);
    void *own = arena_alloc(&memory, scratch);
    for (int64_t text = 0; text < p->config.texts && !s; text++) {
        memcpy(p->step.tokens, p->config.tokens + text * p->config.rows,
               (size_t)p->config.rows * sizeof *p->step.tokens);
        for (int i = 0; i < in->count; i++)
            in->leaf[i]->out.data = in->kept[i]->rows + (size_t)text * in->kept[i]->bytes;
        graph_run(g, p->config.threads, own);
        if (r->seen) s = r->seen(r->user, roots, err);
        keep(p, c, out, text);
    }
    arena_free(&memory);
    return s;
}

// What is looked at may be what an earlier layer gave, and then there is nothing to compute for it.
static enum tlm_status plan(struct graph *g, struct node *const *roots, int count, struct tlm_error *err)
{
    struct node *computed[LAYERS_KEPT + LAYERS_NODES];
    int computed_count = 0;
    for (int i = 0; i < count; i++)
        if (roots[i]->op != GRAPH_LEAF) computed[computed_count++] = roots[i];
    return computed_count ? graph_plan(g, computed, computed_count, err) : TLM_OK;
}

enum tlm_status layers_run(struct layers *p, const struct layers_run *r, struct tlm_error *err)
{
    struct cut c;
    struct inputs in;
    struct outputs out = {0};
    enum tlm_status s = cut_init(p, &c, err);
    if (s) return s;
    struct node *roots[LAYERS_KEPT + LAYERS_NODES];
    TLM_ASSERT(r->count <= LAYERS_NODES);
    if (r->advance) s = find_outputs(p, &c, r->layer, &out, err);
    if (!s) {
        cut_at(p, &c, r->layer, &in);
        for (int i = 0; i < r->count; i++) roots[i] = node_at(&c, r->nodes[i]);
        for (int i = 0; i < out.count; i++) roots[r->count + i] = node_at(&c, out.node[i]);
        pass_convert(&c.graph, &p->model->kernels);
        s = plan(&c.graph, roots, r->count + out.count, err);
        if (!s) s = run_texts(p, &c, r, &in, &out, roots, err);
    }
    for (int i = 0; i < out.count && !s; i++) {
        struct layers_kept *k = &p->kept[out.place[i]];
        k->node = out.node[i];
        k->last = c.last[out.node[i]];
    }
    cut_free(&c);
    return s;
}
