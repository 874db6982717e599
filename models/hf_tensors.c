// models/hf_tensors.c -- which tensors of a folder become which tensors of GGUF, by the weight table.
//
// The same model is saved under names with different prefixes ("model.", "language_model.model.", none), so names are
// compared without them. Every tensor of the folder has to be named by the table, else its numbers would be left out of the
// sums without a word; a few are known to be no weights.
#include <inttypes.h>

#include "core/gguf_show.h"
#include "models/hf_folder.h"

// ---- names --------------------------------------------------------------------------------------------

struct entry {
    char *key; // the name without prefixes
    const struct safetensors_tensor *tensor;
    bool used;
};

struct index {
    struct entry *entries; // sorted by key
    size_t count;
};

static bool starts(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), tail = strlen(with);
    return n >= tail && !strcmp(text + n - tail, with);
}

static const char *without_prefixes(const char *name)
{
    static const char *const prefixes[] = {"model.", "transformer.", "language_model.", "gpt_neox."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (starts(name, prefixes[i])) return without_prefixes(name + strlen(prefixes[i]));
    return name;
}

// Mixtral's name for what is "mlp" elsewhere; transformers 5 has both.
static void rename_experts(char *key)
{
    static const char from[] = ".block_sparse_moe.", to[] = ".mlp.";
    char *at = strstr(key, from);
    if (!at) return;
    memcpy(at, to, sizeof to - 1);
    memmove(at + sizeof to - 1, at + sizeof from - 1, strlen(at + sizeof from - 1) + 1);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static void index_free(struct index *x)
{
    for (size_t i = 0; i < x->count; i++) free(x->entries[i].key);
    free(x->entries);
}

static enum tlm_status index_add(struct index *x, const struct safetensors_tensor *t, struct tlm_error *err)
{
    char *key = strdup(without_prefixes(t->name));
    if (!key) return error_set(err, TLM_ERR_MEMORY, "no memory for the names of tensors");
    rename_experts(key);
    x->entries[x->count++] = (struct entry){.key = key, .tensor = t};
    return TLM_OK;
}

// Matrices that are quantized stand for what they are made of.
static enum tlm_status index_make(struct index *x, const struct safetensors *s,
                                  const struct hf_quantized_set *quantized, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    *x = (struct index){.entries = calloc(s->count + quantized->count + 1, sizeof *x->entries)};
    if (!x->entries)
        return error_set(err, TLM_ERR_MEMORY, "no memory for the names of %zu tensors", s->count);
    for (size_t i = 0; i < s->count && !status; i++)
        if (!quantized->is_part || !quantized->is_part[i]) status = index_add(x, &s->tensors[i], err);
    for (size_t i = 0; i < quantized->count && !status; i++)
        status = index_add(x, &quantized->items[i].matrix, err);
    if (status) return status;
    qsort(x->entries, x->count, sizeof *x->entries, compare_keys);
    for (size_t i = 1; i < x->count; i++)
        if (!compare_keys(&x->entries[i - 1], &x->entries[i]))
            return error_set(err, TLM_ERR_FORMAT, "tensors '%s' and '%s': expected one of them, found both",
                             gguf_show_text(x->entries[i - 1].tensor->name).text,
                             gguf_show_text(x->entries[i].tensor->name).text);
    return TLM_OK;
}

void hf_expand_name(char *out, size_t size, const char *pattern, int64_t layer, int64_t expert)
{
    const char *hole = strstr(pattern, "%d"), *second = hole ? strstr(hole + 2, "%d") : NULL;
    if (!hole)
        snprintf(out, size, "%s", pattern);
    else if (!second)
        snprintf(out, size, "%.*s%" PRId64 "%s", (int)(hole - pattern), pattern, layer, hole + 2);
    else
        snprintf(out, size, "%.*s%" PRId64 "%.*s%" PRId64 "%s", (int)(hole - pattern), pattern, layer,
                 (int)(second - hole - 2), hole + 2, expert, second + 2);
}

struct name {
    char text[192];
};

static struct name expand(const char *pattern, int64_t layer, int64_t expert)
{
    struct name name;
    hf_expand_name(name.text, sizeof name.text, pattern, layer, expert);
    return name;
}

static const struct safetensors_tensor *find(struct index *x, const struct name *name)
{
    struct name key;
    snprintf(key.text, sizeof key.text, "%s", without_prefixes(name->text));
    rename_experts(key.text);
    struct entry wanted = {.key = key.text};
    struct entry *found =
        x->count ? bsearch(&wanted, x->entries, x->count, sizeof wanted, compare_keys) : NULL;
    if (!found) return NULL;
    found->used = true;
    return found->tensor;
}

// Buffers that older versions of transformers saved along, and what a model has for other kinds of input.
static bool is_no_weight(const struct hf_folder *f, const char *key)
{
    static const char *const buffers[] = {".rotary_emb.inv_freq", ".attn.bias", ".masked_bias",
                                          ".attention.bias", ".attn.rotary_emb.inv_freq"};
    static const char *const others[] = {"vision_tower.", "vision_model.", "multi_modal_projector.",
                                         "visual.",       "audio_tower.",  "embed_vision."};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (ends(key, buffers[i])) return true;
    for (size_t i = 0; i < sizeof others / sizeof *others && f->has_other_inputs; i++)
        if (starts(key, others[i])) return true;
    return false;
}

static enum tlm_status find_stranger(const struct hf_folder *f, const struct index *x, struct tlm_error *err)
{
    for (size_t i = 0; i < x->count; i++) {
        const struct entry *e = &x->entries[i];
        if (!e->used && !is_no_weight(f, e->key))
            return error_set(err, TLM_ERR_UNSUPPORTED,
                             "tensor '%s': not one that %s with %" PRId64 " layers has",
                             gguf_show_text(e->tensor->name).text, f->variant->class_name, f->hparams.layers);
    }
    return TLM_OK;
}

// ---- the plan -----------------------------------------------------------------------------------------

static enum tlm_status no_memory(const struct hf_folder *f, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for its tensors", f->path);
}

bool hf_is_single(const struct hf_tensor *t)
{
    if (t->shape.ne[1] * t->shape.ne[2] == 1 || !t->spec) return true;
    enum role role = t->spec->role;
    return role == ROLE_NORM || role == ROLE_BIAS || role == ROLE_TABLE || role == ROLE_ROUTER;
}

// The type of GGUF that holds all of a quantized tensor as it is, where the order of its rows alone changes; -1: none.
static int grid_of(const struct hf_folder *f, const struct hf_tensor *t)
{
    enum transform how = t->spec->transform;
    bool rows = how == TRANSFORM_NONE || how == TRANSFORM_ROPE_Q || how == TRANSFORM_ROPE_K ||
                how == TRANSFORM_QKV_BY_HEAD;
    int grid = -1;
    for (int64_t i = 0; i < t->parts && rows && !t->sliced; i++) {
        const struct hf_quantized *q = hf_quantized_of(&f->quantized, t->sources[i]);
        if (!q || (i && q->grid != grid)) return -1;
        grid = q->grid;
    }
    return grid;
}

static enum tlm_status choose_type(const struct hf_folder *f, struct hf_tensor *t,
                                   const struct safetensors_tensor *source, enum dtype *type,
                                   struct tlm_error *err)
{
    if (t->spec->transform == TRANSFORM_TRANSPOSE && hf_quantized_of(&f->quantized, source))
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "tensor '%s': expected numbers, as it has inputs for rows, found it quantized",
                         gguf_show_text(source->name).text);
    switch (source->type) {
    case SAFETENSORS_F32:
    case SAFETENSORS_F64: *type = DTYPE_F32; break;
    case SAFETENSORS_F16: *type = DTYPE_F16; break;
    case SAFETENSORS_BF16:
    case SAFETENSORS_F8_E4M3: *type = DTYPE_BF16; break; // which holds all of it
    default:
        return error_set(
            err, TLM_ERR_UNSUPPORTED,
            "tensor '%s': expected type F32, F16, BF16 or F8_E4M3, found %s (a quantized model?)",
            gguf_show_text(source->name).text, safetensors_types[source->type].name);
    }
    if (grid_of(f, t) >= 0) *type = (enum dtype)grid_of(f, t);
    if (hf_is_single(t)) *type = DTYPE_F32;
    return TLM_OK;
}

enum tlm_status hf_check_shape(const struct hparams *h, const struct weight_spec *spec, const char *name,
                               const struct tensor *t, struct tlm_error *err)
{
    const enum dim dims[] = {spec->cols, spec->rows, spec->depth};
    for (int i = 0; i < 3; i++) {
        int64_t expected = hparams_dim(h, dims[i]);
        if (t->ne[i] != expected)
            return error_set(err, TLM_ERR_FORMAT,
                             "tensor '%.100s': side %d: expected %" PRId64 ", found %" PRId64, name, i,
                             expected, t->ne[i]);
    }
    return TLM_OK;
}

// The shape of t->sources[0], or of one slice of it, in GGUF; t->parts of them make a stack.
static enum tlm_status shape_tensor(const struct hf_folder *f, struct hf_tensor *t, struct tlm_error *err)
{
    const struct safetensors_tensor *source = t->sources[0];
    int64_t ne[TENSOR_MAX_DIMS], shape[SAFETENSORS_MAX_DIMS];
    memcpy(shape, source->shape, sizeof shape);
    enum transform transform = t->spec->transform;
    bool fused = t->sliced && transform == TRANSFORM_NONE;
    if (fused && t->half) shape[1] /= 2; // checked to be even
    enum tlm_status s = hf_transform_shape(transform, &f->hparams, gguf_show_text(source->name).text,
                                           source->dims, shape, ne, err);
    if (s) return s;
    if (!t->sliced && t->parts > 1) {
        if (source->dims != 2)
            return error_set(err, TLM_ERR_FORMAT, "tensor '%s': expected a matrix, found %d sides",
                             gguf_show_text(source->name).text, source->dims);
        ne[2] = t->parts;
    }
    t->shape = tensor_shape(DTYPE_F32, ne[0], ne[1], ne[2], ne[3]);
    enum dtype type = DTYPE_F32;
    if ((s = choose_type(f, t, source, &type, err))) return s;
    t->shape = tensor_shape(type, ne[0], ne[1], ne[2], ne[3]);
    return TLM_OK;
}

static enum tlm_status same_shapes(const struct hf_tensor *t, struct tlm_error *err)
{
    const struct safetensors_tensor *first = t->sources[0];
    for (int64_t i = 1; i < t->parts; i++) {
        const struct safetensors_tensor *other = t->sources[i];
        if (other->type != first->type || other->dims != first->dims ||
            memcmp(other->shape, first->shape, (size_t)first->dims * sizeof *first->shape) != 0)
            return error_set(err, TLM_ERR_FORMAT,
                             "tensor '%s': expected type and shape of '%s', found others",
                             gguf_show_text(other->name).text, gguf_show_text(first->name).text);
    }
    return TLM_OK;
}

static enum tlm_status find_experts(struct index *x, struct hf_tensor *t, int64_t layer, int64_t count,
                                    struct tlm_error *err)
{
    if (count < 1 || (size_t)count > x->count)
        return error_set(err, TLM_ERR_FORMAT, "expected tensors of %" PRId64 " experts, found %zu in all",
                         count, x->count);
    t->sources = malloc((size_t)count * sizeof *t->sources);
    if (!t->sources) return error_set(err, TLM_ERR_MEMORY, "no memory for %" PRId64 " experts", count);
    t->parts = count;
    for (int64_t e = 0; e < count; e++) {
        struct name name = expand(t->spec->hf, layer, e);
        t->sources[e] = find(x, &name);
        if (!t->sources[e])
            return error_set(err, TLM_ERR_FORMAT, "tensor '%s': the folder lacks it", name.text);
    }
    return same_shapes(t, err);
}

static enum tlm_status set_source(struct hf_tensor *t, const struct safetensors_tensor *source,
                                  struct tlm_error *err)
{
    t->sources = malloc(sizeof *t->sources);
    if (!t->sources) return error_set(err, TLM_ERR_MEMORY, "no memory for tensor '%s'", t->name);
    t->sources[0] = source;
    t->parts = 1;
    return TLM_OK;
}

// Of experts that transformers saved as it computes with them: experts.gate_up_proj (E, 2 F, D), experts.down_proj (E, D, F).
static enum tlm_status find_fused(struct index *x, struct hf_tensor *t, int64_t layer, struct tlm_error *err)
{
    static const struct {
        const char *single, *fused;
        int half;
    } names[] = {{"experts.%d.gate_proj.weight", "experts.gate_up_proj", 1},
                 {"experts.%d.up_proj.weight", "experts.gate_up_proj", 2},
                 {"experts.%d.down_proj.weight", "experts.down_proj", 0},
                 {"experts.%d.w1.weight", "experts.gate_up_proj", 1},
                 {"experts.%d.w3.weight", "experts.gate_up_proj", 2},
                 {"experts.%d.w2.weight", "experts.down_proj", 0}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!ends(t->spec->hf, names[i].single)) continue;
        char pattern[160];
        snprintf(pattern, sizeof pattern, "%.*s%s", (int)(strlen(t->spec->hf) - strlen(names[i].single)),
                 t->spec->hf, names[i].fused);
        struct name name = expand(pattern, layer, 0);
        const struct safetensors_tensor *source = find(x, &name);
        if (!source) return TLM_OK;
        if (source->dims != 3 || (names[i].half && source->shape[1] % 2))
            return error_set(err, TLM_ERR_FORMAT, "tensor '%s': expected experts x outputs x inputs",
                             gguf_show_text(source->name).text);
        enum tlm_status s = set_source(t, source, err);
        t->parts = source->shape[0];
        t->sliced = true;
        t->half = names[i].half;
        return s;
    }
    return TLM_OK;
}

