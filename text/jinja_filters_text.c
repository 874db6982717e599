// text/jinja_filters_text.c -- filters over text and numbers.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "text/jinja_builtin.h"

#define FILTER(name)                                                                      \
    static struct value name(struct jinja *j, struct value self, const struct value *arg, \
                             const struct args *rest)

// jinja2's soft_str: a string stays what it is.
static struct value soft(struct jinja *j, struct value v)
{
    return is_string(v) ? v : value_str(j, v);
}

FILTER(filter_string)
{
    (void)arg, (void)rest;
    return soft(j, self);
}

FILTER(filter_upper)
{
    (void)arg, (void)rest;
    return string_upper(j, soft(j, self));
}

FILTER(filter_lower)
{
    (void)arg, (void)rest;
    return string_lower(j, soft(j, self));
}

FILTER(filter_capitalize)
{
    (void)arg, (void)rest;
    return string_capitalize(j, soft(j, self));
}

// Words begin behind white space and any of -({[<.
FILTER(filter_title)
{
    (void)arg, (void)rest;
    struct value s = soft(j, self);
    struct text t = {0};
    bool inside = false;
    for (int64_t i = 0; i < s.n;) {
        uint32_t c = s.s[i] & JINJA_CHAR;
        inside = !char_is_space(c) && !(c < 128 && c && strchr("-({[<", (int)c));
        if (!inside) {
            text_put(j, &t, s.s[i++]);
            continue;
        }
        int64_t end = i + 1;
        for (; end < s.n; end++) {
            c = s.s[end] & JINJA_CHAR;
            if (char_is_space(c) || (c < 128 && c && strchr("-({[<", (int)c))) break;
        }
        text_add(j, &t, string_upper(j, string_slice(s, i, i + 1)));
        text_add(j, &t, string_lower(j, string_slice(s, i + 1, end)));
        i = end;
    }
    return text_value(&t);
}

FILTER(filter_trim)
{
    (void)rest;
    return string_strip(j, soft(j, self), arg[0], true, true);
}

FILTER(filter_replace)
{
    (void)rest;
    int64_t count = arg[2].type == V_NONE ? -1 : arg_int(j, arg[2], -1);
    return string_replace(j, value_str(j, self), value_str(j, arg[0]), value_str(j, arg[1]), count);
}

FILTER(filter_center)
{
    (void)rest;
    return string_center(j, soft(j, self), arg_int(j, arg[0], 80), ' ');
}

FILTER(filter_indent)
{
    (void)rest;
    struct value s = arg_string(j, self, "indent"), indent;
    if (is_given(arg[0]) && is_string(arg[0]))
        indent = arg[0];
    else
        indent = number_arithmetic(j, T_MUL, value_ascii(j, " "), value_int(arg_int(j, arg[0], 4)));
    struct text t = {0}, ended = {0};
    text_add(j, &ended, s);
    text_put(j, &ended, '\n');
    struct list *lines = string_lines(j, text_value(&ended), false);
    for (int64_t i = 0; i < lines->count; i++) {
        bool indented = i ? lines->items[i].n || given_true(arg[2]) : given_true(arg[1]);
        if (i) text_put(j, &t, '\n');
        if (indented) text_add(j, &t, indent);
        text_add(j, &t, lines->items[i]);
    }
    return text_value(&t);
}

FILTER(filter_truncate)
{
    (void)rest;
    int64_t length = arg_int(j, arg[0], 255), size,
            leeway = arg[3].type == V_NONE ? 5 : arg_int(j, arg[3], 5);
    struct value end = is_given(arg[2]) ? arg_string(j, arg[2], "truncate") : value_ascii(j, "...");
    if (length < end.n || leeway < 0)
        FAIL(j, "truncate expected room for the end and no negative leeway, found other values");
    if (!value_length(j, self, &size)) FAIL(j, "%s has no length", type_name(self));
    if (size - length <= leeway) return self; // whatever it is
    struct value s = arg_string(j, self, "truncate");
    struct value kept = string_slice(s, 0, length - end.n);
    int64_t space = given_true(arg[1]) ? -1 : string_find_last(j, kept, value_ascii(j, " "), 0, kept.n);
    struct text t = {0};
    text_add(j, &t, space < 0 ? kept : string_slice(kept, 0, space));
    text_add(j, &t, end);
    return text_value(&t);
}

