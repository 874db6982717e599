// text/jinja_parse_value.c -- tokens, literals, and what follows a value: attributes, items, calls, filters,
// tests.
#include <string.h>

#include "text/jinja_builtin.h"

struct token *parse_peek(struct parser *p)
{
    struct token *t = &p->tokens.items[p->at];
    p->j->line = t->line;
    return t;
}

struct token *parse_next(struct parser *p)
{
    struct token *t = parse_peek(p);
    if (t->kind != T_EOF) p->at++;
    return t;
}

struct token *parse_peek_second(struct parser *p)
{
    struct token *t = parse_peek(p);
    return t->kind == T_EOF ? t : t + 1;
}

bool token_is(const struct token *t, const char *name)
{
    return t->kind == T_NAME && string_is(t->value, name);
}

bool parse_peek_name(struct parser *p, const char *name)
{
    return token_is(parse_peek(p), name);
}

bool parse_skip_name(struct parser *p, const char *name)
{
    if (!parse_peek_name(p, name)) return false;
    parse_next(p);
    return true;
}

bool parse_skip(struct parser *p, enum token_kind kind)
{
    if (parse_peek(p)->kind != kind) return false;
    parse_next(p);
    return true;
}

_Noreturn void parse_fail(struct parser *p, const struct token *found, const char *expected)
{
    char shown[64];
    p->j->line = found->line;
    FAIL(p->j, "expected %s, found %s", expected, token_show(found, shown));
}

struct token *parse_expect(struct parser *p, enum token_kind kind, const char *what)
{
    if (parse_peek(p)->kind != kind) parse_fail(p, parse_peek(p), what);
    return parse_next(p);
}

struct node *node_new(struct parser *p, enum node_kind kind, int line)
{
    struct node *n = pool_alloc(p->j, 1, sizeof *n);
    n->kind = kind;
    n->line = line;
    return n;
}

void node_push(struct parser *p, struct node *n, struct node *item)
{
    // Room doubles whenever the count is a power of two.
    if (!(n->count & (n->count - 1)))
        n->items = pool_grow(p->j, n->items, n->count, n->count ? n->count * 2 : 1, sizeof *n->items);
    n->items[n->count++] = item;
}