// gpt-oss: numbers (E, in, out), or name_blocks (E, out, in / 32, 16) with name_scales (E, out, in / 32).
static enum tlm_status find_mxfp4(struct index *x, struct hf_tensor *t, const struct name *base, bool *found,
                                  struct tlm_error *err)
{
    struct name blocks_name, scales_name;
    snprintf(blocks_name.text, sizeof blocks_name.text, "%.180s_blocks", base->text);
    snprintf(scales_name.text, sizeof scales_name.text, "%.180s_scales", base->text);
    const struct safetensors_tensor *b = find(x, &blocks_name), *s = find(x, &scales_name);
    *found = b && s;
    if (!*found) return TLM_OK;
    bool two = t->spec->transform != TRANSFORM_EXPERT_PLAIN;
    if (b->type != SAFETENSORS_U8 || s->type != SAFETENSORS_U8 || b->dims != 4 || s->dims != 3 ||
        memcmp(b->shape, s->shape, 3 * sizeof *s->shape) != 0 || b->shape[3] != 16 ||
        (two && b->shape[1] % 2) || b->bytes == 0)
        return error_set(
            err, TLM_ERR_FORMAT,
            "tensor '%s': expected bytes of experts x outputs x blocks x 16 beside a scale a block",
            gguf_show_text(b->name).text);
    enum tlm_status status = set_source(t, b, err);
    t->parts = b->shape[0];
    t->sliced = true;
    t->scales = s;
    t->shape =
        tensor_shape(DTYPE_MXFP4, 32 * b->shape[2], two ? b->shape[1] / 2 : b->shape[1], b->shape[0], 1);
    return status;
}

