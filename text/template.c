// text/template.c -- where a chat template comes from, and the variables that it is given.
#include "text/template.h"

#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "text/json_text.h"

enum { TOKEN_KINDS = 4 };

static const struct {
    const char *name;     // of the variable, and of the key in tokenizer_config.json
    const char *gguf_key; // of the token's id
} token_kinds[TOKEN_KINDS] = {
    {"bos_token", "tokenizer.ggml.bos_token_id"},
    {"eos_token", "tokenizer.ggml.eos_token_id"},
    {"unk_token", "tokenizer.ggml.unknown_token_id"},
    {"pad_token", "tokenizer.ggml.padding_token_id"},
};

struct template
{
    struct jinja_template *jinja;
    json_t *tokens; // an object: text by name
};

enum tlm_status template_parse_json(json_t **out, const char *text, size_t bytes, const char *name,
                                    struct tlm_error *err)
{
    json_error_t at;
    *out = json_loadb(text, bytes, JSON_ALLOW_NUL | JSON_DECODE_ANY, &at);
    if (*out) return TLM_OK;
    return error_set(err, TLM_ERR_FORMAT, "%.200s: line %d, column %d: expected JSON, found: %.160s", name,
                     at.line, at.column, at.text);
}

enum tlm_status template_open_text(struct template **out, const char *source, size_t bytes,
                                   struct tlm_error *err)
{
    *out = NULL;
    struct template *t = calloc(1, sizeof *t);
    if (!t) return error_set(err, TLM_ERR_MEMORY, "template: no memory for it");
    enum tlm_status status = jinja_compile(&t->jinja, source, bytes, err);
    if (!status && !(t->tokens = json_object()))
        status = error_set(err, TLM_ERR_MEMORY, "template: no memory for it");
    if (status) {
        template_close(t);
        return status;
    }
    *out = t;
    return TLM_OK;
}

void template_close(struct template *t)
{
    if (!t) return;
    jinja_free(t->jinja);
    json_decref(t->tokens);
    free(t);
}

enum tlm_status template_set_token(struct template *t, const char *name, const char *text, size_t bytes,
                                   struct tlm_error *err)
{
    // A token that is not UTF-8 has no place in a template: jansson refuses it, and it stays undefined.
    json_t *value = json_stringn(text, bytes);
    if (value && json_object_set_new(t->tokens, name, value))
        return error_set(err, TLM_ERR_MEMORY, "template: no memory for the %s", name);
    return TLM_OK;
}

// ---- from a GGUF file ---------------------------------------------------------------------------------

static enum tlm_status read_tokens(struct template *t, const struct gguf *g, struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(g, "tokenizer.ggml.tokens");
    struct gguf_string *tokens;
    if (!v || v->type != GGUF_ARRAY || v->item != GGUF_STRING) return TLM_OK;
    enum tlm_status status = gguf_value_strings(v, &tokens, err);
    if (status) return status;
    for (int i = 0; i < TOKEN_KINDS && !status; i++) {
        int64_t id = -1;
        status = gguf_get_i64(g, token_kinds[i].gguf_key, &id, err);
        if (!status && id >= 0 && (uint64_t)id < v->count)
            status = template_set_token(t, token_kinds[i].name, tokens[id].data, tokens[id].length, err);
    }
    free(tokens);
    return status;
}

enum tlm_status template_open_gguf(struct template **out, const struct gguf *g, struct tlm_error *err)
{
    struct gguf_string source = {0};
    *out = NULL;
    enum tlm_status status = gguf_get_string(g, "tokenizer.chat_template", &source, err);
    if (!status && !source.data)
        status = error_set(err, TLM_ERR_UNSUPPORTED,
                           "expected a chat template (tokenizer.chat_template), found none");
    if (!status) status = template_open_text(out, source.data, source.length, err);
    if (!status) status = read_tokens(*out, g, err);
    if (status) {
        template_close(*out);
        *out = NULL;
    }
    return status;
}

// ---- from a Hugging Face folder -----------------------------------------------------------------------

// NULL in *data where the folder has no such file.
static enum tlm_status read_in(const char *folder, const char *name, char **data, size_t *size,
                               struct tlm_error *err)
{
    char path[4096];
    struct stat st;
    *data = NULL;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return error_set(err, TLM_ERR_IO, "%.300s...: expected a shorter path", folder);
    return stat(path, &st) ? TLM_OK : file_read(path, data, size, err);
}

static enum tlm_status read_json_in(const char *folder, const char *name, json_t **out, struct tlm_error *err)
{
    char *text;
    size_t size;
    *out = NULL;
    enum tlm_status status = read_in(folder, name, &text, &size, err);
    if (!status && text) status = json_text_read(out, text, size, name, err);
    free(text);
    return status;
}

// "chat_template" is the text, or a list of {name, template}: then the one named default, or the first.
static const json_t *config_template(const json_t *config)
{
    const json_t *t = json_object_get(config, "chat_template"), *chosen = json_array_get(t, 0);
    if (!json_is_array(t)) return t;
    for (size_t i = 0; i < json_array_size(t); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(t, i), "name"));
        if (name && !strcmp(name, "default")) chosen = json_array_get(t, i);
    }
    return json_object_get(chosen, "template");
}

