// text/grammar_compile.c -- trees of rules become the automata of text/grammar.h.
#include <string.h>

#include "text/grammar_expr.h"

enum { UNROLLED = 64, HUGE_SIZE = 1 << 28 };

struct compiler {
    struct grammar_exprs *x;
    struct automata automata;
    int32_t *order; // (placed) rules of the tree in the order of the compiled ones
    int32_t placed, order_capacity;
    struct grammar *g;
};

static void no_memory(struct compiler *c)
{
    exprs_fail(c->x, TLM_ERR_MEMORY, "no memory for %d rules", c->x->rule_count);
}

// ---- sizes: which rules become parts of others -----------------------------------------------------------

static int32_t size_of(struct grammar_exprs *x, int32_t index);

// Whether it is known that an expression matches nothing, too.
static bool is_nullable(const struct grammar_exprs *x, int32_t index)
{
    const struct expr *e = &x->items[index];
    bool any = false, all = true;
    if (e->kind == EXPR_EMPTY) return true;
    if (e->kind == EXPR_CALL) return x->rules[e->rule].nullable;
    if (e->kind == EXPR_REPEAT && !e->min) return true;
    if (e->kind == EXPR_BYTES || e->kind == EXPR_CLASS) return false;
    for (int32_t child = e->first; child; child = x->items[child].next) {
        bool one = is_nullable(x, child);
        any |= one;
        all &= one;
    }
    return e->kind == EXPR_ALT ? any : all;
}

// A repetition that would take many nodes becomes a rule of its own, and so does what it repeats: then it is a chain of calls, and
// repetitions inside repetitions add up instead of multiplying. Where what it repeats may be nothing, any number of times will do, and
// it need not be nothing: so that a text is not at all places of the chain at once.
static int32_t outline(struct grammar_exprs *x, int32_t index, int32_t child_size, int64_t times)
{
    struct expr e = x->items[index];
    int32_t child = e.first;
    bool nullable = is_nullable(x, child);
    if (nullable) e.min = 0;
    if (nullable && x->items[child].kind == EXPR_CALL && x->rules[x->items[child].rule].chain)
        x->rules[x->items[child].rule].shall_read = true;
    if (child_size > 1) {
        int32_t body = expr_rule(x, NULL, 0);
        expr_define(x, body, child);
        child = expr_call(x, body);
        if (!x->status) {
            x->rules[body].whole = true;
            x->rules[body].size = child_size;
            x->rules[body].shall_read = nullable;
        }
    }
    int32_t chain = expr_rule(x, NULL, 0);
    expr_define(x, chain, expr_repeat(x, child, e.min, e.max));
    if (x->status) return 1;
    x->rules[chain].whole = x->rules[chain].chain = true;
    x->rules[chain].nullable = !e.min;
    x->rules[chain].size = (int32_t)(times + 1);
    x->items[index] = (struct expr){.kind = EXPR_CALL, .rule = chain, .next = e.next};
    return 1;
}

static void count_run(void *user, const struct utf8_steps *s)
{
    *(int32_t *)user += s->length;
}

// The nodes an expression takes, about; at least 1.
static int32_t size_of(struct grammar_exprs *x, int32_t index)
{
    if (x->status) return 1;
    struct expr e = x->items[index];
    int64_t size = 0;
    switch (e.kind) {
    case EXPR_EMPTY: break;
    case EXPR_BYTES: size = e.count; break;
    case EXPR_CLASS: {
        int32_t bytes = 0;
        bool narrow = true; // one byte each: one step, however many ranges
        for (int32_t i = 0; i < e.count; i++) {
            utf8_split(x->ranges[e.at + i].low, x->ranges[e.at + i].high, count_run, &bytes);
            narrow &= x->ranges[e.at + i].high < 0x80;
        }
        size = narrow ? 1 : bytes;
        break;
    }
    case EXPR_LIST:
    case EXPR_ALT:
        for (int32_t child = e.first; child; child = x->items[child].next) size += size_of(x, child);
        break;
    case EXPR_REPEAT: {
        int64_t child = size_of(x, e.first), times = e.max < 0 ? (int64_t)e.min + 1 : e.max;
        size = child * times + 1;
        if (size > UNROLLED && times > 2) size = outline(x, index, (int32_t)child, times);
        break;
    }
    case EXPR_CALL: size = expr_is_part(&x->rules[e.rule]) ? x->rules[e.rule].size : 1; break;
    }
    return size < 1 ? 1 : size < HUGE_SIZE ? (int32_t)size : HUGE_SIZE;
}

