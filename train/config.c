// train/config.c -- the config of a training run: changed by the command line, checked as a whole, written, explained.
#include "train/config.h"

#include <ctype.h>
#include <string.h>

#include "core/file.h"
#include "models/create.h"
#include "train/config_keys.h"

// ---- a struct of them ---------------------------------------------------------------------------------

enum tlm_status train_config_init(struct train_config *c, struct tlm_error *err)
{
    *c = (struct train_config){0};
    enum tlm_status s = TLM_OK;
    for (int i = 0; i < CONFIG_KEY_COUNT && !s; i++)
        s = config_value_set(c, &config_keys[i], config_keys[i].fallback, err);
    if (s) train_config_free(c);
    return s;
}

static void free_pairs(struct train_config *c)
{
    for (size_t i = 0; i < c->model.pair_count; i++) {
        free(c->model.pairs[i].key);
        free(c->model.pairs[i].value);
    }
    free(c->model.pairs);
    c->model.pairs = NULL;
    c->model.pair_count = 0;
}

void train_config_free(struct train_config *c)
{
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) config_value_free(c, &config_keys[i]);
    free_pairs(c);
}

// ---- one value ----------------------------------------------------------------------------------------

static bool is_create_key(const char *key)
{
    for (size_t i = 0; i < create_key_count; i++)
        if (!strcmp(create_keys[i].name, key)) return true;
    return false;
}

bool config_is_pair(const char *key)
{
    if (is_create_key(key)) return true;
    if (!strchr(key, '.') || strlen(key) > CONFIG_KEY_LENGTH) return false;
    for (const char *p = key; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-", *p)) return false;
    return *key != '.' && key[strlen(key) - 1] != '.';
}

enum tlm_status config_pair_set(struct train_config *c, const char *key, const char *text,
                                struct tlm_error *err)
{
    const char *wrong;
    char *value = config_unquote(text, &wrong), shown[80];
    if (wrong)
        return error_set(err, TLM_ERR_ARGUMENT, "model.%s: expected %s, found '%s'", key, wrong,
                         config_printable(text, shown, sizeof shown));
    size_t n = c->model.pair_count;
    struct create_pair *pair = NULL;
    for (size_t i = 0; i < n && !pair; i++)
        if (!strcmp(c->model.pairs[i].key, key)) pair = &c->model.pairs[i];
    if (!pair && value) {
        struct create_pair *pairs = realloc(c->model.pairs, (n + 1) * sizeof *pairs);
        if (pairs) c->model.pairs = pairs;
        if (pairs && (pairs[n].key = strdup(key))) {
            pair = &pairs[n];
            pair->value = NULL;
            c->model.pair_count++;
        }
    }
    if (!value || !pair) {
        free(value);
        return error_set(err, TLM_ERR_MEMORY, "model.%s: no memory for its value", key);
    }
    free(pair->value);
    pair->value = value;
    return TLM_OK;
}

static bool is_length(const struct config_key *key)
{
    return !strcmp(key->section, "train") &&
           (!strcmp(key->name, "steps") || !strcmp(key->name, "tokens") || !strcmp(key->name, "epochs"));
}

enum tlm_status config_clear_lengths(struct train_config *c, const struct config_key *key, const int *seen,
                                     struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    if (!is_length(key) || config_value_empty(c, key)) return TLM_OK;
    for (int i = 0; i < CONFIG_KEY_COUNT && !s; i++)
        if (is_length(&config_keys[i]) && &config_keys[i] != key && !(seen && seen[i]))
            s = config_value_set(c, &config_keys[i], "0", err);
    return s;
}

enum tlm_status config_unknown_key(const char *section, const char *name, struct tlm_error *err)
{
    char buffer[80], shown[64];
    const char *near = config_nearest_key(section, name, buffer, sizeof buffer);
    return error_set(err, TLM_ERR_ARGUMENT, "%s.%s: expected a key of [%s]%s%s%s", section,
                     config_printable(name, shown, sizeof shown), section,
                     !strcmp(section, "model") ? " or, with a dot in it, a GGUF key" : "",
                     near ? "; the nearest is " : "", near ? near : "");
}

// ---- the command line ---------------------------------------------------------------------------------

// Finds the section of a name without one. Errors: ARGUMENT.
static enum tlm_status find_section(const char *key, char section[CONFIG_KEY_LENGTH + 2],
                                    struct tlm_error *err)
{
    const char *found = is_create_key(key) ? "model" : NULL, *dot = strrchr(key, '.');
    char buffer[80], shown[64];
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *k = &config_keys[i];
        if (strcmp(k->name, key) != 0) continue;
        if (found)
            return error_set(err, TLM_ERR_ARGUMENT, "expected %s.%s or %s.%s, found '%s' alone", found, key,
                             k->section, key, key);
        found = k->section;
    }
    if (found) {
        snprintf(section, CONFIG_KEY_LENGTH + 2, "%s", found);
        return TLM_OK;
    }
    const char *near = config_nearest_key("", dot ? dot + 1 : key, buffer, sizeof buffer);
    return error_set(err, TLM_ERR_ARGUMENT, "expected a key of the config, found '%s'%s%s",
                     config_printable(key, shown, sizeof shown), near ? "; the nearest is " : "",
                     near ? near : "");
}