static enum tlm_status config_tokens(struct template *t, const json_t *config, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (int i = 0; i < TOKEN_KINDS && !status; i++) {
        const json_t *token = json_object_get(config, token_kinds[i].name);
        if (json_is_object(token)) token = json_object_get(token, "content");
        if (json_is_string(token))
            status = template_set_token(t, token_kinds[i].name, json_string_value(token),
                                        json_string_length(token), err);
    }
    return status;
}

static enum tlm_status open_folder(struct template **out, const char *folder, struct tlm_error *err)
{
    char *source = NULL;
    size_t bytes = 0;
    json_t *config = NULL;
    *out = NULL;
    enum tlm_status status = read_json_in(folder, "tokenizer_config.json", &config, err);
    if (!status) status = read_in(folder, "chat_template.jinja", &source, &bytes, err);
    const json_t *text = config_template(config);
    if (!status && source)
        status = template_open_text(out, source, bytes, err);
    else if (!status && json_is_string(text))
        status = template_open_text(out, json_string_value(text), json_string_length(text), err);
    else if (!status)
        status = error_set(
            err, TLM_ERR_UNSUPPORTED,
            "expected a chat template (chat_template.jinja, or in tokenizer_config.json), found none");
    if (!status) status = config_tokens(*out, config, err);
    if (status) {
        template_close(*out);
        *out = NULL;
    }
    free(source);
    json_decref(config);
    return status;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

enum tlm_status template_open(struct template **out, const char *path, struct tlm_error *err)
{
    struct gguf *g;
    enum tlm_status status;
    *out = NULL;
    if (is_folder(path)) {
        status = open_folder(out, path, err);
    } else {
        status = gguf_open(&g, path, err);
        if (status) return status; // the line names the file
        status = template_open_gguf(out, g, err);
        gguf_close(g);
    }
    return status ? error_prefix(err, "%s", path) : TLM_OK;
}

enum tlm_status template_read_tokens(struct template *t, const char *path, struct tlm_error *err)
{
    struct gguf *g;
    enum tlm_status status;
    if (is_folder(path)) {
        json_t *config;
        status = read_json_in(path, "tokenizer_config.json", &config, err);
        if (!status) status = config_tokens(t, config, err);
        json_decref(config);
    } else {
        status = gguf_open(&g, path, err);
        if (status) return status; // the line names the file
        status = read_tokens(t, g, err);
        gguf_close(g);
    }
    return status ? error_prefix(err, "%s", path) : TLM_OK;
}

enum tlm_status template_read_gguf_tokens(struct template *t, const struct gguf *g, struct tlm_error *err)
{
    return read_tokens(t, g, err);
}

// ---- rendering ----------------------------------------------------------------------------------------

static enum tlm_status check_input(const struct template_input *in, struct tlm_error *err)
{
    if (!json_is_array(in->messages))
        return error_set(err, TLM_ERR_ARGUMENT, "messages: expected a list, found another value");
    for (size_t i = 0; i < json_array_size(in->messages); i++) {
        if (!json_is_object(json_array_get(in->messages, i)))
            return error_set(err, TLM_ERR_ARGUMENT,
                             "messages: item %zu: expected an object, found another value", i);
    }
    if (in->tools && !json_is_array(in->tools) && !json_is_null(in->tools))
        return error_set(err, TLM_ERR_ARGUMENT, "tools: expected a list, found another value");
    if (in->variables && !json_is_object(in->variables))
        return error_set(err, TLM_ERR_ARGUMENT, "variables: expected an object, found another value");
    return TLM_OK;
}

enum tlm_status template_render(const struct template *t, const struct template_input *in,
                                struct jinja_output *out, struct tlm_error *err)
{
    enum { FIXED = 4 };
    *out = (struct jinja_output){0};
    enum tlm_status status = check_input(in, err);
    if (status) return status;
    struct jinja_variable *v = calloc(FIXED + TOKEN_KINDS + json_object_size(in->variables), sizeof *v);
    if (!v) return error_set(err, TLM_ERR_MEMORY, "template: no memory for its variables");
    size_t n = 0;
    v[n++] = (struct jinja_variable){.name = "messages", .value = in->messages, .trusted_key = "role"};
    v[n++] = (struct jinja_variable){.name = "tools", .value = in->tools ? in->tools : json_null()};
    v[n++] = (struct jinja_variable){.name = "documents", .value = json_null()};
    v[n++] = (struct jinja_variable){.name = "add_generation_prompt",
                                     .value = json_boolean(in->add_generation_prompt)};
    const char *name;
    json_t *value;
    json_object_foreach(t->tokens, name, value) v[n++] =
        (struct jinja_variable){.name = name, .value = value, .trusted = true};
    json_object_foreach((json_t *)in->variables, name, value) v[n++] =
        (struct jinja_variable){.name = name, .value = value};
    struct jinja_options options = {.variables = v, .variable_count = n, .now = in->now};
    status = jinja_render(t->jinja, &options, out, err);
    free(v);
    return status;
}
