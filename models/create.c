// models/create.c -- writes a new model: its keys from hyperparameters, its tensors from the architecture's weight table.
//
// The keys are written into memory first and read by the architecture's own hparams(), so that it checks them as it checks those of
// any file. Then a model of shapes without numbers goes through its finish().
#include "models/create.h"

#include <inttypes.h>
#include <string.h>

#include "core/cpu.h"
#include "models/create_init.h"
#include "models/create_plan.h"
#include "models/hf_folder.h"
#include "quant/mix.h"

struct plan {
    struct create_plan wanted;
    struct gguf *vocabulary; // NULL: none was asked for
    struct tokenizer *tokenizer;
    void *keys_data;
    struct tlm_model model; // keys in model.gguf, hyperparameters, layers of tensors without data
    struct tensor *shapes;  // (weights of the table)
};

// ---- shapes -------------------------------------------------------------------------------------------

// Does a layer have an optional weight? That depends on experts and ranks; biases are open.
static enum create_choice has_in_layer(const struct hparams *h, size_t slot, int64_t l)
{
    bool experts = h->experts.count > 0 && l >= h->experts.dense_layers, yes = false;
    switch (slot) {
    case offsetof(struct layer, gate):
    case offsetof(struct layer, up):
    case offsetof(struct layer, down): yes = !experts; break;
    case offsetof(struct layer, router):
    case offsetof(struct layer, experts_gate):
    case offsetof(struct layer, experts_up):
    case offsetof(struct layer, experts_down): yes = experts; break;
    case offsetof(struct layer, shared_gate):
    case offsetof(struct layer, shared_up):
    case offsetof(struct layer, shared_down): yes = experts && h->experts.shared > 0; break;
    case offsetof(struct layer, choice_bias): yes = experts && h->experts.gate == ROUTE_SIGMOID; break;
    case offsetof(struct layer, wq): yes = h->q_rank == 0; break;
    case offsetof(struct layer, wq_a):
    case offsetof(struct layer, q_a_norm):
    case offsetof(struct layer, wq_b): yes = h->q_rank > 0; break;
    case offsetof(struct layer, wk_b):
    case offsetof(struct layer, wv_b): yes = true; break;
    case offsetof(struct layer, gate_bias):
    case offsetof(struct layer, up_bias):
    case offsetof(struct layer, down_bias): return experts ? CREATE_NO : CREATE_OPEN;
    default: return CREATE_OPEN;
    }
    return yes ? CREATE_YES : CREATE_NO;
}

// Does the model have this weight, in this layer (-1: in none)?
static bool has_weight(struct plan *p, const struct weight_spec *spec, int64_t l)
{
    const struct create_defaults *own = &p->wanted.arch->create;
    const struct create_value *tied = create_value(&p->wanted, "tied"),
                              *bias = create_value(&p->wanted, "bias");
    enum create_choice choice = CREATE_OPEN;
    if (!spec->optional) return true;
    if (own->has)
        choice = own->has(p->model.gguf, spec, l);
    else if (l >= 0)
        choice = has_in_layer(&p->model.hparams, spec->slot, l);
    if (choice != CREATE_OPEN) return choice == CREATE_YES;
    if (l < 0 && spec->slot == offsetof(struct weights, out))
        return !(tied->given ? tied->number != 0 : own->tied);
    return spec->role == ROLE_BIAS && (bias->given ? bias->number != 0 : own->bias);
}

// Calls fn for each tensor in the order of the file: the model's own, then layer by layer.
typedef enum tlm_status tensor_fn(struct plan *p, const struct weight_spec *spec, int64_t l,
                                  const struct tensor *shape, void *user, struct tlm_error *err);

static enum tlm_status each_tensor(struct plan *p, tensor_fn *fn, void *user, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (int64_t l = -1; l < p->model.hparams.layers && !s; l++)
        for (size_t i = 0; i < p->wanted.arch->weight_count && !s; i++) {
            const struct weight_spec *spec = &p->wanted.arch->weights[i];
            bool in_layer = strstr(spec->gguf, "%d") != NULL;
            if (in_layer == (l >= 0) && has_weight(p, spec, l)) s = fn(p, spec, l, &p->shapes[i], user, err);
        }
    return s;
}