struct call_pair {
    int32_t callee, caller;
};

struct call_list {
    struct call_pair *items;
    int32_t count, capacity;
};

static void list_calls(struct compiler *c, int32_t index, int32_t caller, struct call_list *list)
{
    struct grammar_exprs *x = c->x;
    const struct expr *e = &x->items[index];
    if (e->kind == EXPR_CALL && !x->status) {
        if (!grammar_grow(&list->items, &list->capacity, list->count, 1, sizeof *list->items)) {
            no_memory(c);
            return;
        }
        list->items[list->count++] = (struct call_pair){e->rule, caller};
        x->rules[e->rule].uses++;
        x->rules[caller].open_calls++;
    }
    for (int32_t child = e->first; child; child = x->items[child].next) list_calls(c, child, caller, list);
}

static int by_callee(const void *a, const void *b)
{
    int32_t x = ((const struct call_pair *)a)->callee, y = ((const struct call_pair *)b)->callee;
    return (x > y) - (x < y);
}

// Finds sizes from the rules that call nobody upwards. Rules that lead back to themselves, and all that need them, never get one and
// stay rules.
static void find_sizes(struct compiler *c)
{
    struct grammar_exprs *x = c->x;
    struct call_list list = {0};
    int32_t rules = x->rule_count, ready = 0, done = 0; // those outlined on the way have their sizes
    int32_t *queue = malloc(((size_t)rules + 1) * sizeof *queue),
            *first = calloc((size_t)rules + 1, sizeof *first);
    if (!queue || !first) no_memory(c);
    for (int32_t r = 0; r < rules && !x->status; r++) {
        list_calls(c, x->rules[r].body, r, &list);
        if (!x->rules[r].open_calls) queue[ready++] = r;
    }
    if (list.count) qsort(list.items, (size_t)list.count, sizeof *list.items, by_callee);
    for (int32_t i = 0; i < list.count && !x->status; i++) first[list.items[i].callee + 1]++;
    for (int32_t r = 0; r < rules && !x->status; r++) first[r + 1] += first[r];
    while (done < ready && !x->status) {
        int32_t r = queue[done++], size = size_of(x, x->rules[r].body);
        x->rules[r].size = size;
        x->rules[r].nullable = is_nullable(x, x->rules[r].body);
        for (int32_t i = first[r]; i < first[r + 1]; i++)
            if (--x->rules[list.items[i].caller].open_calls == 0) queue[ready++] = list.items[i].caller;
    }
    for (int32_t r = 0; r < rules && !x->status; r++)
        if (!x->rules[r].size) size_of(x, x->rules[r].body); // for what it outlines
    free(list.items);
    free(queue);
    free(first);
}

// ---- automata -------------------------------------------------------------------------------------------

// The compiled rule of a rule of the tree.
static int32_t place_of(struct compiler *c, int32_t rule)
{
    struct expr_rule *r = &c->x->rules[rule];
    if (r->place >= 0) return r->place;
    if (!grammar_grow(&c->order, &c->order_capacity, c->placed, 1, sizeof *c->order)) {
        no_memory(c);
        return 0;
    }
    c->order[c->placed] = rule;
    return r->place = c->placed++;
}

// Builds the automata of all rules that rule 0 needs. starts: of the compiled rules.
static void build_rules(struct compiler *c, int32_t **starts)
{
    struct nfa n = {0};
    int32_t capacity = 0, calls = 0;
    place_of(c, 0);
    for (int32_t i = 0; i < c->placed && !c->x->status; i++) {
        if (!grammar_grow(starts, &capacity, i, 1, sizeof **starts)) {
            no_memory(c);
            break;
        }
        nfa_build(&n, c->x, c->order[i]);
        if (c->x->status) break;
        (*starts)[i] = automaton_add(&c->automata, c->x, &n, c->x->rules[c->order[i]].shall_read);
        for (; calls < c->automata.call_count && !c->x->status; calls++)
            c->automata.calls[calls].rule = place_of(c, c->automata.calls[calls].rule);
    }
    nfa_free(&n);
}

