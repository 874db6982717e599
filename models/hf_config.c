// models/hf_config.c -- config.json and the tokenizer's files to GGUF's keys: what the tables of variants say.
#include <inttypes.h>
#include <math.h>
#include <unistd.h>

#include "core/json.h"
#include "models/hf_folder.h"
#include "text/vocabulary.h"

const struct hf_variant *hf_variant_find(const char *model_type, const struct arch **arch)
{
    for (size_t i = 0; (*arch = arch_at(i)); i++)
        for (size_t j = 0; j < (*arch)->variant_count; j++)
            if (!strcmp((*arch)->variants[j].model_type, model_type)) return &(*arch)->variants[j];
    return NULL;
}

// ---- typed reading ------------------------------------------------------------------------------------

// The value of "a.b", or of the first of "a|b" that is there; NULL for absent and for null.
static const json_t *find(const json_t *config, const char *key)
{
    for (const char *at = key; at;) {
        const char *next = strchr(at, '|');
        size_t left = next ? (size_t)(next - at) : strlen(at);
        const json_t *value = config;
        for (const char *part = at; value && left;) {
            const char *dot = memchr(part, '.', left);
            size_t n = dot ? (size_t)(dot - part) : left;
            value = json_object_getn(value, part, n);
            left -= dot ? n + 1 : n;
            part += n + 1;
        }
        if (value && !json_is_null(value)) return value;
        at = next ? next + 1 : NULL;
    }
    return NULL;
}

static enum tlm_status wrong(const char *key, const char *expected, const json_t *found,
                             struct tlm_error *err)
{
    return error_set(err, TLM_ERR_FORMAT, "%s: expected %s, found %s", key, expected, json_kind(found));
}

static enum tlm_status to_i64(const json_t *value, const char *key, int64_t *out, struct tlm_error *err)
{
    double x = json_real_value(value);
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return TLM_OK;
    }
    if (!json_is_real(value) || x != floor(x) || fabs(x) > 0x1p53)
        return wrong(key, "a whole number", value, err);
    *out = (int64_t)x;
    return TLM_OK;
}

enum tlm_status hf_get_i64(const json_t *config, const char *key, int64_t *out, struct tlm_error *err)
{
    const json_t *value = find(config, key);
    return value ? to_i64(value, key, out, err) : TLM_OK;
}

enum tlm_status hf_get_f64(const json_t *config, const char *key, double *out, struct tlm_error *err)
{
    const json_t *value = find(config, key);
    if (!value) return TLM_OK;
    if (!json_is_number(value)) return wrong(key, "a number", value, err);
    *out = json_number_value(value);
    return TLM_OK;
}

enum tlm_status hf_get_bool(const json_t *config, const char *key, bool *out, struct tlm_error *err)
{
    const json_t *value = find(config, key);
    if (!value) return TLM_OK;
    if (!json_is_boolean(value)) return wrong(key, "true or false", value, err);
    *out = json_is_true(value);
    return TLM_OK;
}

enum tlm_status hf_expect(const json_t *config, const char *key, const char *expected, struct tlm_error *err)
{
    const json_t *value = find(config, key);
    if (!value) return TLM_OK;
    json_t *wanted = json_loads(expected, JSON_DECODE_ANY, NULL);
    TLM_ASSERT(wanted);
    bool same = json_equal(wanted, value) || (json_is_number(wanted) && json_is_number(value) &&
                                              json_number_value(wanted) == json_number_value(value));
    json_decref(wanted);
    if (same) return TLM_OK;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT), shown[64];
    gguf_printable((struct gguf_string){text ? text : "", text ? strlen(text) : 0}, shown, sizeof shown);
    free(text);
    return error_set(err, TLM_ERR_UNSUPPORTED, "%s: expected %s, found %s", key, expected, shown);
}

// ---- the table of keys --------------------------------------------------------------------------------