static enum tlm_status make_shapes(struct plan *p, struct tlm_error *err)
{
    const int64_t limit = (int64_t)1 << 40; // numbers a tensor: then all of them together fit into 63 bits
    const struct hparams *h = &p->model.hparams;
    if (!p->shapes) p->shapes = calloc(p->wanted.arch->weight_count, sizeof *p->shapes);
    if (!p->shapes) return error_set(err, TLM_ERR_MEMORY, "no memory for the shapes of a model");
    for (size_t i = 0; i < p->wanted.arch->weight_count; i++) {
        const struct weight_spec *spec = &p->wanted.arch->weights[i];
        int64_t cols = hparams_dim(h, spec->cols), rows = hparams_dim(h, spec->rows);
        int64_t depth = hparams_dim(h, spec->depth);
        if (!cols || !rows || !depth) continue; // of a part that the model lacks
        if (cols > limit / rows / depth)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "%s: expected at most 2^40 numbers, found %" PRId64 " x %" PRId64 " x %" PRId64,
                             spec->gguf, cols, rows, depth);
        p->shapes[i] = tensor_shape(DTYPE_F32, cols, rows, depth, 1);
    }
    return TLM_OK;
}

static enum tlm_status place_shape(struct plan *p, const struct weight_spec *spec, int64_t l,
                                   const struct tensor *shape, void *user, struct tlm_error *err)
{
    (void)user, (void)err;
    char *base = l >= 0 ? (char *)&p->model.weights.layer[l] : (char *)&p->model.weights;
    memcpy(base + spec->slot, &shape, sizeof shape);
    return TLM_OK;
}

static void forget_keys(struct plan *p)
{
    free(p->model.weights.layer);
    gguf_close(p->model.gguf);
    free(p->keys_data);
    p->model = (struct tlm_model){0};
    p->keys_data = NULL;
}

// Writes the keys into memory and lets the architecture read them. `unread` (NULL: none) gets a value that no reader takes.
static enum tlm_status read_keys(struct plan *p, const char *unread, struct tlm_error *err)
{
    struct gguf_writer *w = NULL;
    struct tlm_model *m = &p->model;
    size_t size;
    forget_keys(p);
    enum tlm_status s = gguf_writer_open_memory(&w, p->wanted.arch->name, err);
    if (!s) s = create_set_keys(&p->wanted, w, err);
    if (!s && unread) gguf_set_string_array(w, unread, &(struct gguf_string){"?", 1}, 1);
    if (!s) s = gguf_writer_take(w, &p->keys_data, &size, err);
    gguf_writer_close(w);
    if (!s) s = gguf_open_memory(&m->gguf, p->keys_data, size, p->wanted.arch->name, err);
    if (s) return s;
    m->arch = p->wanted.arch;
    if ((s = hparams_read(&m->hparams, p->wanted.arch, m->gguf, err))) return s;
    m->hparams.vocab = p->wanted.vocab;
    if ((s = make_shapes(p, err))) return s;
    m->weights.layer = calloc((size_t)m->hparams.layers, sizeof *m->weights.layer);
    if (!m->weights.layer)
        return error_set(err, TLM_ERR_MEMORY, "no memory for %" PRId64 " layers", m->hparams.layers);
    each_tensor(p, place_shape, NULL, NULL);
    return p->wanted.arch->finish ? p->wanted.arch->finish(m, err) : TLM_OK;
}