FILTER(filter_wordcount)
{
    (void)arg, (void)rest;
    struct value s = soft(j, self);
    int64_t words = 0;
    bool inside = false;
    jinja_charge(j, s.n);
    for (int64_t i = 0; i < s.n; i++) {
        uint32_t c = s.s[i];
        bool word = char_is_alpha(c) || char_is_numeric(c) || (c & JINJA_CHAR) == '_';
        words += word && !inside;
        inside = word;
    }
    return value_int(words);
}

// `self` % args, as the filter's name says in Python 2.
FILTER(filter_format)
{
    (void)arg;
    struct value operands;
    if (rest->count && rest->keyword_count)
        FAIL(j, "format expected arguments by position or by name, found both");
    if (rest->keyword_count) {
        operands = value_dict(dict_new(j));
        for (int64_t i = 0; i < rest->keyword_count; i++)
            dict_set(j, operands.dict, rest->keywords[i].name, rest->keywords[i].value);
    } else {
        operands = value_tuple(list_new(j, rest->count));
        for (int64_t i = 0; i < rest->count; i++) list_push(j, operands.list, rest->positional[i]);
    }
    return string_percent(j, soft(j, self), operands);
}

// ---- HTML and URLs ------------------------------------------------------------------------------------

FILTER(filter_safe)
{
    (void)arg, (void)rest;
    struct value v = value_str(j, self);
    v.safe = true;
    return v;
}

FILTER(filter_escape)
{
    (void)arg, (void)rest;
    return string_escape(j, soft(j, self));
}

FILTER(filter_forceescape)
{
    (void)arg, (void)rest;
    return string_escape(j, value_str(j, self));
}

// Without tags and comments; entities and white space are brought into order as Markup.striptags does.
FILTER(filter_striptags)
{
    (void)arg, (void)rest;
    struct value s = value_str(j, self);
    struct text t = {0};
    bool inside = false, space = false;
    jinja_charge(j, s.n);
    for (int64_t i = 0; i < s.n; i++) {
        uint32_t c = s.s[i] & JINJA_CHAR;
        if (c == '&') jinja_fail(j, TLM_ERR_UNSUPPORTED, "striptags of entities is not supported");
        if (c == '<' && string_find(j, s, value_ascii(j, ">"), i, s.n) >= 0) inside = true;
        if (!inside && char_is_space(c)) space = true;
        if (!inside && !char_is_space(c)) {
            if (space && t.count) text_put(j, &t, ' ');
            space = false;
            text_put(j, &t, s.s[i]);
        }
        if (c == '>') inside = false;
    }
    return text_value(&t);
}

static void quote_url(struct jinja *j, struct text *t, struct value v, bool query)
{
    struct value s = value_str(j, v);
    for (int64_t i = 0; i < s.n; i++) {
        uint32_t c = s.s[i] & JINJA_CHAR, mark = s.s[i] & JINJA_INPUT;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                     c == '.' || c == '-' || c == '~' || (c == '/' && !query);
        char bytes[4];
        size_t n = plain || (c == ' ' && query) ? 0 : char_encode(c, bytes);
        if (!n) text_put(j, t, plain ? s.s[i] : '+' | mark);
        for (size_t k = 0; k < n; k++) {
            char escape[4];
            snprintf(escape, sizeof escape, "%%%02X", (unsigned char)bytes[k]);
            text_ascii(j, t, escape);
        }
    }
}

FILTER(filter_urlencode)
{
    (void)arg, (void)rest;
    struct text t = {0};
    if (is_string(self) || !is_iterable(self)) {
        quote_url(j, &t, self, false);
        return text_value(&t);
    }
    struct value pair, items = self.type == V_DICT
                                   ? (struct value){.type = V_VIEW, .view = VIEW_ITEMS, .dict = self.dict}
                                   : self;
    struct iterator *it = iterator_of(j, items);
    for (bool first = true; iterator_next(j, it, &pair); first = false) {
        struct list *l = list_of(j, pair);
        if (l->count != 2) FAIL(j, "urlencode expected pairs, found %lld items", (long long)l->count);
        if (!first) text_put(j, &t, '&');
        quote_url(j, &t, l->items[0], true);
        text_put(j, &t, '=');
        quote_url(j, &t, l->items[1], true);
    }
    return text_value(&t);
}

