// text/jinja_format.c -- Python's two ways to format: "%5.2f" % x and "{:>5.2f}".format(x).
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "text/jinja_builtin.h"

enum { FORMAT_MAX_PRECISION = 300, FORMAT_MAX_WIDTH = 1 << 20 };

struct spec {
    uint32_t fill, align; // align: '<', '>', '^', '=' or 0 for the type's own
    uint32_t sign, type;  // sign: '+', ' ' or 0
    bool alternate;
    uint32_t group;    // ',' or '_' or 0
    int64_t width;     // 0 where not given
    int64_t precision; // -1 where not given
};

struct scanner { // of a format string
    const uint32_t *s;
    int64_t at, n;
};

static uint32_t look(const struct scanner *in)
{
    return in->at < in->n ? in->s[in->at] & JINJA_CHAR : 0;
}

static bool skip(struct scanner *in, uint32_t c)
{
    if (look(in) != c || in->at >= in->n) return false;
    in->at++;
    return true;
}

static int64_t scan_number(struct jinja *j, struct scanner *in, int64_t otherwise, int64_t most)
{
    if (look(in) < '0' || look(in) > '9') return otherwise;
    int64_t n = 0;
    for (; look(in) >= '0' && look(in) <= '9'; in->at++) {
        n = n * 10 + look(in) - '0';
        if (n > most)
            FAIL(j, "expected a width or precision of at most %lld, found a larger one", (long long)most);
    }
    return n;
}

// `text` with its sign or prefix in front, filled up to the width.
static void put_field(struct jinja *j, struct text *t, const struct spec *spec, const char *prefix,
                      struct value text, uint32_t align)
{
    int64_t length = text.n + (int64_t)strlen(prefix),
            margin = spec->width > length ? spec->width - length : 0;
    if (spec->align) align = spec->align;
    int64_t left = align == '>' ? margin : align == '^' ? margin / 2 : 0;
    jinja_charge(j, margin);
    for (int64_t i = 0; i < left; i++) text_put(j, t, spec->fill);
    text_ascii(j, t, prefix);
    if (align == '=') {
        for (int64_t i = 0; i < margin; i++) text_put(j, t, spec->fill);
        left = margin;
    }
    text_add(j, t, text);
    for (int64_t i = left; i < margin; i++) text_put(j, t, spec->fill);
}

// Digits with separators between groups of three (of four for other bases than ten).
static struct value group_digits(struct jinja *j, const char *digits, const struct spec *spec)
{
    struct text t = {0};
    int64_t whole = (int64_t)strspn(digits, "0123456789abcdefABCDEF");
    bool binary = spec->type == 'x' || spec->type == 'X' || spec->type == 'o' || spec->type == 'b';
    if (!binary) whole = (int64_t)strspn(digits, "0123456789");
    int64_t size = binary ? 4 : 3;
    for (int64_t i = 0; digits[i]; i++) {
        if (spec->group && i && i < whole && (whole - i) % size == 0) text_put(j, &t, spec->group);
        text_put(j, &t, (unsigned char)digits[i]);
    }
    return text_value(&t);
}

static const char *sign_of(bool negative, const struct spec *spec)
{
    return negative ? "-" : spec->sign == '+' ? "+" : spec->sign == ' ' ? " " : "";
}

static void format_integer(struct jinja *j, struct text *t, int64_t n, const struct spec *spec)
{
    char digits[72], prefix[4];
    uint64_t magnitude = n < 0 ? -(uint64_t)n : (uint64_t)n;
    snprintf(prefix, sizeof prefix, "%s", sign_of(n < 0, spec));
    if (spec->type == 'b') {
        char *d = digits + sizeof digits - 1;
        *d = 0;
        do {
            *--d = (char)('0' + (magnitude & 1));
        } while (magnitude >>= 1);
        memmove(digits, d, strlen(d) + 1);
    } else {
        const char *pattern = spec->type == 'x'   ? "%" PRIx64
                              : spec->type == 'X' ? "%" PRIX64
                              : spec->type == 'o' ? "%" PRIo64
                                                  : "%" PRIu64;
        snprintf(digits, sizeof digits, pattern, magnitude);
    }
    if (spec->alternate && strchr("xXob", (int)spec->type)) {
        size_t used = strlen(prefix);
        prefix[used] = '0';
        prefix[used + 1] = (char)spec->type;
        prefix[used + 2] = 0;
    }
    put_field(j, t, spec, prefix, group_digits(j, digits, spec), '>');
}

