// models/model.c -- opens a model: container, vocabulary, architecture, weights; the queries of tinylm.h.
#include "models/hf.h"
#include "models/placement.h"
#include "ops/backend.h"
#include "quant/composite.h"

#include <math.h>

// ---- weights ------------------------------------------------------------------------------------------

int64_t hparams_dim(const struct hparams *h, enum dim d)
{
    switch (d) {
    case DIM_1: return 1;
    case DIM_WIDTH: return h->width;
    case DIM_VOCAB: return h->vocab;
    case DIM_CONTEXT: return h->context;
    case DIM_FF: return h->feed_forward;
    case DIM_GATE_UP: return 2 * h->feed_forward;
    case DIM_Q: return h->heads * h->head_dim;
    case DIM_K: return h->kv_heads * h->head_dim;
    case DIM_V: return h->kv_heads * h->value_dim;
    case DIM_QKV: return (h->heads + h->kv_heads) * h->head_dim + h->kv_heads * h->value_dim;
    case DIM_OUT: return h->heads * h->value_dim;
    case DIM_HEADS: return h->heads;
    case DIM_KV_HEADS: return h->kv_heads;
    case DIM_HEAD: return h->head_dim;
    case DIM_ROPE_PAIRS: return h->rope.pairs;
    case DIM_EXPERTS: return h->experts.count;
    case DIM_EXPERT_FF: return h->experts.feed_forward;
    case DIM_SHARED_FF: return h->experts.shared_feed_forward;
    case DIM_Q_RANK: return h->q_rank;
    case DIM_KV_RANK: return h->kv_rank;
    case DIM_KV_A: return h->kv_rank + 2 * h->rope.pairs;
    case DIM_KV_B: return h->heads * (h->nope_dim + h->value_dim);
    case DIM_NOPE: return h->nope_dim;
    case DIM_VALUE: return h->value_dim;
    }
    return 0;
}

bool weight_is_matrix(const struct weight_spec *spec)
{
    return spec->role == ROLE_MATRIX || spec->role == ROLE_EMBEDDING || spec->role == ROLE_ROUTER;
}

static enum tlm_status check_weight(const struct tlm_model *m, const struct weight_spec *spec,
                                    const char *name, const struct tensor *t, struct tlm_error *err)
{
    int64_t cols = hparams_dim(&m->hparams, spec->cols), rows = hparams_dim(&m->hparams, spec->rows);
    int64_t depth = hparams_dim(&m->hparams, spec->depth);
    if (t->ne[0] != cols || t->ne[1] != rows || t->ne[2] != depth || t->ne[3] != 1)
        return error_set(err, TLM_ERR_FORMAT,
                         "%s: expected shape %lld x %lld x %lld, found %lld x %lld x %lld x %lld", name,
                         (long long)cols, (long long)rows, (long long)depth, (long long)t->ne[0],
                         (long long)t->ne[1], (long long)t->ne[2], (long long)t->ne[3]);
    bool runs = weight_is_matrix(spec) ? m->kernels.matmul[t->type].fwd && m->kernels.to_real[t->type]
                                       : m->kernels.to_real[t->type] != NULL;
    if (!runs)
        return error_set(err, TLM_ERR_UNSUPPORTED, "%s: type %s is not one of weights", name,
                         dtype_traits[t->type].name);
    return TLM_OK;
}

// Matrices stay in the mapped file; vectors become rows of `real` in the arena, where kernels take them as they are.
static const struct tensor *place_weight(struct tlm_model *m, const struct weight_spec *spec,
                                         const struct tensor *t)
{
    struct tensor *placed = arena_alloc(&m->vectors, sizeof *placed);
    *placed = *t;
    if (!weight_is_matrix(spec)) {
        *placed = tensor_shape(m->real, t->ne[0], t->ne[1], 1, 1);
        placed->data = arena_alloc(&m->vectors, tensor_bytes(placed));
        m->kernels.to_real[t->type](placed->data, t->data, tensor_elements(t));
    }
    return placed;
}

// The name of a row's tensor in layer l, and its slot.
static const struct tensor **weight_slot(struct tlm_model *m, const struct weight_spec *spec, int64_t l,
                                         char name[static WEIGHT_NAME])
{
    const char *hole = strstr(spec->gguf, "%d");
    if (hole)
        snprintf(name, WEIGHT_NAME, "blk.%lld%s", (long long)l, hole + 2);
    else
        snprintf(name, WEIGHT_NAME, "%s", spec->gguf);
    char *base = hole ? (char *)&m->weights.layer[l] : (char *)&m->weights;
    return (const struct tensor **)(base + spec->slot);
}

static int64_t copies_of(const struct tlm_model *m, const struct weight_spec *spec)
{
    return strstr(spec->gguf, "%d") ? m->hparams.layers : 1;
}