static enum tlm_status set_key(struct train_config *c, const char *section, const char *name,
                               const char *value, struct tlm_error *err)
{
    const struct config_key *key = config_key_find(section, name);
    bool model = !strcmp(section, "model");
    if (!key && !(model && config_is_pair(name))) return config_unknown_key(section, name, err);
    enum tlm_status s = key ? config_value_set(c, key, value, err) : config_pair_set(c, name, value, err);
    if (s) return s;
    if (key && (s = config_clear_lengths(c, key, NULL, err))) return s;
    // A model to go on from takes the place of a new one, and the other way round.
    if (model && !strcmp(name, "init") && c->model.init) {
        free_pairs(c);
        config_value_free(c, config_key_find("model", "arch"));
        config_value_free(c, config_key_find("model", "tokenizer"));
    } else if (model && strcmp(name, "init") != 0) {
        config_value_free(c, config_key_find("model", "init"));
    }
    return TLM_OK;
}

enum tlm_status train_config_set(struct train_config *c, const char *assignment, struct tlm_error *err)
{
    const char *equals = strchr(assignment, '='), *dot = strchr(assignment, '.');
    char section[CONFIG_KEY_LENGTH + 2], key[2 * CONFIG_KEY_LENGTH + 4], shown[96];
    size_t n = equals ? (size_t)(equals - assignment) : 0;
    if (!n || n >= sizeof key)
        return error_set(err, TLM_ERR_ARGUMENT, "expected key=value, found '%s'",
                         config_printable(assignment, shown, sizeof shown));
    memcpy(key, assignment, n);
    key[n] = 0;
    const char *name = key;
    size_t head = dot && dot < equals ? (size_t)(dot - assignment) : 0;
    if (head && head < sizeof section) {
        memcpy(section, key, head);
        section[head] = 0;
    }
    if (head && head < sizeof section && config_section_exists(section)) {
        name = key + head + 1;
    } else {
        enum tlm_status s = find_section(key, section, err);
        if (s) return s;
    }
    return set_key(c, section, name, equals + 1, err);
}

// ---- the whole ----------------------------------------------------------------------------------------

enum tlm_status train_config_check(const struct train_config *c, struct tlm_error *err)
{
    int lengths = (c->train.steps > 0) + (c->train.tokens > 0) + (c->train.epochs > 0);
    if (lengths != 1)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "train: expected one of steps, tokens and epochs above 0, found %s",
                         lengths ? "several" : "none");
    if (!c->data.train.count)
        return error_set(err, TLM_ERR_ARGUMENT, "data.train: expected files to train on, found none");
    if (c->model.init && (c->model.arch || c->model.tokenizer || c->model.pair_count))
        return error_set(err, TLM_ERR_ARGUMENT,
                         "model.init: expected no other key of [model] beside it, found model.%s",
                         c->model.arch        ? "arch"
                         : c->model.tokenizer ? "tokenizer"
                                              : c->model.pairs[0].key);
    if (!c->model.init && !c->model.arch)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "model: expected init = FILE, or arch = NAME for a new model, found neither");
    if (!c->model.init && !c->model.tokenizer)
        return error_set(
            err, TLM_ERR_ARGUMENT,
            "model.tokenizer: expected a GGUF file with the vocabulary of the new model, found none");
    if (c->train.steps && c->schedule.warmup > (double)c->train.steps)
        return error_set(err, TLM_ERR_ARGUMENT, "schedule.warmup: expected at most the %lld steps, found %g",
                         (long long)c->train.steps, c->schedule.warmup);
    if (c->train.teacher && c->train.distill == 0)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "train.teacher: expected a train.distill above 0 beside it, found 0");
    if (c->train.distill > 0 && !c->train.teacher && !c->model.init)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "train.distill: expected a train.teacher for a new model, found none");
    if (c->train.early_stop && !c->data.val.count)
        return error_set(err, TLM_ERR_ARGUMENT, "train.early_stop: expected 0 without data.val, found %lld",
                         (long long)c->train.early_stop);
    return TLM_OK;
}

