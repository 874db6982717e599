// text/jinja_repr.c -- values as text: Python's str() and repr().
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "text/jinja_builtin.h"
#include "text/jinja_eval.h"

void format_float(double f, char *buffer)
{
    if (f != f || f - f != 0) {
        strcpy(buffer, f != f ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    char digits[32];
    int precision = 0;
    do { // 17 digits always read back
        snprintf(digits, sizeof digits, "%.*e", precision, f);
    } while (strtod(digits, NULL) != f && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16) {
        size_t mantissa = (size_t)(strchr(digits, 'e') - digits);
        sprintf(buffer, "%.*se%c%02d", (int)mantissa, digits, exponent < 0 ? '-' : '+', abs(exponent));
    } else {
        int decimals = precision - exponent;
        snprintf(buffer, 32, "%.*f", decimals > 1 ? decimals : 1, f);
    }
}

static void repr_string(struct jinja *j, struct text *t, struct value s)
{
    bool has_single = false, has_double = false;
    for (int64_t i = 0; i < s.n; i++) {
        has_single |= (s.s[i] & JINJA_CHAR) == '\'';
        has_double |= (s.s[i] & JINJA_CHAR) == '"';
    }
    uint32_t quote = has_single && !has_double ? '"' : '\'';
    if (s.safe) text_ascii(j, t, "Markup(");
    text_put(j, t, quote);
    for (int64_t i = 0; i < s.n; i++) {
        uint32_t c = s.s[i] & JINJA_CHAR;
        char escape[16] = "";
        if (c == quote || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (!char_is_printable(c))
            snprintf(escape, sizeof escape,
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     (unsigned)c);
        if (!*escape) text_put(j, t, s.s[i]);
        for (const char *e = escape; *e; e++) text_put(j, t, (unsigned char)*e | (s.s[i] & JINJA_INPUT));
    }
    text_put(j, t, quote);
    if (s.safe) text_ascii(j, t, ")");
}

static void repr_items(struct jinja *j, struct text *t, const struct list *l)
{
    for (int64_t i = 0; i < l->count; i++) {
        if (i) text_ascii(j, t, ", ");
        text_repr(j, t, l->items[i]);
    }
}

static void repr_dict(struct jinja *j, struct text *t, const struct dict *d)
{
    text_ascii(j, t, "{");
    for (int64_t i = 0; i < d->count; i++) {
        if (i) text_ascii(j, t, ", ");
        text_repr(j, t, d->entries[i].key);
        text_ascii(j, t, ": ");
        text_repr(j, t, d->entries[i].value);
    }
    text_ascii(j, t, "}");
}

static void repr_view(struct jinja *j, struct text *t, struct value v)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    text_ascii(j, t, names[v.view]);
    for (int64_t i = 0; i < v.dict->count; i++) {
        const struct entry *e = &v.dict->entries[i];
        if (i) text_ascii(j, t, ", ");
        if (v.view == VIEW_ITEMS) text_ascii(j, t, "(");
        if (v.view != VIEW_VALUES) text_repr(j, t, e->key);
        if (v.view == VIEW_ITEMS) text_ascii(j, t, ", ");
        if (v.view != VIEW_KEYS) text_repr(j, t, e->value);
        if (v.view == VIEW_ITEMS) text_ascii(j, t, ")");
    }
    text_ascii(j, t, "])");
}

static void repr_range(struct jinja *j, struct text *t, const struct range *r)
{
    char buffer[80];
    int n = snprintf(buffer, sizeof buffer, "range(%" PRId64 ", %" PRId64, r->start, r->stop);
    if (r->step != 1) n += snprintf(buffer + n, sizeof buffer - (size_t)n, ", %" PRId64, r->step);
    snprintf(buffer + n, sizeof buffer - (size_t)n, ")");
    text_ascii(j, t, buffer);
}

static void repr_macro(struct jinja *j, struct text *t, const struct macro *m)
{
    text_ascii(j, t, "<Macro ");
    if (is_given(m->name))
        text_repr(j, t, m->name);
    else
        text_ascii(j, t, "anonymous");
    text_ascii(j, t, ">");
}

static void repr_loop(struct jinja *j, struct text *t, struct loop *l)
{
    char buffer[80];
    int64_t length = loop_length(j, l);
    snprintf(buffer, sizeof buffer, "<LoopContext %" PRId64 "/%" PRId64 ">", l->index0 + 1, length);
    text_ascii(j, t, buffer);
}

void text_repr(struct jinja *j, struct text *t, struct value v)
{
    char number[32];
    jinja_enter(j);
    switch (v.type) {
    case V_MISSING:
    case V_UNDEFINED: text_ascii(j, t, "Undefined"); break;
    case V_NONE: text_ascii(j, t, "None"); break;
    case V_BOOL: text_ascii(j, t, v.n ? "True" : "False"); break;
    case V_INT:
        snprintf(number, sizeof number, "%" PRId64, v.n);
        text_ascii(j, t, number);
        break;
    case V_FLOAT:
        format_float(v.f, number);
        text_ascii(j, t, number);
        break;
    case V_STRING: repr_string(j, t, v); break;
    case V_LIST:
        text_ascii(j, t, "[");
        repr_items(j, t, v.list);
        text_ascii(j, t, "]");
        break;
    case V_TUPLE:
        text_ascii(j, t, "(");
        repr_items(j, t, v.list);
        text_ascii(j, t, v.list->count == 1 ? ",)" : ")");
        break;
    case V_DICT: repr_dict(j, t, v.dict); break;
    case V_RANGE: repr_range(j, t, v.range); break;
    case V_VIEW: repr_view(j, t, v); break;
    case V_NAMESPACE:
        text_ascii(j, t, "<Namespace ");
        repr_dict(j, t, v.dict);
        text_ascii(j, t, ">");
        break;
    case V_MACRO: repr_macro(j, t, v.macro); break;
    case V_LOOP: repr_loop(j, t, v.loop); break;
    default: // Python would print an address
        text_ascii(j, t, "<");
        text_ascii(j, t, type_name(v));
        text_ascii(j, t, ">");
        break;
    }
    jinja_leave(j);
}

void text_str(struct jinja *j, struct text *t, struct value v)
{
    if (v.type == V_STRING)
        text_add(j, t, v);
    else if (v.type != V_UNDEFINED)
        text_repr(j, t, v);
}

struct value value_str(struct jinja *j, struct value v)
{
    if (v.type == V_STRING) {
        v.safe = false;
        return v;
    }
    struct text t = {0};
    text_str(j, &t, v);
    return text_value(&t);
}
