// models/hf_export_config.c -- config.json and generation_config.json of a GGUF model, by the tables of variants.
#include <inttypes.h>

#include "core/file.h"
#include "models/hf_folder.h"

enum tlm_status hf_write_json(const char *folder, const char *name, json_t *json, struct tlm_error *err)
{
    char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL, *path = NULL;
    json_decref(json);
    if (!text || asprintf(&path, "%s/%s", folder, name) < 0) {
        free(text);
        return error_set(err, TLM_ERR_MEMORY, "%.200s/%s: no memory to write it", folder, name);
    }
    struct file_writer *file;
    enum tlm_status s = file_writer_open(&file, path, err);
    if (!s) {
        file_writer_write(file, text, strlen(text));
        file_writer_write(file, "\n", 1);
        s = file_writer_finish(file, err);
    }
    free(text);
    free(path);
    return s;
}

// A GGUF key of a table as JSON; *out stays NULL where the file lacks it.
static enum tlm_status value_of(const struct gguf *g, const char *name, enum hf_kind kind, json_t **out,
                                struct tlm_error *err)
{
    int64_t n = 0;
    double x = 0;
    bool b = false;
    enum tlm_status s = TLM_OK;
    const struct gguf_value *v = gguf_find(g, name);
    if (!v) return TLM_OK;
    if (v->type == GGUF_ARRAY) { // a number a layer, of which the model was checked to want one
        if (!v->count || !gguf_value_is_number(v))
            return error_set(err, TLM_ERR_FORMAT, "%s: expected a number, found an array", name);
        *out = kind == HF_F64 ? json_real(hf_short_number(gguf_value_f64(v, 0)))
                              : json_integer(gguf_value_i64(v, 0));
        return TLM_OK;
    }
    switch (kind) {
    case HF_I64:
        if (!(s = gguf_get_i64(g, name, &n, err))) *out = json_integer(n);
        break;
    case HF_F64:
        if (!(s = gguf_get_f64(g, name, &x, err))) *out = json_real(hf_short_number(x));
        break;
    case HF_BOOL:
        if (!(s = gguf_get_bool(g, name, &b, err))) *out = json_boolean(b);
        break;
    }
    return s;
}

// Sets config["a"]["b"] for "a.b", the first of several names, unless an earlier row of the table has.
static bool set(json_t *config, const char *path, json_t *value)
{
    size_t length = strcspn(path, "|");
    const char *dot = memchr(path, '.', length);
    size_t n = dot ? (size_t)(dot - path) : length;
    json_t *at = config;
    if (dot) {
        at = json_object_getn(config, path, n);
        if (!at && json_object_setn_new(config, path, n, at = json_object())) return false;
        path += n + 1;
        n = length - n - 1;
    }
    if (!json_object_getn(at, path, n)) return !json_object_setn(at, path, n, value);
    return true;
}

static enum tlm_status write_keys(json_t *config, const struct gguf *g, const struct arch *arch,
                                  const struct hf_variant *v, struct tlm_error *err)
{
    for (size_t i = 0; i < v->key_count; i++) {
        char name[96];
        json_t *value = NULL;
        snprintf(name, sizeof name, "%s.%s", arch->name, v->keys[i].gguf);
        enum tlm_status s = value_of(g, name, v->keys[i].kind, &value, err);
        if (s) return s;
        bool done = !value || set(config, v->keys[i].hf, value);
        json_decref(value);
        if (!done) return error_set(err, TLM_ERR_MEMORY, "config.json: no memory for it");
    }
    return TLM_OK;
}

enum tlm_status hf_export_biases(json_t *config, const char *key, const struct gguf *g,
                                 const char *const *parts, size_t count, struct tlm_error *err)
{
    size_t there = 0, absent = 0;
    char name[96];
    int64_t layers = json_integer_value(json_object_get(config, "num_hidden_layers"));
    for (int64_t l = 0; l < layers; l++) {
        for (size_t i = 0; i < count; i++) {
            snprintf(name, sizeof name, "blk.%" PRId64 ".%s.bias", l, parts[i]);
            *(gguf_find_tensor(g, name) ? &there : &absent) += 1;
        }
    }
    if (there && (absent || !key))
        return error_set(err, TLM_ERR_UNSUPPORTED, "%s.bias: %s", parts[0],
                         key ? "expected this kind of bias in all places or in none, found some"
                             : "expected no bias of this kind in this class of models, found some");
    if (key) json_object_set_new(config, key, json_boolean(there));
    return TLM_OK;
}

// The id under a key of tokenizer.ggml.*; -1: none.
static int64_t token(const struct gguf *g, const char *key)
{
    int64_t id = -1;
    if (gguf_get_i64(g, key, &id, NULL) || id < 0 || id > INT32_MAX) return -1;
    return id;
}

static void write_tokens(json_t *config, const struct gguf *g, bool all_ends)
{
    int64_t bos = token(g, "tokenizer.ggml.bos_token_id"), eos = token(g, "tokenizer.ggml.eos_token_id"),
            pad = token(g, "tokenizer.ggml.padding_token_id");
    static const char *const others[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    json_object_set_new(config, "bos_token_id", bos >= 0 ? json_integer(bos) : json_null());
    json_t *ends = eos >= 0 ? json_integer(eos) : json_null();
    for (size_t i = 0; i < 2 && all_ends && eos >= 0; i++) {
        int64_t id = token(g, others[i]);
        if (id < 0 || id == eos) continue;
        if (!json_is_array(ends)) ends = json_pack("[o]", ends);
        json_array_append_new(ends, json_integer(id));
    }
    json_object_set_new(config, "eos_token_id", ends);
    if (pad >= 0) json_object_set_new(config, "pad_token_id", json_integer(pad));
}

static enum tlm_status fill_config(json_t *config, const struct gguf *g, const struct arch *arch,
                                   const struct hf_variant *v, enum dtype type, struct tlm_error *err)
{
    const struct gguf_tensor *embed = gguf_find_tensor(g, "token_embd.weight");
    TLM_ASSERT(embed); // the model was checked
    json_object_set_new(config, "architectures", json_pack("[s]", v->class_name));
    json_object_set_new(config, "model_type", json_string(v->model_type));
    json_object_set_new(config, "vocab_size", json_integer(embed->tensor.ne[1]));
    enum tlm_status s = write_keys(config, g, arch, v, err);
    if (s) return s;
    write_tokens(config, g, false);
    json_object_set_new(config, "tie_word_embeddings", json_boolean(!gguf_find_tensor(g, "output.weight")));
    json_object_set_new(config, "torch_dtype",
                        json_string(type == DTYPE_F32   ? "float32"
                                    : type == DTYPE_F16 ? "float16"
                                                        : "bfloat16"));
    return v->export ? v->export(config, g, err) : TLM_OK;
}

enum tlm_status hf_write_config(const struct gguf *g, const struct arch *arch, const struct hf_variant *v,
                                enum dtype type, const char *folder, struct tlm_error *err)
{
    json_t *config = json_object(), *generation = json_object();
    enum tlm_status s = config && generation
                            ? fill_config(config, g, arch, v, type, err)
                            : error_set(err, TLM_ERR_MEMORY, "config.json: no memory for it");
    if (s) {
        json_decref(config);
        json_decref(generation);
        return s;
    }
    write_tokens(generation, g, true);
    s = hf_write_json(folder, "config.json", config, err);
    if (!s) return hf_write_json(folder, "generation_config.json", generation, err);
    json_decref(generation);
    return s;
}
