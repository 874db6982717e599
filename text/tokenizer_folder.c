// text/tokenizer_folder.c -- opens the tokenizer of a Hugging Face folder by making its files into GGUF keys.
#include "text/tokenizer_folder.h"

#include <string.h>

#include "core/file.h"
#include "text/json_text.h"
#include "text/tokenizer_internal.h"

// ---- the list of tokens -------------------------------------------------------------------------------

void folder_tokens_init(struct folder_tokens *t)
{
    *t = (struct folder_tokens){
        .bos = -1, .eos = -1, .unknown = -1, .padding = -1, .adds_bos = -1, .adds_eos = -1};
}

void folder_tokens_free(struct folder_tokens *t)
{
    free(t->texts);
    free(t->scores);
    free(t->types);
    free(t->strips);
}

static bool grow(struct folder_tokens *t, int64_t room)
{
    struct gguf_string *texts = realloc(t->texts, (size_t)room * sizeof *texts);
    if (texts) t->texts = texts;
    double *scores = realloc(t->scores, (size_t)room * sizeof *scores);
    if (scores) t->scores = scores;
    int32_t *types = realloc(t->types, (size_t)room * sizeof *types);
    if (types) t->types = types;
    uint8_t *strips = realloc(t->strips, (size_t)room);
    if (strips) t->strips = strips;
    if (!texts || !scores || !types || !strips) return false;
    t->room = room;
    return true;
}

enum tlm_status folder_tokens_set(struct folder_tokens *t, int64_t id, const char *text, size_t length,
                                  int32_t type, double score, struct tlm_error *err)
{
    enum { MAX_TOKENS = 1 << 24 };
    char shown[48];
    if (id < 0 || id >= MAX_TOKENS)
        return error_set(err, TLM_ERR_FORMAT, "token \"%s\": expected an id of 0 to %d, found %lld",
                         gguf_printable((struct gguf_string){text, length}, shown, sizeof shown),
                         MAX_TOKENS - 1, (long long)id);
    if (length > TOKEN_MAX_BYTES)
        return error_set(err, TLM_ERR_FORMAT, "token %lld: expected at most %d bytes, found %zu",
                         (long long)id, TOKEN_MAX_BYTES, length);
    if (id >= t->room && !grow(t, id + id / 2 + 1024))
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %lld tokens", (long long)id);
    for (; t->count <= id; t->count++) {
        t->texts[t->count] = (struct gguf_string){0};
        t->scores[t->count] = 0;
        t->types[t->count] = TOKEN_UNUSED;
        t->strips[t->count] = 0;
    }
    t->texts[id] = (struct gguf_string){text, length};
    t->types[id] = type;
    t->scores[id] = score;
    t->given++;
    return TLM_OK;
}

int64_t folder_tokens_find(const struct folder_tokens *t, const char *text, size_t length)
{
    for (int64_t i = 0; i < t->count; i++)
        if (t->texts[i].length == length && t->texts[i].data && !memcmp(t->texts[i].data, text, length))
            return i;
    return -1;
}

// A special token is a text, or an object that has it as its "content".
static int64_t special_token(const struct folder_tokens *t, const json_t *config, const char *key)
{
    const json_t *item = json_object_get(config, key);
    if (json_is_object(item)) item = json_object_get(item, "content");
    return json_is_string(item) ? folder_tokens_find(t, json_string_value(item), json_string_length(item))
                                : -1;
}

static int flag(const json_t *config, const char *key)
{
    const json_t *item = json_object_get(config, key);
    return json_is_boolean(item) ? json_is_true(item) : -1;
}

void folder_config_read(struct folder_tokens *t, const json_t *config)
{
    if (!config) return;
    t->bos = special_token(t, config, "bos_token");
    t->eos = special_token(t, config, "eos_token");
    t->padding = special_token(t, config, "pad_token");
    if (t->unknown < 0) t->unknown = special_token(t, config, "unk_token");
    t->adds_bos = flag(config, "add_bos_token");
    t->adds_eos = flag(config, "add_eos_token");
    const json_t *chat = json_object_get(config, "chat_template"), *item;
    size_t i;
    json_array_foreach(chat, i, item) // several, by name
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && !strcmp(name, "default")) chat = json_object_get(item, "template");
        if (json_is_string(chat)) break;
    }
    t->chat_template = json_string_value(chat);
    t->chat_template_length = json_string_length(chat);
}

