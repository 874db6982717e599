// models/hf.c -- opens a Hugging Face folder as a struct gguf.
#include "models/hf.h"

#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/gguf_parse.h"
#include "models/hf_folder.h"
#include "quant/composite.h"

static enum tlm_status no_memory(const char *path, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory to open it", path);
}

struct path {
    char text[4096];
};

// folder/name; false where that is longer than paths can be.
static bool join(struct path *p, const char *folder, const char *name)
{
    return (size_t)snprintf(p->text, sizeof p->text, "%s/%s", folder, name) < sizeof p->text;
}

static bool exists(const char *folder, const char *name)
{
    struct path p;
    return join(&p, folder, name) && !access(p.text, F_OK);
}

// Reads folder/name; *out stays NULL where there is no such file and that is allowed.
static enum tlm_status read_json(json_t **out, const char *folder, const char *name, bool optional,
                                 struct tlm_error *err)
{
    struct path p;
    *out = NULL;
    if (!join(&p, folder, name)) return error_set(err, TLM_ERR_IO, "%.200s: the path is too long", folder);
    if (optional && access(p.text, F_OK)) return TLM_OK;
    return json_read_file(out, p.text, err);
}

// ---- config.json --------------------------------------------------------------------------------------

// A model of several kinds of input keeps the part about text in an object of its own; what only the outer one says counts too.
static enum tlm_status take_text_config(struct hf_folder *f, struct tlm_error *err)
{
    json_t *text = json_object_get(f->config, "text_config");
    const struct arch *arch;
    const char *type = json_string_value(json_object_get(f->config, "model_type"));
    if (!json_is_object(text) || (type && hf_variant_find(type, &arch))) return TLM_OK;
    json_incref(text);
    json_object_del(f->config, "text_config");
    bool failed = json_object_update_missing(text, f->config) != 0;
    json_decref(f->config);
    f->config = text;
    f->has_other_inputs = true;
    return failed ? no_memory(f->path, err) : TLM_OK;
}

static enum tlm_status read_config(struct hf_folder *f, struct tlm_error *err)
{
    enum tlm_status s = read_json(&f->config, f->path, "config.json", false, err);
    if (!s) s = take_text_config(f, err);
    if (s) return s;
    const char *type = json_string_value(json_object_get(f->config, "model_type"));
    char shown[64];
    if (!type)
        return error_set(err, TLM_ERR_FORMAT, "%.200s/config.json: model_type: expected a string, found %s",
                         f->path, json_kind(json_object_get(f->config, "model_type")));
    f->variant = hf_variant_find(type, &f->arch);
    if (!f->variant)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "%.200s/config.json: model_type: expected one of an architecture in %s, found '%s'",
                         f->path, arch_names(),
                         gguf_printable((struct gguf_string){type, strlen(type)}, shown, sizeof shown));
    s = hf_quantization_read(&f->quantization, f->config, err);
    return s ? error_prefix(err, "%.200s/config.json", f->path) : TLM_OK;
}

// ---- metadata -----------------------------------------------------------------------------------------

static void write_general(struct hf_folder *f, struct gguf_writer *w)
{
    struct path full;
    char *absolute = realpath(f->path, NULL);
    snprintf(full.text, sizeof full.text, "%s", absolute ? absolute : f->path);
    free(absolute);
    const char *slash = strrchr(full.text, '/'), *name = slash && slash[1] ? slash + 1 : full.text;
    gguf_set_string(w, "general.architecture", f->arch->name, strlen(f->arch->name));
    gguf_set_string(w, "general.type", "model", 5);
    gguf_set_string(w, "general.name", name, strlen(name));
}

static enum tlm_status write_arch(struct hf_folder *f, struct gguf_writer *w, struct tlm_error *err)
{
    int64_t vocab = 0;
    char key[96];
    enum tlm_status s = hf_import_keys(w, f->arch->name, f->variant, f->config, err);
    if (!s && f->variant->import) s = f->variant->import(w, f->config, err);
    if (!s) s = hf_get_i64(f->config, "vocab_size", &vocab, err);
    if (s) return error_prefix(err, "%.200s/config.json", f->path);
    if (vocab > 0 && vocab <= INT32_MAX) {
        snprintf(key, sizeof key, "%s.vocab_size", f->arch->name);
        gguf_set_u32(w, key, (uint32_t)vocab);
    }
    return TLM_OK;
}

// Ends the metadata and opens it.
static enum tlm_status open_keys(struct hf_folder *f, struct gguf_writer *w, struct tlm_error *err)
{
    enum tlm_status s = gguf_writer_take(w, &f->keys_data, &f->keys_size, err);
    return s ? s : gguf_open_memory(&f->keys, f->keys_data, f->keys_size, f->path, err);
}

