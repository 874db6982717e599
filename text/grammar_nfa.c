// text/grammar_nfa.c -- a rule's tree becomes an automaton with empty steps (Thompson's construction).
#include <string.h>

#include "text/grammar_expr.h"

struct builder {
    struct nfa *n;
    struct grammar_exprs *x;
    int32_t from, to; // of the class whose runs are being added
};

static void step(struct builder *b, int32_t from, int32_t to, int low, int high, int32_t rule)
{
    struct nfa *n = b->n;
    if (b->x->status) return;
    if (!grammar_grow(&n->steps, &n->step_capacity, n->step_count, 1, sizeof *n->steps)) {
        exprs_fail(b->x, TLM_ERR_MEMORY, "no memory for %d steps", n->step_count);
        return;
    }
    n->steps[n->step_count++] = (struct nfa_step){from, to, rule, (int16_t)low, (int16_t)high};
}

static int32_t state(struct builder *b)
{
    if (b->n->states >= GRAMMAR_MAX_NODES) {
        exprs_fail(b->x, TLM_ERR_UNSUPPORTED, "expected rules of at most %d states, found more",
                   GRAMMAR_MAX_NODES);
        return 0;
    }
    return b->n->states++;
}

static void empty(struct builder *b, int32_t from, int32_t to)
{
    step(b, from, to, 1, 0, -1);
}

static void add_run(void *user, const struct utf8_steps *s)
{
    struct builder *b = user;
    int32_t at = b->from;
    for (int i = 0; i < s->length; i++) {
        int32_t next = i + 1 < s->length ? state(b) : b->to;
        step(b, at, next, s->low[i], s->high[i], -1);
        at = next;
    }
}

static int32_t emit(struct builder *b, int32_t e, int32_t from);

// The child min times, and then as often as it likes or up to max times.
static int32_t emit_repeat(struct builder *b, const struct expr *e, int32_t from)
{
    int32_t at = from, end = state(b);
    for (int32_t i = 0; i < e->min && !b->x->status; i++) at = emit(b, e->first, at);
    if (e->max < 0) {
        empty(b, at, end);
        empty(b, emit(b, e->first, end), end);
        return end;
    }
    for (int32_t i = e->min; i < e->max && !b->x->status; i++) {
        empty(b, at, end);
        at = emit(b, e->first, at);
    }
    empty(b, at, end);
    return end;
}

// Adds what the expression reads behind state `from`, and returns the state behind it. Nothing it adds leads back to `from`.
static int32_t emit(struct builder *b, int32_t index, int32_t from)
{
    struct grammar_exprs *x = b->x;
    if (x->status) return 0;
    const struct expr e = x->items[index];
    int32_t at = from;
    switch (e.kind) {
    case EXPR_EMPTY: return from;
    case EXPR_BYTES:
        for (int32_t i = 0; i < e.count; i++) {
            int byte = (unsigned char)x->texts[e.at + i];
            int32_t next = state(b);
            step(b, at, next, byte, byte, -1);
            at = next;
        }
        return at;
    case EXPR_CLASS:
        b->from = from;
        b->to = at = state(b);
        for (int32_t i = 0; i < e.count; i++)
            utf8_split(x->ranges[e.at + i].low, x->ranges[e.at + i].high, add_run, b);
        return at;
    case EXPR_LIST:
        for (int32_t child = e.first; child; child = x->items[child].next) at = emit(b, child, at);
        return at;
    case EXPR_ALT: {
        int32_t end = state(b);
        for (int32_t child = e.first; child; child = x->items[child].next)
            empty(b, emit(b, child, from), end);
        return end;
    }
    case EXPR_REPEAT: return emit_repeat(b, &e, from);
    case EXPR_CALL:
        if (expr_is_part(&x->rules[e.rule])) return emit(b, x->rules[e.rule].body, from);
        at = state(b);
        step(b, from, at, 1, 0, e.rule);
        return at;
    }
    return from;
}

void nfa_build(struct nfa *n, struct grammar_exprs *x, int32_t rule)
{
    n->states = 1;
    n->step_count = 0;
    struct builder b = {.n = n, .x = x};
    n->end = emit(&b, x->rules[rule].body, 0);
    // Sorted by the states where they begin.
    struct nfa_step *sorted = malloc(((size_t)n->step_count + 1) * sizeof *sorted);
    if (!sorted ||
        !grammar_grow(&n->first, &n->first_capacity, 0, (int64_t)n->states + 2, sizeof *n->first)) {
        exprs_fail(x, TLM_ERR_MEMORY, "no memory for %d states", n->states);
        free(sorted);
        return;
    }
    memset(n->first, 0, ((size_t)n->states + 2) * sizeof *n->first);
    for (int32_t i = 0; i < n->step_count; i++) n->first[n->steps[i].from + 2]++;
    for (int32_t i = 1; i <= n->states; i++) n->first[i + 1] += n->first[i];
    for (int32_t i = 0; i < n->step_count; i++) sorted[n->first[n->steps[i].from + 1]++] = n->steps[i];
    free(n->steps);
    n->steps = sorted;
    n->step_capacity = n->step_count + 1;
}

void nfa_free(struct nfa *n)
{
    free(n->steps);
    free(n->first);
}
