// train/config_file.c -- reads the INI file of a training run.
#include <ini.h>
#include <string.h>

#include "core/file.h"
#include "train/config_keys.h"

// inih splits lines into keys and values; a value that goes on in further lines comes in pieces, which are put together here.
struct parser {
    struct train_config *config;
    const char *name, *at, *end; // of the file; what is still unread
    const char *line_start;
    int line;
    char section[CONFIG_KEY_LENGTH + 2],
        key[CONFIG_KEY_LENGTH + 2]; // of the value that is being read; key "": none
    char *value;
    int value_line;
    int seen[CONFIG_KEY_COUNT]; // the line that has given a key; 0: none has
    int *pair_lines;            // likewise of model.pairs
    size_t pair_lines_count;
    enum tlm_status status;
    struct tlm_error *err;
};

static enum tlm_status give_up(struct parser *p, int line, enum tlm_status status)
{
    if (p->err) error_prefix(p->err, "%s:%d", p->name, line);
    return p->status = status == TLM_ERR_MEMORY ? status : TLM_ERR_FORMAT;
}

// Gives inih a line, or nothing more after an error.
static char *next_line(char *to, int size, void *user)
{
    struct parser *p = user;
    if (p->status || p->at == p->end) return NULL;
    const char *stop = memchr(p->at, '\n', (size_t)(p->end - p->at));
    size_t n = (size_t)((stop ? stop + 1 : p->end) - p->at);
    p->line++;
    p->line_start = p->at;
    if (n > (size_t)size - 1) {
        error_set(
            p->err, TLM_ERR_FORMAT,
            "expected at most %d bytes a line (a value goes on in the next one behind an indent), found %zu",
            size - 1, n);
        give_up(p, p->line, TLM_ERR_FORMAT);
        return NULL;
    }
    if (memchr(p->at, 0, n)) {
        error_set(p->err, TLM_ERR_FORMAT, "expected text, found a zero byte");
        give_up(p, p->line, TLM_ERR_FORMAT);
        return NULL;
    }
    memcpy(to, p->at, n);
    to[n] = 0;
    p->at += n;
    return to;
}

static enum tlm_status given_twice(struct parser *p, int first)
{
    error_set(p->err, TLM_ERR_FORMAT, "%s.%s: expected it once, found it in line %d already", p->section,
              p->key, first);
    return give_up(p, p->value_line, TLM_ERR_FORMAT);
}

static enum tlm_status store_pair(struct parser *p)
{
    for (size_t i = 0; i < p->pair_lines_count; i++)
        if (p->pair_lines[i] && !strcmp(p->config->model.pairs[i].key, p->key))
            return given_twice(p, p->pair_lines[i]);
    enum tlm_status s = config_pair_set(p->config, p->key, p->value, p->err);
    if (s) return give_up(p, p->value_line, s);
    size_t count = p->config->model.pair_count, i = 0;
    int *lines = realloc(p->pair_lines, count * sizeof *lines);
    if (!lines) {
        error_set(p->err, TLM_ERR_MEMORY, "no memory for its keys");
        return give_up(p, p->value_line, TLM_ERR_MEMORY);
    }
    p->pair_lines = lines;
    while (p->pair_lines_count < count) lines[p->pair_lines_count++] = 0;
    while (strcmp(p->config->model.pairs[i].key, p->key) != 0) i++;
    lines[i] = p->value_line;
    return TLM_OK;
}

// The value that was being read is whole.
static enum tlm_status store(struct parser *p)
{
    if (!*p->key || p->status) return p->status;
    const struct config_key *key = config_key_find(p->section, p->key);
    enum tlm_status s;
    if (!key) {
        s = store_pair(p);
    } else if (p->seen[key - config_keys]) {
        s = given_twice(p, p->seen[key - config_keys]);
    } else {
        p->seen[key - config_keys] = p->value_line;
        s = config_value_set(p->config, key, p->value, p->err);
        if (!s) s = config_clear_lengths(p->config, key, p->seen, p->err);
        if (s) give_up(p, p->value_line, s);
    }
    free(p->value);
    p->value = NULL;
    *p->key = 0;
    return s;
}

// Puts a further line to the value: behind a blank, or in place of the backslash that the one before ended with.
static enum tlm_status append(struct parser *p, const char *piece)
{
    size_t n = strlen(p->value);
    char *value = realloc(p->value, n + strlen(piece) + 2);
    if (!value) {
        error_set(p->err, TLM_ERR_MEMORY, "%s.%s: no memory for its value", p->section, p->key);
        return give_up(p, p->line, TLM_ERR_MEMORY);
    }
    p->value = value;
    if (n && value[n - 1] == '\\')
        n--;
    else if (n)
        value[n++] = ' ';
    strcpy(value + n, piece);
    return TLM_OK;
}

static enum tlm_status unknown_section(struct parser *p, const char *section)
{
    char shown[64];
    const char *near = config_nearest_section(section);
    error_set(p->err, TLM_ERR_FORMAT,
              "[%s]: expected [model], [data], [train], [optimizer], [schedule], [checkpoint] or [log]%s%s",
              config_printable(section, shown, sizeof shown), near ? "; the nearest is " : "",
              near ? near : "");
    return give_up(p, p->line, TLM_ERR_FORMAT);
}

// inih's handler: 1 to go on, 0 after an error.
static int take(void *user, const char *section, const char *key, const char *value)
{
    struct parser *p = user;
    if (p->status) return 0;
    bool indented = *p->line_start == ' ' || *p->line_start == '\t';
    if (indented && *p->key && !strcmp(section, p->section) && !strncmp(key, p->key, CONFIG_KEY_LENGTH))
        return append(p, value) == TLM_OK;
    if (store(p)) return 0;
    if (!config_section_exists(section)) return unknown_section(p, section), 0;
    if (!config_key_find(section, key) && !(!strcmp(section, "model") && config_is_pair(key)))
        return give_up(p, p->line, config_unknown_key(section, key, p->err)), 0;
    snprintf(p->section, sizeof p->section, "%s", section);
    snprintf(p->key, sizeof p->key, "%s", key);
    p->value_line = p->line;
    p->value = strdup(value);
    if (p->value) return 1;
    error_set(p->err, TLM_ERR_MEMORY, "%s.%s: no memory for its value", section, key);
    return give_up(p, p->line, TLM_ERR_MEMORY), 0;
}

enum tlm_status train_config_parse(struct train_config *c, const char *name, const char *text, size_t bytes,
                                   struct tlm_error *err)
{
    struct parser p = {.config = c, .name = name, .at = text, .end = text + bytes, .err = err};
    int line = ini_parse_stream(next_line, &p, take, &p);
    if (!p.status && line) {
        error_set(err, TLM_ERR_FORMAT, "expected [section] or key = value, found something else");
        give_up(&p, line, TLM_ERR_FORMAT);
    }
    store(&p);
    free(p.value);
    free(p.pair_lines);
    return p.status;
}

enum tlm_status train_config_read(struct train_config *c, const char *path, struct tlm_error *err)
{
    char *text;
    size_t bytes;
    enum tlm_status s = file_read(path, &text, &bytes, err);
    if (s) return s;
    s = train_config_parse(c, path, text, bytes, err);
    free(text);
    return s;
}
