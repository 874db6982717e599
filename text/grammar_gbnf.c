// text/grammar_gbnf.c -- GBNF, the grammars of llama.cpp (its grammars/README.md):
//
//     # a list
//     root  ::= "- " item ("\n- " item){0,9}
//     item  ::= [A-Z] [^\n]+ | "nothing" ws?
//     ws    ::= [ \t]*
//
// Literals, classes and '.' are of characters; \xNN, \uNNNN, \UNNNNNNNN name one. A rule ends where the next one's name and "::="
// stand: line ends mean no more than spaces. Tokens (<...>) are not known here.
#include <jansson.h>
#include <string.h>

#include "text/grammar_expr.h"

enum { MAX_SUFFIXES = 8 };

struct parser {
    struct grammar_exprs *x;
    const char *text;
    size_t bytes, at;
    int depth;
    json_t *names;     // name: rule
    size_t *first_use; // (rules) where a rule was called first
    int32_t first_use_capacity;
};

// ---- messages -------------------------------------------------------------------------------------------

// "line 3, column 7" of a place in the text.
static void place(const struct parser *p, size_t at, char *out, size_t room)
{
    int line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        if (p->text[i] == '\n')
            line++, column = 1;
        else if ((p->text[i] & 0xC0) != 0x80)
            column++;
    }
    snprintf(out, room, "line %d, column %d", line, column);
}

static int32_t fail(struct parser *p, size_t at, const char *expected)
{
    char where[64], found[16] = "the end";
    place(p, at, where, sizeof where);
    unsigned char c = at < p->bytes ? (unsigned char)p->text[at] : 0;
    size_t length;
    int32_t wide = utf8_read(p->text + at, p->bytes - at, &length);
    if (at < p->bytes && wide >= 0x20 && wide != 0x7F)
        snprintf(found, sizeof found, "'%.*s'", (int)length, p->text + at);
    else if (at < p->bytes && c == '\n')
        snprintf(found, sizeof found, "a line end");
    else if (at < p->bytes)
        snprintf(found, sizeof found, "byte 0x%02X", c);
    exprs_fail(p->x, TLM_ERR_FORMAT, "%s: expected %s, found %s", where, expected, found);
    return 0;
}

// ---- small parts ----------------------------------------------------------------------------------------

static int peek(const struct parser *p)
{
    return p->at < p->bytes ? (unsigned char)p->text[p->at] : -1;
}

static void skip_space(struct parser *p)
{
    for (;; p->at++) {
        int c = peek(p);
        if (c == '#')
            while (peek(p) >= 0 && peek(p) != '\n') p->at++;
        else if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return;
        if (peek(p) < 0) return;
    }
}

