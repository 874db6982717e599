// text/grammar_json.c -- see text/grammar_json.h. The grammar is that of RFC 8259.
#include "text/grammar_json.h"

#include <string.h>

enum { INDENTATION = 32, NAME_CHARACTERS = 128 };

static int32_t regex(struct json_rules *j, const char *pattern)
{
    return grammar_regex_part(j->x, pattern, strlen(pattern), REGEX_WHOLE, "").expr;
}

int32_t text_expr(struct json_rules *j, const char *text)
{
    return expr_bytes(j->x, text, strlen(text));
}

int32_t json_space(struct json_rules *j)
{
    if (!j->space) {
        j->space = expr_rule(j->x, NULL, 0);
        int32_t indentation = expr_repeat(j->x, regex(j, "[ \\t]"), 0, INDENTATION);
        int32_t line = expr_list(j->x, text_expr(j, "\n"), indentation);
        expr_define(j->x, j->space, expr_repeat(j->x, expr_alt(j->x, text_expr(j, " "), line), 0, 1));
    }
    return expr_call(j->x, j->space);
}

int32_t json_character(struct json_rules *j)
{
    // Of escapes of code points all but U+0000 and halves of pairs.
    static const char pattern[] =
        "[^\"\\\\\\x00-\\x1F]|\\\\([\"\\\\/bfnrt]|u("
        "[1-9A-Ca-cE-Fe-f][0-9A-Fa-f]{3}|0[1-9A-Fa-f][0-9A-Fa-f]{2}|00[1-9A-Fa-f][0-9A-Fa-f]|"
        "000[1-9A-Fa-f]|[Dd][0-7][0-9A-Fa-f]{2}|"
        "[Dd][89ABab][0-9A-Fa-f]{2}\\\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}))";
    if (!j->character) {
        j->character = expr_rule(j->x, NULL, 0);
        expr_define(j->x, j->character, regex(j, pattern));
    }
    return expr_call(j->x, j->character);
}

int32_t json_any_string(struct json_rules *j)
{
    if (!j->string) {
        j->string = expr_rule(j->x, NULL, 0);
        int32_t body = expr_list(j->x, text_expr(j, "\""), expr_repeat(j->x, json_character(j), 0, -1));
        expr_define(j->x, j->string, expr_add(j->x, body, text_expr(j, "\"")));
    }
    return expr_call(j->x, j->string);
}

int32_t json_any_number(struct json_rules *j)
{
    return regex(j, "-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,16})?([eE][-+]?[0-9]{1,2})?");
}

int32_t json_items(struct json_rules *j, int32_t item, int64_t least, int64_t most)
{
    struct grammar_exprs *x = j->x;
    if (!most) return least > 0 ? expr_many(x, EXPR_ALT) : 0;
    int32_t more = expr_list(x, text_expr(j, ","), json_space(j));
    expr_add(x, more, expr_call(x, item));
    more = expr_repeat(x, more, least > 1 ? least - 1 : 0, most < 0 ? -1 : most - 1);
    int32_t all = expr_list(x, expr_call(x, item), more);
    return least > 0 ? all : expr_repeat(x, all, 0, 1);
}

// "open" items "close", with space where it belongs.
static int32_t enclosed(struct json_rules *j, const char *open, int32_t items, const char *close)
{
    int32_t e = expr_list(j->x, text_expr(j, open), json_space(j));
    expr_add(j->x, e, items);
    expr_add(j->x, e, json_space(j));
    return expr_add(j->x, e, text_expr(j, close));
}

int32_t json_any_object(struct json_rules *j)
{
    if (!j->object && !j->x->status) {
        j->object = expr_rule(j->x, NULL, 0);
        int32_t pair = expr_rule(j->x, NULL, 0);
        int32_t body = expr_list(j->x, json_any_string(j), text_expr(j, ":"));
        expr_add(j->x, body, json_space(j));
        expr_define(j->x, pair, expr_add(j->x, body, json_any(j)));
        expr_define(j->x, j->object, enclosed(j, "{", json_items(j, pair, 0, -1), "}"));
    }
    return expr_call(j->x, j->object);
}