// Marks what rule 0 can reach without a node or rule that never comes to an end: keep[node] is its new place, or -1.
static int32_t mark_kept(const struct grammar *g, const int32_t *least, int32_t *keep, int32_t *stack)
{
    int32_t count = 0, depth = 0;
    for (int32_t i = 0; i < g->node_count; i++) keep[i] = -1;
    stack[depth++] = g->rules[0].start;
    keep[g->rules[0].start] = count++;
    while (depth) {
        const struct grammar_node *node = &g->nodes[stack[--depth]];
        int32_t targets[2];
        for (int32_t i = node->edges; i < node[1].edges; i++) {
            targets[0] = g->edges[i].to;
            if (least[targets[0]] >= GRAMMAR_NEVER || keep[targets[0]] >= 0) continue;
            keep[targets[0]] = count++;
            stack[depth++] = targets[0];
        }
        for (int32_t i = node->calls; i < node[1].calls; i++) {
            targets[0] = g->calls[i].to;
            targets[1] = g->rules[g->calls[i].rule].start;
            if (least[targets[0]] >= GRAMMAR_NEVER || least[targets[1]] >= GRAMMAR_NEVER) continue;
            for (int k = 0; k < 2; k++) {
                if (keep[targets[k]] >= 0) continue;
                keep[targets[k]] = count++;
                stack[depth++] = targets[k];
            }
        }
    }
    return count;
}

// Drops the nodes that are not kept, and the steps that lead to them. keep[] is in any order; nodes stay in theirs.
static void drop_others(struct grammar *g, int32_t *keep)
{
    int32_t nodes = 0, edges = 0, calls = 0;
    for (int32_t i = 0; i < g->node_count; i++)
        if (keep[i] >= 0) keep[i] = nodes++;
    for (int32_t i = 0; i < g->node_count; i++) {
        struct grammar_node node = g->nodes[i];
        int32_t edge_end = g->nodes[i + 1].edges, call_end = g->nodes[i + 1].calls;
        if (keep[i] < 0) continue;
        g->nodes[keep[i]] = (struct grammar_node){edges, calls, node.final};
        for (int32_t e = node.edges; e < edge_end; e++) {
            struct grammar_edge edge = g->edges[e];
            edge.to = keep[edge.to];
            if (edge.to >= 0) g->edges[edges++] = edge;
        }
        for (int32_t k = node.calls; k < call_end; k++) {
            struct grammar_call call = g->calls[k];
            call.to = keep[call.to];
            if (call.to >= 0 && keep[g->rules[call.rule].start] >= 0) g->calls[calls++] = call;
        }
    }
    for (int32_t r = 0; r < g->rule_count; r++) {
        int32_t start = keep[g->rules[r].start];
        g->rules[r].start = start < 0 ? 0 : start; // of a rule that nobody calls any more
    }
    g->nodes[nodes] = (struct grammar_node){edges, calls, false};
    g->node_count = nodes;
}

static void prune(struct compiler *c)
{
    struct grammar *g = c->g;
    size_t n = (size_t)g->node_count, steps = 0;
    int32_t *least = malloc(3 * n * sizeof *least), *keep = least + n, *stack = keep + n;
    struct grammar_step *step = malloc(((size_t)g->nodes[n].edges + 1) * sizeof *step);
    if (!least || !step) {
        no_memory(c);
    } else {
        for (int32_t i = 0; i < g->node_count; i++)
            for (int32_t e = g->nodes[i].edges; e < g->nodes[i + 1].edges; e++)
                step[steps++] = (struct grammar_step){i, g->edges[e].to};
        struct tlm_error err;
        if (grammar_shortest(g, step, steps, least, &err))
            exprs_fail(c->x, err.code, "%s", err.text);
        else if (least[g->rules[0].start] >= GRAMMAR_NEVER)
            exprs_fail(c->x, TLM_ERR_FORMAT, "expected texts that match, found that none can");
        else {
            mark_kept(g, least, keep, stack);
            drop_others(g, keep);
        }
    }
    free(least);
    free(step);
}

