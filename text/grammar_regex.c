// text/grammar_regex.c -- regular expressions in the syntax of ECMA-262, which JSON Schema names: without back references, assertions
// and properties of characters, which no automaton of a decent size can follow. Greedy or lazy is all the same: the language is.
//
// An expression may describe the text as it stands, or what a string of JSON says; then some characters are written as escapes.
#include <string.h>

#include "text/grammar_expr.h"

struct parser {
    struct grammar_exprs *x;
    const char *pattern;
    size_t bytes, at;
    int depth;
    enum regex_use use;
    const char *where;
};

static const struct regex_expr nothing = {0, 0, 0};

static struct regex_expr fail_as(struct parser *p, size_t at, enum tlm_status status, const char *expected,
                                 const char *found)
{
    char shown[16] = "the end";
    size_t length, column = 1;
    for (size_t i = 0; i < at && i < p->bytes; i++) column += (p->pattern[i] & 0xC0) != 0x80;
    if (at < p->bytes) {
        int32_t c = utf8_read(p->pattern + at, p->bytes - at, &length);
        if (c >= 0x20 && c != 0x7F)
            snprintf(shown, sizeof shown, "'%.*s'", (int)length, p->pattern + at);
        else
            snprintf(shown, sizeof shown, "byte 0x%02X", (unsigned char)p->pattern[at]);
    }
    exprs_fail(p->x, status, "%scolumn %zu: expected %s, found %s", p->where, column, expected,
               found ? found : shown);
    return nothing;
}

static struct regex_expr fail(struct parser *p, size_t at, const char *expected)
{
    return fail_as(p, at, TLM_ERR_FORMAT, expected, NULL);
}

static struct regex_expr refuse(struct parser *p, size_t at, const char *found)
{
    return fail_as(p, at, TLM_ERR_UNSUPPORTED, "something an automaton can follow", found);
}

static int peek_at(const struct parser *p, size_t ahead)
{
    return p->at + ahead < p->bytes ? (unsigned char)p->pattern[p->at + ahead] : -1;
}

static int peek(const struct parser *p)
{
    return peek_at(p, 0);
}

static bool accept(struct parser *p, const char *text)
{
    size_t n = strlen(text);
    if (p->bytes - p->at < n || memcmp(p->pattern + p->at, text, n)) return false;
    p->at += n;
    return true;
}

// ---- characters -----------------------------------------------------------------------------------------

// One of the characters in the set, as the use writes it. Of control characters a JSON string gets those that have short escapes.
static int32_t characters(struct parser *p, struct char_set *set)
{
    static const char named[] = "\"\\\b\f\n\r\t", escapes[] = "\"\\bfnrt";
    set_sort(set);
    if (p->use == REGEX_WHOLE) return expr_class(p->x, set);
    struct char_set plain = {0};
    set_add_all(&plain, set);
    set_remove(&plain, 0, 0x1F);
    set_remove(&plain, '"', '"');
    set_remove(&plain, '\\', '\\');
    int32_t e = expr_class(p->x, &plain), escaped = 0;
    set_free(&plain);
    for (int i = 0; named[i]; i++) {
        if (!set_has(set, (unsigned char)named[i])) continue;
        char text[2] = {'\\', escapes[i]};
        if (!escaped) escaped = expr_add(p->x, expr_many(p->x, EXPR_ALT), e);
        expr_add(p->x, escaped, expr_bytes(p->x, text, 2));
    }
    return escaped ? escaped : e;
}

