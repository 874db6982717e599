// tests/grammar_oracle.h -- whether a text matches, and texts that do, straight from the rules: slow, and too simple to be wrong.
#ifndef TESTS_GRAMMAR_ORACLE_H
#define TESTS_GRAMMAR_ORACLE_H

#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "text/grammar.h"

struct oracle {
    const struct grammar *g;
    const char *text;
    size_t bytes;
    bool **ends; // (rules * (bytes + 1)) where a rule that begins at a byte may end; NULL: not known yet
    bool alive;  // a walk came to the end of the text
};

static const bool *oracle_ends(struct oracle *o, int32_t rule, size_t at);

// Marks where the rule may end that is at `node` at byte `at`; seen: (nodes * (bytes + 1))
static inline void oracle_walk(struct oracle *o, int32_t node, size_t at, bool *ends, bool *seen)
{
    const struct grammar *g = o->g;
    bool *here = &seen[(size_t)node * (o->bytes + 1) + at];
    if (*here) return;
    *here = true;
    if (at == o->bytes) o->alive = true;
    if (g->nodes[node].final) ends[at] = true;
    for (int32_t i = g->nodes[node].edges; i < g->nodes[node + 1].edges && at < o->bytes; i++) {
        uint8_t byte = (uint8_t)o->text[at];
        if (g->edges[i].low <= byte && byte <= g->edges[i].high)
            oracle_walk(o, g->edges[i].to, at + 1, ends, seen);
    }
    for (int32_t i = g->nodes[node].calls; i < g->nodes[node + 1].calls; i++) {
        const bool *inner = oracle_ends(o, g->calls[i].rule, at);
        for (size_t end = at; end <= o->bytes; end++)
            if (inner[end]) oracle_walk(o, g->calls[i].to, end, ends, seen);
    }
}

static inline const bool *oracle_ends(struct oracle *o, int32_t rule, size_t at)
{
    bool **known = &o->ends[(size_t)rule * (o->bytes + 1) + at];
    if (*known) return *known;
    bool *ends = calloc(o->bytes + 1, 1), *seen = calloc((size_t)o->g->node_count, o->bytes + 1);
    oracle_walk(o, o->g->rules[rule].start, at, ends, seen);
    free(seen);
    return *known = ends;
}

struct oracle_verdict {
    bool whole; // the text matches
    bool alive; // it matches, or begins one that does
};

static inline struct oracle_verdict oracle_judge(const struct grammar *g, const char *text, size_t bytes)
{
    size_t places = (size_t)g->rule_count * (bytes + 1);
    struct oracle o = {g, text, bytes, calloc(places, sizeof *o.ends), false};
    bool whole = oracle_ends(&o, 0, 0)[bytes];
    for (size_t i = 0; i < places; i++) free(o.ends[i]);
    free(o.ends);
    return (struct oracle_verdict){whole, o.alive};
}

// least[node_count] in bytes, for oracle_write(); free() it.
static inline int32_t *oracle_least(const struct grammar *g)
{
    size_t n = (size_t)g->nodes[g->node_count].edges, count = 0;
    struct grammar_step *steps = malloc((n + 1) * sizeof *steps);
    int32_t *least = malloc((size_t)g->node_count * sizeof *least);
    for (int32_t i = 0; i < g->node_count; i++)
        for (int32_t e = g->nodes[i].edges; e < g->nodes[i + 1].edges; e++)
            steps[count++] = (struct grammar_step){i, g->edges[e].to};
    grammar_shortest(g, steps, count, least, NULL);
    free(steps);
    return least;
}

// A random text of the rule, appended to text[0..*bytes): takes steps at random, and the shortest way out once it is long. least: bytes
// to the ends of rules. False where it does not fit.
static inline bool oracle_write(const struct grammar *g, const int32_t *least, int32_t rule, char *text,
                                size_t room, size_t *bytes, uint64_t seed, uint64_t *draws, int depth)
{
    for (int32_t node = g->rules[rule].start;;) {
        const struct grammar_node *n = &g->nodes[node];
        int32_t edges = n[1].edges - n->edges, calls = n[1].calls - n->calls, ways = edges + calls + n->final;
        int32_t way = (int32_t)(rng_uniform(seed, 0, (*draws)++) * ways);
        if (*bytes > room / 4 || depth > 30 || *draws > 4 * room) { // the way that ends soonest
            int64_t best = n->final ? 0 : INT64_MAX;
            way = ways - 1;
            for (int32_t i = 0; i < edges + calls; i++) {
                const struct grammar_call *c = i < edges ? NULL : &g->calls[n->calls + i - edges];
                int64_t cost = c ? (int64_t)least[g->rules[c->rule].start] + least[c->to]
                                 : 1 + least[g->edges[n->edges + i].to];
                if (cost < best) best = cost, way = i;
            }
        }
        if (way == edges + calls) return true;
        if (way < edges) {
            const struct grammar_edge *e = &g->edges[n->edges + way];
            if (*bytes >= room) return false;
            text[(*bytes)++] =
                (char)(e->low + (int)(rng_uniform(seed, 1, (*draws)++) * (e->high - e->low + 1)));
            node = e->to;
        } else {
            const struct grammar_call *c = &g->calls[n->calls + way - edges];
            if (!oracle_write(g, least, c->rule, text, room, bytes, seed, draws, depth + 1)) return false;
            node = c->to;
        }
    }
}

#endif