struct node *node_op(struct parser *p, enum node_kind kind, int op, int line, struct node *a, struct node *b)
{
    struct node *n = node_new(p, kind, line);
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

static struct node *node_const(struct parser *p, struct value v, int line)
{
    struct node *n = node_new(p, N_CONST, line);
    n->value = v;
    return n;
}

// ---- literals -----------------------------------------------------------------------------------------

static struct node *parse_list(struct parser *p)
{
    struct node *n = node_new(p, N_LIST, parse_next(p)->line);
    while (parse_peek(p)->kind != T_RBRACKET) {
        if (n->count) parse_expect(p, T_COMMA, "',' or ']'");
        if (parse_peek(p)->kind == T_RBRACKET) break;
        node_push(p, n, parse_expression(p, true));
    }
    parse_next(p);
    return n;
}

static struct node *parse_dict(struct parser *p)
{
    struct node *n = node_new(p, N_DICT, parse_next(p)->line);
    while (parse_peek(p)->kind != T_RBRACE) {
        if (n->count) parse_expect(p, T_COMMA, "',' or '}'");
        if (parse_peek(p)->kind == T_RBRACE) break;
        node_push(p, n, parse_expression(p, true));
        parse_expect(p, T_COLON, "':'");
        node_push(p, n, parse_expression(p, true));
    }
    parse_next(p);
    return n;
}

static struct node *parse_strings(struct parser *p)
{
    struct token *t = parse_next(p);
    if (parse_peek(p)->kind != T_STRING) return node_const(p, t->value, t->line);
    struct text joined = {0};
    text_add(p->j, &joined, t->value);
    while (parse_peek(p)->kind == T_STRING) text_add(p->j, &joined, parse_next(p)->value);
    return node_const(p, text_value(&joined), t->line);
}

static struct node *parse_name(struct parser *p, bool with_namespace)
{
    struct token *t = parse_next(p);
    bool yes = token_is(t, "true") || token_is(t, "True");
    if (yes || token_is(t, "false") || token_is(t, "False")) return node_const(p, value_bool(yes), t->line);
    if (token_is(t, "none") || token_is(t, "None")) return node_const(p, value_none(), t->line);
    struct node *n = node_new(p, N_NAME, t->line);
    n->value = t->value;
    if (with_namespace && parse_skip(p, T_DOT)) {
        n->kind = N_FIELD;
        n->b = node_const(p, parse_expect(p, T_NAME, "the name of an attribute")->value, t->line);
    }
    return n;
}

struct node *parse_primary(struct parser *p, bool with_namespace)
{
    struct node *n;
    switch (parse_peek(p)->kind) {
    case T_NAME: return parse_name(p, with_namespace);
    case T_STRING: return parse_strings(p);
    case T_INTEGER:
    case T_FLOAT: {
        struct token *t = parse_next(p);
        return node_const(p, t->value, t->line);
    }
    case T_LPAREN:
        parse_next(p);
        n = parse_tuple(p, TUPLE_CONDITION | TUPLE_PARENTHESES);
        parse_expect(p, T_RPAREN, "')'");
        return n;
    case T_LBRACKET: return parse_list(p);
    case T_LBRACE: return parse_dict(p);
    default: parse_fail(p, parse_peek(p), "an expression");
    }
}

struct node *parse_tuple(struct parser *p, int flags)
{
    struct node *n = node_new(p, N_TUPLE, parse_peek(p)->line);
    bool is_tuple = false;
    jinja_enter(p->j);
    for (;;) {
        if (n->count) parse_expect(p, T_COMMA, "','");
        enum token_kind kind = parse_peek(p)->kind;
        if (kind == T_VARIABLE_END || kind == T_BLOCK_END || kind == T_RPAREN) break;
        node_push(p, n,
                  flags & TUPLE_SIMPLE ? parse_primary(p, flags & TUPLE_NAMESPACE)
                                       : parse_expression(p, flags & TUPLE_CONDITION));
        if (parse_peek(p)->kind != T_COMMA) break;
        is_tuple = true;
    }
    jinja_leave(p->j);
    if (is_tuple) return n;
    if (n->count) return n->items[0];
    if (!(flags & TUPLE_PARENTHESES)) parse_fail(p, parse_peek(p), "an expression");
    return n;
}

// ---- what follows a value -----------------------------------------------------------------------------

static void fail_call(struct parser *p, int line)
{
    p->j->line = line;
    FAIL(p->j, "expected arguments, then keyword arguments, each once, then *args and **kwargs, found "
               "another order");
}

static void push_keyword(struct parser *p, struct call_args *a, struct value name, struct node *value,
                         int line)
{
    for (int64_t i = 0; i < a->keyword_count; i++) {
        if (value_equal(p->j, a->keywords[i].name, name)) fail_call(p, line);
    }
    a->keywords = pool_grow(p->j, a->keywords, a->keyword_count, a->keyword_count + 1, sizeof *a->keywords);
    a->keywords[a->keyword_count++] = (struct keyword){name, value};
}

static struct call_args *parse_arguments(struct parser *p)
{
    struct call_args *a = pool_alloc(p->j, 1, sizeof *a);
    int line = parse_expect(p, T_LPAREN, "'('")->line;
    bool comma = false;
    while (parse_peek(p)->kind != T_RPAREN) {
        if (comma) {
            parse_expect(p, T_COMMA, "',' or ')'");
            if (parse_peek(p)->kind == T_RPAREN) break;
        }
        comma = true;
        if (parse_skip(p, T_MUL)) {
            if (a->star || a->star_star) fail_call(p, line);
            a->star = parse_expression(p, true);
        } else if (parse_skip(p, T_POW)) {
            if (a->star_star) fail_call(p, line);
            a->star_star = parse_expression(p, true);
        } else if (parse_peek(p)->kind == T_NAME && parse_peek_second(p)->kind == T_ASSIGN) {
            if (a->star_star) fail_call(p, line);
            struct value name = parse_next(p)->value;
            parse_next(p);
            push_keyword(p, a, name, parse_expression(p, true), line);
        } else {
            if (a->star || a->star_star || a->keyword_count) fail_call(p, line);
            int64_t n = a->positional_count++;
            a->positional = pool_grow(p->j, a->positional, n, n + 1, sizeof *a->positional);
            a->positional[n] = parse_expression(p, true);
        }
    }
    parse_next(p);
    return a;
}

struct node *parse_call(struct parser *p, struct node *callee)
{
    struct node *n = node_op(p, N_CALL, 0, parse_peek(p)->line, callee, NULL);
    n->args = parse_arguments(p);
    return n;
}

// What stands between brackets: an expression or a slice.
static struct node *parse_subscribed(struct parser *p)
{
    struct node *part[3] = {NULL, NULL, NULL};
    int line = parse_peek(p)->line;
    if (parse_peek(p)->kind != T_COLON) {
        part[0] = parse_expression(p, true);
        if (parse_peek(p)->kind != T_COLON) return part[0];
    }
    for (int i = 1; i < 3 && parse_skip(p, T_COLON); i++) {
        enum token_kind kind = parse_peek(p)->kind;
        if (kind != T_COLON && kind != T_RBRACKET && kind != T_COMMA) part[i] = parse_expression(p, true);
    }
    struct node *n = node_new(p, N_SLICE, line);
    for (int i = 0; i < 3; i++) node_push(p, n, part[i]);
    return n;
}

static struct node *parse_brackets(struct parser *p, struct node *owner)
{
    struct node *keys = node_new(p, N_TUPLE, parse_next(p)->line);
    bool sliced = false;
    while (parse_peek(p)->kind != T_RBRACKET) {
        if (keys->count) parse_expect(p, T_COMMA, "',' or ']'");
        struct node *key = parse_subscribed(p);
        sliced |= key->kind == N_SLICE && !key->a; // one that is whole has an owner
        node_push(p, keys, key);
    }
    parse_next(p);
    if (keys->count == 1 && sliced) {
        keys->items[0]->a = owner;
        return keys->items[0];
    }
    if (sliced) {
        p->j->line = keys->line;
        FAIL(p->j, "expected one slice, found a tuple of slices");
    }
    return node_op(p, N_ITEM, 0, keys->line, owner, keys->count == 1 ? keys->items[0] : keys);
}

static struct node *parse_dot(struct parser *p, struct node *owner)
{
    int line = parse_next(p)->line;
    struct token *t = parse_next(p);
    if (t->kind == T_INTEGER) return node_op(p, N_ITEM, 0, line, owner, node_const(p, t->value, t->line));
    if (t->kind != T_NAME) parse_fail(p, t, "the name of an attribute or a number");
    struct node *n = node_op(p, N_ATTRIBUTE, 0, line, owner, NULL);
    n->value = t->value;
    return n;
}

struct node *parse_postfix(struct parser *p, struct node *n)
{
    for (;;) {
        switch (parse_peek(p)->kind) {
        case T_DOT: n = parse_dot(p, n); break;
        case T_LBRACKET: n = parse_brackets(p, n); break;
        case T_LPAREN: n = parse_call(p, n); break;
        default: return n;
        }
    }
}

// The name of a filter or test, which may have dots in it.
static struct value parse_dotted(struct parser *p, const char *what)
{
    struct value name = parse_expect(p, T_NAME, what)->value;
    while (parse_skip(p, T_DOT)) {
        struct text t = {0};
        text_add(p->j, &t, name);
        text_put(p->j, &t, '.');
        text_add(p->j, &t, parse_expect(p, T_NAME, what)->value);
        name = text_value(&t);
    }
    return name;
}

struct node *parse_filter(struct parser *p, struct node *subject, bool inline_start)
{
    while (inline_start || parse_skip(p, T_PIPE)) {
        struct node *n = node_op(p, N_FILTER, 0, parse_peek(p)->line, subject, NULL);
        n->value = parse_dotted(p, "the name of a filter");
        n->builtin = filter_find(n->value);
        n->args = parse_peek(p)->kind == T_LPAREN ? parse_arguments(p) : pool_alloc(p->j, 1, sizeof *n->args);
        subject = n;
        inline_start = false;
    }
    return subject;
}

// An operand may follow a test's name without parentheses: x is divisibleby 3.
static bool begins_operand(struct parser *p)
{
    switch (parse_peek(p)->kind) {
    case T_NAME:
        return !parse_peek_name(p, "else") && !parse_peek_name(p, "or") && !parse_peek_name(p, "and");
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE: return true;
    default: return false;
    }
}

struct node *parse_test(struct parser *p, struct node *subject)
{
    int line = parse_next(p)->line;
    bool negated = parse_skip_name(p, "not");
    struct node *n = node_op(p, N_TEST, 0, line, subject, NULL);
    n->value = parse_dotted(p, "the name of a test");
    n->builtin = test_find(n->value);
    if (parse_peek(p)->kind == T_LPAREN) {
        n->args = parse_arguments(p);
    } else {
        n->args = pool_alloc(p->j, 1, sizeof *n->args);
        if (begins_operand(p)) {
            if (parse_peek_name(p, "is")) parse_fail(p, parse_peek(p), "one test");
            n->args->positional = pool_alloc(p->j, 1, sizeof *n->args->positional);
            n->args->positional[0] = parse_postfix(p, parse_primary(p, false));
            n->args->positional_count = 1;
        }
    }
    return negated ? node_op(p, N_NOT, 0, line, n, NULL) : n;
}
