// cli/conversation.c -- see cli/conversation.h.
#include "cli/conversation.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "models/model.h"

const struct option conversation_options[CONVERSATION_OPTION_COUNT] = {
    {"--system", "TEXT", OPTION_STRING, offsetof(struct conversation_args, system),
     .help = "text in front of the conversation, kept when old turns are dropped. Default: none."},
    {"--chat-template-file", "FILE", OPTION_STRING, offsetof(struct conversation_args, template_file),
     .help = "a Jinja template. Default: the model's own; plain text where it has none."},
    {"--kwargs", "JSON", OPTION_STRING, offsetof(struct conversation_args, variables),
     .help =
         "an object of variables for the template, such as '{\"enable_thinking\": false}'. Default: none."},
    {"--tools", "FILE", OPTION_STRING, offsetof(struct conversation_args, tools),
     .help = "definitions of tools for the template, a JSON list. Default: none."},
};

static enum tlm_status no_memory(struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "conversation: no memory for it");
}

// ---- opening ------------------------------------------------------------------------------------------

static bool names_channels(const char *text, size_t bytes)
{
    return memmem(text, bytes, "<|channel|>", 11) != NULL;
}

static enum tlm_status open_template(struct conversation *c, const char *path, struct tlm_error *err)
{
    const struct gguf *g = c->model->gguf;
    struct gguf_string own = {"", 0};
    if (!path) {
        enum tlm_status status = gguf_get_string(g, "tokenizer.chat_template", &own, err);
        if (status || !own.length) return status;
        if (names_channels(own.data, own.length)) c->style = THOUGHT_CHANNELS;
        return template_open_gguf(&c->template, g, err);
    }
    char *source;
    size_t bytes;
    enum tlm_status status = file_read(path, &source, &bytes, err);
    if (status) return status;
    if (names_channels(source, bytes)) c->style = THOUGHT_CHANNELS;
    status = template_open_text(&c->template, source, bytes, err);
    free(source);
    if (status) return error_prefix(err, "%s", path);
    return template_read_gguf_tokens(c->template, g, err);
}

static enum tlm_status read_json(const char *path, json_t **out, struct tlm_error *err)
{
    char *text;
    size_t bytes;
    enum tlm_status status = file_read(path, &text, &bytes, err);
    if (status) return status;
    status = template_parse_json(out, text, bytes, path, err);
    free(text);
    return status;
}

enum tlm_status conversation_open(struct conversation *c, const struct tlm_model *model,
                                  const struct conversation_args *args, struct tlm_error *err)
{
    *c = (struct conversation){.model = model, .messages = json_array()};
    enum tlm_status status = c->messages ? open_template(c, args->template_file, err) : no_memory(err);
    if (!status && args->tools) status = read_json(args->tools, &c->tools, err);
    if (!status && args->variables)
        status =
            template_parse_json(&c->variables, args->variables, strlen(args->variables), "--kwargs", err);
    if (!status && c->variables && !json_is_object(c->variables))
        status = error_set(err, TLM_ERR_FORMAT, "--kwargs: expected an object");
    if (!status && args->system) status = conversation_set_system(c, args->system, err);
    return status;
}

void conversation_close(struct conversation *c)
{
    template_close(c->template);
    json_decref(c->messages);
    json_decref(c->tools);
    json_decref(c->variables);
}

// ---- messages -----------------------------------------------------------------------------------------

static bool has_role(const json_t *message, const char *role)
{
    const char *found = json_string_value(json_object_get(message, "role"));
    return found && !strcmp(found, role);
}

static const json_t *message_at(const struct conversation *c, size_t i)
{
    return json_array_get(c->messages, i);
}

enum tlm_status conversation_add(struct conversation *c, const char *role, const char *text, size_t bytes,
                                 const char *thoughts, size_t thought_bytes, struct tlm_error *err)
{
    json_t *message = json_object();
    bool failed = !message || json_object_set_new(message, "role", json_string(role)) ||
                  json_object_set_new(message, "content", json_text(text, bytes));
    if (thoughts && thought_bytes && !failed)
        failed = json_object_set_new(message, "reasoning_content", json_text(thoughts, thought_bytes)) ||
                 json_object_set(message, "thinking", json_object_get(message, "reasoning_content"));
    if (!failed) return json_array_append_new(c->messages, message) ? no_memory(err) : TLM_OK;
    json_decref(message);
    return no_memory(err);
}

enum tlm_status conversation_set_system(struct conversation *c, const char *text, struct tlm_error *err)
{
    json_t *message = NULL;
    if (text && *text) {
        message = json_object();
        if (!message || json_object_set_new(message, "role", json_string("system")) ||
            json_object_set_new(message, "content", json_text(text, strlen(text))) ||
            json_array_insert(c->messages, 0, message)) {
            json_decref(message);
            return no_memory(err);
        }
        json_decref(message);
    }
    size_t old = message ? 1 : 0;
    if (has_role(message_at(c, old), "system")) json_array_remove(c->messages, old);
    return TLM_OK;
}

bool conversation_drop_last(struct conversation *c, const char *role)
{
    size_t count = json_array_size(c->messages);
    if (!count || !has_role(message_at(c, count - 1), role)) return false;
    json_array_remove(c->messages, count - 1);
    return true;
}

static size_t next_user(const struct conversation *c, size_t from)
{
    while (from < json_array_size(c->messages) && !has_role(message_at(c, from), "user")) from++;
    return from;
}

size_t conversation_turn(const struct conversation *c, size_t n)
{
    size_t at = next_user(c, 0);
    while (--n && at < json_array_size(c->messages)) at = next_user(c, at + 1);
    return at;
}

