// text/jinja_methods_shape.c -- methods of strings for case, padding, joining, formatting, classes of
// characters.
#include <string.h>

#include "text/jinja_builtin.h"

#define METHOD(name)                                                                      \
    static struct value name(struct jinja *j, struct value self, const struct value *arg, \
                             const struct args *rest)

// ---- case ---------------------------------------------------------------------------------------------

METHOD(str_upper)
{
    (void)arg, (void)rest;
    return string_upper(j, self);
}

METHOD(str_lower)
{
    (void)arg, (void)rest;
    return string_lower(j, self);
}

METHOD(str_casefold)
{
    (void)arg, (void)rest;
    struct text t = {0};
    uint32_t mapped[4];
    for (int64_t i = 0; i < self.n; i++) text_chars(j, &t, mapped, char_fold(self.s[i], mapped));
    return text_value(&t);
}

METHOD(str_capitalize)
{
    (void)arg, (void)rest;
    return string_capitalize(j, self);
}

METHOD(str_title)
{
    (void)arg, (void)rest;
    struct text t = {0};
    uint32_t mapped[3];
    bool inside = false; // a word
    jinja_charge(j, self.n);
    for (int64_t i = 0; i < self.n; i++) {
        int n = inside ? char_lower(self.s[i], mapped) : char_title(self.s[i], mapped);
        text_chars(j, &t, mapped, n);
        inside = char_is_cased(self.s[i]);
    }
    return text_value(&t);
}

METHOD(str_swapcase)
{
    (void)arg, (void)rest;
    struct text t = {0};
    uint32_t mapped[3];
    for (int64_t i = 0; i < self.n; i++) {
        uint32_t c = self.s[i];
        int n = char_is_upper(c) ? char_lower(c, mapped) : char_is_lower(c) ? char_upper(c, mapped) : 0;
        if (!n) mapped[n++] = c;
        text_chars(j, &t, mapped, n);
    }
    return text_value(&t);
}

// ---- padding ------------------------------------------------------------------------------------------

static uint32_t fill_char(struct jinja *j, struct value v)
{
    if (!is_given(v)) return ' ';
    if (!is_string(v) || v.n != 1) FAIL(j, "expected one character to fill with, found another value");
    return v.s[0];
}

static struct value pad(struct jinja *j, struct value s, int64_t width, uint32_t fill, int64_t left)
{
    if (width <= s.n) return s;
    uint32_t *out = pool_alloc(j, width, sizeof *out);
    jinja_charge(j, width);
    for (int64_t i = 0; i < width; i++) out[i] = i < left || i >= left + s.n ? fill : s.s[i - left];
    return value_chars(out, width);
}

METHOD(str_center)
{
    (void)rest;
    return string_center(j, self, arg_int(j, arg[0], 0), fill_char(j, arg[1]));
}

METHOD(str_ljust)
{
    (void)rest;
    return pad(j, self, arg_int(j, arg[0], 0), fill_char(j, arg[1]), 0);
}

METHOD(str_rjust)
{
    (void)rest;
    int64_t width = arg_int(j, arg[0], 0);
    return pad(j, self, width, fill_char(j, arg[1]), width > self.n ? width - self.n : 0);
}

METHOD(str_zfill)
{
    (void)rest;
    int64_t width = arg_int(j, arg[0], 0);
    if (width <= self.n) return self;
    bool sign = self.n && ((self.s[0] & JINJA_CHAR) == '-' || (self.s[0] & JINJA_CHAR) == '+');
    struct value v = pad(j, self, width, '0', width - self.n);
    if (!sign) return v;
    uint32_t *s = (uint32_t *)v.s; // made just now
    s[width - self.n] = '0';
    s[0] = self.s[0];
    return v;
}

METHOD(str_expandtabs)
{
    (void)rest;
    struct text t = {0};
    int64_t size = arg_int(j, arg[0], 8), column = 0;
    for (int64_t i = 0; i < self.n; i++) {
        uint32_t c = self.s[i] & JINJA_CHAR;
        if (c == '\t') {
            for (int64_t n = size > 0 ? size - column % size : 0; n; n--, column++)
                text_chars(j, &t, &(uint32_t){' '}, 1);
        } else {
            text_put(j, &t, self.s[i]);
            column = c == '\n' || c == '\r' ? 0 : column + 1;
        }
    }
    return text_value(&t);
}

// ---- join, format -------------------------------------------------------------------------------------

METHOD(str_join)
{
    (void)rest;
    return string_join(j, self, arg[0], false);
}

