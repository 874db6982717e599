// text/grammar.h -- what a text may look like: a context-free language over bytes, compiled from a grammar, a JSON schema or a
// regular expression.
//
// Compiled, a language is a set of rules, each an automaton over bytes whose steps are bytes or calls of rules:
//
//     value ::= "[" value "]" | [0-9]        (0) --'['--> (1) --value--> (2) --']'--> ((3))
//                                             `-------------'0'..'9'-----------------'
//
// A call remembers where to go on behind it, so a place in a text is a stack of nodes; generate/constraint.h walks them. There are
// no empty steps. A rule's automaton is deterministic but for its calls, and equal ends of rules share nodes; where that would take
// too many nodes, it stays nondeterministic. Every node can be reached and can still come to an end, and no rule calls itself
// before it has read a byte: so a walk never gets lost, and the stacks of a place are finitely many.
//
// text/grammar_expr.h is the language as a tree, which three front ends write: grammar_gbnf.c, grammar_schema.c, grammar_regex.c.
// grammar_compile.c turns trees into automata.
#ifndef TEXT_GRAMMAR_H
#define TEXT_GRAMMAR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

struct grammar_edge {
    uint16_t low, high; // bytes, both inclusive
    int32_t to;         // node
};

struct grammar_call {
    int32_t rule;
    int32_t to; // node behind the call
};

struct grammar_node {
    int32_t edges, calls; // the first; they end where the next node's begin
    bool final;           // its rule may end here
};

struct grammar_rule {
    int32_t start; // node
    bool nullable; // matches nothing at all, too
};

struct grammar {
    int32_t node_count, rule_count;
    struct grammar_node *nodes; // (node_count + 1)
    struct grammar_edge *edges;
    struct grammar_call *calls;
    struct grammar_rule *rules; // (rule_count); rule 0 is the whole text
    uint8_t class_of[256];      // bytes that no edge tells apart have the same class
    int32_t class_count;
};

// Errors: FORMAT (one line: what, where, expected, found), UNSUPPORTED, MEMORY.
enum tlm_status grammar_open(struct grammar **out, enum tlm_grammar_kind kind, const char *text, size_t bytes,
                             struct tlm_error *err);
void grammar_close(struct grammar *g); // NULL is allowed

// A step of cost 1 from node to node.
struct grammar_step {
    int32_t from, to;
};

enum { GRAMMAR_NEVER = 1 << 29 }; // a cost that is never reached

// The least cost from each node to the end of its rule, where calls cost what their rules cost from start to end:
// least[node_count]. Knuth, "A generalization of Dijkstra's algorithm" (1977). Errors: MEMORY.
enum tlm_status grammar_shortest(const struct grammar *g, const struct grammar_step *steps, size_t step_count,
                                 int32_t *least, struct tlm_error *err);

static inline int32_t grammar_edge_count(const struct grammar_node *n)
{
    return n[1].edges - n[0].edges;
}

static inline int32_t grammar_call_count(const struct grammar_node *n)
{
    return n[1].calls - n[0].calls;
}

#endif