void model_each_weight(struct tlm_model *m, model_weight_fn *fn, void *user)
{
    char name[WEIGHT_NAME];
    for (size_t i = 0; i < m->arch->weight_count; i++) {
        const struct weight_spec *spec = &m->arch->weights[i];
        for (int64_t l = 0; l < copies_of(m, spec); l++) {
            const struct tensor **slot = weight_slot(m, spec, l, name);
            if (*slot) fn(user, spec, name, slot);
        }
    }
}

static enum tlm_status load_weight(struct tlm_model *m, const struct weight_spec *spec, int64_t l,
                                   int64_t *found, struct tlm_error *err)
{
    char name[WEIGHT_NAME];
    const struct tensor **slot = weight_slot(m, spec, l, name);
    const struct gguf_tensor *t = gguf_find_tensor(m->gguf, name);
    if (!t && spec->optional) return TLM_OK;
    if (!t) return error_set(err, TLM_ERR_FORMAT, "%s: the file lacks this tensor", name);
    enum tlm_status s = check_weight(m, spec, name, &t->tensor, err);
    if (s) return s;
    *slot = place_weight(m, spec, &t->tensor);
    ++*found;
    return TLM_OK;
}

// Does the row of the table stand for this tensor, in a layer that the model has?
static bool spec_names(const struct weight_spec *spec, struct gguf_string name, int64_t layers)
{
    const char *hole = strstr(spec->gguf, "%d");
    if (!hole) return gguf_string_is(name, spec->gguf);
    size_t head = (size_t)(hole - spec->gguf), tail = strlen(hole + 2), i = head;
    if (name.length <= head + tail || memcmp(name.data, spec->gguf, head)) return false;
    int64_t l = 0;
    for (; i < name.length - tail && l < layers; i++) {
        if (name.data[i] < '0' || name.data[i] > '9') return false;
        l = 10 * l + (name.data[i] - '0');
    }
    return l < layers && !memcmp(name.data + i, hole + 2, tail);
}

// The row of the table that names the tensor; NULL where none does.
static const struct weight_spec *find_spec(const struct tlm_model *m, struct gguf_string name)
{
    for (size_t j = 0; j < m->arch->weight_count; j++)
        if (spec_names(&m->arch->weights[j], name, m->hparams.layers)) return &m->arch->weights[j];
    return NULL;
}

// A tensor that no row of the table names would be left out of the sums without a word: refuse it instead.
static enum tlm_status find_stranger(const struct tlm_model *m, struct tlm_error *err)
{
    for (uint64_t i = 0; i < m->gguf->tensor_count; i++) {
        struct gguf_string name = m->gguf->tensors[i].name;
        char shown[96];
        if (!find_spec(m, name))
            return error_set(
                err, TLM_ERR_UNSUPPORTED, "tensor '%s': not one that architecture %s with %lld layers has",
                gguf_printable(name, shown, sizeof shown), m->arch->name, (long long)m->hparams.layers);
    }
    return TLM_OK;
}

// With room for what no file holds: the slopes of ALiBi, the layers' places, a head apart from the embedding that it is,
// the parts of what is fused (models/rows.h).
static size_t vectors_size(const struct tlm_model *m)
{
    size_t size = align_up((size_t)m->hparams.layers * sizeof(struct layer), ARENA_ALIGN) +
                  align_up((size_t)m->hparams.layers * sizeof(int32_t), ARENA_ALIGN) +
                  align_up(sizeof(struct tensor), ARENA_ALIGN);
    size += (size_t)m->hparams.layers * 8 * align_up(sizeof(struct tensor), ARENA_ALIGN);
    size += align_up((size_t)m->hparams.heads * sizeof(double), ARENA_ALIGN) + 2 * ARENA_ALIGN +
            sizeof(struct tensor);
    for (uint64_t i = 0; i < m->gguf->tensor_count; i++) {
        const struct tensor *t = &m->gguf->tensors[i].tensor;
        const struct weight_spec *spec = find_spec(m, m->gguf->tensors[i].name);
        size += 2 * align_up(sizeof *t, ARENA_ALIGN);
        if (spec && !weight_is_matrix(spec))
            size += align_up((size_t)tensor_elements(t) * sizeof(double), ARENA_ALIGN);
    }
    return size;
}

