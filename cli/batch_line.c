#include "cli/batch_line.h"

#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/json.h"

enum { MOST_CHOICES = 1 << 20 };

// ---- values -------------------------------------------------------------------------------------------

static enum tlm_status wrong_kind(struct tlm_error *err, const char *key, const char *expected,
                                  const json_t *found)
{
    return error_set(err, TLM_ERR_ARGUMENT, "%s: expected %s, found %s", key, expected, json_kind(found));
}

static enum tlm_status read_whole(const char *key, const json_t *value, int32_t low, int32_t high,
                                  int32_t *into, struct tlm_error *err)
{
    if (!json_is_integer(value)) return wrong_kind(err, key, "a whole number", value);
    json_int_t n = json_integer_value(value);
    if (n < low || n > high)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%s: expected a whole number from %" PRId32 " to %" PRId32
                         ", found %" JSON_INTEGER_FORMAT,
                         key, low, high, n);
    *into = (int32_t)n;
    return TLM_OK;
}

static enum tlm_status add_stop(struct batch_line *l, const json_t *value, struct tlm_error *err)
{
    const char *text = json_string_value(value);
    if (!text) return wrong_kind(err, "stop", "a text or a list of texts", value);
    if (!*text || strlen(text) != json_string_length(value))
        return error_set(err, TLM_ERR_ARGUMENT, "stop: expected texts without zero bytes that are not empty");
    if (l->stop_count == OPTION_STRINGS_MAX)
        return error_set(err, TLM_ERR_ARGUMENT, "stop: expected at most %d texts", OPTION_STRINGS_MAX);
    l->stop[l->stop_count++] = text;
    return TLM_OK;
}

static enum tlm_status read_stop(struct batch_line *l, const json_t *value, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    l->stop_count = 0;
    if (!json_is_array(value)) return add_stop(l, value, err);
    for (size_t i = 0; i < json_array_size(value) && !status; i++)
        status = add_stop(l, json_array_get(value, i), err);
    return status;
}

// The text of a grammar; that of a schema is written again from the line's JSON.
static enum tlm_status read_grammar(struct batch_line *l, const char *key, const json_t *value,
                                    struct tlm_error *err)
{
    bool schema = !strcmp(key, "json_schema");
    if (l->grammar_text)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%s: expected one of grammar, json_schema and regex, found two", key);
    if (schema && !json_is_object(value)) return wrong_kind(err, key, "an object", value);
    if (!schema && !json_is_string(value)) return wrong_kind(err, key, "a text", value);
    if (schema) {
        l->grammar_kind = TLM_GRAMMAR_JSON_SCHEMA;
        l->grammar_text = json_dumps(value, JSON_COMPACT);
        l->grammar_bytes = l->grammar_text ? strlen(l->grammar_text) : 0;
    } else {
        l->grammar_kind = *key == 'r' ? TLM_GRAMMAR_REGEX : TLM_GRAMMAR_GBNF;
        l->grammar_bytes = json_string_length(value);
        l->grammar_text = malloc(l->grammar_bytes + 1);
        if (l->grammar_text) memcpy(l->grammar_text, json_string_value(value), l->grammar_bytes + 1);
    }
    return l->grammar_text ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "%s: no memory for it", key);
}

static enum tlm_status check_messages(const json_t *messages, struct tlm_error *err)
{
    if (!json_is_array(messages) || !json_array_size(messages))
        return error_set(err, TLM_ERR_ARGUMENT, "messages: expected a list of them");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!json_is_string(json_object_get(json_array_get(messages, i), "role")))
            return error_set(err, TLM_ERR_ARGUMENT, "messages: %zu: expected an object with a role", i);
    return TLM_OK;
}

// Any other key is that of a sampling option.
static enum tlm_status read_key(struct batch_line *l, const char *key, const json_t *value,
                                struct tlm_error *err)
{
    bool known;
    if (!strcmp(key, "id")) return TLM_OK;
    if (!strcmp(key, "prompt")) return json_is_string(value) ? TLM_OK : wrong_kind(err, key, "a text", value);
    if (!strcmp(key, "messages")) return check_messages(value, err);
    if (!strcmp(key, "tools")) return json_is_array(value) ? TLM_OK : wrong_kind(err, key, "a list", value);
    if (!strcmp(key, "stop")) return read_stop(l, value, err);
    if (!strcmp(key, "n")) return read_whole(key, value, 1, MOST_CHOICES, &l->choices, err);
    if (!strcmp(key, "max_tokens") || !strcmp(key, "n_predict"))
        return read_whole(key, value, -1, INT32_MAX, &l->predict, err);
    if (!strcmp(key, "priority")) return read_whole(key, value, INT32_MIN, INT32_MAX, &l->priority, err);
    if (!strcmp(key, "grammar") || !strcmp(key, "json_schema") || !strcmp(key, "regex"))
        return read_grammar(l, key, value, err);
    enum tlm_status status = sampling_set_json(&l->sampling, key, value, &known, err);
    return known ? status : error_set(err, TLM_ERR_ARGUMENT, "unknown key '%.100s'", key);
}