static enum tlm_status take_text(struct config_text *t, char **text, struct tlm_error *err)
{
    *text = NULL;
    if (t->failed || !t->data) {
        free(t->data);
        return error_set(err, TLM_ERR_MEMORY, "no memory for the text of a config");
    }
    *text = t->data;
    return TLM_OK;
}

enum tlm_status train_config_text(const struct train_config *c, char **text, struct tlm_error *err)
{
    struct config_text t = {0};
    const char *section = "";
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        if (strcmp(section, key->section) != 0) config_text_add(&t, "%s[%s]\n", i ? "\n" : "", key->section);
        section = key->section;
        config_value_write(&t, c, key);
        bool last = i + 1 == CONFIG_KEY_COUNT || strcmp(config_keys[i + 1].section, section) != 0;
        for (size_t j = 0; last && !strcmp(section, "model") && j < c->model.pair_count; j++)
            config_pair_write(&t, c->model.pairs[j].key, c->model.pairs[j].value);
    }
    return take_text(&t, text, err);
}

enum tlm_status train_config_write(const struct train_config *c, const char *path, struct tlm_error *err)
{
    struct file_writer *w;
    char *text;
    enum tlm_status s = train_config_text(c, &text, err);
    if (s) return s;
    if (!(s = file_writer_open(&w, path, err))) {
        file_writer_write(w, text, strlen(text));
        s = file_writer_finish(w, err);
    }
    free(text);
    return s;
}

// ---- help ---------------------------------------------------------------------------------------------

enum { HELP_INDENT = 30 };

// "  left   words ..." with the words wrapped.
static void add_help(struct config_text *t, int columns, const char *left, const char *words)
{
    int at = HELP_INDENT;
    config_text_add(t, "  %-*s", HELP_INDENT - 2, left);
    if (strlen(left) > HELP_INDENT - 4) config_text_add(t, "\n%*s", HELP_INDENT, "");
    while (*words) {
        int n = (int)strcspn(words, " ");
        bool wraps = at > HELP_INDENT && at + 1 + n > columns;
        if (wraps) config_text_add(t, "\n%*s", HELP_INDENT, "");
        if (wraps) at = HELP_INDENT;
        config_text_add(t, "%s%.*s", at > HELP_INDENT ? " " : "", n, words);
        at += n + (at > HELP_INDENT);
        words += n;
        words += *words == ' ';
    }
    config_text_add(t, "\n");
}

static void add_key_help(struct config_text *t, int columns, const struct config_key *key)
{
    char left[96], words[512];
    size_t n = (size_t)snprintf(words, sizeof words, "%s", key->help);
    for (int i = 0; key->choices && key->choices[i] && n < sizeof words; i++)
        n += (size_t)snprintf(words + n, sizeof words - n, "%s%s", i ? " | " : ": ", key->choices[i]);
    snprintf(left, sizeof left, "%s =%s%s", key->name, *key->fallback ? " " : "", key->fallback);
    add_help(t, columns, left, words);
}

enum tlm_status train_config_help(char **text, int columns, struct tlm_error *err)
{
    struct config_text t = {0};
    const char *section = "";
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        if (strcmp(section, key->section) != 0) config_text_add(&t, "%s[%s]\n", i ? "\n" : "", key->section);
        section = key->section;
        add_key_help(&t, columns, key);
        bool last = i + 1 == CONFIG_KEY_COUNT || strcmp(config_keys[i + 1].section, section) != 0;
        if (!last || strcmp(section, "model") != 0) continue;
        for (size_t j = 0; j < create_key_count; j++) {
            char left[64];
            snprintf(left, sizeof left, "%s =", create_keys[j].name);
            add_help(&t, columns, left, create_keys[j].help);
        }
        add_help(&t, columns,
                 "KEY.NAME =", "any GGUF key that the architecture reads, such as attention.scale");
    }
    return take_text(&t, text, err);
}