static enum tlm_status make_keys(struct hf_folder *f, struct tlm_error *err)
{
    struct gguf_writer *w;
    int64_t vocab = 0;
    enum tlm_status s = gguf_writer_open_memory(&w, f->path, err);
    if (s) return s;
    write_general(f, w);
    s = write_arch(f, w, err);
    (void)hf_get_i64(f->config, "vocab_size", &vocab, NULL); // checked there
    if (!s) s = hf_write_tokenizer(w, f->path, f->config, vocab, err);
    if (!s) s = open_keys(f, w, err);
    gguf_writer_close(w);
    return s;
}

// ---- a folder -----------------------------------------------------------------------------------------

static enum tlm_status open_all(struct hf_folder *f, struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = read_config(f, err)) || (s = make_keys(f, err))) return s;
    f->hparams =
        (struct hparams){.embedding_scale = 1, .residual_scale = 1, .logit_scale = 1, .experts.scale = 1};
    if ((s = f->arch->hparams(&f->hparams, f->keys, err))) return error_prefix(err, "%.200s", f->path);
    f->kernels = hf_kernels();
    if ((s = safetensors_open(&f->weights, f->path, err))) return s;
    if ((s = hf_quantized_find(&f->quantized, &f->quantization, f->weights, err)))
        return error_prefix(err, "%.200s", f->path);
    return hf_plan_tensors(f, err) ? error_prefix(err, "%.200s", f->path) : TLM_OK;
}

enum tlm_status hf_folder_open(struct hf_folder **out, const char *path, struct tlm_error *err)
{
    *out = NULL;
    struct hf_folder *f = calloc(1, sizeof *f);
    if (f) f->path = strdup(path);
    enum tlm_status s = f && f->path ? open_all(f, err) : no_memory(path, err);
    if (s)
        hf_folder_close(f);
    else
        *out = f;
    return s;
}

void hf_folder_close(struct hf_folder *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->tensor_count; i++) {
        free(f->tensors[i].sources);
        free(f->tensors[i].values);
    }
    free(f->tensors);
    gguf_close(f->keys);
    free(f->keys_data);
    hf_quantized_free(&f->quantized);
    safetensors_close(f->weights);
    json_decref(f->config);
    free(f->path);
    free(f);
}

// ---- as a struct gguf ---------------------------------------------------------------------------------

// Its files: the metadata, the tensors that were made, the mapped shards.
enum { KEYS, MADE, FIRST_SHARD };

// Where the whole tensor stands in a file as it should be; NULL where it has to be made.
static const void *mapped(const struct hf_folder *f, const struct hf_tensor *t)
{
    if (t->parts > 1 && (!t->sliced || t->half)) return NULL;
    const void *data = hf_part_mapped(f, t, 0);
    size_t bytes = (size_t)dtype_traits[t->shape.type].block_bytes; // F32, F16, BF16: also the alignment
    return data && (uintptr_t)data % bytes == 0 ? data : NULL;
}

static enum tlm_status make_tensor(const struct hf_folder *f, const struct hf_tensor *t, uint8_t *out,
                                   struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (int64_t p = 0; p < t->parts && !s; p++) {
        s = hf_make_part(f, t, p, out + (size_t)p * hf_part_bytes(t), err);
        hf_drop_part(f, t, p);
    }
    return s;
}

// The tables of `g`, and the memory that made tensors and, behind them, all names lie in. Returns where the names begin.
static char *make_tables(struct gguf *g, const struct hf_folder *f, bool all, struct tlm_error *err)
{
    size_t numbers = 0, names = 1;
    bool fits = true;
    for (size_t i = 0; i < f->tensor_count; i++) {
        const struct hf_tensor *t = &f->tensors[i];
        size_t bytes = !all || mapped(f, t) ? 0 : align_up(tensor_bytes(&t->shape), ARENA_ALIGN);
        fits &= !__builtin_add_overflow(numbers, bytes, &numbers);
        names += strlen(t->name);
    }
    size_t total = numbers + align_up(names, ARENA_ALIGN);
    g->tensors = calloc(f->tensor_count + 1, sizeof *g->tensors);
    g->files = calloc((size_t)f->weights->file_count + FIRST_SHARD, sizeof *g->files);
    if (!fits || !g->tensors || !g->files) {
        no_memory(f->path, err);
        return NULL;
    }
    g->file_count = FIRST_SHARD;
    g->files[KEYS].path = strdup(f->path);
    g->files[MADE].path = strdup(f->path);
    g->files[MADE].own = aligned_alloc(ARENA_ALIGN, total);
    if (g->files[MADE].own && g->files[KEYS].path && g->files[MADE].path)
        return (char *)g->files[MADE].own + numbers;
    error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for %.1f MiB of tensors", f->path,
              (double)total / 0x1p20);
    return NULL;
}