// A key that the architecture does not read would be given in vain: with a value of a wrong type it goes through all the same.
static enum tlm_status check_read(struct plan *p, const char *given, const char *key, struct tlm_error *err)
{
    struct tlm_error ignored;
    enum tlm_status s = read_keys(p, key, &ignored);
    if (!s)
        return error_set(err, TLM_ERR_ARGUMENT, "%s: expected a key that %s reads, found '%s'", given,
                         p->wanted.arch->name, key);
    if (s == TLM_ERR_MEMORY && err) *err = ignored;
    return s == TLM_ERR_MEMORY ? s : TLM_OK;
}

static enum tlm_status check_general(const char *key, struct tlm_error *err)
{
    static const char *const ours[] = {"architecture", "alignment", "type", "file_type",
                                       "quantization_version"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (!strcmp(key + 8, ours[i]))
            return error_set(err, TLM_ERR_ARGUMENT,
                             "%s: expected a key of the description, found one of the file", key);
    return TLM_OK;
}

static enum tlm_status check_given(struct plan *p, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (size_t i = 0; i < create_key_count && !s; i++)
        if (p->wanted.values[i].given && create_keys[i].gguf)
            s = check_read(p, create_keys[i].name, create_key_name(&p->wanted, create_keys[i].gguf).text,
                           err);
    for (size_t i = 0; i < p->wanted.options->pair_count && !s; i++) {
        const char *key = p->wanted.options->pairs[i].key;
        if (!create_is_verbatim(&p->wanted.options->pairs[i])) continue;
        bool general = !strncmp(key, "general.", 8);
        if (strlen(key) + strlen(p->wanted.arch->name) + 2 > CREATE_NAME_SIZE)
            s = error_set(err, TLM_ERR_ARGUMENT, "model: expected a shorter key, found '%.40s...'", key);
        else
            s = general ? check_general(key, err)
                        : check_read(p, key, create_key_name(&p->wanted, key).text, err);
    }
    return s ? s : read_keys(p, NULL, err);
}

// ---- the plan -----------------------------------------------------------------------------------------

static bool has_slot(const struct arch *arch, size_t slot)
{
    for (size_t i = 0; i < arch->weight_count; i++)
        if (arch->weights[i].slot == slot && strstr(arch->weights[i].gguf, "%d")) return true;
    return false;
}

// SwiGLU has three matrices: with 8/3 of the width it has as many numbers as a plain part with 4 (arXiv 2002.05202).
static int64_t default_feed_forward(const struct plan *p)
{
    int64_t width = create_size(&p->wanted, "width", 0);
    bool gated = has_slot(p->wanted.arch, offsetof(struct layer, gate)) ||
                 has_slot(p->wanted.arch, offsetof(struct layer, gate_up)) ||
                 has_slot(p->wanted.arch, offsetof(struct layer, experts_gate));
    return gated ? (8 * width + 3 * 256 - 1) / (3 * 256) * 256 : 4 * width;
}

static enum tlm_status open_vocabulary(struct plan *p, bool required, struct tlm_error *err)
{
    const struct create_value *vocab = create_value(&p->wanted, "vocab");
    const char *path = p->wanted.options->tokenizer;
    if (!path && required)
        return error_set(err, TLM_ERR_ARGUMENT, "tokenizer: expected a model or vocabulary file, found none");
    if (!path && !vocab->given)
        return error_set(err, TLM_ERR_ARGUMENT, "vocab: expected it where there is no tokenizer, found none");
    if (path) {
        enum tlm_status s = model_file_open(&p->vocabulary, path, MODEL_VOCABULARY, err);
        if (s) return s;
        if ((s = tokenizer_open(&p->tokenizer, p->vocabulary, err))) return error_prefix(err, "%s", path);
    }
    int64_t tokens = path ? tokenizer_size(p->tokenizer) : 0;
    p->wanted.vocab = create_size(&p->wanted, "vocab", tokens);
    if (p->wanted.vocab < tokens)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "vocab: expected a row for each of %" PRId64 " tokens, found %" PRId64, tokens,
                         p->wanted.vocab);
    return TLM_OK;
}

static void close_plan(struct plan *p)
{
    if (!p) return;
    forget_keys(p);
    tokenizer_close(p->tokenizer);
    gguf_close(p->vocabulary);
    free(p->shapes);
    free(p);
}