// ALiBi's slopes, arXiv 2108.12409: with n the largest power of two of at most H heads, head h < n has 2^(-bias (h + 1) / n),
// and those behind them take every second of the slopes that 2n heads would have.
static void make_slopes(struct tlm_model *m)
{
    int64_t heads = m->hparams.heads, n = 1;
    while (2 * n <= heads) n *= 2;
    struct tensor *t = arena_alloc(&m->vectors, sizeof *t);
    *t = tensor_shape(m->real, heads, 1, 1, 1);
    t->data = arena_alloc(&m->vectors, tensor_bytes(t));
    for (int64_t h = 0; h < heads; h++) {
        double turn = h < n ? (double)(h + 1) / (double)n : (double)(2 * (h - n) + 1) / (double)(2 * n);
        double slope = exp2(-m->hparams.alibi_bias * turn);
        if (m->real == DTYPE_F64)
            ((double *)t->data)[h] = slope;
        else
            ((float *)t->data)[h] = (float)slope;
    }
    m->weights.alibi_slopes = t;
}

static enum tlm_status load_weights(struct tlm_model *m, struct tlm_error *err)
{
    const struct gguf_tensor *embed = gguf_find_tensor(m->gguf, "token_embd.weight");
    if (!embed) return error_set(err, TLM_ERR_FORMAT, "token_embd.weight: the file lacks this tensor");
    if (embed->tensor.ne[1] > INT32_MAX)
        return error_set(err, TLM_ERR_FORMAT, "token_embd.weight: expected at most 2^31 - 1 rows, found %lld",
                         (long long)embed->tensor.ne[1]);
    m->hparams.vocab = embed->tensor.ne[1];
    if (m->tokenizer && tokenizer_size(m->tokenizer) > m->hparams.vocab)
        return error_set(err, TLM_ERR_FORMAT,
                         "token_embd.weight: expected a row for each of %d tokens, found %lld",
                         tokenizer_size(m->tokenizer), (long long)m->hparams.vocab);
    enum tlm_status s = arena_init(&m->vectors, vectors_size(m), "model", err);
    if (s) return s;
    m->weights.layer = arena_alloc(&m->vectors, (size_t)m->hparams.layers * sizeof(struct layer));
    m->layer_places = arena_alloc(&m->vectors, (size_t)m->hparams.layers * sizeof *m->layer_places);
    m->place_count = 1;
    int64_t found = 0;
    for (size_t i = 0; i < m->arch->weight_count; i++) {
        const struct weight_spec *spec = &m->arch->weights[i];
        for (int64_t l = 0; l < copies_of(m, spec); l++)
            if ((s = load_weight(m, spec, l, &found, err))) return s;
    }
    if ((uint64_t)found != m->gguf->tensor_count && (s = find_stranger(m, err))) return s;
    for (uint64_t i = 0; i < m->gguf->tensor_count; i++) {
        const struct tensor *t = &m->gguf->tensors[i].tensor;
        m->weight_bytes += composite_file_bytes(t->type, t);
        m->parameters += (uint64_t)tensor_elements(t);
    }
    if (m->hparams.alibi_bias > 0) make_slopes(m);
    m->head = (struct head){
        .norm = m->weights.out_norm,
        .norm_bias = m->weights.out_norm_bias,
        .layer_norm = m->hparams.layer_norm,
        .weight = m->weights.out ? m->weights.out : m->weights.embed, // tied
        .bias = m->weights.out_bias,
        .scale = m->hparams.logit_scale,
        .softcap = m->hparams.logit_softcap,
        .norm_eps = m->hparams.norm_eps,
    };
    return m->arch->finish ? m->arch->finish(m, err) : TLM_OK;
}

// ---- opening ------------------------------------------------------------------------------------------

static void describe(struct tlm_model *m)
{
    double n = (double)m->parameters;
    int64_t sums[DTYPE_COUNT] = {0};
    enum dtype type = DTYPE_F32; // of most numbers in the layers
    for (uint64_t i = 0; i < m->gguf->tensor_count; i++) {
        const struct gguf_tensor *t = &m->gguf->tensors[i];
        if (t->name.length < 4 || memcmp(t->name.data, "blk.", 4) != 0) continue;
        sums[t->tensor.type] += tensor_elements(&t->tensor);
        if (sums[t->tensor.type] > sums[type]) type = t->tensor.type;
    }
    const char *unit = n >= 1e9 ? "B" : n >= 1e6 ? "M" : "K";
    snprintf(m->description, sizeof m->description, "%s %.*f%s %s", m->arch->name,
             n >= 1e10 || n < 1e6 ? 0 : 1,
             n / (n >= 1e9   ? 1e9
                  : n >= 1e6 ? 1e6
                             : 1e3),
             unit, dtype_traits[type].name);
}

static enum tlm_status open_weights(struct tlm_model *m, const struct tlm_model_options *options,
                                    struct tlm_error *err)
{
    struct gguf_string name = {"", 0};
    enum tlm_status s = gguf_get_string(m->gguf, "general.architecture", &name, err);
    if (s) return s;
    m->arch = arch_find(name);
    char shown[64];
    if (!m->arch)
        return error_set(err, TLM_ERR_UNSUPPORTED, "general.architecture: expected one of %s, found '%s'",
                         arch_names(), gguf_printable(name, shown, sizeof shown));
    if ((s = hparams_read(&m->hparams, m->arch, m->gguf, err))) return s;
    if ((s = model_read_limits(m->gguf, err)) || (s = load_weights(m, err)) ||
        (s = placement_choose(m, options, err)) || (s = model_pack(m, err)))
        return s;
    describe(m);
    return TLM_OK;
}