static enum tlm_status import_value(struct gguf_writer *w, const char *name, const struct hf_key *key,
                                    const json_t *value, struct tlm_error *err)
{
    int64_t n;
    enum tlm_status s;
    switch (key->kind) {
    case HF_I64:
        if ((s = to_i64(value, key->hf, &n, err))) return s;
        if (n < 0 || n > UINT32_MAX)
            return error_set(err, TLM_ERR_FORMAT, "%s: expected 0 to 2^32 - 1, found %" PRId64, key->hf, n);
        gguf_set_u32(w, name, (uint32_t)n);
        return TLM_OK;
    case HF_F64:
        if (!json_is_number(value)) return wrong(key->hf, "a number", value, err);
        gguf_set_f32(w, name, (float)json_number_value(value));
        return TLM_OK;
    case HF_BOOL:
        if (!json_is_boolean(value)) return wrong(key->hf, "true or false", value, err);
        gguf_set_bool(w, name, json_is_true(value));
        return TLM_OK;
    }
    return TLM_OK;
}

enum tlm_status hf_import_keys(struct gguf_writer *w, const char *arch, const struct hf_variant *v,
                               const json_t *config, struct tlm_error *err)
{
    for (size_t i = 0; i < v->key_count; i++) {
        const struct hf_key *key = &v->keys[i];
        const json_t *value = find(config, key->hf);
        json_t *fallback = !value && key->fallback ? json_loads(key->fallback, JSON_DECODE_ANY, NULL) : NULL;
        char name[96];
        TLM_ASSERT(value || !key->fallback || fallback);
        if (!value) value = fallback;
        snprintf(name, sizeof name, "%s.%s", arch, key->gguf);
        enum tlm_status s = value ? import_value(w, name, key, value, err) : TLM_OK;
        json_decref(fallback);
        if (s) return s;
    }
    return TLM_OK;
}

double hf_short_number(double x)
{
    char text[40];
    for (int digits = 6; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if ((float)strtod(text, NULL) == (float)x) return strtod(text, NULL);
    }
    return (float)x;
}

// ---- the tokenizer ------------------------------------------------------------------------------------

// A list of tokens up to the rows of the embedding: names that no text has, of no use, as other engines expect them.
static enum tlm_status pad_tokens(struct gguf_writer *w, const struct tokenizer *t, int64_t count,
                                  struct tlm_error *err)
{
    const int64_t have = tokenizer_size(t);
    struct gguf_string *texts = calloc((size_t)count, sizeof *texts);
    char(*names)[24] = calloc((size_t)(count - have), sizeof *names);
    enum tlm_status s = TLM_OK;
    if (!texts || !names)
        s = error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %" PRId64 " tokens", count);
    for (int64_t i = 0; i < have && !s; i++) texts[i] = tokenizer_token(t, (int32_t)i);
    for (int64_t i = have; i < count && !s; i++) {
        int n = snprintf(names[i - have], sizeof *names, "[PAD%" PRId64 "]", i);
        texts[i] = (struct gguf_string){names[i - have], (uint64_t)n};
    }
    if (!s) gguf_set_string_array(w, "tokenizer.ggml.tokens", texts, (uint64_t)count);
    free(texts);
    free(names);
    return s;
}

// Other tables have a number a token.
static enum tlm_status pad_numbers(struct gguf_writer *w, const struct gguf *keys, const char *key,
                                   int64_t count, double fill, struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(keys, key);
    if (!v || v->type != GGUF_ARRAY || (int64_t)v->count >= count) return TLM_OK;
    size_t bytes = gguf_type_traits[v->item].bytes;
    uint8_t *items = calloc((size_t)count, bytes);
    if (!items) return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %" PRId64 " tokens", count);
    memcpy(items, v->data, (size_t)v->count * bytes);
    float single = (float)fill;
    int32_t whole = (int32_t)fill;
    for (int64_t i = (int64_t)v->count; i < count; i++) {
        uint8_t *item = items + (size_t)i * bytes;
        if (v->item == GGUF_F32) memcpy(item, &single, sizeof single);
        if (v->item == GGUF_F64) memcpy(item, &fill, sizeof fill);
        if (v->item == GGUF_I32) memcpy(item, &whole, sizeof whole);
    }
    gguf_set_array(w, key, v->item, items, (uint64_t)count);
    free(items);
    return TLM_OK;
}

// Tokens that end an answer by generation_config.json or config.json, one or a list. The first that the tokenizer does not know
// becomes its end of sequence if it has none, the next two end of turn and end of message.
static void write_ends(struct gguf_writer *w, const struct tokenizer *t, const json_t *value)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    size_t used = tokenizer_eos(t) >= 0;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count && used < sizeof keys / sizeof *keys; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= tokenizer_size(t)) continue;
        bool known = used > 0 && tokenizer_is_end(t, (int32_t)id);
        if (!known) gguf_set_u32(w, keys[used++], (uint32_t)id);
    }
}