static enum tlm_status make_plan(struct plan *p, bool tokenizer, struct tlm_error *err)
{
    const char *name = p->wanted.options->arch ? p->wanted.options->arch : "";
    p->wanted.arch = arch_find((struct gguf_string){name, strlen(name)});
    if (!p->wanted.arch) return create_wrong_value("arch", arch_names(), name, err);
    enum tlm_status s = create_read_values(&p->wanted, err);
    if (!s) s = open_vocabulary(p, tokenizer, err);
    if (s) return s;
    p->wanted.feed_forward = create_size(&p->wanted, "feed_forward", default_feed_forward(p));
    p->wanted.expert_feed_forward = create_size(&p->wanted, "expert_feed_forward", 0);
    if ((s = read_keys(p, NULL, err))) return s;
    const struct expert_hparams *e = &p->model.hparams.experts;
    if (e->count && !has_slot(p->wanted.arch, offsetof(struct layer, router)))
        return error_set(err, TLM_ERR_ARGUMENT, "experts: expected 0, as %s has none, found %" PRId64,
                         p->wanted.arch->name, e->count);
    if (e->count && !e->feed_forward) p->wanted.expert_feed_forward = p->wanted.feed_forward;
    return check_given(p, err);
}

static enum tlm_status open_plan(struct plan **out, const struct create_options *o, bool tokenizer,
                                 struct tlm_error *err)
{
    struct plan *p = *out = calloc(1, sizeof *p);
    if (!p) return error_set(err, TLM_ERR_MEMORY, "no memory for the plan of a model");
    p->wanted.options = o;
    enum tlm_status s = make_plan(p, tokenizer, err);
    if (s != TLM_ERR_FORMAT || !p->model.gguf) return s;
    if (err)
        err->code =
            TLM_ERR_ARGUMENT; // what an architecture says of keys that were given is the user's to mend
    return TLM_ERR_ARGUMENT;
}

static enum tlm_status count_tensor(struct plan *p, const struct weight_spec *spec, int64_t l,
                                    const struct tensor *shape, void *user, struct tlm_error *err)
{
    (void)p, (void)spec, (void)l, (void)err;
    *(uint64_t *)user += (uint64_t)tensor_elements(shape);
    return TLM_OK;
}

enum tlm_status model_create_count(uint64_t *parameters, const struct create_options *o,
                                   struct tlm_error *err)
{
    struct plan *p;
    *parameters = 0;
    enum tlm_status s = open_plan(&p, o, false, err);
    if (!s) s = each_tensor(p, count_tensor, parameters, err);
    close_plan(p);
    return s;
}

// ---- the file -----------------------------------------------------------------------------------------

static struct create_name tensor_name(const struct weight_spec *spec, int64_t l)
{
    struct create_name name = {""};
    hf_expand_name(name.text, sizeof name.text, spec->gguf, l, 0);
    return name;
}

static enum tlm_status declare_tensor(struct plan *p, const struct weight_spec *spec, int64_t l,
                                      const struct tensor *shape, void *user, struct tlm_error *err)
{
    (void)p, (void)err;
    gguf_add_tensor(user, tensor_name(spec, l).text, shape);
    return TLM_OK;
}

enum { CHUNK = 1 << 20 }; // numbers that are drawn, and written, at a time

struct output {
    struct gguf_writer *writer;
    struct threads *pool;
    float *chunk;
    double std;
};

static enum tlm_status write_tensor(struct plan *p, const struct weight_spec *spec, int64_t l,
                                    const struct tensor *shape, void *user, struct tlm_error *err)
{
    const struct output *o = user;
    struct create_name name = tensor_name(spec, l);
    struct weight_init init = weight_init_of(p->wanted.arch, &p->model.hparams, spec, o->std);
    int64_t total = tensor_elements(shape);
    enum tlm_status s = TLM_OK;
    for (int64_t at = 0; at < total && !s; at += CHUNK) {
        int64_t n = total - at < CHUNK ? total - at : CHUNK;
        weight_init_fill(o->chunk, init, p->wanted.options->seed, name.text, at, n, o->pool);
        s = gguf_write_data(o->writer, o->chunk, (size_t)n * sizeof *o->chunk, err);
    }
    return s;
}