static void format_real(struct jinja *j, struct text *t, double f, const struct spec *spec)
{
    char digits[700];
    int type = spec->type && spec->type != 'n' ? (int)spec->type : 0;
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    double magnitude = fabs(f);
    bool negative = signbit(f) && f == f, percent = type == '%';
    if (percent) magnitude *= 100;
    if (magnitude - magnitude != 0) {
        strcpy(digits, magnitude != magnitude ? "nan" : "inf");
        if (type >= 'A' && type <= 'Z') strcpy(digits, magnitude != magnitude ? "NAN" : "INF");
    } else if (!type && spec->precision < 0) {
        format_float(magnitude, digits);
    } else if (!type || type == 'g' || type == 'G') {
        snprintf(digits, sizeof digits,
                 type == 'G'       ? "%.*G"
                 : spec->alternate ? "%#.*g"
                                   : "%.*g",
                 precision, magnitude);
        if (!type && !strpbrk(digits, ".e")) strcat(digits, ".0");
    } else if (type == 'e' || type == 'E') {
        snprintf(digits, sizeof digits, type == 'e' ? "%.*e" : "%.*E", precision, magnitude);
    } else {
        snprintf(digits, sizeof digits, "%.*f", precision, magnitude);
    }
    if (percent) strcat(digits, "%");
    put_field(j, t, spec, sign_of(negative, spec), group_digits(j, digits, spec), '>');
}

static bool is_type(uint32_t type, const char *of)
{
    return type && type < 128 && strchr(of, (int)type);
}

// ---- format() -----------------------------------------------------------------------------------------

static struct spec parse_spec(struct jinja *j, struct value text)
{
    struct scanner in = {text.s, 0, text.n};
    struct spec spec = {.fill = ' ', .precision = -1};
    uint32_t second = text.n > 1 ? text.s[1] & JINJA_CHAR : 0;
    if (is_type(second, "<>^=")) {
        spec.fill = text.s[0];
        spec.align = second;
        in.at = 2;
    } else if (is_type(look(&in), "<>^=")) {
        spec.align = text.s[in.at++] & JINJA_CHAR;
    }
    if (is_type(look(&in), "+- ")) {
        spec.sign = look(&in) == '-' ? 0 : look(&in);
        in.at++;
    }
    spec.alternate = skip(&in, '#');
    if (look(&in) == '0' && !spec.align) {
        spec.fill = '0';
        spec.align = '=';
    }
    spec.width = scan_number(j, &in, 0, FORMAT_MAX_WIDTH);
    if (is_type(look(&in), ",_")) spec.group = text.s[in.at++] & JINJA_CHAR;
    if (skip(&in, '.')) {
        spec.precision = scan_number(j, &in, -1, FORMAT_MAX_PRECISION);
        if (spec.precision < 0) FAIL(j, "expected a precision in a format, found none");
    }
    if (in.at < in.n) spec.type = text.s[in.at++] & JINJA_CHAR;
    if (in.at < in.n) FAIL(j, "expected a format such as '>8.2f', found another");
    return spec;
}

static void format_value(struct jinja *j, struct text *t, struct value v, struct value text)
{
    if (!text.n) {
        text_str(j, t, v);
        return;
    }
    struct spec spec = parse_spec(j, text);
    if (is_string(v) && (!spec.type || spec.type == 's') && spec.align != '=' && !spec.sign && !spec.group) {
        put_field(j, t, &spec, "", spec.precision >= 0 ? string_slice(v, 0, spec.precision) : v, '<');
    } else if (is_integer(v) && (!spec.type || is_type(spec.type, "bdoxXn")) && spec.precision < 0) {
        format_integer(j, t, v.n, &spec);
    } else if (is_integer(v) && spec.type == 'c' && v.n >= 0 && v.n <= 0x10FFFF) {
        uint32_t c = (uint32_t)v.n;
        put_field(j, t, &spec, "", value_chars(&c, 1), '<');
    } else if (is_number(v) &&
               (is_type(spec.type, "eEfFgG%") || (v.type == V_FLOAT && (!spec.type || spec.type == 'n')))) {
        format_real(j, t, v.type == V_FLOAT ? v.f : (double)v.n, &spec);
    } else {
        FAIL(j, "expected a format that fits %s, found another", type_name(v));
    }
}

