// text/jinja_parse.c -- statements, by the grammar of jinja2's parser.py.
#include <string.h>

#include "text/jinja_builtin.h"

static struct node *parse_statement(struct parser *p);

// True where the name that stands here is one of the words in `ends`, which are separated by spaces.
static bool at_end(struct parser *p, const char *ends)
{
    const struct token *t = parse_peek(p);
    if (!ends || t->kind != T_NAME) return false;
    for (const char *word = ends; *word; word += strcspn(word, " "), word += *word == ' ') {
        char end[16] = "";
        strncat(end, word, strcspn(word, " "));
        if (string_is(t->value, end)) return true;
    }
    return false;
}

// Text and tags up to a tag named in `ends`, whose name is the next token then; NULL: up to the end of the
// template.
static struct node *parse_body(struct parser *p, const char *ends, const char *tag, int line)
{
    struct node *body = node_new(p, N_BODY, line), *output = NULL;
    jinja_enter(p->j);
    for (;;) {
        struct token *t = parse_next(p);
        if (t->kind == T_EOF) {
            if (ends)
                FAIL(p->j, "expected the end of {%% %s %%} of line %d, found the end of the template", tag,
                     line);
            break;
        }
        if (t->kind == T_BLOCK_BEGIN) {
            if (at_end(p, ends)) break;
            node_push(p, body, parse_statement(p));
            parse_expect(p, T_BLOCK_END, "%}");
            output = NULL;
            continue;
        }
        if (!output) node_push(p, body, output = node_new(p, N_OUTPUT, t->line));
        if (t->kind == T_DATA) {
            struct node *text = node_new(p, N_CONST, t->line);
            text->value = t->value;
            node_push(p, output, text);
        } else {
            node_push(p, output, parse_tuple(p, TUPLE_CONDITION));
            parse_expect(p, T_VARIABLE_END, "}}");
        }
    }
    jinja_leave(p->j);
    return body;
}

// The body of a tag that has just been read up to its %}. The end's name is left to the caller.
static struct node *parse_block(struct parser *p, const char *ends, const char *tag, int line)
{
    parse_skip(p, T_COLON);
    parse_expect(p, T_BLOCK_END, "%}");
    return parse_body(p, ends, tag, line);
}

// A body that only its own end closes.
static struct node *parse_block_drop(struct parser *p, const char *end, const char *tag, int line)
{
    struct node *body = parse_block(p, end, tag, line);
    parse_next(p);
    return body;
}

// Fails unless n is what may stand left of an assignment.
static struct node *check_target(struct parser *p, struct node *n)
{
    if (n->kind == N_TUPLE) {
        for (int64_t i = 0; i < n->count; i++) check_target(p, n->items[i]);
    } else if (n->kind == N_NAME) {
        if (p->for_depth && string_is(n->value, "loop")) {
            p->j->line = n->line;
            FAIL(p->j, "expected no assignment to the special variable 'loop', found one");
        }
    } else if (n->kind != N_FIELD) {
        p->j->line = n->line;
        FAIL(p->j, "expected a name to assign to, found another expression");
    }
    return n;
}

static struct node *parse_target(struct parser *p, bool with_namespace)
{
    int flags = TUPLE_SIMPLE | (with_namespace ? TUPLE_NAMESPACE : 0);
    return check_target(p, parse_tuple(p, flags));
}

static struct value parse_target_name(struct parser *p)
{
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    const struct token *t = parse_expect(p, T_NAME, "a name");
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (string_is(t->value, constants[i])) parse_fail(p, t, "a name to assign to");
    }
    return t->value;
}

static struct node *parse_if(struct parser *p, int line)
{
    struct node *n = node_new(p, N_IF, line);
    for (;;) {
        node_push(p, n, parse_tuple(p, 0));
        node_push(p, n, parse_block(p, "elif else endif", "if", line));
        const struct token *t = parse_next(p);
        if (string_is(t->value, "elif")) continue;
        if (string_is(t->value, "else")) {
            node_push(p, n, NULL);
            node_push(p, n, parse_block_drop(p, "endif", "if", line));
        }
        return n;
    }
}