// ---- what walks need --------------------------------------------------------------------------------------

static void find_nullable(struct compiler *c)
{
    struct grammar *g = c->g;
    int32_t *least = malloc((size_t)g->node_count * sizeof *least);
    struct tlm_error err;
    if (!least)
        no_memory(c);
    else if (grammar_shortest(g, NULL, 0, least, &err))
        exprs_fail(c->x, err.code, "%s", err.text);
    for (int32_t r = 0; r < g->rule_count && !c->x->status; r++)
        g->rules[r].nullable = least[g->rules[r].start] == 0;
    free(least);
}

static void find_classes(struct grammar *g)
{
    bool border[257] = {false};
    for (int32_t i = 0; i < g->nodes[g->node_count].edges; i++)
        border[g->edges[i].low] = border[g->edges[i].high + 1] = true;
    int class = 0;
    for (int b = 0; b < 256; b++) {
        if (b && border[b]) class ++;
        g->class_of[b] = (uint8_t) class;
    }
    g->class_count = class + 1;
}

// A place in a walk over rules and, inside each, over the nodes its start reaches before a byte is read.
struct visit {
    int32_t rule;
    int32_t node; // of those in `reached`, the next to look at
    int32_t end;  // of its nodes there
    int32_t call; // the next of that node; -1: from its first
};

static bool add_reached(struct compiler *c, int32_t **reached, int32_t *capacity, int32_t *count,
                        int32_t node, int32_t *seen, int32_t mark)
{
    if (seen[node] == mark) return true;
    seen[node] = mark;
    if (!grammar_grow(reached, capacity, *count, 1, sizeof **reached)) {
        no_memory(c);
        return false;
    }
    (*reached)[(*count)++] = node;
    return true;
}

// Adds the nodes that `rule` reaches before it reads a byte, behind calls of rules that need none.
static void reach(struct compiler *c, int32_t rule, int32_t **reached, int32_t *capacity, int32_t *count,
                  int32_t *seen)
{
    const struct grammar *g = c->g;
    int32_t at = *count;
    add_reached(c, reached, capacity, count, g->rules[rule].start, seen, rule + 1);
    for (; at < *count && !c->x->status; at++) {
        const struct grammar_node *node = &g->nodes[(*reached)[at]];
        for (int32_t i = node->calls; i < node[1].calls; i++)
            if (g->rules[g->calls[i].rule].nullable)
                add_reached(c, reached, capacity, count, g->calls[i].to, seen, rule + 1);
    }
}

// The rule of the tree that a circle of calls without bytes goes through, or -1: by depth-first search.
static int32_t find_left_recursion(struct compiler *c)
{
    enum { NEW, OPEN, CLOSED };
    const struct grammar *g = c->g;
    int32_t *reached = NULL, capacity = 0, count = 0, found = -1, depth = 0;
    int32_t *seen = calloc((size_t)g->node_count, sizeof *seen);
    uint8_t *state = calloc((size_t)g->rule_count, 1);
    struct visit *stack = malloc(((size_t)g->rule_count + 1) * sizeof *stack);
    if (!seen || !state || !stack) no_memory(c);
    for (int32_t r = -1; r < g->rule_count && found < 0 && !c->x->status;) {
        if (!depth) { // the next rule that nothing has led to yet
            if (++r >= g->rule_count) break;
            if (state[r] != NEW) continue;
            count = 0;
            reach(c, r, &reached, &capacity, &count, seen);
            stack[depth++] = (struct visit){r, 0, count, -1};
            state[r] = OPEN;
        }
        struct visit *v = &stack[depth - 1];
        if (v->node == v->end) {
            state[v->rule] = CLOSED;
            depth--;
            continue;
        }
        const struct grammar_node *node = &g->nodes[reached[v->node]];
        if (v->call < 0) v->call = node->calls;
        if (v->call == node[1].calls) {
            v->node++;
            v->call = -1;
            continue;
        }
        int32_t callee = g->calls[v->call++].rule;
        if (state[callee] == OPEN) found = callee;
        if (state[callee] != NEW) continue;
        state[callee] = OPEN;
        int32_t first = count;
        reach(c, callee, &reached, &capacity, &count, seen);
        stack[depth++] = (struct visit){callee, first, count, -1};
    }
    free(reached);
    free(seen);
    free(state);
    free(stack);
    return found < 0 ? -1 : c->order[found];
}