static enum tlm_status read_beside(json_t **out, const char *folder, const char *name, struct tlm_error *err)
{
    char *path;
    *out = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for its name", folder);
    enum tlm_status s = access(path, F_OK) ? TLM_OK : json_read_file(out, path, err);
    free(path);
    return s;
}

// Models of several kinds of input have their template in a file of this name.
static enum tlm_status write_template(struct gguf_writer *w, const struct tokenizer *t, const char *folder,
                                      struct tlm_error *err)
{
    json_t *file;
    if (gguf_find(tokenizer_keys(t), "tokenizer.chat_template")) return TLM_OK;
    enum tlm_status s = read_beside(&file, folder, "chat_template.json", err);
    const json_t *text = json_object_get(file, "chat_template");
    if (json_is_string(text))
        gguf_set_string(w, "tokenizer.chat_template", json_string_value(text), json_string_length(text));
    json_decref(file);
    return s;
}

static enum tlm_status pad_tables(struct gguf_writer *w, const struct tokenizer *t, int64_t vocab,
                                  struct tlm_error *err)
{
    static const struct {
        const char *key;
        double fill;
    } tables[] = {{"tokenizer.ggml.token_type", TOKEN_UNUSED},
                  {"tokenizer.ggml.scores", -1000},
                  {VOCABULARY_KEY_SCORES, -1000},
                  {VOCABULARY_KEY_STRIP, 0}};
    if (vocab <= tokenizer_size(t)) return TLM_OK;
    enum tlm_status s = pad_tokens(w, t, vocab, err);
    for (size_t i = 0; i < sizeof tables / sizeof *tables && !s; i++)
        s = pad_numbers(w, tokenizer_keys(t), tables[i].key, vocab, tables[i].fill, err);
    return s;
}

enum tlm_status hf_copy_tokenizer(struct gguf_writer *w, const struct tokenizer *t, int64_t vocab,
                                  struct tlm_error *err)
{
    tokenizer_write_gguf(t, w);
    return pad_tables(w, t, vocab, err);
}

static enum tlm_status write_tokenizer(struct gguf_writer *w, const struct tokenizer *t, const char *folder,
                                       const json_t *config, int64_t vocab, struct tlm_error *err)
{
    json_t *generation;
    enum tlm_status s = read_beside(&generation, folder, "generation_config.json", err);
    if (s) return s;
    tokenizer_write_gguf(t, w);
    const json_t *ends = find(generation, "eos_token_id");
    write_ends(w, t, ends ? ends : find(config, "eos_token_id"));
    json_decref(generation);
    s = write_template(w, t, folder, err);
    return s ? s : pad_tables(w, t, vocab, err);
}

// What config.json alone says of special tokens.
static enum tlm_status write_ids(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    static const char *const names[][2] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                           {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                           {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t id = -1;
        if (json_is_array(json_object_get(config, names[i][0]))) continue; // of ends there may be a list
        enum tlm_status s = hf_get_i64(config, names[i][0], &id, err);
        if (s) return s;
        if (id >= 0 && id <= INT32_MAX) gguf_set_u32(w, names[i][1], (uint32_t)id);
    }
    return TLM_OK;
}

enum tlm_status hf_write_tokenizer(struct gguf_writer *w, const char *folder, const json_t *config,
                                   int64_t vocab, struct tlm_error *err)
{
    enum { PADDED_MAX = 1 << 24 };
    struct tokenizer *t = NULL;
    char *json = NULL, *model = NULL;
    if (asprintf(&json, "%s/tokenizer.json", folder) < 0 ||
        asprintf(&model, "%s/tokenizer.model", folder) < 0) {
        free(json);
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for its name", folder);
    }
    bool none = access(json, F_OK) && access(model, F_OK);
    free(json);
    free(model);
    if (none) return write_ids(w, config, err); // weights alone
    if (vocab < 0 || vocab > PADDED_MAX)
        return error_set(err, TLM_ERR_FORMAT,
                         "%.200s/config.json: vocab_size: expected 0 to %d, found %" PRId64, folder,
                         PADDED_MAX, vocab);
    enum tlm_status s = tokenizer_open_folder(&t, folder, err);
    if (s) return s;
    s = write_tokenizer(w, t, folder, config, vocab, err);
    tokenizer_close(t);
    return s;
}