// ---- a line -------------------------------------------------------------------------------------------

static enum tlm_status read_object(struct batch_line *l, const char *text, size_t bytes,
                                   struct tlm_error *err)
{
    json_error_t at;
    const char *key;
    json_t *value;
    l->json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &at);
    if (!l->json) return error_set(err, TLM_ERR_FORMAT, "JSON: column %d: %.200s", at.column, at.text);
    if (!json_is_object(l->json))
        return error_set(err, TLM_ERR_FORMAT, "JSON: expected an object, found %s", json_kind(l->json));
    json_object_foreach(l->json, key, value)
    {
        enum tlm_status status = read_key(l, key, value, err);
        if (status) return status;
    }
    const json_t *prompt = json_object_get(l->json, "prompt"),
                 *messages = json_object_get(l->json, "messages");
    if (!prompt == !messages)
        return error_set(err, TLM_ERR_ARGUMENT, "expected a prompt or messages, found %s",
                         prompt ? "both" : "neither");
    if (prompt && json_object_get(l->json, "tools"))
        return error_set(err, TLM_ERR_ARGUMENT, "tools: expected messages beside them, found a prompt");
    if (json_object_get(l->json, "max_tokens") && json_object_get(l->json, "n_predict"))
        return error_set(err, TLM_ERR_ARGUMENT, "expected one of max_tokens and n_predict, found both");
    return TLM_OK;
}

enum tlm_status batch_line_read(struct batch_line **out, int64_t index, uint64_t hash, const char *text,
                                size_t bytes, const struct batch_defaults *defaults, struct tlm_error *err)
{
    struct batch_line *l = *out = calloc(1, sizeof *l);
    if (!l) return error_set(err, TLM_ERR_MEMORY, "no memory for line %" PRId64, index);
    l->index = index;
    l->hash = hash;
    l->sampling = defaults->sampling;
    l->predict = defaults->predict;
    l->choices = 1;
    l->stop_count = defaults->stop_count;
    for (size_t i = 0; i < l->stop_count; i++) l->stop[i] = defaults->stop[i];
    enum tlm_status status = read_object(l, text, bytes, err);
    if (l->sampling.seed < 0) l->sampling.seed = (int64_t)sampling_draw_seed();
    return status;
}

void batch_line_free(struct batch_line *l)
{
    if (!l) return;
    json_decref(l->json);
    tlm_grammar_close(l->grammar);
    free(l->grammar_text);
    free(l->prompt);
    free(l);
}

// ---- the prompt ---------------------------------------------------------------------------------------

// The messages of the line behind the system message of the command line, unless they bring their own. NULL: no memory.
static json_t *whole_conversation(const struct conversation *c, json_t *messages)
{
    const char *first = json_string_value(json_object_get(json_array_get(messages, 0), "role"));
    json_t *all = json_array();
    bool own_system = !strcmp(first, "system");
    if (all && (own_system || !json_array_extend(all, c->messages)) && !json_array_extend(all, messages))
        return all;
    json_decref(all);
    return NULL;
}

static enum tlm_status check_plain(const json_t *messages, struct tlm_error *err)
{
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!json_is_string(json_object_get(json_array_get(messages, i), "content")))
            return error_set(err, TLM_ERR_UNSUPPORTED,
                             "messages: %zu: the model has no chat template: expected a text as content", i);
    return TLM_OK;
}

static enum tlm_status encode_messages(struct batch_line *l, const struct conversation *c,
                                       struct tlm_error *err)
{
    struct conversation own = *c;
    struct conversation_prompt p = {NULL, 0, THOUGHT_ANSWER};
    json_t *tools = json_object_get(l->json, "tools");
    own.messages = whole_conversation(c, json_object_get(l->json, "messages"));
    if (!own.messages) return error_set(err, TLM_ERR_MEMORY, "messages: no memory for them");
    if (tools) own.tools = tools;
    enum tlm_status status = c->template ? TLM_OK : check_plain(own.messages, err);
    if (!status) status = conversation_prompt(&own, &p, err);
    json_decref(own.messages);
    l->prompt = p.ids;
    l->count = p.count;
    return status;
}

static enum tlm_status encode_message(struct batch_line *l, struct conversation *c, const json_t *prompt,
                                      struct tlm_error *err)
{
    struct conversation_prompt p = {NULL, 0, THOUGHT_ANSWER};
    enum tlm_status status =
        conversation_add(c, "user", json_string_value(prompt), json_string_length(prompt), NULL, 0, err);
    if (!status) status = conversation_prompt(c, &p, err);
    conversation_drop_last(c, "user");
    l->prompt = p.ids;
    l->count = p.count;
    return status;
}