static struct node *parse_for(struct parser *p, int line)
{
    struct node *n = node_new(p, N_FOR, line);
    p->for_depth++; // the target, too, may not be `loop`
    n->a = parse_target(p, false);
    if (!parse_skip_name(p, "in")) parse_fail(p, parse_peek(p), "'in'");
    n->b = parse_tuple(p, 0);
    if (parse_skip_name(p, "if")) n->c = parse_expression(p, true);
    n->recursive = parse_skip_name(p, "recursive");
    p->loop_depth++;
    node_push(p, n, parse_block(p, "endfor else", "for", line));
    p->loop_depth--;
    bool has_else = string_is(parse_next(p)->value, "else");
    node_push(p, n, has_else ? parse_block_drop(p, "endfor", "for", line) : NULL);
    p->for_depth--;
    return n;
}

static struct node *parse_set(struct parser *p, int line)
{
    struct node *n = node_new(p, N_SET, line);
    n->a = parse_target(p, true);
    if (parse_skip(p, T_ASSIGN)) {
        n->b = parse_tuple(p, TUPLE_CONDITION);
        return n;
    }
    n->kind = N_SET_BLOCK;
    n->b = parse_filter(p, NULL, false);
    node_push(p, n, parse_block_drop(p, "endset", "set", line));
    return n;
}

static void parse_signature(struct parser *p, struct signature *s)
{
    parse_expect(p, T_LPAREN, "'('");
    while (parse_peek(p)->kind != T_RPAREN) {
        if (s->count) parse_expect(p, T_COMMA, "',' or ')'");
        int64_t n = s->count;
        struct value name = parse_target_name(p);
        for (int64_t i = 0; i < n; i++) {
            if (value_equal(p->j, s->names[i], name))
                FAIL(p->j, "expected arguments of different names, found two alike");
        }
        s->names = pool_grow(p->j, s->names, n, n + 1, sizeof *s->names);
        s->defaults = pool_grow(p->j, s->defaults, n, n + 1, sizeof *s->defaults);
        s->names[n] = name;
        s->defaults[n] = NULL;
        if (parse_skip(p, T_ASSIGN))
            s->defaults[n] = parse_expression(p, true);
        else if (n && s->defaults[n - 1])
            parse_fail(p, parse_peek(p), "a default for the argument, as the one before has one");
        s->explicit_caller |= string_is(name, "caller");
        s->count++;
    }
    parse_next(p);
}

// The body of a macro or call block is a function of its own: no loop of ours is around it.
static void parse_function_body(struct parser *p, struct signature *s, const char *end, const char *tag,
                                int line)
{
    int loops = p->loop_depth;
    p->loop_depth = 0;
    s->body = parse_block_drop(p, end, tag, line);
    p->loop_depth = loops;
}

static struct node *parse_macro(struct parser *p, int line)
{
    struct node *n = node_new(p, N_MACRO, line);
    n->macro = pool_alloc(p->j, 1, sizeof *n->macro);
    n->value = parse_target_name(p);
    parse_signature(p, n->macro);
    parse_function_body(p, n->macro, "endmacro", "macro", line);
    return n;
}

static struct node *parse_call_block(struct parser *p, int line)
{
    struct node *n = node_new(p, N_CALL_BLOCK, line);
    n->macro = pool_alloc(p->j, 1, sizeof *n->macro);
    if (parse_peek(p)->kind == T_LPAREN) parse_signature(p, n->macro);
    n->a = parse_expression(p, true);
    if (n->a->kind != N_CALL) {
        p->j->line = line;
        FAIL(p->j, "expected a call, found another expression");
    }
    parse_function_body(p, n->macro, "endcall", "call", line);
    return n;
}

static struct node *parse_generation(struct parser *p, int line)
{
    struct node *n = node_new(p, N_GENERATION, line);
    n->macro = pool_alloc(p->j, 1, sizeof *n->macro);
    parse_function_body(p, n->macro, "endgeneration", "generation", line);
    return n;
}