FILTER(filter_xmlattr)
{
    (void)rest;
    struct text t = {0};
    if (self.type != V_DICT) FAIL(j, "xmlattr expected a dict, found %s", type_name(self));
    for (int64_t i = 0; i < self.dict->count; i++) {
        const struct entry *e = &self.dict->entries[i];
        if (e->value.type == V_NONE || e->value.type == V_UNDEFINED) continue;
        struct value key = arg_string(j, e->key, "xmlattr");
        for (int64_t k = 0; k < key.n; k++) {
            uint32_t c = key.s[k] & JINJA_CHAR;
            if (c && c < 128 && strchr(" \t\n\r\f\v/>=", (int)c))
                FAIL(j, "xmlattr expected names of attributes, found another text");
        }
        if (t.count || !is_given(arg[0]) || value_truth(arg[0])) text_put(j, &t, ' ');
        text_add(j, &t, string_escape(j, key));
        text_ascii(j, &t, "=\"");
        text_add(j, &t, string_escape(j, soft(j, e->value)));
        text_put(j, &t, '"');
    }
    return text_value(&t);
}

// ---- numbers ------------------------------------------------------------------------------------------

FILTER(filter_abs)
{
    (void)arg, (void)rest;
    if (self.type == V_FLOAT) return value_float(fabs(self.f));
    if (!is_integer(self)) FAIL(j, "abs expected a number, found %s", type_name(self));
    return self.n < 0 ? number_negate(j, T_SUB, self) : value_int(self.n);
}

FILTER(filter_round)
{
    (void)rest;
    int64_t digits = arg_int(j, arg[0], 0);
    bool ceiling = is_given(arg[1]) && string_is(arg[1], "ceil"),
         down = is_given(arg[1]) && string_is(arg[1], "floor");
    if (is_given(arg[1]) && !ceiling && !down && !string_is(arg[1], "common"))
        FAIL(j, "round expected common, ceil or floor, found another method");
    if (self.type == V_UNDEFINED) undefined_fail(j, self);
    if (!is_number(self)) FAIL(j, "round expected a number, found %s", type_name(self));
    if (!ceiling && !down) return number_round(j, self, digits);
    struct value scale = number_arithmetic(j, T_POW, value_int(10), value_int(digits));
    struct value scaled = number_arithmetic(j, T_MUL, self, scale);
    double f = scaled.type == V_FLOAT ? scaled.f : (double)scaled.n;
    if (f - f != 0) FAIL(j, "round expected a finite number, found another");
    return number_arithmetic(j, T_DIV, value_float(ceiling ? ceil(f) : floor(f)), scale);
}

// Python's int(float): false where that raises.
static bool whole(double f, int64_t *out)
{
    if (!(fabs(f) < 0x1p63)) return false;
    *out = (int64_t)f;
    return true;
}

FILTER(filter_int)
{
    (void)rest;
    int64_t n, base = arg_int(j, arg[1], 10);
    double f;
    struct value otherwise = is_given(arg[0]) ? arg[0] : value_int(0);
    if (self.type == V_UNDEFINED) undefined_fail(j, self);
    if (is_integer(self)) return value_int(self.n);
    if (self.type == V_FLOAT) {
        if (self.f != self.f) return otherwise;
        if (!whole(self.f, &n)) FAIL(j, "expected an integer of 64 bits, found a larger one");
        return value_int(n);
    }
    if (!is_string(self)) return otherwise;
    if (base >= 0 && base <= 36 && base != 1 && number_parse_integer(self, (int)base, &n))
        return value_int(n);
    return number_parse_float(j, self, &f) && whole(f, &n) ? value_int(n) : otherwise;
}