enum tlm_status folder_config_tokens(struct folder_tokens *t, const json_t *config, struct tlm_error *err)
{
    const json_t *added = json_object_get(config, "added_tokens_decoder");
    for (void *i = json_object_iter((json_t *)added); i; i = json_object_iter_next((json_t *)added, i)) {
        const json_t *item = json_object_iter_value(i), *text = json_object_get(item, "content");
        char *end;
        long long id = strtoll(json_object_iter_key(i), &end, 10);
        if (*end || !json_is_string(text))
            return error_set(err, TLM_ERR_FORMAT,
                             "added_tokens_decoder: expected ids and contents, found others");
        if (id >= 0 && id < t->count && t->texts[id].data) continue;
        bool special = json_is_true(json_object_get(item, "special"));
        enum tlm_status status = folder_tokens_set(t, id, json_string_value(text), json_string_length(text),
                                                   special ? TOKEN_CONTROL : TOKEN_USER_DEFINED, 0, err);
        if (status) return status;
    }
    return TLM_OK;
}

static void write_roles(const struct folder_tokens *t, struct vocabulary *v)
{
    // None is said as -1, for a reader would else take what is usual for the kind.
    vocabulary_u32(v, "tokenizer.ggml.bos_token_id", (uint32_t)t->bos);
    vocabulary_u32(v, "tokenizer.ggml.eos_token_id", (uint32_t)t->eos);
    vocabulary_u32(v, "tokenizer.ggml.unknown_token_id", (uint32_t)t->unknown);
    if (t->padding >= 0) vocabulary_u32(v, "tokenizer.ggml.padding_token_id", (uint32_t)t->padding);
    vocabulary_bool(v, "tokenizer.ggml.add_bos_token", t->adds_bos > 0 && t->bos >= 0);
    vocabulary_bool(v, "tokenizer.ggml.add_eos_token", t->adds_eos > 0);
    if (t->chat_template)
        vocabulary_string(v, "tokenizer.chat_template", t->chat_template, t->chat_template_length);
}

// GGUF has scores in single precision; a file that has them in double, and sums them so, keeps them besides.
static enum tlm_status write_scores(const struct folder_tokens *t, struct vocabulary *v,
                                    struct tlm_error *err)
{
    float *single = malloc((size_t)t->count * sizeof *single);
    if (!single)
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %lld scores", (long long)t->count);
    bool exact = true;
    for (int64_t i = 0; i < t->count; i++) {
        single[i] = (float)t->scores[i];
        exact &= single[i] == t->scores[i];
    }
    vocabulary_array(v, "tokenizer.ggml.scores", GGUF_F32, single, (uint64_t)t->count);
    if (!exact) vocabulary_array(v, VOCABULARY_KEY_SCORES, GGUF_F64, t->scores, (uint64_t)t->count);
    free(single);
    return TLM_OK;
}

enum tlm_status folder_tokens_write(struct folder_tokens *t, struct vocabulary *v, bool scores,
                                    struct tlm_error *err)
{
    if (!t->count) return error_set(err, TLM_ERR_FORMAT, "vocabulary: expected tokens, found none");
    // A few numbers without a token are common; a file of one token that is number ten million is not.
    if (t->count > 8 * t->given + 65536)
        return error_set(err, TLM_ERR_FORMAT,
                         "vocabulary: expected ids without gaps, found %lld tokens with ids up to %lld",
                         (long long)t->given, (long long)t->count - 1);
    vocabulary_strings(v, "tokenizer.ggml.tokens", (uint64_t)t->count);
    for (int64_t i = 0; i < t->count; i++) {
        char name[32];
        struct gguf_string text = t->texts[i];
        if (!text.data)
            text =
                (struct gguf_string){name, (uint64_t)snprintf(name, sizeof name, "[PAD%lld]", (long long)i)};
        vocabulary_item(v, text.data, text.length);
    }
    enum tlm_status status = scores ? write_scores(t, v, err) : TLM_OK;
    if (status) return status;
    vocabulary_array(v, "tokenizer.ggml.token_type", GGUF_I32, t->types, (uint64_t)t->count);
    bool strips = false;
    for (int64_t i = 0; i < t->count; i++) strips |= t->strips[i] != 0;
    if (strips) vocabulary_array(v, VOCABULARY_KEY_STRIP, GGUF_U8, t->strips, (uint64_t)t->count);
    write_roles(t, v);
    return TLM_OK;
}

