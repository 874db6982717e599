// text/grammar_automaton.c -- an automaton without empty steps of one that has them.
//
// The subset construction: a node stands for the set of states that can be reached by the same bytes and calls. Only states that
// something leaves, and the end, count in a set; so what is alike behind a loop's end and its beginning becomes one node. Where the
// sets grow too many, a node stands for one state alone, and the automaton has several ways at once. Nodes that have the same steps
// to the same nodes are then made one, again and again, from the ends backwards.
#include <string.h>

#include "text/grammar_expr.h"

enum { FREE = -1 };

struct set { // sorted states: pool[at .. at + count)
    int32_t at, count;
};

struct subsets {
    struct grammar_exprs *x;
    const struct nfa *n;
    bool single;      // a node is a state
    bool shall_read;  // the start is no end
    bool too_large;   // a node should have been a state
    struct set *sets; // (count)
    int32_t count, capacity;
    int32_t *pool;
    int32_t pool_count, pool_capacity;
    int32_t *table; // hash of a set: its node; open addressing
    uint32_t table_mask;
    int32_t *seen; // (states) the last closure that met a state
    int32_t epoch;
    int32_t *stack;             // (states)
    int32_t *members;           // (states) the set in the making
    struct grammar_node *nodes; // (count + 1) once they are done; edges and calls lead to sets
    int32_t node_capacity;
    struct grammar_edge *edges;
    struct grammar_call *calls;
    int32_t edge_count, edge_capacity, call_count, call_capacity;
};

static bool no_memory(struct subsets *s)
{
    exprs_fail(s->x, TLM_ERR_MEMORY, "no memory for %d nodes", s->count);
    return false;
}

static uint32_t mix(uint32_t h, uint32_t value)
{
    h = (h ^ value) * 0x9E3779B1u;
    return h ^ h >> 15;
}

static bool is_empty(const struct nfa_step *step)
{
    return step->low > step->high && step->rule < 0;
}

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

// ---- sets -----------------------------------------------------------------------------------------------

// Adds what can be reached from `state` for nothing to the set in the making.
static int32_t close_over(struct subsets *s, int32_t state, int32_t count)
{
    const struct nfa *n = s->n;
    int32_t depth = 0;
    s->stack[depth++] = state; // (states) deep at most: each is met once
    if (s->seen[state] == s->epoch) return count;
    s->seen[state] = s->epoch;
    while (depth) {
        int32_t at = s->stack[--depth];
        bool counts = at == n->end;
        for (int32_t i = n->first[at]; i < n->first[at + 1]; i++) {
            int32_t to = n->steps[i].to;
            if (!is_empty(&n->steps[i])) {
                counts = true;
            } else if (s->seen[to] != s->epoch) {
                s->seen[to] = s->epoch;
                s->stack[depth++] = to;
            }
        }
        if (counts) s->members[count++] = at;
    }
    return count;
}

static bool grow_table(struct subsets *s)
{
    uint32_t size = s->table ? 2 * (s->table_mask + 1) : 64;
    int32_t *table = malloc(size * sizeof *table);
    if (!table) return no_memory(s);
    for (uint32_t i = 0; i < size; i++) table[i] = FREE;
    for (int32_t node = 0; node < s->count; node++) {
        uint32_t h = 0;
        for (int32_t i = 0; i < s->sets[node].count; i++) h = mix(h, (uint32_t)s->pool[s->sets[node].at + i]);
        while (table[h & (size - 1)] != FREE) h++;
        table[h & (size - 1)] = node;
    }
    free(s->table);
    s->table = table;
    s->table_mask = size - 1;
    return true;
}

// The node of members[0..count), a new one where there is none.
static int32_t node_of(struct subsets *s, int32_t count)
{
    if (s->x->status) return 0;
    qsort(s->members, (size_t)count, sizeof *s->members, by_value);
    uint32_t h = 0;
    for (int32_t i = 0; i < count; i++) h = mix(h, (uint32_t)s->members[i]);
    for (; s->table[h & s->table_mask] != FREE; h++) {
        const struct set *known = &s->sets[s->table[h & s->table_mask]];
        if (known->count == count &&
            !memcmp(s->pool + known->at, s->members, (size_t)count * sizeof(int32_t)))
            return s->table[h & s->table_mask];
    }
    int64_t states = s->n->states;
    if (!s->single && (s->count >= 2 * states + 64 || s->pool_count > 16 * states + 4096)) {
        s->too_large = true;
        return 0;
    }
    if (!grammar_grow(&s->sets, &s->capacity, s->count, 1, sizeof *s->sets) ||
        !grammar_grow(&s->pool, &s->pool_capacity, s->pool_count, count, sizeof *s->pool))
        return no_memory(s);
    if (count) memcpy(s->pool + s->pool_count, s->members, (size_t)count * sizeof(int32_t));
    s->sets[s->count] = (struct set){s->pool_count, count};
    s->pool_count += count;
    s->table[h & s->table_mask] = s->count++;
    if ((uint32_t)s->count > s->table_mask / 2 && !grow_table(s)) return 0;
    return s->count - 1;
}