FILTER(filter_float)
{
    (void)rest;
    double f;
    if (self.type == V_UNDEFINED) undefined_fail(j, self);
    if (is_integer(self)) return value_float((double)self.n);
    if (self.type == V_FLOAT) return self;
    if (is_string(self) && number_parse_float(j, self, &f)) return value_float(f);
    return is_given(arg[0]) ? arg[0] : value_float(0);
}

FILTER(filter_filesizeformat)
{
    (void)rest;
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    double bytes = 0, base = given_true(arg[0]) ? 1024 : 1000;
    char text[400];
    if (is_integer(self))
        bytes = (double)self.n;
    else if (self.type == V_FLOAT)
        bytes = self.f;
    else if (!is_string(self) || !number_parse_float(j, self, &bytes))
        FAIL(j, "filesizeformat expected a number, found %s", type_name(self));
    if (bytes == 1) return value_ascii(j, "1 Byte");
    if (bytes < base) {
        snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
        return value_ascii(j, text);
    }
    int i = 0;
    double unit = base * base;
    for (; i < 7 && !(bytes < unit); i++) unit *= base;
    snprintf(text, sizeof text, "%.1f %s", base * bytes / unit, base == 1000 ? decimal[i] : binary[i]);
    return value_ascii(j, text);
}

// ---- pprint -------------------------------------------------------------------------------------------

// The same value with the keys of all dicts in order.
static struct value sort_keys(struct jinja *j, struct value v)
{
    jinja_enter(j);
    if (v.type == V_LIST || v.type == V_TUPLE) {
        struct list *l = list_new(j, v.list->count);
        for (int64_t i = 0; i < v.list->count; i++) list_push(j, l, sort_keys(j, v.list->items[i]));
        v.list = l;
    } else if (v.type == V_DICT) {
        struct list *items = list_new(j, v.dict->count), *keys = list_new(j, v.dict->count);
        for (int64_t i = 0; i < v.dict->count; i++) {
            list_push(j, items,
                      value_pair(j, v.dict->entries[i].key, sort_keys(j, v.dict->entries[i].value)));
            list_push(j, keys, v.dict->entries[i].key);
        }
        list_sort(j, items, keys, false);
        v.dict = dict_new(j);
        for (int64_t i = 0; i < items->count; i++)
            dict_set(j, v.dict, items->items[i].list->items[0], items->items[i].list->items[1]);
    }
    jinja_leave(j);
    return v;
}

FILTER(filter_pprint)
{
    enum { WIDTH = 80 };
    (void)arg, (void)rest;
    struct text t = {0};
    text_repr(j, &t, sort_keys(j, self));
    if (t.count > WIDTH) jinja_fail(j, TLM_ERR_UNSUPPORTED, "pprint of more than one line is not supported");
    return text_value(&t);
}

const struct builtin filters_text[] = {
    {"abs", filter_abs, "/", 0},
    {"capitalize", filter_capitalize, "", 0},
    {"center", filter_center, "width", 0},
    {"e", filter_escape, "/", 0},
    {"escape", filter_escape, "/", 0},
    {"filesizeformat", filter_filesizeformat, "binary", 0},
    {"float", filter_float, "default", 0},
    {"forceescape", filter_forceescape, "", 0},
    {"format", filter_format, "*", 0},
    {"indent", filter_indent, "width first blank", 0},
    {"int", filter_int, "default base", 0},
    {"lower", filter_lower, "", 0},
    {"pprint", filter_pprint, "", 0},
    {"replace", filter_replace, "old new count", 2},
    {"round", filter_round, "precision method", 0},
    {"safe", filter_safe, "", 0},
    {"string", filter_string, "", 0},
    {"striptags", filter_striptags, "", 0},
    {"title", filter_title, "", 0},
    {"trim", filter_trim, "chars", 0},
    {"truncate", filter_truncate, "length killwords end leeway", 0},
    {"upper", filter_upper, "", 0},
    {"urlencode", filter_urlencode, "", 0},
    {"wordcount", filter_wordcount, "", 0},
    {"xmlattr", filter_xmlattr, "autospace", 0},
};
const size_t filters_text_count = sizeof filters_text / sizeof *filters_text;
