// text/regex_dialect.c -- from the language of Oniguruma to that of PCRE2.
//
//     [a[bc]]          classes inside classes      [abc]
//     [a&&[^b]]        intersections               (?:(?=[a])[^b])
//     \p{Han}          a script                    \p{sc:Han}: PCRE2 would take script extensions
//     \p{Letter}       a category's long name      \p{L}
//     \h \H \w \W      hexadecimal, word           written out: words have marks and no fractions
//     \u4E00 \u{4E00}  a character                 \x{4E00}
//     (?m: )           dot matches newlines        (?s: )
//
// All else is the same in both, as far as tokenizers use it.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "text/regex.h"

enum { DEPTH_MAX = 32 };

static const char word_items[] = "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}";
static const char hex_items[] = "0-9A-Fa-f";

struct text { // grows; `failed` once there was no memory
    char *data;
    size_t size, room;
    bool failed;
};

struct reader {
    const char *at, *end;
    int depth;
    bool bad;
};

static void put(struct text *t, const char *s, size_t n)
{
    if (t->failed) return;
    if (t->room - t->size <= n) {
        size_t room = (t->room + n + 32) * 2;
        char *data = realloc(t->data, room);
        if (!data) {
            t->failed = true;
            return;
        }
        t->data = data;
        t->room = room;
    }
    memcpy(t->data + t->size, s, n);
    t->size += n;
    t->data[t->size] = '\0';
}

static void put_string(struct text *t, const char *s)
{
    put(t, s, strlen(s));
}

static void put_text(struct text *t, struct text *other)
{
    if (other->failed) t->failed = true;
    if (other->size) put(t, other->data, other->size);
}

static bool is_script(const char *name, size_t length)
{
    char pattern[80];
    int code;
    PCRE2_SIZE at;
    if (length > 40) return false;
    snprintf(pattern, sizeof pattern, "\\p{sc:%.*s}", (int)length, name);
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    pcre2_code_free(compiled);
    return compiled != NULL;
}

// \p{Name}, \P{Name} or \p{^Name}; `at` stands on the p.
static void property(struct reader *r, struct text *out)
{
    static const char *const categories[][2] = {{"Letter", "L"},
                                                {"Number", "N"},
                                                {"Mark", "M"},
                                                {"Punctuation", "P"},
                                                {"Punct", "P"},
                                                {"Symbol", "S"},
                                                {"Separator", "Z"},
                                                {"Uppercase_Letter", "Lu"},
                                                {"Lowercase_Letter", "Ll"},
                                                {"Decimal_Number", "Nd"}};
    const char *name = r->at + 2, *close = r->at + 1 < r->end && r->at[1] == '{' ? name : NULL;
    while (close && close < r->end && *close != '}') close++;
    if (!close || close == r->end) {
        put(out, r->at++ - 1, 2);
        return;
    }
    bool negated = (*r->at == 'P') != (*name == '^');
    name += *name == '^';
    size_t length = (size_t)(close - name);
    const char *shown = NULL;
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        if (strlen(categories[i][0]) == length && !memcmp(name, categories[i][0], length))
            shown = categories[i][1];
    put_string(out, negated ? "\\P{" : "\\p{");
    if (!shown && length > 2 && is_script(name, length)) put_string(out, "sc:");
    if (shown)
        put_string(out, shown);
    else
        put(out, name, length);
    put_string(out, "}");
    r->at = close + 1;
}

// What follows a backslash; `at` stands behind it.
static void escape(struct reader *r, struct text *out, bool in_class)
{
    if (r->at == r->end) {
        put_string(out, "\\"); // PCRE2 says what is wrong
        return;
    }
    char c = *r->at;
    if (c == 'p' || c == 'P') {
        property(r, out);
    } else if (c == 'w' || c == 'h') {
        if (!in_class) put_string(out, "[");
        put_string(out, c == 'w' ? word_items : hex_items);
        if (!in_class) put_string(out, "]");
        r->at++;
    } else if ((c == 'W' || c == 'H') && !in_class) {
        put_string(out, "[^");
        put_string(out, c == 'W' ? word_items : hex_items);
        put_string(out, "]");
        r->at++;
    } else if (c == 'u' && r->end - r->at > 1 && r->at[1] == '{') {
        put_string(out, "\\x");
        r->at++;
    } else if (c == 'u' && r->end - r->at > 4) {
        put_string(out, "\\x{");
        put(out, r->at + 1, 4);
        put_string(out, "}");
        r->at += 5;
    } else {
        put(out, r->at - 1, 2);
        r->at++;
    }
}

