// models/rules.c -- the rules of tensor_placement (models/placement.h).
#include <regex.h>
#include <stdlib.h>

#include "models/placement.h"

enum { DEVICE_MOST = 1 << 16 };

struct rule {
    regex_t regex;
    int device;
    bool used;        // some name matched, whether or not a rule in front of it took it
    const char *text; // the expression, in the rules' copy
};

struct placement_rules {
    char *copy; // of the texts
    struct rule *items;
    size_t count;
};

// Reads a place that ends with the text or a comma; the bytes that it has, 0: it is none.
static size_t read_place(const char *text, int *device)
{
    const size_t length = strcspn(text, ",");
    char *end;
    if (length == 3 && !strncasecmp(text, "cpu", 3)) {
        *device = RULE_CPU;
        return length;
    }
    if (length < 4 || strncasecmp(text, "cuda", 4) != 0) return 0;
    if (length == 4) {
        *device = RULE_LAYER;
        return length;
    }
    const char *digits = text + 4 + (text[4] == ':');
    const long number = *digits >= '0' && *digits <= '9' ? strtol(digits, &end, 10) : -1;
    if (number < 0 || number > DEVICE_MOST || end != text + length) return 0;
    *device = (int)number;
    return length;
}

// The rule that begins at *text, which is moved behind it.
static enum tlm_status read_rule(struct placement_rules *r, char **text, struct tlm_error *err)
{
    struct rule *rule = &r->items[r->count];
    char *begin = *text, *equals = begin, reason[128];
    size_t length = 0;
    while ((equals = strchr(equals, '=')) && !(length = read_place(equals + 1, &rule->device))) equals++;
    if (!equals || equals == begin)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "tensor placement: expected REGEX=PLACE, with cpu, cuda or cuda:N as the place, "
                         "found '%.200s'",
                         begin);
    *equals = 0;
    *text = equals + 1 + length;
    *text += **text == ',';
    rule->text = begin;
    const int failed = regcomp(&rule->regex, begin, REG_EXTENDED | REG_NOSUB);
    if (failed) {
        regerror(failed, &rule->regex, reason, sizeof reason);
        return error_set(err, TLM_ERR_ARGUMENT, "tensor placement: '%.200s' is no regular expression: %s",
                         begin, reason);
    }
    r->count++;
    return TLM_OK;
}

enum tlm_status rules_parse(struct placement_rules **out, const char *const *texts, size_t count,
                            struct tlm_error *err)
{
    struct placement_rules *r = *out = calloc(1, sizeof *r);
    size_t bytes = 1, most = 0;
    for (size_t i = 0; i < count; i++)
        bytes += strlen(texts[i]) + 1, most += strlen(texts[i]) / 4 + 1; // "x=cpu"
    if (r) r->copy = malloc(bytes);
    if (r) r->items = calloc(most + 1, sizeof *r->items);
    enum tlm_status s = TLM_OK;
    if (!r || !r->copy || !r->items)
        s = error_set(err, TLM_ERR_MEMORY, "tensor placement: no memory for %zu rules", most);
    char *to = s ? NULL : r->copy;
    for (size_t i = 0; i < count && !s; i++) {
        char *at = to, *end = stpcpy(to, texts[i]);
        do s = read_rule(r, &at, err);
        while (!s && *at);
        to = end + 1;
    }
    if (s) {
        rules_free(r);
        *out = NULL;
    }
    return s;
}

void rules_free(struct placement_rules *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->count; i++) regfree(&r->items[i].regex);
    free(r->items);
    free(r->copy);
    free(r);
}

bool rules_match(struct placement_rules *r, const char *name, int *device)
{
    bool found = false;
    for (size_t i = 0; i < r->count; i++) {
        if (regexec(&r->items[i].regex, name, 0, NULL, 0)) continue;
        r->items[i].used = true;
        if (!found) *device = r->items[i].device;
        found = true;
    }
    return found;
}

bool rules_name(const struct placement_rules *r, int device)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->items[i].device == device) return true;
    return false;
}

enum tlm_status rules_check_used(const struct placement_rules *r, struct tlm_error *err)
{
    for (size_t i = 0; i < r->count; i++)
        if (!r->items[i].used)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "tensor placement: '%.200s' matches the name of no matrix of the model",
                             r->items[i].text);
    return TLM_OK;
}
