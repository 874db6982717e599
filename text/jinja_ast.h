// text/jinja_ast.h -- a template as tokens and as a tree.
#ifndef TEXT_JINJA_AST_H
#define TEXT_JINJA_AST_H

#include "text/jinja.h"
#include "text/jinja_value.h"

enum token_kind {
    T_EOF,
    T_DATA,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_VARIABLE_BEGIN,
    T_VARIABLE_END,
    T_NAME,
    T_STRING,
    T_INTEGER,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_DIV,
    T_FLOORDIV,
    T_MUL,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GE,
    T_LT,
    T_LE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON,
};

struct token {
    enum token_kind kind;
    int line;
    struct value value; // of names, data and constants
};

struct tokens {
    struct token *items; // the last is T_EOF
    int64_t count, capacity;
};

// Splits the source, as jinja2's lexer does, with trim_blocks and lstrip_blocks.
void jinja_lex(struct jinja *j, struct value source, struct tokens *out);
const char *token_show(const struct token *t, char buffer[64]);

enum node_kind {
    // expressions
    N_CONST,     // value
    N_NAME,      // value: the name; up, slot
    N_TUPLE,     // items
    N_LIST,      // items
    N_DICT,      // items: key, value, key, value ...
    N_UNARY,     // op (T_ADD, T_SUB), a
    N_NOT,       // a
    N_BINARY,    // op, a, b
    N_AND,       // a, b
    N_OR,        // a, b
    N_CONCAT,    // items
    N_COMPARE,   // a, items: the right operands, each with its op in `op` of an N_OPERAND
    N_OPERAND,   // op (T_EQ .. T_LE, OP_IN, OP_NOT_IN), a
    N_CONDITION, // a if b else c (NULL: undefined)
    N_ATTRIBUTE, // a . value
    N_ITEM,      // a [ b ]
    N_SLICE,     // a [ items[0] : items[1] : items[2] ], each may be NULL
    N_CALL,      // a ( args )
    N_FILTER,    // a | value ( args ), a NULL in a filter block: the block's text; builtin
    N_TEST,      // a is value ( args ); builtin
    N_FIELD,     // a target: value . name of a namespace; up, slot; b: an N_CONST with the field's name
    // statements
    N_OUTPUT, // items, each printed
    N_IF,     // items: test, N_BODY, test, N_BODY ... and for else NULL, N_BODY
    N_FOR,    // target a in b, test c or NULL; items: body, else or NULL; recursive; frames: body, else, test
    N_SET,    // target a = b
    N_SET_BLOCK,    // target a, filter b or NULL, items: body; frame
    N_MACRO,        // value: the name; up, slot; macro; frame
    N_CALL_BLOCK,   // a: the call; macro; frame
    N_FILTER_BLOCK, // a: the filter, items: body; frame
    N_WITH,         // items: target, value, ..., body; frame
    N_SCOPE,        // items: body; frame ({% autoescape false %})
    N_GENERATION,   // items: body; frame
    N_BLOCK,        // value: the name, items: body; frame; scoped
    N_BREAK,
    N_CONTINUE,
    N_BODY, // items
};

enum { OP_IN = 1000, OP_NOT_IN };

struct keyword {
    struct value name;
    struct node *value;
};

struct call_args {
    struct node **positional;
    int64_t positional_count;
    struct keyword *keywords;
    int64_t keyword_count;
    struct node *star, *star_star; // NULL or *args, **kwargs
};

// How a name gets its value when the frame it lives in is entered.
enum load { LOAD_PARAMETER, LOAD_RESOLVE, LOAD_ALIAS, LOAD_UNDEFINED };

struct symbol {
    struct value name;
    enum load load;
    int up, slot; // LOAD_ALIAS: of the outer symbol
    bool stored;
};

struct frame {
    struct frame *parent;
    struct symbol *symbols;
    int64_t count, capacity;
};

struct signature {
    struct value *names;
    int *slots;
    struct node **defaults; // NULL where an argument has none
    int64_t count;
    bool uses_caller, uses_kwargs, uses_varargs; // the body mentions these names
    int caller_slot, kwargs_slot, varargs_slot;
    bool explicit_caller;
    struct node *body;
};

struct node {
    enum node_kind kind;
    int op;
    int line;
    int up, slot; // a name: how many scopes out, and its place there
    bool recursive, scoped;
    struct node *a, *b, *c;
    struct node **items;
    int64_t count;
    struct value value;
    struct call_args *args;
    const struct builtin *builtin;
    struct signature *macro;
    struct frame *frame, *else_frame, *test_frame;
    int loop_slot; // N_FOR: of `loop`
};

struct parser {
    struct jinja *j;
    struct tokens tokens;
    int64_t at;
    int loop_depth;      // of `for` around this point, within the function that it is compiled to
    int for_depth;       // of `for` around this point, all in all
    struct list *blocks; // names of blocks so far
};

// jinja_parse.c
struct node *jinja_parse(struct jinja *j, struct value source);
struct node *node_new(struct parser *p, enum node_kind kind, int line);
void node_push(struct parser *p, struct node *n, struct node *item);
_Noreturn void parse_fail(struct parser *p, const struct token *found, const char *expected);

// jinja_parse_value.c
struct token *parse_peek_second(struct parser *p);
bool token_is(const struct token *t, const char *name);
struct node *node_op(struct parser *p, enum node_kind kind, int op, int line, struct node *a, struct node *b);
struct node *parse_primary(struct parser *p, bool with_namespace);
struct node *parse_postfix(struct parser *p, struct node *n);
struct node *parse_call(struct parser *p, struct node *callee);
struct node *parse_test(struct parser *p, struct node *subject);
struct token *parse_peek(struct parser *p);
struct token *parse_next(struct parser *p);
bool parse_peek_name(struct parser *p, const char *name);
bool parse_skip_name(struct parser *p, const char *name);
bool parse_skip(struct parser *p, enum token_kind kind);
struct token *parse_expect(struct parser *p, enum token_kind kind, const char *what);
enum { TUPLE_CONDITION = 1, TUPLE_SIMPLE = 2, TUPLE_PARENTHESES = 4, TUPLE_NAMESPACE = 8 };
struct node *parse_tuple(struct parser *p, int flags);
struct node *parse_filter(struct parser *p, struct node *subject, bool inline_start);

// jinja_parse_expr.c
struct node *parse_expression(struct parser *p, bool with_condition);

// jinja_scope.c: gives every name its place and checks that filters and tests exist. The root's frame comes
// back.
struct frame *jinja_resolve(struct jinja *j, struct node *body);

struct jinja_template {
    struct jinja j; // its pool holds all of this
    struct node *body;
    struct frame *frame;
};

#endif