static void refuse_left_recursion(struct compiler *c)
{
    int32_t rule = find_left_recursion(c);
    if (rule < 0 || c->x->status) return;
    const struct expr_rule *r = &c->x->rules[rule];
    exprs_fail(c->x, TLM_ERR_UNSUPPORTED,
               "expected rules that begin with something else than themselves, found that \"%.*s\" does not",
               r->name_bytes < 80 ? (int)r->name_bytes : 80, r->name_bytes ? c->x->texts + r->name : "");
}

// ---- the whole --------------------------------------------------------------------------------------------

static void compile(struct compiler *c)
{
    int32_t *starts = NULL;
    find_sizes(c);
    build_rules(c, &starts);
    if (!c->x->status) {
        struct grammar *g = c->g = calloc(1, sizeof *g);
        if (g) {
            *g = (struct grammar){.node_count = c->automata.node_count,
                                  .rule_count = c->placed,
                                  .nodes = c->automata.nodes,
                                  .edges = c->automata.edges,
                                  .calls = c->automata.calls,
                                  .rules = calloc((size_t)c->placed, sizeof *g->rules)};
            c->automata = (struct automata){0};
        }
        if (!g || !g->rules) no_memory(c);
        for (int32_t r = 0; r < c->placed && !c->x->status; r++) g->rules[r].start = starts[r];
    }
    free(starts);
    if (!c->x->status) prune(c);
    if (!c->x->status) find_nullable(c);
    if (!c->x->status) refuse_left_recursion(c);
    if (!c->x->status) find_classes(c->g);
}

enum tlm_status grammar_compile(struct grammar **out, struct grammar_exprs *x, struct tlm_error *err)
{
    struct compiler c = {.x = x};
    *out = NULL;
    if (!x->status) compile(&c);
    free(c.automata.nodes);
    free(c.automata.edges);
    free(c.automata.calls);
    free(c.order);
    if (x->status) {
        grammar_close(c.g);
        if (err) *err = x->error;
        return x->status;
    }
    *out = c.g;
    return TLM_OK;
}

enum tlm_status grammar_open(struct grammar **out, enum tlm_grammar_kind kind, const char *text, size_t bytes,
                             struct tlm_error *err)
{
    static const struct {
        const char *what;
        void (*parse)(struct grammar_exprs *, const char *, size_t);
    } kinds[] = {[TLM_GRAMMAR_GBNF] = {"grammar", grammar_gbnf},
                 [TLM_GRAMMAR_JSON_SCHEMA] = {"JSON schema", grammar_schema},
                 [TLM_GRAMMAR_REGEX] = {"regular expression", grammar_regex}};
    *out = NULL;
    if ((unsigned)kind >= sizeof kinds / sizeof *kinds)
        return error_set(err, TLM_ERR_ARGUMENT, "grammar: expected a kind from 0 to 2, found %d", (int)kind);
    if (bytes > GRAMMAR_MAX_TEXT)
        return error_set(err, TLM_ERR_UNSUPPORTED, "%s: expected at most %d bytes, found %zu",
                         kinds[kind].what, GRAMMAR_MAX_TEXT, bytes);
    struct grammar_exprs x;
    exprs_open(&x, kinds[kind].what);
    if (!x.status) kinds[kind].parse(&x, text, bytes);
    enum tlm_status status = grammar_compile(out, &x, err);
    exprs_close(&x);
    return status;
}

void grammar_close(struct grammar *g)
{
    if (!g) return;
    free(g->nodes);
    free(g->edges);
    free(g->calls);
    free(g->rules);
    free(g);
}