// ---- the steps of a node --------------------------------------------------------------------------------

static void add_edge(struct subsets *s, int low, int high, int32_t to)
{
    if (!grammar_grow(&s->edges, &s->edge_capacity, s->edge_count, 1, sizeof *s->edges))
        no_memory(s);
    else
        s->edges[s->edge_count++] = (struct grammar_edge){(uint16_t)low, (uint16_t)high, to};
}

static void add_call(struct subsets *s, int32_t rule, int32_t to)
{
    if (!grammar_grow(&s->calls, &s->call_capacity, s->call_count, 1, sizeof *s->calls))
        no_memory(s);
    else
        s->calls[s->call_count++] = (struct grammar_call){rule, to};
}

// Where byte `low` leads from any state of the set.
static int32_t byte_target(struct subsets *s, struct set set, int low)
{
    const struct nfa *n = s->n;
    int32_t count = 0;
    s->epoch++;
    for (int32_t m = set.at; m < set.at + set.count; m++) {
        int32_t state = s->pool[m];
        for (int32_t i = n->first[state]; i < n->first[state + 1]; i++)
            if (n->steps[i].low <= low && low <= n->steps[i].high)
                count = close_over(s, n->steps[i].to, count);
    }
    return node_of(s, count);
}

static int by_rule(const void *a, const void *b)
{
    int32_t x = ((const struct grammar_call *)a)->rule, y = ((const struct grammar_call *)b)->rule;
    return (x > y) - (x < y);
}

// The calls from `first` on lead to states: makes them one a rule, to sets.
static void unite_calls(struct subsets *s, int32_t first)
{
    int32_t end = s->call_count, kept = first;
    if (end > first) qsort(s->calls + first, (size_t)(end - first), sizeof *s->calls, by_rule);
    for (int32_t i = first; i < end && !s->x->status && !s->too_large;) {
        int32_t rule = s->calls[i].rule, count = 0;
        s->epoch++;
        for (; i < end && s->calls[i].rule == rule; i++) count = close_over(s, s->calls[i].to, count);
        s->calls[kept++] = (struct grammar_call){rule, node_of(s, count)};
    }
    s->call_count = kept;
}

static void steps_of_set(struct subsets *s, struct set set)
{
    const struct nfa *n = s->n;
    bool border[257] = {false}, used[256] = {false}; // where edges begin or have ended; whether there is one
    int32_t calls = s->call_count;
    for (int32_t m = set.at; m < set.at + set.count; m++) {
        int32_t state = s->pool[m];
        for (int32_t i = n->first[state]; i < n->first[state + 1]; i++) {
            const struct nfa_step *step = &n->steps[i];
            if (step->rule >= 0) add_call(s, step->rule, step->to);
            if (step->low > step->high) continue;
            border[step->low] = border[step->high + 1] = true;
            for (int b = step->low; b <= step->high; b++) used[b] = true;
        }
    }
    for (int low = 0, high; low < 256 && !s->x->status && !s->too_large; low = high + 1) {
        for (high = low; high < 255 && !border[high + 1]; high++) continue;
        if (used[low]) add_edge(s, low, high, byte_target(s, set, low));
    }
    unite_calls(s, calls);
}

// Of a node that is one state: each step on its own.
static void steps_of_state(struct subsets *s, struct set set)
{
    const struct nfa *n = s->n;
    s->epoch++;
    int32_t count = close_over(s, s->pool[set.at], 0), *closed = malloc(((size_t)count + 1) * sizeof *closed);
    if (!closed) {
        no_memory(s);
        return;
    }
    memcpy(closed, s->members, (size_t)count * sizeof *closed);
    for (int32_t m = 0; m < count; m++)
        for (int32_t i = n->first[closed[m]]; i < n->first[closed[m] + 1] && !s->x->status; i++) {
            const struct nfa_step *step = &n->steps[i];
            if (is_empty(step)) continue;
            s->members[0] = step->to;
            int32_t to = node_of(s, 1);
            if (step->rule >= 0)
                add_call(s, step->rule, to);
            else
                add_edge(s, step->low, step->high, to);
        }
    free(closed);
}

