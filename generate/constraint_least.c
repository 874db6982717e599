// generate/constraint_least.c -- how many tokens of a vocabulary the rest of a rule takes.
//
// A token whose text stays within a rule is a step of cost 1 from node to node; then it is a matter of shortest ways. At a node that
// takes any text tens of thousands of tokens are such steps, to few nodes: so those of one byte are tried first and then only as many
// as are found in a few thousand looks. What is missed makes the result larger than need be, never smaller.
#include <string.h>

#include "generate/constraint.h"

enum {
    LOOKS = 2000,        // of the tree, a node
    ALL_LOOKS = 1 << 24, // of the tree, all nodes
    TARGETS = 64,        // steps a node
};

struct search {
    const struct grammar *g;
    const struct token_trie *t;
    struct constraint_nodes *sets; // (longest + 1) by depth in the tree
    struct grammar_step *steps;
    size_t step_count, step_capacity;
    int32_t *target_of; // (nodes) the last node that has a step there, or -1
    int64_t looks;
    bool failed; // no memory
};

void constraint_add_node(const struct grammar *g, struct constraint_nodes *s, int32_t node)
{
    int32_t at = s->count;
    for (int32_t i = 0; i < s->count; i++)
        if (s->nodes[i] == node) return;
    if (s->count == CONSTRAINT_NODES) return;
    s->nodes[s->count++] = node;
    for (; at < s->count; at++) {
        const struct grammar_node *n = &g->nodes[s->nodes[at]];
        for (int32_t c = n->calls; c < n[1].calls && s->count < CONSTRAINT_NODES; c++) {
            bool known = !g->rules[g->calls[c].rule].nullable;
            for (int32_t i = 0; i < s->count; i++) known |= s->nodes[i] == g->calls[c].to;
            if (!known) s->nodes[s->count++] = g->calls[c].to;
        }
    }
}

static bool step(const struct search *s, const struct constraint_nodes *from, uint8_t byte,
                 struct constraint_nodes *to)
{
    const struct grammar *g = s->g;
    to->count = 0;
    for (int32_t i = 0; i < from->count; i++) {
        const struct grammar_node *n = &g->nodes[from->nodes[i]];
        for (int32_t e = n->edges; e < n[1].edges; e++)
            if (g->edges[e].low <= byte && byte <= g->edges[e].high)
                constraint_add_node(g, to, g->edges[e].to);
    }
    return to->count > 0;
}

// Notes steps from `from` to the nodes of the set. Returns how many are new.
static int32_t note(struct search *s, int32_t from, const struct constraint_nodes *to)
{
    int32_t noted = 0;
    for (int32_t i = 0; i < to->count; i++) {
        if (s->target_of[to->nodes[i]] == from) continue;
        s->target_of[to->nodes[i]] = from;
        if (s->step_count == s->step_capacity) {
            size_t room = 2 * s->step_capacity + 64;
            struct grammar_step *grown = reallocarray(s->steps, room, sizeof *grown);
            if (!grown) {
                s->failed = true;
                return noted;
            }
            s->steps = grown;
            s->step_capacity = room;
        }
        s->steps[s->step_count++] = (struct grammar_step){from, to->nodes[i]};
        noted++;
    }
    return noted;
}

static void find_steps(struct search *s, int32_t node)
{
    const struct trie_node *nodes = s->t->nodes;
    uint32_t end = (uint32_t)s->t->node_count;
    int32_t targets = 0, looks = 0;
    s->sets[0].count = 0;
    constraint_add_node(s->g, &s->sets[0], node);
    for (uint32_t i = 1; i < end; i = nodes[i].next) // texts of one byte
        if (trie_own_end(&nodes[i]) > nodes[i].rank && step(s, &s->sets[0], nodes[i].byte, &s->sets[1]))
            targets += note(s, node, &s->sets[1]);
    for (uint32_t i = 1; i < end && targets < TARGETS && s->looks < ALL_LOOKS && !s->failed;) {
        const struct trie_node *n = &nodes[i];
        s->looks++;
        if (++looks > LOOKS && targets)
            break; // where nothing was found yet, there must be something further on
        bool alive = step(s, &s->sets[n->depth - 1], n->byte, &s->sets[n->depth]);
        if (alive && trie_own_end(n) > n->rank) targets += note(s, node, &s->sets[n->depth]);
        i = alive ? i + 1 : n->next;
    }
}

enum tlm_status constraint_find_least(const struct grammar *g, const struct token_trie *t, int32_t *least,
                                      struct tlm_error *err)
{
    struct search s = {.g = g, .t = t};
    size_t n = (size_t)g->node_count;
    s.sets = malloc(((size_t)t->longest + 2) * sizeof *s.sets);
    s.target_of = malloc(n * sizeof *s.target_of);
    s.failed = !s.sets || !s.target_of;
    for (size_t i = 0; i < n && !s.failed; i++) s.target_of[i] = -1;
    for (size_t i = 0; i < n && !s.failed; i++)
        if (grammar_edge_count(&g->nodes[i]) || grammar_call_count(&g->nodes[i])) find_steps(&s, (int32_t)i);
    enum tlm_status status = s.failed ? error_set(err, TLM_ERR_MEMORY, "grammar: no memory for %zu nodes", n)
                                      : grammar_shortest(g, s.steps, s.step_count, least, err);
    free(s.sets);
    free(s.target_of);
    free(s.steps);
    return status;
}