static enum tlm_status fill_tables(struct gguf *g, const struct hf_folder *f, bool all, char *name,
                                   struct tlm_error *err)
{
    uint8_t *at = g->files[MADE].own;
    for (size_t i = 0; i < f->tensor_count; i++) {
        const struct hf_tensor *t = &f->tensors[i];
        struct gguf_tensor *to = &g->tensors[i];
        to->tensor = t->shape;
        to->tensor.data = (void *)mapped(f, t);
        to->file = to->tensor.data ? FIRST_SHARD + t->sources[0]->file : MADE;
        if (!to->tensor.data && all) {
            enum tlm_status s = make_tensor(f, t, at, err);
            if (s) return s;
            to->tensor.data = at;
            at += align_up(tensor_bytes(&t->shape), ARENA_ALIGN);
        }
        to->name = (struct gguf_string){name, strlen(t->name)};
        memcpy(name, t->name, to->name.length);
        name += to->name.length;
    }
    g->tensor_count = f->tensor_count;
    return gguf_sort_names(&g->tensors_by_name, g->tensors, g->tensor_count, sizeof *g->tensors, "tensor",
                           err);
}

// Moves what is open from the folder to `g`.
static void move_files(struct gguf *g, struct hf_folder *f)
{
    struct gguf *keys = f->keys;
    g->version = keys->version;
    g->alignment = keys->alignment;
    g->key_count = keys->key_count;
    g->keys = keys->keys;
    g->keys_by_name = keys->keys_by_name;
    keys->keys = NULL;
    keys->keys_by_name = NULL;
    g->files[KEYS].own = f->keys_data;
    f->keys_data = NULL;
    for (int i = 0; i < f->weights->file_count; i++) {
        struct safetensors_file *file = &f->weights->files[i];
        g->files[g->file_count++] =
            (struct gguf_file){.map = file->map, .size = file->size, .path = file->path};
    }
    f->weights->file_count = 0;
}

static enum tlm_status as_gguf(struct gguf **out, struct hf_folder *f, bool all, struct tlm_error *err)
{
    struct gguf *g = calloc(1, sizeof *g);
    if (!g) return no_memory(f->path, err);
    char *names = make_tables(g, f, all, err);
    enum tlm_status s = names ? fill_tables(g, f, all, names, err) : TLM_ERR_MEMORY;
    if (s) {
        gguf_close(g);
        return s;
    }
    move_files(g, f);
    *out = g;
    return TLM_OK;
}

static enum tlm_status open_vocabulary(struct gguf **out, const char *folder, struct tlm_error *err)
{
    struct hf_folder f = {.path = (char *)folder};
    struct gguf_writer *w;
    *out = NULL;
    enum tlm_status s = read_json(&f.config, folder, "config.json", true, err);
    if (!s) s = gguf_writer_open_memory(&w, folder, err);
    if (!s) {
        s = hf_write_tokenizer(w, folder, f.config, 0, err);
        if (!s && !exists(folder, "tokenizer.json") && !exists(folder, "tokenizer.model"))
            s = error_set(err, TLM_ERR_IO,
                          "%.200s: expected tokenizer.json or tokenizer.model, found neither", folder);
        if (!s) s = open_keys(&f, w, err);
        gguf_writer_close(w);
    }
    if (!s) {
        f.keys->files[0].own = f.keys_data;
        *out = f.keys;
    } else {
        gguf_close(f.keys);
        free(f.keys_data);
    }
    json_decref(f.config);
    return s;
}

enum tlm_status hf_open(struct gguf **out, const char *folder, enum model_part part, struct tlm_error *err)
{
    struct hf_folder *f;
    *out = NULL;
    if (part == MODEL_VOCABULARY) return open_vocabulary(out, folder, err);
    enum tlm_status s = hf_folder_open(&f, folder, err);
    if (s) return s;
    s = as_gguf(out, f, part == MODEL_ALL, err);
    hf_folder_close(f);
    return s;
}

enum tlm_status model_file_open(struct gguf **out, const char *path, enum model_part part,
                                struct tlm_error *err)
{
    struct stat st;
    if (!stat(path, &st) && S_ISDIR(st.st_mode)) return hf_open(out, path, part, err);
    enum tlm_status s = gguf_open(out, path, err);
    if (s || !(s = composite_assemble(*out, err))) return s;
    gguf_close(*out);
    *out = NULL;
    return error_prefix(err, "%.200s", path);
}