METHOD(str_format)
{
    (void)arg;
    return string_format(j, self, rest);
}

// ---- classes ------------------------------------------------------------------------------------------

static struct value all_chars(struct value s, bool (*is)(uint32_t c), bool empty)
{
    for (int64_t i = 0; i < s.n; i++) {
        if (!is(s.s[i])) return value_bool(false);
    }
    return value_bool(s.n || empty);
}

static bool is_ascii(uint32_t c)
{
    return (c & JINJA_CHAR) < 128;
}

static bool is_alnum(uint32_t c)
{
    return char_is_alpha(c) || char_is_numeric(c) || char_is_digit(c);
}

#define CLASS_METHOD(method, is, empty)    \
    METHOD(method)                         \
    {                                      \
        (void)arg, (void)rest;             \
        jinja_charge(j, self.n);           \
        return all_chars(self, is, empty); \
    }

CLASS_METHOD(str_isdigit, char_is_digit, false)
CLASS_METHOD(str_isdecimal, char_is_decimal, false)
CLASS_METHOD(str_isnumeric, char_is_numeric, false)
CLASS_METHOD(str_isalpha, char_is_alpha, false)
CLASS_METHOD(str_isalnum, is_alnum, false)
CLASS_METHOD(str_isspace, char_is_space, false)
CLASS_METHOD(str_isprintable, char_is_printable, true)
CLASS_METHOD(str_isascii, is_ascii, true)

static struct value all_cased(struct value s, bool (*wrong)(uint32_t c))
{
    bool cased = false;
    for (int64_t i = 0; i < s.n; i++) {
        if (wrong(s.s[i]) || char_is_title(s.s[i])) return value_bool(false);
        cased |= char_is_cased(s.s[i]);
    }
    return value_bool(cased);
}

METHOD(str_isupper)
{
    (void)j, (void)arg, (void)rest;
    return all_cased(self, char_is_lower);
}

METHOD(str_islower)
{
    (void)j, (void)arg, (void)rest;
    return all_cased(self, char_is_upper);
}

METHOD(str_istitle)
{
    (void)j, (void)arg, (void)rest;
    bool cased = false, inside = false;
    for (int64_t i = 0; i < self.n; i++) {
        uint32_t c = self.s[i];
        bool starts = char_is_upper(c) || char_is_title(c);
        if (starts ? inside : char_is_lower(c) && !inside) return value_bool(false);
        inside = char_is_cased(c);
        cased |= inside;
    }
    return value_bool(cased);
}

METHOD(str_isidentifier)
{
    (void)j, (void)arg, (void)rest;
    for (int64_t i = 0; i < self.n; i++) {
        if (!char_is_name(self.s[i], i == 0)) return value_bool(false);
    }
    return value_bool(self.n > 0);
}

METHOD(str_refused)
{
    (void)self, (void)arg, (void)rest;
    jinja_fail(j, TLM_ERR_UNSUPPORTED, "this method of strings is not supported");
}

const struct builtin methods_shape[] = {
    {"upper", str_upper, "/", 0},
    {"lower", str_lower, "/", 0},
    {"casefold", str_casefold, "/", 0},
    {"capitalize", str_capitalize, "/", 0},
    {"title", str_title, "/", 0},
    {"swapcase", str_swapcase, "/", 0},
    {"center", str_center, "/width fill", 1},
    {"ljust", str_ljust, "/width fill", 1},
    {"rjust", str_rjust, "/width fill", 1},
    {"zfill", str_zfill, "/width", 1},
    {"expandtabs", str_expandtabs, "tabsize", 0},
    {"join", str_join, "/items", 1},
    {"format", str_format, "*", 0},
    {"isdigit", str_isdigit, "/", 0},
    {"isdecimal", str_isdecimal, "/", 0},
    {"isnumeric", str_isnumeric, "/", 0},
    {"isalpha", str_isalpha, "/", 0},
    {"isalnum", str_isalnum, "/", 0},
    {"isspace", str_isspace, "/", 0},
    {"isupper", str_isupper, "/", 0},
    {"islower", str_islower, "/", 0},
    {"istitle", str_istitle, "/", 0},
    {"isprintable", str_isprintable, "/", 0},
    {"isascii", str_isascii, "/", 0},
    {"isidentifier", str_isidentifier, "/", 0},
    {"encode", str_refused, "*", 0},
    {"translate", str_refused, "*", 0},
    {"maketrans", str_refused, "*", 0},
    {"format_map", str_refused, "*", 0},
};
const size_t methods_shape_count = sizeof methods_shape / sizeof *methods_shape;
