// text/jinja_parse_expr.c -- operators, by the grammar of jinja2's parser.py. From loose to tight:
//
//     a if b else c   or   and   not   == != < <= > >= in (chained)   + -   ~   * / // %   **   unary + -
//     then . [] () and behind these | filter, is test (text/jinja_parse_value.c)
#include "text/jinja_builtin.h"

static struct node *parse_unary(struct parser *p, bool with_filter)
{
    struct node *n;
    enum token_kind kind = parse_peek(p)->kind;
    jinja_enter(p->j);
    if (kind == T_SUB || kind == T_ADD) {
        int line = parse_next(p)->line;
        n = node_op(p, N_UNARY, kind, line, parse_unary(p, false), NULL);
    } else {
        n = parse_primary(p, false);
    }
    n = parse_postfix(p, n);
    while (with_filter) {
        if (parse_peek(p)->kind == T_PIPE)
            n = parse_filter(p, n, false);
        else if (parse_peek_name(p, "is"))
            n = parse_test(p, n);
        else if (parse_peek(p)->kind == T_LPAREN)
            n = parse_call(p, n);
        else
            break;
    }
    jinja_leave(p->j);
    return n;
}

static struct node *parse_pow(struct parser *p)
{
    struct node *n = parse_unary(p, true);
    while (parse_peek(p)->kind == T_POW) {
        int line = parse_next(p)->line;
        n = node_op(p, N_BINARY, T_POW, line, n, parse_unary(p, true));
    }
    return n;
}

static struct node *parse_product(struct parser *p)
{
    struct node *n = parse_pow(p);
    for (;;) {
        enum token_kind kind = parse_peek(p)->kind;
        if (kind != T_MUL && kind != T_DIV && kind != T_FLOORDIV && kind != T_MOD) return n;
        int line = parse_next(p)->line;
        n = node_op(p, N_BINARY, kind, line, n, parse_pow(p));
    }
}

static struct node *parse_concat(struct parser *p)
{
    struct node *first = parse_product(p);
    if (parse_peek(p)->kind != T_TILDE) return first;
    struct node *n = node_new(p, N_CONCAT, first->line);
    node_push(p, n, first);
    while (parse_skip(p, T_TILDE)) node_push(p, n, parse_product(p));
    return n;
}

static struct node *parse_sum(struct parser *p)
{
    struct node *n = parse_concat(p);
    for (;;) {
        enum token_kind kind = parse_peek(p)->kind;
        if (kind != T_ADD && kind != T_SUB) return n;
        int line = parse_next(p)->line;
        n = node_op(p, N_BINARY, kind, line, n, parse_concat(p));
    }
}

static struct node *parse_compare(struct parser *p)
{
    struct node *first = parse_sum(p), *n = NULL;
    for (;;) {
        int op = parse_peek(p)->kind, line = parse_peek(p)->line;
        if (op >= T_EQ && op <= T_LE) {
            parse_next(p);
        } else if (parse_skip_name(p, "in")) {
            op = OP_IN;
        } else if (parse_peek_name(p, "not") && token_is(parse_peek_second(p), "in")) {
            parse_next(p);
            parse_next(p);
            op = OP_NOT_IN;
        } else {
            return n ? n : first;
        }
        if (!n) n = node_op(p, N_COMPARE, 0, line, first, NULL);
        node_push(p, n, node_op(p, N_OPERAND, op, line, parse_sum(p), NULL));
    }
}

static struct node *parse_not(struct parser *p)
{
    if (!parse_peek_name(p, "not")) return parse_compare(p);
    int line = parse_next(p)->line;
    jinja_enter(p->j);
    struct node *n = node_op(p, N_NOT, 0, line, parse_not(p), NULL);
    jinja_leave(p->j);
    return n;
}

static struct node *parse_and(struct parser *p)
{
    struct node *n = parse_not(p);
    while (parse_peek_name(p, "and")) {
        int line = parse_next(p)->line;
        n = node_op(p, N_AND, 0, line, n, parse_not(p));
    }
    return n;
}

static struct node *parse_or(struct parser *p)
{
    struct node *n = parse_and(p);
    while (parse_peek_name(p, "or")) {
        int line = parse_next(p)->line;
        n = node_op(p, N_OR, 0, line, n, parse_and(p));
    }
    return n;
}

struct node *parse_expression(struct parser *p, bool with_condition)
{
    jinja_enter(p->j);
    struct node *n = parse_or(p);
    while (with_condition && parse_peek_name(p, "if")) {
        int line = parse_next(p)->line;
        struct node *test = parse_or(p);
        n = node_op(p, N_CONDITION, 0, line, n, test);
        if (parse_skip_name(p, "else")) n->c = parse_expression(p, true);
    }
    jinja_leave(p->j);
    return n;
}