int32_t json_any_array(struct json_rules *j)
{
    if (!j->array && !j->x->status) {
        j->array = expr_rule(j->x, NULL, 0);
        json_any(j);
        expr_define(j->x, j->array, enclosed(j, "[", json_items(j, j->value, 0, -1), "]"));
    }
    return expr_call(j->x, j->array);
}

int32_t json_any(struct json_rules *j)
{
    if (!j->value && !j->x->status) {
        j->value = expr_rule(j->x, NULL, 0);
        int32_t alt = expr_alt(j->x, json_any_object(j), json_any_array(j));
        expr_add(j->x, alt, json_any_string(j));
        expr_add(j->x, alt, json_any_number(j));
        expr_add(j->x, alt, regex(j, "true|false|null"));
        expr_define(j->x, j->value, alt);
    }
    return expr_call(j->x, j->value);
}

int32_t json_constant(struct json_rules *j, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    if (!text) exprs_fail(j->x, TLM_ERR_MEMORY, "no memory for a constant");
    int32_t e = text ? text_expr(j, text) : 0;
    free(text);
    return e;
}

// ---- keys that are not given names ----------------------------------------------------------------------

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// A character of a key: no quote, no escape, no control character, and none of those in `but`.
static int32_t plain(struct json_rules *j, const struct char_set *but)
{
    struct char_set set = {0};
    set_add_all(&set, but);
    set_add(&set, 0, 0x1F);
    set_add(&set, '"', '"');
    set_add(&set, '\\', '\\');
    set_negate(&set);
    int32_t e = expr_class(j->x, &set);
    set_free(&set);
    return e;
}

// The rest of a key that began like the names, sorted, do up to byte `at`: leaves them somewhere, or ends where none does.
static int32_t rest_of_key(struct json_rules *j, const char *const *names, int32_t count, size_t at,
                           int depth)
{
    struct char_set next = {0}, none = {0};
    int32_t alt = expr_many(j->x, EXPR_ALT), i = 0;
    if (depth > NAME_CHARACTERS) {
        exprs_fail(j->x, TLM_ERR_UNSUPPORTED,
                   "expected names of at most %d characters beside others, found \"%.40s\"", NAME_CHARACTERS,
                   names[0]);
        return 0;
    }
    if (names[0][at]) expr_add(j->x, alt, text_expr(j, "\""));
    while (i < count && !names[i][at]) i++; // this name ends here
    while (i < count && !j->x->status) {
        size_t length;
        int32_t c = utf8_read(names[i] + at, strlen(names[i] + at), &length), last = i + 1;
        while (last < count && !strncmp(names[last] + at, names[i] + at, length)) last++;
        set_add(&next, (uint32_t)c, (uint32_t)c);
        if (c >= 0x20 && c != '"' && c != '\\') { // others need escapes, which these keys do not have
            int32_t same = expr_bytes(j->x, names[i] + at, length);
            expr_add(j->x, alt,
                     expr_list(j->x, same, rest_of_key(j, names + i, last - i, at + length, depth + 1)));
        }
        i = last;
    }
    int32_t other = expr_list(j->x, plain(j, &next), expr_repeat(j->x, plain(j, &none), 0, -1));
    expr_add(j->x, alt, expr_add(j->x, other, text_expr(j, "\"")));
    set_free(&next);
    return alt;
}

int32_t json_other_key(struct json_rules *j, const char *const *names, int32_t count)
{
    if (!count) return json_any_string(j);
    const char **sorted = malloc((size_t)count * sizeof *sorted);
    if (!sorted) {
        exprs_fail(j->x, TLM_ERR_MEMORY, "no memory for %d names", count);
        return 0;
    }
    memcpy(sorted, names, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_text);
    int32_t e = expr_list(j->x, text_expr(j, "\""), rest_of_key(j, sorted, count, 0, 0));
    free(sorted);
    return e;
}