static enum tlm_status find_sources(struct hf_folder *f, struct index *x, struct hf_tensor *t, int64_t layer,
                                    struct tlm_error *err)
{
    struct name name = expand(t->spec->hf, layer, 0);
    const struct safetensors_tensor *source = find(x, &name);
    const char *hole = strstr(t->spec->hf, "%d");
    bool each = hole && strstr(hole + 2, "%d"), found = false;
    enum tlm_status s = TLM_OK;
    if (each && source)
        s = find_experts(x, t, layer, f->hparams.experts.count, err);
    else if (each)
        s = find_fused(x, t, layer, err);
    else if (source)
        s = set_source(t, source, err);
    else if (hf_is_experts(t->spec->transform))
        s = find_mxfp4(x, t, &name, &found, err);
    if (s || !t->sources) return s;
    if (found) return hf_check_shape(&f->hparams, t->spec, t->sources[0]->name, &t->shape, err);
    if (!each && hf_is_experts(t->spec->transform) && source->dims == 3) {
        t->sliced = true;
        t->parts = source->shape[0];
    }
    if ((s = shape_tensor(f, t, err))) return s;
    if (t->spec->rows == DIM_VOCAB && !f->hparams.vocab)
        f->hparams.vocab = t->shape.ne[1]; // of the embedding
    return hf_check_shape(&f->hparams, t->spec, gguf_show_text(t->sources[0]->name).text, &t->shape, err);
}