static bool has_end(struct subsets *s, struct set set)
{
    int32_t count = 0;
    s->epoch++;
    if (s->single) close_over(s, s->pool[set.at], 0);
    if (s->single) return s->seen[s->n->end] == s->epoch;
    for (int32_t m = set.at; m < set.at + set.count; m++) count += s->pool[m] == s->n->end;
    return count > 0;
}

// All nodes, from that of the start on.
static bool explore(struct subsets *s)
{
    s->count = s->pool_count = s->edge_count = s->call_count = 0;
    for (uint32_t i = 0; i <= s->table_mask; i++) s->table[i] = FREE;
    s->epoch++;
    int32_t count = 1;
    s->members[0] = 0;
    if (!s->single) count = close_over(s, 0, 0);
    for (int32_t i = 0; i < count && s->shall_read && !s->single; i++)
        if (s->members[i] == s->n->end && s->n->first[s->n->end] == s->n->first[s->n->end + 1])
            s->members[i--] = s->members[--count];
    node_of(s, count);
    for (int32_t i = 0; i < s->count && !s->x->status && !s->too_large; i++) {
        if (!grammar_grow(&s->nodes, &s->node_capacity, i, 2, sizeof *s->nodes)) return no_memory(s);
        s->nodes[i] = (struct grammar_node){s->edge_count, s->call_count, has_end(s, s->sets[i])};
        if (s->single)
            steps_of_state(s, s->sets[i]);
        else
            steps_of_set(s, s->sets[i]);
        if (s->edge_count > 16 * GRAMMAR_MAX_NODES)
            exprs_fail(s->x, TLM_ERR_UNSUPPORTED, "expected at most %d steps, found more",
                       16 * GRAMMAR_MAX_NODES);
    }
    if (!s->x->status && !s->too_large)
        s->nodes[s->count] = (struct grammar_node){s->edge_count, s->call_count, false};
    return !s->x->status;
}

// ---- equal nodes become one -----------------------------------------------------------------------------

// Rewrites the steps of node i to lead to united[] nodes; neighbouring edges to one node become one. Returns a hash of it.
static uint32_t rewrite(struct subsets *s, struct grammar_node *node, int32_t edge_end, int32_t call_end,
                        const int32_t *united, int32_t *edges_kept)
{
    int32_t kept = node->edges;
    uint32_t h = node->final;
    for (int32_t i = node->edges; i < edge_end; i++) {
        struct grammar_edge e = s->edges[i];
        e.to = united[e.to];
        struct grammar_edge *last = &s->edges[kept - 1];
        if (kept > node->edges && last->to == e.to && last->high + 1 == e.low)
            last->high = e.high;
        else
            s->edges[kept++] = e;
    }
    for (int32_t i = node->edges; i < kept; i++)
        h = mix(mix(h, (uint32_t)s->edges[i].low << 8 | s->edges[i].high), (uint32_t)s->edges[i].to);
    for (int32_t i = node->calls; i < call_end; i++) {
        s->calls[i].to = united[s->calls[i].to];
        h = mix(mix(h, (uint32_t)s->calls[i].rule), (uint32_t)s->calls[i].to);
    }
    *edges_kept = kept - node->edges;
    return h;
}