struct formatter {
    struct jinja *j;
    const struct args *args;
    int64_t automatic; // the next {}; -1 once numbers were used
    int depth;
};

static struct value named_argument(struct formatter *f, struct value name)
{
    char shown[64];
    for (int64_t i = 0; i < f->args->keyword_count; i++) {
        if (value_equal(f->j, f->args->keywords[i].name, name)) return f->args->keywords[i].value;
    }
    FAIL(f->j, "format expected an argument '%s', found none", value_show(name, shown, sizeof shown));
}

static struct value numbered_argument(struct formatter *f, bool automatic, int64_t number)
{
    if (automatic ? f->automatic < 0 : f->automatic > 0)
        FAIL(f->j, "format expected fields that are all numbered or all not, found both");
    number = automatic ? f->automatic++ : number;
    if (!automatic) f->automatic = -1;
    if (number >= f->args->count)
        FAIL(f->j, "format expected more arguments, found %lld", (long long)f->args->count);
    return f->args->positional[number];
}

// The part of a field's name up to one of the characters in `ends`.
static struct value scan_word(struct scanner *in, const char *ends)
{
    int64_t from = in->at;
    while (in->at < in->n && !is_type(look(in), ends)) in->at++;
    return value_chars(in->s + from, in->at - from);
}

static struct value field_value(struct formatter *f, struct value name)
{
    struct scanner in = {name.s, 0, name.n};
    struct value first = scan_word(&in, ".["), v;
    int64_t number;
    if (!first.n || number_parse_integer(first, 10, &number))
        v = numbered_argument(f, !first.n, first.n ? number : 0);
    else
        v = named_argument(f, first);
    while (in.at < in.n) {
        if (skip(&in, '.')) {
            v = value_attribute(f->j, v, scan_word(&in, ".["));
        } else {
            in.at++;
            struct value key = scan_word(&in, "]");
            if (!skip(&in, ']') || !key.n)
                FAIL(f->j, "format expected an index in brackets, found another field");
            v = value_item(f->j, v, number_parse_integer(key, 10, &number) ? value_int(number) : key);
        }
    }
    return v;
}

static struct value format_text(struct formatter *f, struct value format);

// A replacement field; the scanner stands behind its brace.
static void format_field(struct formatter *f, struct text *t, struct scanner *in)
{
    struct jinja *j = f->j;
    struct value name = scan_word(in, "!:}"), v, spec = value_chars(NULL, 0);
    v = field_value(f, name);
    if (skip(in, '!')) {
        uint32_t conversion = look(in);
        in->at++;
        struct text shown = {0};
        if (conversion == 'r')
            text_repr(j, &shown, v);
        else if (conversion == 's')
            text_str(j, &shown, v);
        else
            FAIL(j, "format expected the conversion !r or !s, found another");
        v = text_value(&shown);
    }
    if (skip(in, ':')) {
        int64_t from = in->at, depth = 0;
        for (; in->at < in->n && (depth || look(in) != '}'); in->at++)
            depth += (look(in) == '{') - (look(in) == '}');
        spec = format_text(f, value_chars(in->s + from, in->at - from));
    }
    if (!skip(in, '}')) FAIL(j, "format expected '}', found another character or the end");
    format_value(j, t, v, spec);
}

static struct value format_text(struct formatter *f, struct value format)
{
    struct scanner in = {format.s, 0, format.n};
    struct text t = {0};
    if (++f->depth > 2) FAIL(f->j, "format expected at most two levels of fields, found more");
    while (in.at < in.n) {
        uint32_t c = format.s[in.at++], plain = c & JINJA_CHAR;
        if (plain == '{' && !skip(&in, '{'))
            format_field(f, &t, &in);
        else if (plain == '}' && !skip(&in, '}'))
            FAIL(f->j, "format expected '}}', found one brace");
        else
            text_put(f->j, &t, c);
    }
    f->depth--;
    return text_value(&t);
}

struct value string_format(struct jinja *j, struct value format, const struct args *args)
{
    struct formatter f = {.j = j, .args = args};
    struct value v = format_text(&f, format);
    v.safe = format.safe;
    return v;
}

// ---- % ------------------------------------------------------------------------------------------------

struct operands {
    struct value all;
    int64_t used;
};