// ---- the folder ---------------------------------------------------------------------------------------

// Reads folder/name; *data stays NULL where there is no such file.
static enum tlm_status read_file(const char *folder, const char *name, char **data, size_t *size,
                                 struct tlm_error *err)
{
    *data = NULL;
    size_t room = strlen(folder) + strlen(name) + 2;
    char *path = malloc(room);
    if (!path) return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for its name", folder);
    snprintf(path, room, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    enum tlm_status status = TLM_OK;
    if (f) {
        fclose(f);
        status = file_read(path, data, size, err);
    }
    free(path);
    return status;
}

static enum tlm_status read_keys(struct vocabulary *v, const char *folder, struct tlm_error *err)
{
    char *text = NULL, *chat = NULL;
    size_t size, chat_size;
    json_t *config = NULL;
    enum tlm_status status = read_file(folder, "tokenizer_config.json", &text, &size, err);
    if (!status && text) status = json_text_read(&config, text, size, "tokenizer_config.json", err);
    free(text);
    text = NULL;
    // Newer folders have the template in a file of its own.
    if (!status) status = read_file(folder, "chat_template.jinja", &chat, &chat_size, err);
    if (!status && chat) {
        if (!config) config = json_object();
        json_t *string = json_stringn(chat, chat_size);
        if (!string || json_object_set_new(config, "chat_template", string))
            status = error_set(err, TLM_ERR_FORMAT, "chat_template.jinja: expected UTF-8, found other bytes");
    }
    free(chat);
    if (!status) status = read_file(folder, "tokenizer.json", &text, &size, err);
    if (!status && text) {
        status = tokenizer_json_read(v, text, size, config, err);
    } else if (!status) {
        status = read_file(folder, "tokenizer.model", &text, &size, err);
        if (!status && text)
            status = sentencepiece_read(v, text, size, config, err);
        else if (!status)
            status = error_set(err, TLM_ERR_IO, "expected tokenizer.json or tokenizer.model, found neither");
    }
    free(text);
    json_decref(config);
    return status;
}

enum tlm_status tokenizer_open_folder(struct tokenizer **out, const char *folder, struct tlm_error *err)
{
    *out = NULL;
    struct vocabulary v;
    struct gguf *g = NULL;
    if (!vocabulary_open(&v)) return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for its keys");
    enum tlm_status status = read_keys(&v, folder, err);
    if (!status) status = vocabulary_finish(&v, &g, err);
    if (!status) status = tokenizer_open(out, g, err);
    if (status) {
        gguf_close(g);
        vocabulary_close(&v);
        error_prefix(err, "%.200s", folder);
        return status;
    }
    (*out)->own = g;
    (*out)->own_data = v.data;
    return TLM_OK;
}

const struct gguf *tokenizer_keys(const struct tokenizer *t)
{
    return t->gguf;
}

void tokenizer_write_gguf(const struct tokenizer *t, struct gguf_writer *w)
{
    for (uint64_t i = 0; i < t->gguf->key_count; i++) {
        const struct gguf_key *key = &t->gguf->keys[i];
        static const char *const prefixes[] = {"tokenizer.", "tinylm.tokenizer."};
        for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++) {
            size_t n = strlen(prefixes[p]);
            if (key->name.length > n && !memcmp(key->name.data, prefixes[p], n))
                gguf_set_value(w, key->name, &key->value);
        }
    }
}