// One pass from the last node to the first, which meets most ends before what leads to them. ends[2 * i] and the one behind it are
// where node i's edges and calls end. Returns whether any two nodes became one.
static bool unite(struct subsets *s, int32_t *united, int32_t *ends)
{
    bool any = false;
    for (uint32_t i = 0; i <= s->table_mask; i++) s->table[i] = FREE;
    for (int32_t i = s->count; i-- > 0;) {
        struct grammar_node *node = &s->nodes[i];
        if (united[i] != i) continue;
        int32_t edges, calls = ends[2 * i + 1] - node->calls;
        uint32_t h = rewrite(s, node, ends[2 * i], ends[2 * i + 1], united, &edges);
        ends[2 * i] = node->edges + edges;
        for (;; h++) {
            int32_t other = s->table[h & s->table_mask];
            if (other == FREE) {
                s->table[h & s->table_mask] = i;
                break;
            }
            const struct grammar_node *o = &s->nodes[other];
            if (o->final == node->final && ends[2 * other] - o->edges == edges &&
                ends[2 * other + 1] - o->calls == calls &&
                (!edges ||
                 !memcmp(s->edges + o->edges, s->edges + node->edges, (size_t)edges * sizeof *s->edges)) &&
                (!calls ||
                 !memcmp(s->calls + o->calls, s->calls + node->calls, (size_t)calls * sizeof *s->calls))) {
                united[i] = other;
                any = true;
                break;
            }
        }
    }
    for (int32_t i = 0; i < s->count; i++)
        while (united[i] != united[united[i]]) united[i] = united[united[i]];
    return any;
}

// ---- the whole ------------------------------------------------------------------------------------------

// Appends the nodes that are left.
static int32_t append(struct automata *a, struct subsets *s, const int32_t *united, const int32_t *ends)
{
    int32_t *place = malloc(((size_t)s->count + 1) * sizeof *place), count = 0;
    if (!place ||
        !grammar_grow(&a->nodes, &a->node_capacity, a->node_count, (int64_t)s->count + 1, sizeof *a->nodes) ||
        !grammar_grow(&a->edges, &a->edge_capacity, a->edge_count, s->edge_count, sizeof *a->edges) ||
        !grammar_grow(&a->calls, &a->call_capacity, a->call_count, s->call_count, sizeof *a->calls)) {
        free(place);
        return no_memory(s);
    }
    for (int32_t i = 0; i < s->count; i++)
        if (united[i] == i) place[i] = a->node_count + count++;
    for (int32_t i = 0; i < s->count; i++) {
        if (united[i] != i) continue;
        const struct grammar_node *node = &s->nodes[i];
        a->nodes[place[i]] = (struct grammar_node){a->edge_count, a->call_count, node->final};
        for (int32_t e = node->edges; e < ends[2 * i]; e++) {
            struct grammar_edge edge = s->edges[e];
            edge.to = place[united[edge.to]];
            a->edges[a->edge_count++] = edge;
        }
        for (int32_t c = node->calls; c < ends[2 * i + 1]; c++)
            a->calls[a->call_count++] =
                (struct grammar_call){s->calls[c].rule, place[united[s->calls[c].to]]};
    }
    a->node_count += count;
    a->nodes[a->node_count] = (struct grammar_node){a->edge_count, a->call_count, false};
    if (a->node_count > GRAMMAR_MAX_NODES)
        exprs_fail(s->x, TLM_ERR_UNSUPPORTED, "expected at most %d states, found more", GRAMMAR_MAX_NODES);
    int32_t start = place[united[0]];
    free(place);
    return start;
}

static int32_t build(struct automata *a, struct subsets *s)
{
    enum { PASSES = 8 };
    size_t states = (size_t)s->n->states;
    s->seen = calloc(states, sizeof *s->seen);
    s->stack = malloc((states + 1) * sizeof *s->stack);
    s->members = malloc((states + 1) * sizeof *s->members);
    if (!s->seen || !s->stack || !s->members || !grow_table(s)) return no_memory(s);
    if (!explore(s)) return 0;
    if (s->too_large) {
        s->single = true;
        s->too_large = false;
        if (!explore(s)) return 0;
    }
    int32_t *united = malloc((size_t)s->count * 3 * sizeof *united), *ends = united + s->count, start = 0;
    if (!united) return no_memory(s);
    for (int32_t i = 0; i < s->count; i++) {
        united[i] = i;
        ends[2 * i] = s->nodes[i + 1].edges;
        ends[2 * i + 1] = s->nodes[i + 1].calls;
    }
    for (int i = 0; i < PASSES && unite(s, united, ends); i++) continue;
    start = append(a, s, united, ends);
    free(united);
    return start;
}

int32_t automaton_add(struct automata *a, struct grammar_exprs *x, const struct nfa *n, bool shall_read)
{
    struct subsets s = {.x = x, .n = n, .shall_read = shall_read};
    int32_t start = build(a, &s);
    free(s.sets);
    free(s.pool);
    free(s.table);
    free(s.seen);
    free(s.stack);
    free(s.members);
    free(s.nodes);
    free(s.edges);
    free(s.calls);
    return start;
}