static bool is_name_char(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static size_t name_length(const struct parser *p)
{
    size_t n = 0;
    while (p->at + n < p->bytes && is_name_char((unsigned char)p->text[p->at + n])) n++;
    return n;
}

static bool at_definition(const struct parser *p)
{
    struct parser ahead = *p;
    ahead.at += name_length(p);
    if (ahead.at == p->at) return false;
    skip_space(&ahead);
    return ahead.bytes - ahead.at >= 3 && !memcmp(ahead.text + ahead.at, "::=", 3);
}

// The rule of that name, which need not be defined yet; -1 after a failure.
static int32_t rule_named(struct parser *p, const char *name, size_t length)
{
    json_t *known = json_object_getn(p->names, name, length);
    if (known) return (int32_t)json_integer_value(known);
    int32_t rule = p->x->rule_count == 1 && !json_object_size(p->names) ? 0 : expr_rule(p->x, name, length);
    if (p->x->status) return -1;
    if (!grammar_grow(&p->first_use, &p->first_use_capacity, rule, 1, sizeof *p->first_use) ||
        json_object_setn_new(p->names, name, length, json_integer(rule))) {
        exprs_fail(p->x, TLM_ERR_MEMORY, "no memory for %d rules", (int)rule);
        return -1;
    }
    p->first_use[rule] = p->at;
    return rule;
}

static int hex_value(int c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// A character of a literal or class, maybe escaped; -1 after a failure.
static int32_t character(struct parser *p)
{
    size_t start = p->at, length;
    if (peek(p) != '\\') {
        int32_t c = utf8_read(p->text + p->at, p->bytes - p->at, &length);
        if (c < 0) fail(p, p->at, "a character of UTF-8");
        p->at += length;
        return c;
    }
    p->at++;
    int c = peek(p);
    p->at++;
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits) {
        uint32_t value = 0;
        for (int i = 0; i < digits; i++, p->at++) {
            int digit = peek(p) < 0 ? -1 : hex_value(peek(p));
            if (digit < 0) return fail(p, p->at, "a hexadecimal digit"), -1;
            value = value << 4 | (uint32_t)digit;
        }
        if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
            return fail(p, start, "the code point of a character"), -1;
        return (int32_t)value;
    }
    static const char letters[] = "ntr", meanings[] = "\n\t\r";
    const char *letter = c > 0 ? strchr(letters, c) : NULL;
    if (letter) return meanings[letter - letters];
    if (c > ' ' && c < 0x7F && !is_name_char(c)) return c;
    if (c == '-') return c;
    p->at = start + 1;
    return fail(p, p->at, "one of n r t x u U or a punctuation mark behind '\\'"), -1;
}

// ---- elements -------------------------------------------------------------------------------------------

static int32_t literal(struct parser *p)
{
    char *buffer = NULL;
    int32_t capacity = 0, count = 0;
    for (p->at++; peek(p) != '"';) {
        if (peek(p) < 0) {
            fail(p, p->at, "'\"'");
            break;
        }
        int32_t c = character(p);
        if (c < 0) break;
        if (!grammar_grow(&buffer, &capacity, count, 4, 1)) {
            exprs_fail(p->x, TLM_ERR_MEMORY, "no memory for a literal");
            break;
        }
        count += utf8_write(buffer + count, (uint32_t)c);
    }
    p->at++;
    int32_t e = count ? expr_bytes(p->x, buffer, (size_t)count) : 0;
    free(buffer);
    return e;
}

static int32_t class(struct parser *p)
{
    struct char_set set = {0};
    p->at++;
    bool negated = peek(p) == '^';
    if (negated) p->at++;
    while (!p->x->status && peek(p) != ']') {
        if (peek(p) < 0) {
            fail(p, p->at, "']'");
            break;
        }
        size_t start = p->at;
        int32_t low = character(p), high = low;
        if (low >= 0 && peek(p) == '-' && p->at + 1 < p->bytes && p->text[p->at + 1] != ']') {
            p->at++;
            high = character(p);
        }
        if (low >= 0 && high >= 0 && high < low) fail(p, start, "a range that rises");
        if (low >= 0 && high >= low) set_add(&set, (uint32_t)low, (uint32_t)high);
    }
    p->at++;
    set_sort(&set);
    if (negated) set_negate(&set);
    int32_t e = expr_class(p->x, &set);
    set_free(&set);
    return e;
}

static int32_t alternatives(struct parser *p);

static int32_t element(struct parser *p)
{
    int c = peek(p);
    if (c == '"') return literal(p);
    if (c == '[') return class(p);
    if (c == '.') {
        p->at++;
        return expr_range(p->x, 0, 0x10FFFF);
    }
    if (c == '(') {
        if (++p->depth > GRAMMAR_MAX_DEPTH) return fail(p, p->at, "brackets at most 200 deep");
        p->at++;
        int32_t e = alternatives(p);
        if (!p->x->status && peek(p) != ')') fail(p, p->at, "')'");
        p->at++;
        p->depth--;
        return e;
    }
    size_t length = name_length(p);
    int32_t rule = rule_named(p, p->text + p->at, length);
    p->at += length;
    return expr_call(p->x, rule);
}

static int64_t number(struct parser *p)
{
    int64_t n = 0;
    if (peek(p) < '0' || peek(p) > '9') return fail(p, p->at, "a number"), 0;
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        if (n <= GRAMMAR_MAX_REPEAT) n = n * 10 + (peek(p) - '0');
    skip_space(p);
    return n;
}

// The '*', '+', '?' or '{m,n}' behind an element, if there is one.
static int32_t repeated(struct parser *p, int32_t e)
{
    for (int n = 0;; n++) {
        skip_space(p);
        int c = peek(p);
        int64_t min = c == '+', max = c == '?' ? 1 : -1;
        if (c != '*' && c != '+' && c != '?' && c != '{') return e;
        if (n >= MAX_SUFFIXES) return fail(p, p->at, "at most 8 repetitions of repetitions");
        p->at++;
        if (c == '{') {
            size_t start = p->at;
            skip_space(p);
            max = min = number(p);
            if (peek(p) == ',') {
                p->at++;
                skip_space(p);
                max = peek(p) == '}' ? -1 : number(p);
            }
            if (!p->x->status && peek(p) != '}') fail(p, p->at, "'}'");
            if (!p->x->status && max >= 0 && max < min) fail(p, start, "a range that rises");
            p->at++;
        }
        e = expr_repeat(p->x, e, min, max);
        if (p->x->status) return 0;
    }
}

static int32_t sequence(struct parser *p)
{
    int32_t list = expr_many(p->x, EXPR_LIST);
    while (!p->x->status) {
        skip_space(p);
        int c = peek(p);
        if (c < 0 || c == '|' || c == ')') break;
        if (c == '<' || c == '!') {
            char where[64];
            place(p, p->at, where, sizeof where);
            exprs_fail(p->x, TLM_ERR_UNSUPPORTED, "%s: expected text, found a token, which is not supported",
                       where);
            break;
        }
        if (is_name_char(c)) {
            if (at_definition(p)) break;
        } else if (c != '"' && c != '[' && c != '.' && c != '(') {
            return fail(p, p->at, "a name, '\"', '[', '.', '(', '|' or the next rule");
        }
        int32_t e = element(p);
        expr_add(p->x, list, p->x->status ? 0 : repeated(p, e));
    }
    return list;
}

static int32_t alternatives(struct parser *p)
{
    int32_t first = sequence(p);
    if (peek(p) != '|') return first;
    int32_t alt = expr_add(p->x, expr_many(p->x, EXPR_ALT), first);
    while (!p->x->status && peek(p) == '|') {
        p->at++;
        int32_t next = sequence(p);
        expr_add(p->x, alt, next);
    }
    return alt;
}

// ---- rules ----------------------------------------------------------------------------------------------

static void definition(struct parser *p)
{
    size_t start = p->at, length = name_length(p);
    if (!length) {
        fail(p, p->at, "the name of a rule");
        return;
    }
    int32_t rule = rule_named(p, p->text + p->at, length);
    p->at += length;
    skip_space(p);
    if (p->bytes - p->at < 3 || memcmp(p->text + p->at, "::=", 3)) {
        fail(p, p->at, "'::='");
        return;
    }
    p->at += 3;
    int32_t body = alternatives(p);
    if (p->x->status) return;
    if (peek(p) == ')') {
        fail(p, p->at, "the next rule");
        return;
    }
    if (p->x->rules[rule].body) {
        char where[64];
        place(p, start, where, sizeof where);
        exprs_fail(p->x, TLM_ERR_FORMAT, "%s: expected each rule once, found \"%.*s\" again", where,
                   length < 80 ? (int)length : 80, p->text + start);
        return;
    }
    expr_define(p->x, rule, body);
}

static void check_defined(struct parser *p)
{
    const char *name;
    json_t *rule;
    json_object_foreach(p->names, name, rule)
    {
        int32_t r = (int32_t)json_integer_value(rule);
        if (p->x->status || p->x->rules[r].body) continue;
        if (!r) {
            exprs_fail(p->x, TLM_ERR_FORMAT, "expected a rule named \"root\", found none");
            return;
        }
        char where[64];
        place(p, p->first_use[r], where, sizeof where);
        exprs_fail(p->x, TLM_ERR_FORMAT, "%s: expected a rule that is defined, found \"%.80s\"", where, name);
    }
}

void grammar_gbnf(struct grammar_exprs *x, const char *text, size_t bytes)
{
    struct parser p = {.x = x, .text = text, .bytes = bytes, .names = json_object()};
    if (!p.names) exprs_fail(x, TLM_ERR_MEMORY, "no memory for names");
    if (!x->status) rule_named(&p, "root", 4); // rule 0
    skip_space(&p);
    while (!x->status && p.at < bytes) {
        definition(&p);
        skip_space(&p);
    }
    if (!x->status) check_defined(&p);
    json_decref(p.names);
    free(p.first_use);
}