bool conversation_drop_turn(struct conversation *c, size_t n)
{
    size_t first = conversation_turn(c, n), end = conversation_turn(c, n + 1);
    for (size_t i = first; i < end; i++) json_array_remove(c->messages, first);
    return end > first;
}

bool conversation_drop_oldest(struct conversation *c)
{
    size_t first = has_role(message_at(c, 0), "system"), second = next_user(c, next_user(c, first) + 1);
    if (second >= json_array_size(c->messages)) return false;
    while (second-- > first) json_array_remove(c->messages, first);
    return true;
}

void conversation_clear(struct conversation *c)
{
    size_t kept = has_role(message_at(c, 0), "system");
    while (json_array_size(c->messages) > kept) json_array_remove(c->messages, kept);
}

size_t conversation_exchanges(const struct conversation *c)
{
    size_t count = 0;
    for (size_t i = 0; (i = next_user(c, i)) < json_array_size(c->messages); i++) count++;
    return count;
}

// ---- the prompt ---------------------------------------------------------------------------------------

static char *plain_text(const struct conversation *c, size_t *bytes)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, bytes);
    if (!f) return NULL;
    for (size_t i = 0; i < json_array_size(c->messages); i++) {
        const char *content = json_string_value(json_object_get(message_at(c, i), "content"));
        if (has_role(message_at(c, i), "system"))
            fprintf(f, "%s\n\n", content ? content : "");
        else
            fprintf(f, has_role(message_at(c, i), "user") ? "User: %s\n" : "Assistant: %s\n",
                    content ? content : "");
    }
    fprintf(f, "Assistant:");
    bool failed = ferror(f);
    if (fclose(f) || failed) {
        free(text);
        return NULL;
    }
    return text;
}

static enum tlm_status rendered_ids(const struct conversation *c, const struct jinja_output *text,
                                    struct conversation_prompt *out, struct tlm_error *err)
{
    const struct tokenizer *t = c->model->tokenizer;
    size_t capacity = text->bytes + 1; // a token has a byte at least
    out->ids = malloc(capacity * sizeof *out->ids);
    if (!out->ids) return no_memory(err);
    enum tlm_status status = tokenizer_encode_rendered(
        t, text->text, text->bytes, text->input, text->input_count, out->ids, capacity, &out->count, err);
    TLM_ASSERT(status || out->count <= capacity);
    out->begins = thoughts_of_prompt(c->style, text->text, text->bytes);
    return status;
}

enum tlm_status conversation_prompt_of(const struct conversation *c, size_t messages,
                                       struct conversation_prompt *out, struct tlm_error *err)
{
    struct conversation part = *c;
    part.messages = json_copy(c->messages);
    if (!part.messages) return no_memory(err);
    while (json_array_size(part.messages) > messages) json_array_remove(part.messages, messages);
    enum tlm_status status = conversation_prompt(&part, out, err);
    json_decref(part.messages);
    return status;
}

enum tlm_status conversation_prompt(const struct conversation *c, struct conversation_prompt *out,
                                    struct tlm_error *err)
{
    *out = (struct conversation_prompt){.begins = THOUGHT_ANSWER};
    enum tlm_status status;
    if (!c->template) {
        size_t bytes;
        char *text = plain_text(c, &bytes);
        if (!text) return no_memory(err);
        status = common_encode(c->model, text, bytes, TLM_ADD_BOS, &out->ids, &out->count, err);
        free(text);
        return status;
    }
    struct template_input input = {
        .messages = c->messages, .tools = c->tools, .variables = c->variables, .add_generation_prompt = true};
    struct jinja_output text = {0};
    status = template_render(c->template, &input, &text, err);
    if (status) {
        error_prefix(err, "chat template");
        return status;
    }
    status = rendered_ids(c, &text, out, err);
    jinja_output_free(&text);
    if (status) free(out->ids), out->ids = NULL;
    return status;
}

// ---- files --------------------------------------------------------------------------------------------

enum tlm_status conversation_save(const struct conversation *c, const char *path, struct tlm_error *err)
{
    if (!access(path, F_OK))
        return error_set(err, TLM_ERR_ARGUMENT, "%s: expected a name that is free, found a file", path);
    struct file_writer *w;
    enum tlm_status status = file_writer_open(&w, path, err);
    if (status) return status;
    for (size_t i = 0; i < json_array_size(c->messages); i++) {
        char *line = json_dumps(message_at(c, i), JSON_COMPACT);
        if (!line) {
            file_writer_abort(w);
            return no_memory(err);
        }
        file_writer_write(w, line, strlen(line));
        file_writer_write(w, "\n", 1);
        free(line);
    }
    return file_writer_finish(w, err);
}

static bool is_message(const json_t *m)
{
    return json_is_object(m) && json_is_string(json_object_get(m, "role"));
}

enum tlm_status conversation_load(struct conversation *c, const char *path, struct tlm_error *err)
{
    char *text;
    size_t bytes, number = 0;
    enum tlm_status status = file_read(path, &text, &bytes, err);
    if (status) return status;
    json_t *messages = json_array();
    for (char *line = text, *end; messages && !status && line < text + bytes; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + bytes - line));
        if (!end) end = text + bytes;
        number++;
        if (end == line) continue;
        json_t *message = NULL;
        status = template_parse_json(&message, line, (size_t)(end - line), path, err);
        if (!status && !is_message(message))
            status = error_set(err, TLM_ERR_FORMAT, "%s: line %zu: expected a message, an object with a role",
                               path, number);
        if (status || json_array_append(messages, message)) status = status ? status : no_memory(err);
        json_decref(message);
    }
    free(text);
    if (!messages) return no_memory(err);
    if (status) {
        json_decref(messages);
        return status;
    }
    json_decref(c->messages);
    c->messages = messages;
    return TLM_OK;
}