static struct node *parse_filter_block(struct parser *p, int line)
{
    struct node *n = node_new(p, N_FILTER_BLOCK, line);
    n->a = parse_filter(p, NULL, true);
    node_push(p, n, parse_block_drop(p, "endfilter", "filter", line));
    return n;
}

static struct node *parse_with(struct parser *p, int line)
{
    struct node *n = node_new(p, N_WITH, line);
    while (parse_peek(p)->kind != T_BLOCK_END) {
        if (n->count) parse_expect(p, T_COMMA, "',' or %}");
        int depth = p->for_depth;
        p->for_depth = 0; // a `loop` of its own is allowed here
        node_push(p, n, parse_target(p, false));
        p->for_depth = depth;
        parse_expect(p, T_ASSIGN, "'='");
        node_push(p, n, parse_expression(p, true));
    }
    node_push(p, n, parse_block_drop(p, "endwith", "with", line));
    return n;
}

static struct node *parse_autoescape(struct parser *p, int line)
{
    struct node *n = node_new(p, N_SCOPE, line), *option = parse_expression(p, true);
    if (option->kind != N_CONST || value_truth(option->value)) {
        p->j->line = line;
        jinja_fail(p->j, TLM_ERR_UNSUPPORTED, "autoescape is not supported: expected false");
    }
    node_push(p, n, parse_block_drop(p, "endautoescape", "autoescape", line));
    return n;
}

static struct node *parse_named_block(struct parser *p, int line)
{
    struct node *n = node_new(p, N_BLOCK, line);
    n->value = parse_expect(p, T_NAME, "the name of a block")->value;
    n->scoped = parse_skip_name(p, "scoped");
    for (int64_t i = 0; i < p->blocks->count; i++) {
        if (value_equal(p->j, p->blocks->items[i], n->value))
            FAIL(p->j, "expected blocks of different names, found two alike");
    }
    list_push(p->j, p->blocks, n->value);
    int loops = p->loop_depth;
    p->loop_depth = 0;
    node_push(p, n, parse_block_drop(p, "endblock", "block", line));
    p->loop_depth = loops;
    if (parse_peek(p)->kind == T_NAME && value_equal(p->j, parse_peek(p)->value, n->value)) parse_next(p);
    return n;
}

static struct node *parse_print(struct parser *p, int line)
{
    struct node *n = node_new(p, N_OUTPUT, line);
    while (parse_peek(p)->kind != T_BLOCK_END) {
        if (n->count) parse_expect(p, T_COMMA, "',' or %}");
        node_push(p, n, parse_expression(p, true));
    }
    return n;
}

static struct node *parse_jump(struct parser *p, enum node_kind kind, const struct token *t)
{
    if (!p->loop_depth) parse_fail(p, t, "a loop around it");
    return node_new(p, kind, t->line);
}

static struct node *parse_statement(struct parser *p)
{
    static const struct {
        const char *tag;
        struct node *(*parse)(struct parser *p, int line);
    } tags[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"generation", parse_generation},
        {"block", parse_named_block},
        {"autoescape", parse_autoescape},
        {"print", parse_print},
    };
    struct token *t = parse_expect(p, T_NAME, "the name of a tag");
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (string_is(t->value, tags[i].tag)) return tags[i].parse(p, t->line);
    }
    if (string_is(t->value, "break")) return parse_jump(p, N_BREAK, t);
    if (string_is(t->value, "continue")) return parse_jump(p, N_CONTINUE, t);
    static const char *const refused[] = {"include", "import", "from", "extends"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (string_is(t->value, refused[i]))
            jinja_fail(p->j, TLM_ERR_UNSUPPORTED,
                       "{%% %s %%} is not supported: expected a template in one piece", refused[i]);
    }
    parse_fail(p, t, "a tag that fits here");
}

struct node *jinja_parse(struct jinja *j, struct value source)
{
    struct parser p = {.j = j, .blocks = list_new(j, 0)};
    jinja_lex(j, source, &p.tokens);
    return parse_body(&p, NULL, NULL, 1);
}
