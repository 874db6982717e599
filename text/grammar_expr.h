// text/grammar_expr.h -- a language as trees of expressions, a tree a rule.
//
// A front end builds them bottom up; each expression has one parent at most, and what is used twice is a rule. The first failure (no
// memory, too much of something) is kept, and expressions made after it mean nothing: so a front end asks once, at its end.
#ifndef TEXT_GRAMMAR_EXPR_H
#define TEXT_GRAMMAR_EXPR_H

#include "text/grammar.h"

enum {
    GRAMMAR_MAX_TEXT = 8 << 20,  // bytes of a grammar, schema or expression
    GRAMMAR_MAX_EXPRS = 1 << 20, // expressions in all
    GRAMMAR_MAX_RULES = 1 << 16,
    GRAMMAR_MAX_DEPTH = 200, // of brackets and schemas
    GRAMMAR_MAX_REPEAT = 100000,
    GRAMMAR_MAX_NODES = 1 << 20, // of all automata
};

struct char_range {
    uint32_t low, high; // code points, both inclusive
};

enum expr_kind {
    EXPR_EMPTY,  // nothing at all
    EXPR_BYTES,  // a text
    EXPR_CLASS,  // one character
    EXPR_LIST,   // its children one behind the other
    EXPR_ALT,    // one of its children; without children nothing matches
    EXPR_REPEAT, // its child min to max times; max -1: without end
    EXPR_CALL,   // a rule
};

struct expr {
    enum expr_kind kind;
    int32_t first, last, next; // child, last child, sibling; 0: none
    int32_t min, max;          // REPEAT
    int32_t at, count;         // BYTES: of texts; CLASS: of ranges
    int32_t rule;              // CALL
};

struct expr_rule {
    int32_t body; // 0: not defined yet
    int32_t size; // nodes it takes about, once known
    int32_t uses;
    int32_t open_calls;       // calls of rules whose size is not known yet
    bool whole;               // never becomes part of another rule
    bool nullable;            // known to match nothing, too
    bool chain;               // a repetition made into a rule, which is called once
    bool shall_read;          // better not: nobody needs it to match nothing
    int32_t place;            // in the compiled grammar, -1: none
    int32_t name, name_bytes; // of texts, for messages; no bytes: it has no name
};

struct grammar_exprs {
    struct expr *items; // [0] is EXPR_EMPTY
    int32_t count, capacity;
    struct char_range *ranges;
    int32_t range_count, range_capacity;
    char *texts;
    int32_t text_bytes, text_capacity;
    struct expr_rule *rules; // rule 0 is the whole text
    int32_t rule_count, rule_capacity;
    const char *what; // "grammar", "JSON schema", for messages
    enum tlm_status status;
    struct tlm_error error;
};

// A set of characters in the making.
struct char_set {
    struct char_range *items;
    int32_t count, capacity;
    bool failed; // no memory
};

