// text/jinja_json.c -- JSON into values, and values into JSON as Python's json.dumps writes it.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "text/jinja_builtin.h"

// ---- in -----------------------------------------------------------------------------------------------

static bool is_plain_word(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '-') return false;
    }
    return true;
}

static struct value object_value(struct jinja *j, const json_t *json, uint32_t mark, const char *trusted_key)
{
    struct dict *d = dict_new(j);
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)json, key, item)
    {
        uint32_t item_mark = mark;
        if (trusted_key && !strcmp(key, trusted_key) && json_is_string(item) &&
            is_plain_word(json_string_value(item), json_string_length(item)))
            item_mark = 0;
        dict_set(j, d, value_utf8(j, key, strlen(key), mark), json_value(j, item, item_mark, NULL));
    }
    return value_dict(d);
}

struct value json_value(struct jinja *j, const json_t *json, uint32_t mark, const char *trusted_key)
{
    struct value v;
    jinja_charge(j, 0);
    jinja_enter(j);
    switch (json_typeof(json)) {
    case JSON_OBJECT: v = object_value(j, json, mark, trusted_key); break;
    case JSON_ARRAY: {
        struct list *l = list_new(j, (int64_t)json_array_size(json));
        for (size_t i = 0; i < json_array_size(json); i++) {
            const json_t *item = json_array_get(json, i);
            // The trusted key is one of the objects in a list at the top.
            list_push(j, l, json_value(j, item, mark, json_is_object(item) ? trusted_key : NULL));
        }
        v = value_list(l);
        break;
    }
    case JSON_STRING: v = value_utf8(j, json_string_value(json), json_string_length(json), mark); break;
    case JSON_INTEGER: v = value_int(json_integer_value(json)); break;
    case JSON_REAL: v = value_float(json_real_value(json)); break;
    case JSON_TRUE: v = value_bool(true); break;
    case JSON_FALSE: v = value_bool(false); break;
    default: v = value_none(); break;
    }
    jinja_leave(j);
    return v;
}

// ---- out ----------------------------------------------------------------------------------------------

struct dump {
    struct jinja *j;
    struct text out;
    bool ascii, sort, indented;
    struct value indent;          // a string, for each level
    struct value between, behind; // items; a key
    int64_t level;
};

static void put_escaped(struct dump *d, const char *escape, uint32_t mark)
{
    while (*escape) text_put(d->j, &d->out, (unsigned char)*escape++ | mark);
}

static void dump_string(struct dump *d, struct value s)
{
    static const char codes[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
    text_put(d->j, &d->out, '"');
    for (int64_t i = 0; i < s.n; i++) {
        uint32_t c = s.s[i] & JINJA_CHAR, mark = s.s[i] & JINJA_INPUT;
        const char *code = c && c < 128 ? strchr(codes, (int)c) : NULL;
        char escape[16];
        if (code) {
            snprintf(escape, sizeof escape, "\\%c", letters[code - codes]);
        } else if (c >= 0x10000 && d->ascii) { // a pair of surrogates
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                     0xDC00 + (c & 0x3FF));
        } else if (c < 32 || (d->ascii && c > 126)) {
            snprintf(escape, sizeof escape, "\\u%04x", c);
        } else {
            text_put(d->j, &d->out, s.s[i]);
            continue;
        }
        put_escaped(d, escape, mark);
    }
    text_put(d->j, &d->out, '"');
}

static void dump_float(struct dump *d, double f)
{
    char number[32];
    format_float(f, number);
    if (f - f != 0) strcpy(number, f != f ? "NaN" : f > 0 ? "Infinity" : "-Infinity");
    text_ascii(d->j, &d->out, number);
}

static void dump_break(struct dump *d)
{
    if (!d->indented) return;
    text_put(d->j, &d->out, '\n');
    for (int64_t i = 0; i < d->level; i++) text_add(d->j, &d->out, d->indent);
}

static void dump_value(struct dump *d, struct value v);

static void dump_list(struct dump *d, const struct list *l)
{
    text_put(d->j, &d->out, '[');
    d->level++;
    for (int64_t i = 0; i < l->count; i++) {
        if (i) text_add(d->j, &d->out, d->between);
        dump_break(d);
        dump_value(d, l->items[i]);
    }
    d->level--;
    if (l->count) dump_break(d);
    text_put(d->j, &d->out, ']');
}

static void dump_key(struct dump *d, struct value key)
{
    struct text t = {0};
    if (is_string(key)) {
        dump_string(d, key);
        return;
    }
    if (!is_number(key) && key.type != V_NONE)
        FAIL(d->j, "tojson expected keys that are strings, found %s", type_name(key));
    text_put(d->j, &d->out, '"');
    struct text outer = d->out;
    d->out = t;
    dump_value(d, key); // true, null and numbers as they are written elsewhere
    t = d->out;
    d->out = outer;
    text_add(d->j, &d->out, text_value(&t));
    text_put(d->j, &d->out, '"');
}

static void dump_dict(struct dump *d, const struct dict *dict)
{
    struct list *order = list_new(d->j, dict->count), *keys = list_new(d->j, dict->count);
    for (int64_t i = 0; i < dict->count; i++) {
        list_push(d->j, order, value_int(i));
        list_push(d->j, keys, dict->entries[i].key);
    }
    if (d->sort) list_sort(d->j, order, keys, false);
    text_put(d->j, &d->out, '{');
    d->level++;
    for (int64_t i = 0; i < dict->count; i++) {
        const struct entry *e = &dict->entries[order->items[i].n];
        if (i) text_add(d->j, &d->out, d->between);
        dump_break(d);
        dump_key(d, e->key);
        text_add(d->j, &d->out, d->behind);
        dump_value(d, e->value);
    }
    d->level--;
    if (dict->count) dump_break(d);
    text_put(d->j, &d->out, '}');
}

static void dump_value(struct dump *d, struct value v)
{
    jinja_enter(d->j);
    switch (v.type) {
    case V_NONE: text_ascii(d->j, &d->out, "null"); break;
    case V_BOOL: text_ascii(d->j, &d->out, v.n ? "true" : "false"); break;
    case V_INT: text_str(d->j, &d->out, v); break;
    case V_FLOAT: dump_float(d, v.f); break;
    case V_STRING: dump_string(d, v); break;
    case V_LIST:
    case V_TUPLE: dump_list(d, v.list); break;
    case V_DICT: dump_dict(d, v.dict); break;
    default: FAIL(d->j, "tojson expected a value that JSON has, found %s", type_name(v));
    }
    jinja_leave(d->j);
}

struct value json_dump(struct jinja *j, struct value v, bool ascii, struct value indent,
                       struct value separators, bool sort)
{
    struct dump d = {.j = j, .ascii = ascii, .sort = sort};
    d.indented = is_given(indent) && indent.type != V_NONE;
    d.indent = is_string(indent) ? indent : value_chars(NULL, 0);
    if (d.indented && !is_string(indent) && arg_int(j, indent, 0) > 0)
        d.indent = number_arithmetic(j, T_MUL, value_ascii(j, " "), value_int(arg_int(j, indent, 0)));
    d.between = value_ascii(j, d.indented ? "," : ", ");
    d.behind = value_ascii(j, ": ");
    if (is_given(separators) && separators.type != V_NONE) {
        struct list *l = list_of(j, separators);
        if (l->count != 2) FAIL(j, "tojson expected two separators, found %lld", (long long)l->count);
        d.between = arg_string(j, l->items[0], "tojson");
        d.behind = arg_string(j, l->items[1], "tojson");
    }
    dump_value(&d, v);
    return text_value(&d.out);
}
