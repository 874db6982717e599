// text/pretokenizer_json.c -- the "pre_tokenizer" of a tokenizer.json as a list of rules.
#include "text/pretokenizer_json.h"

#include <string.h>

#include "text/json_text.h"

enum { DEPTH_MAX = 8, PATTERNS_MAX = 64 * 1024 };

static enum tlm_status add_rule(struct pretokenizer_rules *r, struct split_rule rule, struct tlm_error *err)
{
    if (r->count == SPLIT_RULES_MAX)
        return error_set(err, TLM_ERR_UNSUPPORTED, "pre_tokenizer: expected at most %d steps",
                         SPLIT_RULES_MAX);
    r->rules[r->count++] = rule;
    return TLM_OK;
}

// Keeps a pattern, with line breaks as they are written in the table of names, so that the two compare equal.
static enum tlm_status add_pattern(struct pretokenizer_rules *r, struct split_rule rule, const char *pattern,
                                   size_t length, struct tlm_error *err)
{
    static const char line_end[] = "\\s+$", linear[] = "(?<!\\s)\\s+$"; // finds the same, see pretokenizer.c
    if (rule.kind == SPLIT_REGEX && length == sizeof line_end - 1 && !memcmp(pattern, line_end, length)) {
        pattern = linear;
        length = sizeof linear - 1;
    }
    if (!length || length > PATTERNS_MAX)
        return error_set(err, TLM_ERR_FORMAT, "pre_tokenizer: expected a pattern of 1 to %d bytes, found %zu",
                         PATTERNS_MAX, length);
    if (r->text_count == SPLIT_RULES_MAX)
        return error_set(err, TLM_ERR_UNSUPPORTED, "pre_tokenizer: expected at most %d patterns",
                         SPLIT_RULES_MAX);
    char *copy = r->texts[r->text_count] = malloc(2 * length);
    if (!copy) return error_set(err, TLM_ERR_MEMORY, "pre_tokenizer: no memory for %zu bytes", length);
    r->text_count++;
    for (size_t i = 0; i < length; i++) {
        bool is_break = rule.kind == SPLIT_REGEX && (pattern[i] == '\r' || pattern[i] == '\n');
        if (is_break) copy[rule.length++] = '\\';
        copy[rule.length++] = !is_break ? pattern[i] : pattern[i] == '\r' ? 'r' : 'n';
    }
    rule.pattern = copy;
    return add_rule(r, rule, err);
}

static enum tlm_status read_behavior(const json_t *json, enum split_behavior *out, struct tlm_error *err)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    const char *name = json_string_value(json);
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) {
            *out = (enum split_behavior)i;
            return TLM_OK;
        }
    return error_set(err, TLM_ERR_FORMAT, "pre_tokenizer: expected a behavior such as Isolated, found \"%s\"",
                     json_shown(name).text);
}

static enum tlm_status read_split(struct pretokenizer_rules *r, const json_t *json, struct tlm_error *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *literal = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    const json_t *text = literal ? literal : regex;
    struct split_rule rule = {.kind = literal ? SPLIT_LITERAL : SPLIT_REGEX,
                              .invert = json_is_true(json_object_get(json, "invert"))};
    if (!json_is_string(text))
        return error_set(err, TLM_ERR_FORMAT, "pre_tokenizer: Split: expected a pattern, String or Regex");
    enum tlm_status status = read_behavior(json_object_get(json, "behavior"), &rule.behavior, err);
    return status ? status : add_pattern(r, rule, json_string_value(text), json_string_length(text), err);
}