void exprs_open(struct grammar_exprs *x, const char *what);
void exprs_close(struct grammar_exprs *x);
// Keeps the first failure; returns it, so that a front end writes `return exprs_fail(...)`.
enum tlm_status exprs_fail(struct grammar_exprs *x, enum tlm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

int32_t expr_bytes(struct grammar_exprs *x, const char *text, size_t bytes);
int32_t expr_class(struct grammar_exprs *x, const struct char_set *set);
int32_t expr_range(struct grammar_exprs *x, uint32_t low, uint32_t high);
int32_t expr_many(struct grammar_exprs *x, enum expr_kind kind); // EXPR_LIST or EXPR_ALT, without children
int32_t expr_add(struct grammar_exprs *x, int32_t parent, int32_t child); // returns the parent
int32_t expr_list(struct grammar_exprs *x, int32_t a, int32_t b);
int32_t expr_alt(struct grammar_exprs *x, int32_t a, int32_t b);
int32_t expr_repeat(struct grammar_exprs *x, int32_t child, int64_t min, int64_t max); // max -1: without end
int32_t expr_call(struct grammar_exprs *x, int32_t rule);
int32_t expr_rule(struct grammar_exprs *x, const char *name,
                  size_t bytes); // new, to be defined by expr_define()
void expr_define(struct grammar_exprs *x, int32_t rule, int32_t body);

void set_add(struct char_set *s, uint32_t low, uint32_t high);
void set_add_all(struct char_set *s, const struct char_set *of);
void set_sort(struct char_set *s);   // in order, apart from each other
void set_negate(struct char_set *s); // of all characters
bool set_has(const struct char_set *s, uint32_t c);
void set_remove(struct char_set *s, uint32_t low, uint32_t high);
void set_free(struct char_set *s);

// Makes room for `more` items behind the `count` there are. False without memory.
bool grammar_grow(void *items, int32_t *capacity, int64_t count, int64_t more, size_t size);

// The character at text[0..bytes), and its bytes in *length; malformed bytes are no character: -1.
int32_t utf8_read(const char *text, size_t bytes, size_t *length);
int utf8_write(char out[4], uint32_t c);

struct utf8_steps { // bytes of a run of characters, one range a byte
    int length;
    uint8_t low[4], high[4];
};
// Splits characters low..high, without surrogates, into runs: calls `take` for each.
void utf8_split(uint32_t low, uint32_t high, void (*take)(void *user, const struct utf8_steps *), void *user);

// ---- front ends: fill x->rules[0] and what it needs ----------------------------------------------------

void grammar_gbnf(struct grammar_exprs *x, const char *text, size_t bytes);
void grammar_schema(struct grammar_exprs *x, const char *text, size_t bytes);
void grammar_regex(struct grammar_exprs *x, const char *text, size_t bytes);

struct regex_expr {
    int32_t expr;
    int64_t least, most; // characters; most -1: no bound
};

enum regex_use {
    REGEX_WHOLE,  // matches all of the text
    REGEX_STRING, // the same, of what a JSON string says; written with the escapes of JSON
    REGEX_SEARCH, // finds something in what a JSON string says, unless it has anchors
};
// Part of another front end; `where` stands in front of messages.
struct regex_expr grammar_regex_part(struct grammar_exprs *x, const char *pattern, size_t bytes,
                                     enum regex_use use, const char *where);

// ---- the compiler ---------------------------------------------------------------------------------------

// grammar_compile.c: which rules become parts of others, and what the automata make as a whole.
enum tlm_status grammar_compile(struct grammar **out, struct grammar_exprs *x, struct tlm_error *err);

// Whether a call of the rule is replaced by the rule's body.
static inline bool expr_is_part(const struct expr_rule *r)
{
    enum { SMALL = 24, ONCE = 512 };
    return !r->whole && r->size && (r->size <= SMALL || (r->uses == 1 && r->size <= ONCE));
}

// grammar_nfa.c: the tree of a rule as an automaton with empty steps.
struct nfa_step {
    int32_t from, to;
    int32_t rule;      // called; -1: none
    int16_t low, high; // bytes; low > high: nothing is read
};

struct nfa {
    int32_t states, end; // it starts in 0
    struct nfa_step *steps;
    int32_t step_count, step_capacity;
    int32_t *first; // (states + 1) of the steps, which are sorted by `from`
    int32_t first_capacity;
};

void nfa_build(struct nfa *n, struct grammar_exprs *x, int32_t rule);
void nfa_free(struct nfa *n);

// grammar_automaton.c: the same without empty steps, deterministic where that is not too large.
struct automata { // of all rules
    struct grammar_node *nodes;
    struct grammar_edge *edges;
    struct grammar_call *calls; // of the rules of the tree
    int32_t node_count, node_capacity, edge_count, edge_capacity, call_count, call_capacity;
};

// Returns the node where the rule starts. `shall_read`: it does not match nothing where that is easily had.
int32_t automaton_add(struct automata *a, struct grammar_exprs *x, const struct nfa *n, bool shall_read);

#endif
