// text/jinja_string.c -- what methods, filters and operators do to strings.
#include <string.h>

#include "text/jinja_builtin.h"

// The work of a search is charged as it is done, so that hostile patterns cost no more than others.
int64_t string_find(struct jinja *j, struct value s, struct value what, int64_t from, int64_t to)
{
    int64_t work = 0;
    for (int64_t i = from; i + what.n <= to; i++) {
        int64_t k = 0;
        while (k < what.n && !((s.s[i + k] ^ what.s[k]) & JINJA_CHAR)) k++;
        work += k + 1;
        if (k == what.n) {
            jinja_charge(j, work);
            return i;
        }
        if (work > 65536) {
            jinja_charge(j, work);
            work = 0;
        }
    }
    jinja_charge(j, work);
    return -1;
}

int64_t string_find_last(struct jinja *j, struct value s, struct value what, int64_t from, int64_t to)
{
    for (int64_t i = to - what.n; i >= from; i--) {
        jinja_charge(j, what.n);
        if (chars_equal(s.s + i, what.s, what.n)) return i;
    }
    return -1;
}

static bool in_set(struct value chars, uint32_t c)
{
    if (!is_given(chars) || chars.type == V_NONE) return char_is_space(c);
    for (int64_t i = 0; i < chars.n; i++) {
        if (!((chars.s[i] ^ c) & JINJA_CHAR)) return true;
    }
    return false;
}

struct value string_strip(struct jinja *j, struct value s, struct value chars, bool left, bool right)
{
    if (is_given(chars) && chars.type != V_NONE) {
        chars = arg_string(j, chars, "strip");
        jinja_charge(j, chars.n * 16);
    }
    int64_t from = 0, to = s.n;
    while (left && from < to && in_set(chars, s.s[from])) from++;
    while (right && to > from && in_set(chars, s.s[to - 1])) to--;
    int64_t removed = from + s.n - to;
    jinja_charge(j, is_string(chars) && chars.n > 16 ? removed * (chars.n / 16) : removed);
    return string_slice(s, from, to);
}

struct value string_replace(struct jinja *j, struct value s, struct value old, struct value with,
                            int64_t count)
{
    struct text t = {0};
    int64_t at = 0;
    if (count < 0) count = INT64_MAX;
    if (!old.n) { // between all characters, and at both ends
        for (; at <= s.n; at++) {
            if (at < count) text_add(j, &t, with);
            if (at < s.n) text_put(j, &t, s.s[at]);
        }
        return text_value(&t);
    }
    for (; count; count--) {
        int64_t found = string_find(j, s, old, at, s.n);
        if (found < 0) break;
        text_chars(j, &t, s.s + at, found - at);
        text_add(j, &t, with);
        at = found + old.n;
    }
    if (!at) return s;
    text_chars(j, &t, s.s + at, s.n - at);
    return text_value(&t);
}

// ---- case ---------------------------------------------------------------------------------------------

// Words that come out of a mapping are Markup where the source was.
static struct value like(struct value source, const struct text *t)
{
    struct value v = text_value(t);
    v.safe = source.safe;
    return v;
}

struct value string_upper(struct jinja *j, struct value s)
{
    struct text t = {0};
    jinja_charge(j, s.n);
    for (int64_t i = 0; i < s.n; i++) {
        uint32_t mapped[3];
        text_chars(j, &t, mapped, char_upper(s.s[i], mapped));
    }
    return like(s, &t);
}

// A sigma behind a letter and in front of none is written as a final one. What case ignores is looked
// through.
static bool is_final_sigma(struct value s, int64_t i)
{
    int64_t k = i - 1;
    while (k >= 0 && !char_is_cased(s.s[k]) && !char_is_alpha(s.s[k]) && (s.s[k] & JINJA_CHAR) == '\'') k--;
    if (k < 0 || !char_is_cased(s.s[k])) return false;
    for (k = i + 1; k < s.n && (s.s[k] & JINJA_CHAR) == '\'';) k++;
    return k == s.n || !char_is_cased(s.s[k]);
}

static void put_lower(struct jinja *j, struct text *t, struct value s, int64_t i)
{
    enum { SIGMA = 0x3a3, FINAL_SIGMA = 0x3c2 };
    uint32_t mapped[3];
    if ((s.s[i] & JINJA_CHAR) == SIGMA && is_final_sigma(s, i))
        text_put(j, t, FINAL_SIGMA | (s.s[i] & JINJA_INPUT));
    else
        text_chars(j, t, mapped, char_lower(s.s[i], mapped));
}

struct value string_lower(struct jinja *j, struct value s)
{
    struct text t = {0};
    jinja_charge(j, s.n);
    for (int64_t i = 0; i < s.n; i++) put_lower(j, &t, s, i);
    return like(s, &t);
}

struct value string_capitalize(struct jinja *j, struct value s)
{
    struct text t = {0};
    uint32_t mapped[3];
    jinja_charge(j, s.n);
    if (s.n) text_chars(j, &t, mapped, char_title(s.s[0], mapped));
    for (int64_t i = 1; i < s.n; i++) put_lower(j, &t, s, i);
    return like(s, &t);
}

struct value string_center(struct jinja *j, struct value s, int64_t width, uint32_t fill)
{
    if (width <= s.n) return s;
    int64_t margin = width - s.n, left = margin / 2 + (margin & width & 1);
    uint32_t *out = pool_alloc(j, width, sizeof *out);
    jinja_charge(j, width);
    for (int64_t i = 0; i < width; i++) out[i] = i < left || i >= left + s.n ? fill : s.s[i - left];
    return value_chars(out, width);
}

struct list *string_lines(struct jinja *j, struct value s, bool keep_ends)
{
    struct list *lines = list_new(j, 0);
    jinja_charge(j, s.n);
    for (int64_t at = 0; at < s.n;) {
        int64_t end = at;
        while (end < s.n && !char_breaks_line(s.s[end])) end++;
        int64_t next = end < s.n ? end + 1 : end;
        bool carriage =
            end + 1 < s.n && (s.s[end] & JINJA_CHAR) == '\r' && (s.s[end + 1] & JINJA_CHAR) == '\n';
        next += carriage;
        list_push(j, lines, string_slice(s, at, keep_ends ? next : end));
        at = next;
    }
    return lines;
}

struct value string_escape(struct jinja *j, struct value s)
{
    if (s.safe) return s;
    struct text t = {0};
    for (int64_t i = 0; i < s.n; i++) {
        uint32_t c = s.s[i] & JINJA_CHAR;
        const char *entity = c == '&'    ? "&amp;"
                             : c == '<'  ? "&lt;"
                             : c == '>'  ? "&gt;"
                             : c == '"'  ? "&#34;"
                             : c == '\'' ? "&#39;"
                                         : NULL;
        if (!entity) text_put(j, &t, s.s[i]);
        for (; entity && *entity; entity++) text_put(j, &t, (unsigned char)*entity | (s.s[i] & JINJA_INPUT));
    }
    struct value v = text_value(&t);
    v.safe = true;
    return v;
}

// `convert`: the filter, which takes any items; otherwise the method, which takes strings only.
struct value string_join(struct jinja *j, struct value separator, struct value items, bool convert)
{
    struct text t = {0};
    struct value item;
    struct iterator *it = iterator_of(j, items);
    for (bool first = true; iterator_next(j, it, &item); first = false) {
        if (!first) text_add(j, &t, separator);
        if (!convert && !is_string(item)) FAIL(j, "join expected strings, found %s", type_name(item));
        text_str(j, &t, item);
    }
    return text_value(&t);
}