static enum tlm_status read_byte_level(struct pretokenizer_rules *r, const json_t *json,
                                       struct tlm_error *err)
{
    static const char gpt2[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    r->byte_level = true;
    enum tlm_status status = TLM_OK;
    if (!json_is_false(json_object_get(json, "add_prefix_space")))
        status = add_rule(r, (struct split_rule){.kind = SPLIT_PREFIX_SPACE}, err);
    if (!status && !json_is_false(json_object_get(json, "use_regex")))
        status = add_pattern(r, (struct split_rule){.kind = SPLIT_REGEX}, gpt2, sizeof gpt2 - 1, err);
    return status;
}

static enum tlm_status read_metaspace(struct pretokenizer_rules *r, const json_t *json, struct tlm_error *err)
{
    const char *mark = json_string_value(json_object_get(json, "replacement"));
    const char *scheme = json_string_value(json_object_get(json, "prepend_scheme"));
    struct split_rule rule = {.kind = SPLIT_MARKS, .prefix = SPLIT_PREFIX_ALWAYS};
    if (!mark || strcmp(mark, "\xE2\x96\x81"))
        return error_set(err, TLM_ERR_UNSUPPORTED, "pre_tokenizer: Metaspace: expected U+2581 for a space");
    if (scheme ? !strcmp(scheme, "never") : json_is_false(json_object_get(json, "add_prefix_space")))
        rule.prefix = SPLIT_PREFIX_NEVER;
    if (scheme && !strcmp(scheme, "first")) rule.prefix = SPLIT_PREFIX_FIRST;
    enum tlm_status status = add_rule(r, rule, err);
    if (status || json_is_false(json_object_get(json, "split"))) return status;
    rule = (struct split_rule){.kind = SPLIT_LITERAL, .behavior = SPLIT_MERGED_WITH_NEXT};
    return add_pattern(r, rule, mark, 3, err);
}

static enum tlm_status read_step(struct pretokenizer_rules *r, const json_t *json, int depth,
                                 struct tlm_error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type) return error_set(err, TLM_ERR_FORMAT, "pre_tokenizer: expected an object with a \"type\"");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(json, "pretokenizers"), *item;
        size_t i;
        if (!json_is_array(list) || depth == DEPTH_MAX)
            return error_set(err, TLM_ERR_FORMAT,
                             "pre_tokenizer: Sequence: expected an array, at most %d deep", DEPTH_MAX);
        json_array_foreach(list, i, item)
        {
            enum tlm_status status = read_step(r, item, depth + 1, err);
            if (status) return status;
        }
        return TLM_OK;
    }
    if (!strcmp(type, "Split")) return read_split(r, json, err);
    if (!strcmp(type, "ByteLevel")) return read_byte_level(r, json, err);
    if (!strcmp(type, "Metaspace")) return read_metaspace(r, json, err);
    struct split_rule rule = {.kind = SPLIT_REGEX};
    const char *pattern = NULL;
    if (!strcmp(type, "Digits")) {
        bool individual = json_is_true(json_object_get(json, "individual_digits"));
        if (r->byte_level && !individual) {
            r->byte_numbers = true;
            return TLM_OK;
        }
        if (!individual) rule.behavior = SPLIT_CONTIGUOUS;
        pattern = r->byte_level ? "[0-9]" : "\\p{N}";
    } else if (!strcmp(type, "Punctuation")) {
        const json_t *behavior = json_object_get(json, "behavior");
        enum tlm_status status = behavior ? read_behavior(behavior, &rule.behavior, err) : TLM_OK;
        if (status) return status;
        pattern = PRETOKENIZER_PUNCTUATION;
    } else if (!strcmp(type, "Whitespace")) {
        rule.behavior = SPLIT_REMOVED;
        rule.invert = true;
        pattern = "\\w+|[^\\w\\s]+";
    } else if (!strcmp(type, "WhitespaceSplit")) {
        rule.behavior = SPLIT_REMOVED;
        pattern = "\\s";
    } else if (!strcmp(type, "CharDelimiterSplit")) {
        rule.kind = SPLIT_LITERAL;
        rule.behavior = SPLIT_REMOVED;
        pattern = json_string_value(json_object_get(json, "delimiter"));
    }
    if (!pattern)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "pre_tokenizer: expected a kind that is known, found \"%s\"", json_shown(type).text);
    return add_pattern(r, rule, pattern, strlen(pattern), err);
}

enum tlm_status pretokenizer_rules_read(struct pretokenizer_rules *r, const json_t *json,
                                        struct tlm_error *err)
{
    *r = (struct pretokenizer_rules){0};
    enum tlm_status status = json_is_object(json) ? read_step(r, json, 0, err) : TLM_OK;
    if (!status && r->byte_numbers)
        status = add_rule(r, (struct split_rule){.kind = SPLIT_BYTE_NUMBERS}, err);
    if (status) pretokenizer_rules_free(r);
    return status;
}

void pretokenizer_rules_free(struct pretokenizer_rules *r)
{
    for (size_t i = 0; i < r->text_count; i++) free(r->texts[i]);
    r->text_count = 0;
}

enum tlm_status pretokenizer_open_json(struct pretokenizer **out, const char *json, size_t length,
                                       struct tlm_error *err)
{
    *out = NULL;
    json_t *root;
    struct pretokenizer_rules rules;
    enum tlm_status status = json_text_read(&root, json, length, "pre_tokenizer", err);
    if (status) return status;
    status = pretokenizer_rules_read(&rules, root, err);
    json_decref(root);
    if (status) return status;
    status = pretokenizer_open(out, rules.rules, rules.count, err);
    pretokenizer_rules_free(&rules);
    return status;
}