static void add_class(struct char_set *set, int letter)
{
    static const struct char_range digits[] = {{'0', '9'}},
                                   words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                                   spaces[] = {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},
                                               {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                                               {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
    int lower = letter | 0x20;
    const struct char_range *r = lower == 'd' ? digits : lower == 'w' ? words : spaces;
    int n = lower == 'd' ? 1 : lower == 'w' ? 4 : (int)(sizeof spaces / sizeof *spaces);
    struct char_set named = {0};
    for (int i = 0; i < n; i++) set_add(&named, r[i].low, r[i].high);
    if (letter == 'S') { // what only some take for white space is nothing to rely on
        set_add(&named, 0x1C, 0x1F);
        set_add(&named, 0x85, 0x85);
        set_add(&named, 0xFEFF, 0xFEFF);
    }
    if (letter != lower) set_negate(&named);
    set_add_all(set, &named);
    set_free(&named);
}

static int hex_value(int c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int32_t hex_digits(struct parser *p, int least, int most)
{
    uint32_t value = 0;
    int n = 0;
    for (; n < most && peek(p) >= 0 && hex_value(peek(p)) >= 0; n++, p->at++)
        value = value << 4 | (uint32_t)hex_value(peek(p));
    if (n < least) return fail(p, p->at, "a hexadecimal digit"), -1;
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return fail(p, p->at, "the code point of a character"), -1;
    return (int32_t)value;
}

// What stands behind '\' and is one character; -1 after a failure.
static int32_t escape(struct parser *p, bool in_class)
{
    static const char letters[] = "ntrfv", meanings[] = "\n\t\r\f\v";
    size_t start = p->at - 1;
    int c = peek(p);
    if (c < 0) return fail(p, p->at, "a character behind '\\'"), -1;
    p->at++;
    const char *letter = strchr(letters, c);
    if (letter) return meanings[letter - letters];
    if (c == 'x' || c == 'u') {
        if (!accept(p, "{")) return hex_digits(p, c == 'x' ? 2 : 4, c == 'x' ? 2 : 4);
        int32_t value = hex_digits(p, 1, 6);
        if (value >= 0 && !accept(p, "}")) return fail(p, p->at, "'}'"), -1;
        return value;
    }
    if (c == 'b' && in_class) return '\b';
    if (c == '0' && (peek(p) < '0' || peek(p) > '9')) return 0;
    if (c == 'b' || c == 'B' || c == 'A' || c == 'Z' || c == 'z' || c == 'G')
        return refuse(p, start, "an assertion"), -1;
    if ((c >= '0' && c <= '9') || c == 'k') return refuse(p, start, "a back reference"), -1;
    if (c == 'p' || c == 'P') return refuse(p, start, "a property of characters"), -1;
    if (c >= 0x80 || (c | 0x20) < 'a' || (c | 0x20) > 'z') {
        size_t length;
        p->at--;
        int32_t wide = utf8_read(p->pattern + p->at, p->bytes - p->at, &length);
        if (wide < 0) return fail(p, p->at, "a character of UTF-8"), -1;
        p->at += length;
        return wide;
    }
    return fail(p, p->at - 1, "an escape that is known"), -1;
}

static bool is_class_letter(int c)
{
    return c == 'd' || c == 'D' || c == 'w' || c == 'W' || c == 's' || c == 'S';
}

// A character of a class, or -2 where a class of its own was added, or -1 after a failure.
static int32_t class_item(struct parser *p, struct char_set *set)
{
    size_t length;
    if (accept(p, "\\")) {
        if (!is_class_letter(peek(p))) return escape(p, true);
        add_class(set, peek(p));
        p->at++;
        return -2;
    }
    int32_t c = utf8_read(p->pattern + p->at, p->bytes - p->at, &length);
    if (c < 0) return fail(p, p->at, "a character of UTF-8"), -1;
    p->at += length;
    return c;
}

static struct regex_expr class(struct parser *p)
{
    struct char_set set = {0};
    bool negated = accept(p, "^");
    while (!p->x->status && peek(p) != ']') {
        if (peek(p) < 0) {
            fail(p, p->at, "']'");
            break;
        }
        if (peek(p) == '[' && peek_at(p, 1) == ':') refuse(p, p->at, "a class of POSIX");
        size_t start = p->at;
        int32_t low = class_item(p, &set), high = low;
        if (low >= 0 && peek(p) == '-' && peek_at(p, 1) >= 0 && peek_at(p, 1) != ']') {
            p->at++;
            high = class_item(p, &set);
            if (high == -2) { // "a-\d": the '-' is itself
                set_add(&set, '-', '-');
                high = low;
            }
        }
        if (low >= 0 && high >= 0 && high < low) fail(p, start, "a range that rises");
        if (low >= 0 && high >= low) set_add(&set, (uint32_t)low, (uint32_t)high);
    }
    p->at++;
    set_sort(&set);
    if (negated) set_negate(&set);
    struct regex_expr e = {characters(p, &set), 1, 1};
    set_free(&set);
    return e;
}

// ---- the tree -------------------------------------------------------------------------------------------

static struct regex_expr alternatives(struct parser *p, bool top);

static struct regex_expr group(struct parser *p)
{
    size_t start = p->at - 1;
    if (++p->depth > GRAMMAR_MAX_DEPTH) return fail(p, start, "groups at most 200 deep");
    if (accept(p, "?")) {
        bool behind = peek(p) == '<' && (peek_at(p, 1) == '=' || peek_at(p, 1) == '!');
        if (peek(p) == '=' || peek(p) == '!' || behind) return refuse(p, start, "an assertion");
        if (accept(p, "<") || accept(p, "P<")) { // a name, which changes nothing
            while (peek(p) >= 0 && peek(p) != '>' && peek(p) != ')') p->at++;
            if (!accept(p, ">")) return fail(p, p->at, "'>'");
        } else if (!accept(p, ":")) {
            return refuse(p, start, "a group of another kind");
        }
    }
    struct regex_expr e = alternatives(p, false);
    if (!p->x->status && !accept(p, ")")) return fail(p, p->at, "')'");
    p->depth--;
    return e;
}

static struct regex_expr one(struct parser *p, int32_t c)
{
    struct char_set set = {0};
    if (c >= 0) set_add(&set, (uint32_t)c, (uint32_t)c);
    struct regex_expr e = {p->x->status ? 0 : characters(p, &set), 1, 1};
    set_free(&set);
    return e;
}

static struct regex_expr atom(struct parser *p)
{
    size_t start = p->at, length;
    struct char_set set = {0};
    if (accept(p, "(")) return group(p);
    if (accept(p, "[")) return class(p);
    if (accept(p, ".")) {
        static const uint32_t ends[] = {'\n', '\r', 0x2028, 0x2029};
        for (int i = 0; i < 4; i++) set_add(&set, ends[i], ends[i]);
        set_negate(&set);
    } else if (accept(p, "\\")) {
        if (!is_class_letter(peek(p))) return one(p, escape(p, false));
        add_class(&set, peek(p));
        p->at++;
    } else {
        int c = peek(p);
        if (c == '^' || c == '$') return refuse(p, start, "an anchor inside the expression");
        if (c == '*' || c == '+' || c == '?') return fail(p, start, "something to repeat");
        int32_t wide = utf8_read(p->pattern + p->at, p->bytes - p->at, &length);
        if (wide < 0) return fail(p, start, "a character of UTF-8");
        p->at += length;
        return one(p, wide);
    }
    struct regex_expr e = {characters(p, &set), 1, 1};
    set_free(&set);
    return e;
}

// Reads "{m}", "{m,}" or "{m,n}"; anything else is text, as in ECMA-262's annex B.
static bool braces(struct parser *p, int64_t *min, int64_t *max)
{
    size_t at = p->at + 1;
    int64_t bound[2] = {0, -1};
    int n = 0;
    for (; n < 2; n++) {
        size_t digits = at;
        int64_t value = 0;
        for (; at < p->bytes && p->pattern[at] >= '0' && p->pattern[at] <= '9'; at++)
            if (value <= GRAMMAR_MAX_REPEAT) value = value * 10 + (p->pattern[at] - '0');
        if (at > digits) bound[n] = value;
        if (at == digits && !n) return false;
        if (n || at >= p->bytes || p->pattern[at] != ',') break;
        at++;
    }
    if (at >= p->bytes || p->pattern[at] != '}') return false;
    *min = bound[0];
    *max = n ? bound[1] : bound[0];
    p->at = at + 1;
    return true;
}

static int64_t times(int64_t a, int64_t b)
{
    if (a < 0 || b < 0) return a && b ? -1 : 0;
    return a && b > INT32_MAX / a ? INT32_MAX : a * b;
}

static struct regex_expr quantified(struct parser *p, struct regex_expr e)
{
    size_t start = p->at;
    for (int n = 0; !p->x->status; n++) {
        int64_t min = 0, max = -1;
        start = p->at;
        if (peek(p) == '{') {
            if (!braces(p, &min, &max)) break;
        } else if (accept(p, "+")) {
            min = 1;
        } else if (accept(p, "?")) {
            max = 1;
        } else if (!accept(p, "*")) {
            break;
        }
        if (n) return fail(p, start, "one quantifier");
        if (max >= 0 && max < min) return fail(p, start, "a range that rises");
        if (!accept(p, "?") && peek(p) == '+') return refuse(p, p->at, "a possessive quantifier");
        e = (struct regex_expr){expr_repeat(p->x, e.expr, min, max), times(e.least, min), times(e.most, max)};
    }
    return e;
}

static struct regex_expr joined(struct parser *p, int32_t list, struct regex_expr a, struct regex_expr b)
{
    expr_add(p->x, list, b.expr);
    int64_t least = a.least + b.least, most = a.most < 0 || b.most < 0 ? -1 : a.most + b.most;
    return (struct regex_expr){list, least < INT32_MAX ? least : INT32_MAX, most < INT32_MAX ? most : -1};
}

// What may stand in front of and behind a match that has no anchor.
static struct regex_expr anything(struct parser *p)
{
    struct char_set all = {0};
    set_negate(&all);
    struct regex_expr e = {expr_repeat(p->x, characters(p, &all), 0, -1), 0, -1};
    set_free(&all);
    return e;
}

static struct regex_expr sequence(struct parser *p, bool top)
{
    int32_t list = expr_many(p->x, EXPR_LIST);
    struct regex_expr e = {list, 0, 0};
    bool begins = top && accept(p, "^"), ends = false;
    if (top && !begins && p->use == REGEX_SEARCH) e = joined(p, list, e, anything(p));
    while (!p->x->status && peek(p) >= 0 && peek(p) != '|' && peek(p) != ')') {
        if (top && peek(p) == '$' && (peek_at(p, 1) < 0 || peek_at(p, 1) == '|')) {
            ends = accept(p, "$");
            continue;
        }
        struct regex_expr next = quantified(p, atom(p));
        e = joined(p, list, e, next);
    }
    if (top && !ends && p->use == REGEX_SEARCH) e = joined(p, list, e, anything(p));
    return e;
}

static struct regex_expr alternatives(struct parser *p, bool top)
{
    struct regex_expr e = sequence(p, top);
    if (peek(p) != '|') return e;
    int32_t alt = expr_add(p->x, expr_many(p->x, EXPR_ALT), e.expr);
    while (!p->x->status && accept(p, "|")) {
        struct regex_expr next = sequence(p, top);
        expr_add(p->x, alt, next.expr);
        if (next.least < e.least) e.least = next.least;
        if (e.most >= 0 && (next.most < 0 || next.most > e.most)) e.most = next.most;
    }
    e.expr = alt;
    return e;
}

struct regex_expr grammar_regex_part(struct grammar_exprs *x, const char *pattern, size_t bytes,
                                     enum regex_use use, const char *where)
{
    struct parser p = {.x = x, .pattern = pattern, .bytes = bytes, .use = use, .where = where};
    if (x->status) return nothing;
    struct regex_expr e = alternatives(&p, true);
    if (!x->status && p.at < bytes) return fail(&p, p.at, "the end");
    return e;
}

void grammar_regex(struct grammar_exprs *x, const char *text, size_t bytes)
{
    int32_t body = grammar_regex_part(x, text, bytes, REGEX_WHOLE, "").expr;
    expr_define(x, 0, body);
}