// One side of "&&": items that stand side by side, and alternatives that are no plain items.
struct term {
    struct text items, others;
};

static void put_term(struct text *out, struct term *t)
{
    bool both = t->items.size && t->others.size;
    if (both) put_string(out, "(?:");
    if (t->items.size || !t->others.size) {
        put_string(out, t->items.size ? "[" : "(?!");
        put_text(out, &t->items);
        put_string(out, t->items.size ? "]" : ")");
    }
    if (both) put_string(out, "|");
    put_text(out, &t->others);
    if (both) put_string(out, ")");
    if (t->items.failed || t->others.failed) out->failed = true;
    free(t->items.data);
    free(t->others.data);
    *t = (struct term){0};
}

// A class; `at` stands behind its opening bracket. `plain` receives its items if they can stand in another class
// as they are; otherwise *plain is false and `out` receives an expression that matches one character.
static void class_of(struct reader *r, struct text *out, bool nested, bool *plain)
{
    struct text before = {0}; // the lookaheads of an intersection
    struct term term = {0};
    bool negated = r->at < r->end && *r->at == '^';
    r->at += negated;
    *plain = nested && !negated;
    if (++r->depth > DEPTH_MAX) r->bad = true;
    for (bool first = true; !r->bad; first = false) {
        if (r->at == r->end) {
            r->bad = true;
        } else if (*r->at == ']' && !first) {
            r->at++;
            break;
        } else if (*r->at == ']') { // the first one stands for itself
            put_string(&term.items, "\\]");
            r->at++;
        } else if (r->end - r->at > 1 && !memcmp(r->at, "&&", 2)) {
            *plain = false;
            put_string(&before, "(?=");
            put_term(&before, &term);
            put_string(&before, ")");
            r->at += 2;
        } else if (*r->at == '[' && r->end - r->at > 1 && r->at[1] == ':') {
            put(&term.items, r->at++, 1); // a POSIX class; its closing bracket follows in pairs
            while (r->at < r->end && *r->at != ']') put(&term.items, r->at++, 1);
            if (r->at < r->end) put(&term.items, r->at++, 1);
        } else if (*r->at == '[') {
            struct text inner = {0};
            bool inner_plain;
            r->at++;
            class_of(r, &inner, true, &inner_plain);
            if (!inner_plain && term.others.size) put_string(&term.others, "|");
            put_text(inner_plain ? &term.items : &term.others, &inner);
            if (!inner_plain) *plain = false;
            free(inner.data);
        } else if (*r->at == '\\') {
            r->at++;
            escape(r, &term.items, true);
        } else {
            put(&term.items, r->at++, 1);
        }
    }
    r->depth--;
    if (*plain) {
        put_text(out, &term.items);
    } else if (!before.size && !term.others.size) {
        put_string(out, negated ? "[^" : "[");
        put_text(out, &term.items);
        put_string(out, "]");
    } else {
        put_string(out, negated ? "(?:(?!" : "(?:");
        put_text(out, &before);
        put_term(out, &term);
        put_string(out, negated ? ")[\\s\\S])" : ")");
    }
    free(before.data);
    free(term.items.data);
    free(term.others.data);
}

// The letters of "(?im-x:"; `at` stands behind the question mark.
static void options(struct reader *r, struct text *out)
{
    const char *end = r->at;
    while (end < r->end && strchr("imxs-", *end)) end++;
    bool are_options = end > r->at && end < r->end && (*end == ':' || *end == ')');
    while (are_options && r->at < end) {
        put(out, *r->at == 'm' ? "s" : r->at, 1);
        r->at++;
    }
}

char *regex_translate(const char *pattern, size_t length, bool *bad)
{
    struct reader r = {.at = pattern, .end = pattern + length};
    struct text out = {0};
    put(&out, "", 0);
    while (r.at < r.end && !r.bad) {
        bool plain;
        char c = *r.at++;
        if (c == '\\') {
            escape(&r, &out, false);
        } else if (c == '[') {
            class_of(&r, &out, false, &plain);
        } else {
            put(&out, &c, 1);
            if (c == '(' && r.at < r.end && *r.at == '?') {
                put(&out, r.at++, 1);
                options(&r, &out);
            }
        }
    }
    *bad = r.bad;
    if (out.failed || r.bad) {
        free(out.data);
        return NULL;
    }
    return out.data;
}