static enum tlm_status write_model(struct plan *p, struct gguf_writer *w, struct tlm_error *err)
{
    const struct create_value *std = create_value(&p->wanted, "init_std");
    struct output o = {.writer = w, .std = std->given ? std->number : -1};
    enum tlm_status s = create_set_keys(&p->wanted, w, err);
    if (!s) s = hf_copy_tokenizer(w, p->tokenizer, p->wanted.vocab, err);
    if (!s) s = each_tensor(p, declare_tensor, w, err);
    if (!s && !(o.chunk = malloc(CHUNK * sizeof *o.chunk)))
        s = error_set(err, TLM_ERR_MEMORY, "no memory for %d numbers", CHUNK);
    if (!s)
        s = threads_open(&o.pool, p->wanted.options->threads ? p->wanted.options->threads : cpu_count(), err);
    if (!s) s = each_tensor(p, write_tensor, &o, err);
    if (!s) s = gguf_writer_finish(w, err);
    threads_close(o.pool);
    free(o.chunk);
    return s;
}

enum tlm_status model_create(const char *path, const struct create_options *o, struct tlm_error *err)
{
    struct plan *p;
    struct gguf_writer *w = NULL;
    enum tlm_status s = open_plan(&p, o, true, err);
    if (!s) s = gguf_writer_open(&w, path, err);
    if (!s) s = write_model(p, w, err);
    gguf_writer_close(w);
    close_plan(p);
    return s;
}

// ---- shapes alone -------------------------------------------------------------------------------------

struct shapes_output {
    struct gguf_writer *writer;
    enum dtype type;
};

static enum tlm_status declare_shape(struct plan *p, const struct weight_spec *spec, int64_t l,
                                     const struct tensor *shape, void *user, struct tlm_error *err)
{
    const struct shapes_output *o = user;
    struct tensor t = *shape;
    if (weight_is_matrix(spec))
        t = tensor_shape(mix_fitting_type(o->type, t.ne[0]), t.ne[0], t.ne[1], t.ne[2], t.ne[3]);
    return declare_tensor(p, spec, l, &t, o->writer, err);
}

static enum tlm_status make_shapes_file(struct arena *file, void *head, size_t head_bytes, size_t data_bytes,
                                        struct tlm_error *err)
{
    if (data_bytes > SIZE_MAX / 2) return error_set(err, TLM_ERR_MEMORY, "a model of %zu bytes", data_bytes);
    enum tlm_status s = arena_init(file, head_bytes + data_bytes, "a model of shapes", err);
    if (s) return s;
    memcpy(file->base, head, head_bytes);
    file->used = head_bytes + data_bytes;
    return TLM_OK;
}

enum tlm_status model_create_shapes(struct arena *file, const struct create_options *o, enum dtype type,
                                    struct tlm_error *err)
{
    struct plan *p;
    struct shapes_output out = {.type = type};
    void *head = NULL;
    size_t head_bytes, data_bytes;
    *file = (struct arena){0};
    enum tlm_status s = open_plan(&p, o, false, err);
    if (!s) s = gguf_writer_open_memory(&out.writer, p->wanted.arch->name, err);
    if (!s) s = create_set_keys(&p->wanted, out.writer, err);
    if (!s) s = each_tensor(p, declare_shape, &out, err);
    if (!s) s = gguf_writer_take_head(out.writer, &head, &head_bytes, &data_bytes, err);
    if (!s) s = make_shapes_file(file, head, head_bytes, data_bytes, err);
    gguf_writer_close(out.writer);
    close_plan(p);
    free(head);
    return s;
}