// Where a model comes from: a path, or bytes.
struct source {
    const char *name;
    const void *data; // NULL: name is a path
    size_t size;
};

static enum tlm_status open_file(struct tlm_model *m, const struct source *from, bool vocab_only,
                                 struct tlm_error *err)
{
    if (from->data) {
        enum tlm_status s = gguf_open_memory(&m->gguf, from->data, from->size, from->name, err);
        if (!s && (s = composite_assemble(m->gguf, err))) error_prefix(err, "%s", from->name);
        return s;
    }
    return model_file_open(&m->gguf, from->name, vocab_only ? MODEL_VOCABULARY : MODEL_ALL, err);
}

static enum tlm_status open_model(struct tlm_model **out, const struct source *from,
                                  const struct tlm_model_options *options, struct tlm_error *err)
{
    static const struct tlm_model_options defaults;
    if (!options) options = &defaults;
    *out = NULL;
    struct tlm_model *m = calloc(1, sizeof *m);
    if (!m) return error_set(err, TLM_ERR_MEMORY, "%s: no memory for a model", from->name);
    enum tlm_status s = isa_parse(&m->isa, options->isa, err);
    if (s) {
        free(m);
        return s;
    }
    bool f64 = m->isa == ISA_F64;
    m->kernels = f64 ? kernels_for_f64() : kernels_for(m->isa);
    m->ops = f64 ? op_table_f64 : op_table_ref;
    m->real = f64 ? DTYPE_F64 : DTYPE_F32;
    if ((s = open_file(m, from, options->vocab_only, err))) {
        tlm_model_close(m);
        return s; // has the name in its text
    }
    s = tokenizer_open(&m->tokenizer, m->gguf, &m->tokenizer_error);
    bool none = !gguf_find(m->gguf, "tokenizer.ggml.model"); // weights alone still run, on token ids
    if (s && (options->vocab_only || (s != TLM_ERR_UNSUPPORTED && !none))) {
        if (err) *err = m->tokenizer_error;
    } else {
        s = options->vocab_only ? TLM_OK : open_weights(m, options, err);
    }
    if (s) {
        error_prefix(err, "%s", from->name);
        tlm_model_close(m);
        return s;
    }
    *out = m;
    return TLM_OK;
}

enum tlm_status tlm_model_open(struct tlm_model **out, const char *path,
                               const struct tlm_model_options *options, struct tlm_error *err)
{
    const struct source from = {path, NULL, 0};
    return open_model(out, &from, options, err);
}

enum tlm_status tlm_model_open_memory(struct tlm_model **out, const void *data, size_t size, const char *name,
                                      const struct tlm_model_options *options, struct tlm_error *err)
{
    const struct source from = {name, data, size};
    return open_model(out, &from, options, err);
}

void tlm_model_close(struct tlm_model *m)
{
    if (!m) return;
    for (int i = 1; i < m->place_count; i++) m->devices[i]->class->close(m->devices[i]);
    tokenizer_close(m->tokenizer);
    arena_free(&m->vectors);
    arena_free(&m->packed);
    arena_free(&m->packed_data);
    arena_free(&m->made);
    gguf_close(m->gguf);
    free(m);
}

// ---- queries ------------------------------------------------------------------------------------------

int32_t tlm_model_vocab_size(const struct tlm_model *m)
{
    return m->arch ? (int32_t)m->hparams.vocab : tokenizer_size(m->tokenizer);
}

int32_t tlm_model_context_length(const struct tlm_model *m)
{
    return (int32_t)m->hparams.context;
}

uint64_t tlm_model_bytes(const struct tlm_model *m)
{
    return m->weight_bytes;
}

uint64_t tlm_model_parameters(const struct tlm_model *m)
{
    return m->parameters;
}

const char *tlm_model_description(const struct tlm_model *m)
{
    return m->description;
}

const char *tlm_model_backend(const struct tlm_model *m)
{
    return m->backend_text;
}

const char *tlm_model_isa(const struct tlm_model *m)
{
    return isa_name(m->isa);
}

// Logits are handed out as floats even where the model runs in double.
double tlm_model_loss(const struct tlm_model *m, const float *logits, int32_t target)
{
    cross_entropy_fn *loss = m->real == DTYPE_F64 ? cross_entropy_ref : m->kernels.cross_entropy;
    return loss(NULL, logits, target, m->hparams.vocab, 0);
}