// Opens the grammar of the line, for all of its choices.
static enum tlm_status open_grammar(struct batch_line *l, const struct tlm_model *model,
                                    struct tlm_error *err)
{
    static const char *const keys[] = {"grammar", "json_schema", "regex"};
    if (!l->grammar_text) return TLM_OK;
    enum tlm_status status =
        tlm_grammar_open(&l->grammar, model, l->grammar_kind, l->grammar_text, l->grammar_bytes, err);
    if (status) error_prefix(err, "%s", keys[l->grammar_kind]);
    l->sampling.grammar = l->grammar; // instead of the command line's
    l->sampling.options.grammar = l->grammar;
    return status;
}

enum tlm_status batch_line_encode(struct batch_line *l, const struct batch_defaults *defaults,
                                  struct tlm_error *err)
{
    struct conversation *c = defaults->conversation;
    const json_t *prompt = json_object_get(l->json, "prompt");
    enum tlm_status status;
    if (!prompt)
        status = encode_messages(l, c, err);
    else if (defaults->chat)
        status = encode_message(l, c, prompt, err);
    else
        status = common_encode(c->model, json_string_value(prompt), json_string_length(prompt), TLM_ADD_BOS,
                               &l->prompt, &l->count, err);
    if (!status) status = open_grammar(l, c->model, err);
    if (status) return status;
    if (!c->template && (!prompt || defaults->chat)) l->stop[l->stop_count++] = CONVERSATION_STOP;
    return l->count ? TLM_OK
                    : error_set(err, TLM_ERR_ARGUMENT, "prompt: expected at least one token, found none");
}

static int64_t seed_of(const struct batch_line *l, int32_t choice)
{
    return (int64_t)(((uint64_t)l->sampling.seed + (uint64_t)choice) & INT64_MAX);
}

enum tlm_status batch_line_sampler(const struct batch_line *l, int32_t choice, const struct tlm_model *model,
                                   struct tlm_sampler **sampler, struct tlm_error *err)
{
    struct sampling_args own = l->sampling;
    own.seed = seed_of(l, choice);
    return sampling_make(&own, model, sampler, err);
}

// ---- records ------------------------------------------------------------------------------------------

struct record {
    json_t *object;
    bool failed; // no memory
};

static void put(struct record *r, const char *key, json_t *value)
{
    r->failed |= json_object_set_new(r->object, key, value) != 0;
}

static struct record record_begin(const struct batch_line *l, int32_t choice)
{
    struct record r = {json_object(), false};
    json_t *id = json_object_get(l->json, "id");
    put(&r, "index", json_integer(l->index));
    if (id) put(&r, "id", json_incref(id));
    if (choice >= 0 && l->choices > 1) put(&r, "choice", json_integer(choice));
    return r;
}

static char *record_end(struct record *r, const struct batch_line *l)
{
    char hash[17], *line = NULL;
    snprintf(hash, sizeof hash, "%016" PRIx64, l->hash);
    put(r, "hash", json_string(hash));
    if (!r->failed) line = json_dumps(r->object, JSON_COMPACT);
    json_decref(r->object);
    size_t n = line ? strlen(line) : 0;
    char *whole = line ? realloc(line, n + 2) : NULL;
    if (!whole) {
        free(line);
        return NULL;
    }
    memcpy(whole + n, "\n", 2);
    return whole;
}

char *batch_line_answer(const struct batch_line *l, int32_t choice, const char *text, size_t bytes,
                        const struct tlm_generate_result *result)
{
    struct record r = record_begin(l, choice);
    json_t *clean = json_text(text, bytes);
    bool same = clean && json_string_length(clean) == bytes && !memcmp(json_string_value(clean), text, bytes);
    put(&r, "text", clean);
    if (!same) put(&r, "invalid_utf8", json_true());
    put(&r, "finish", json_string(answer_finish_name(result->finish)));
    put(&r, "prompt_tokens", json_integer(result->prompt_tokens));
    put(&r, "reused_tokens", json_integer(result->reused_tokens));
    put(&r, "new_tokens", json_integer(result->new_tokens));
    if (result->drafted_tokens) {
        put(&r, "drafted_tokens", json_integer(result->drafted_tokens));
        put(&r, "accepted_tokens", json_integer(result->accepted_tokens));
    }
    put(&r, "seed", json_integer(seed_of(l, choice)));
    return record_end(&r, l);
}

char *batch_line_failure(const struct batch_line *l, int32_t choice, const char *error)
{
    struct record r = record_begin(l, choice);
    put(&r, "error", json_text(error, strlen(error)));
    return record_end(&r, l);
}