static struct value next_operand(struct jinja *j, struct operands *o)
{
    bool tuple = o->all.type == V_TUPLE;
    int64_t count = tuple ? o->all.list->count : 1;
    if (o->used >= count) FAIL(j, "%% expected more values to format, found %lld", (long long)count);
    struct value v = tuple ? o->all.list->items[o->used] : o->all;
    o->used++;
    return v;
}

static struct value operand_by_key(struct jinja *j, struct operands *o, struct scanner *in)
{
    struct value key = scan_word(in, ")");
    if (!skip(in, ')')) FAIL(j, "%% expected ')' behind a key, found none");
    struct value *v = o->all.type == V_DICT ? dict_find(j, o->all.dict, key) : NULL;
    if (!v) FAIL(j, "%% expected a dict with the key that the format names, found none");
    o->used = 1;
    return *v;
}

static void percent_number(struct jinja *j, struct text *t, struct value v, struct spec *spec)
{
    if (!is_number(v)) FAIL(j, "%%%c expected a number, found %s", (char)spec->type, type_name(v));
    if (is_type(spec->type, "diu")) {
        if (v.type == V_FLOAT && !(fabs(v.f) < 0x1p63))
            FAIL(j, "expected an integer of 64 bits, found a larger one");
        spec->type = 0;
        format_integer(j, t, v.type == V_FLOAT ? (int64_t)v.f : v.n, spec);
    } else if (is_type(spec->type, "xXo")) {
        if (v.type == V_FLOAT) FAIL(j, "%%%c expected an integer, found %s", (char)spec->type, type_name(v));
        format_integer(j, t, v.n, spec);
    } else {
        format_real(j, t, v.type == V_FLOAT ? v.f : (double)v.n, spec);
    }
}

static void percent_field(struct jinja *j, struct text *t, struct scanner *in, struct operands *o)
{
    struct spec spec = {.fill = ' ', .precision = -1};
    struct value v = value_missing();
    if (skip(in, '(')) v = operand_by_key(j, o, in);
    bool zero = false;
    for (; is_type(look(in), "#0- +"); in->at++) {
        uint32_t c = look(in);
        spec.alternate |= c == '#';
        zero |= c == '0';
        if (c == '-') spec.align = '<';
        if (c == '+' || (c == ' ' && !spec.sign)) spec.sign = c;
    }
    spec.width = scan_number(j, in, 0, FORMAT_MAX_WIDTH);
    if (skip(in, '.')) spec.precision = scan_number(j, in, 0, FORMAT_MAX_PRECISION);
    spec.type = look(in);
    if (!is_type(spec.type, "diouxXeEfFgGcrsa"))
        FAIL(j, "%% expected a format such as %%s or %%5.2f, found another");
    in->at++;
    if (!is_given(v)) v = next_operand(j, o);
    struct text shown = {0};
    if (is_type(spec.type, "rs")) {
        if (spec.type == 's')
            text_str(j, &shown, v);
        else
            text_repr(j, &shown, v);
        struct value text = text_value(&shown);
        put_field(j, t, &spec, "", spec.precision >= 0 ? string_slice(text, 0, spec.precision) : text, '>');
        return;
    }
    if (zero && !spec.align) {
        spec.fill = '0';
        spec.align = '=';
    }
    if (spec.type == 'c' && is_string(v) && v.n == 1) {
        put_field(j, t, &spec, "", v, '>');
    } else if (is_type(spec.type, "ca")) {
        jinja_fail(j, TLM_ERR_UNSUPPORTED, "%%%c is not supported", (char)spec.type);
    } else {
        percent_number(j, t, v, &spec);
    }
}

struct value string_percent(struct jinja *j, struct value format, struct value args)
{
    struct scanner in = {format.s, 0, format.n};
    struct operands o = {.all = args};
    struct text t = {0};
    while (in.at < in.n) {
        uint32_t c = format.s[in.at++];
        if ((c & JINJA_CHAR) != '%')
            text_put(j, &t, c);
        else if (skip(&in, '%'))
            text_put(j, &t, c);
        else
            percent_field(j, &t, &in, &o);
    }
    int64_t count = args.type == V_TUPLE ? args.list->count : 1;
    if (o.used < count && args.type != V_DICT && args.type != V_LIST && args.type != V_UNDEFINED)
        FAIL(j, "%% expected as many values as the format has fields, found more");
    struct value v = text_value(&t);
    v.safe = format.safe;
    return v;
}