static struct hf_tensor *new_tensor(struct hf_folder *f)
{
    struct hf_tensor *grown = realloc(f->tensors, (f->tensor_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    f->tensors = grown;
    grown[f->tensor_count] = (struct hf_tensor){0};
    return &grown[f->tensor_count++];
}

static enum tlm_status plan_tensor(struct hf_folder *f, struct index *x, const struct weight_spec *spec,
                                   int64_t layer, struct tlm_error *err)
{
    struct hf_tensor *t = new_tensor(f);
    if (!t) return no_memory(f, err);
    t->spec = spec;
    hf_expand_name(t->name, sizeof t->name, spec->gguf, layer, 0);
    enum tlm_status s = find_sources(f, x, t, layer, err);
    if (s || t->sources) return s;
    f->tensor_count--; // nothing was taken for it
    if (spec->optional) return TLM_OK;
    return error_set(err, TLM_ERR_FORMAT, "tensor '%s': the folder lacks it",
                     expand(spec->hf, layer, 0).text);
}

// The output matrix is the embedding where config.json says so, even if a copy of it was saved.
static enum tlm_status plan_output(struct hf_folder *f, struct index *x, const struct weight_spec *spec,
                                   struct tlm_error *err)
{
    bool tied = false;
    const bool said = json_is_boolean(json_object_get(f->config, "tie_word_embeddings"));
    enum tlm_status s = hf_get_bool(f->config, "tie_word_embeddings", &tied, err);
    if (s) return s;
    struct name name = expand(spec->hf, 0, 0);
    const struct safetensors_tensor *source = find(x, &name);
    if (tied) return TLM_OK;
    if (!source && said)
        return error_set(err, TLM_ERR_FORMAT,
                         "tensor '%s': the folder lacks it, and tie_word_embeddings is false", name.text);
    return plan_tensor(f, x, spec, 0, err);
}

static enum tlm_status plan_table(struct hf_folder *f, int table, struct tlm_error *err)
{
    int64_t pairs = f->hparams.rope.pairs;
    bool found = false;
    if (pairs < 1) return TLM_OK;
    float *values = malloc((size_t)pairs * sizeof *values);
    if (!values) return no_memory(f, err);
    enum tlm_status s = hf_rope_table(f->config, table, pairs, values, &found, err);
    struct hf_tensor *t = !s && found ? new_tensor(f) : NULL;
    if (!t) {
        free(values);
        return !s && found ? no_memory(f, err) : s;
    }
    snprintf(t->name, sizeof t->name, "%s", hf_rope_tables[table]);
    t->shape = tensor_shape(DTYPE_F32, pairs, 1, 1, 1);
    t->values = values;
    t->parts = 1;
    return TLM_OK;
}

enum tlm_status hf_plan_tensors(struct hf_folder *f, struct tlm_error *err)
{
    struct index x;
    enum tlm_status s = index_make(&x, f->weights, &f->quantized, err);
    for (int i = 0; i < HF_ROPE_TABLES && !s; i++) s = plan_table(f, i, err);
    for (size_t i = 0; i < f->arch->weight_count && !s; i++) {
        const struct weight_spec *spec = &f->arch->weights[i];
        int64_t copies = strstr(spec->gguf, "%d") ? f->hparams.layers : 1;
        if (!spec->hf) continue;
        if (!strcmp(spec->gguf, "output.weight")) {
            s = plan_output(f, &x, spec, err);
            continue;
        }
        for (int64_t l = 0; l < copies && !s; l++) s = plan_tensor(f, &x, spec, l, err);
    }
    if (!s) s = find_stranger(f, &x, err);
    index_free(&x);
    return s;
}
