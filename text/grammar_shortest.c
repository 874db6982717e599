// text/grammar_shortest.c -- shortest ways to the ends of rules: Dijkstra's algorithm from the ends backwards, where a call is a step
// whose length is another rule's result.
#include <string.h>

#include "text/grammar.h"

struct item {
    int32_t least, node;
};

struct search {
    const struct grammar *g;
    int32_t *least;    // (nodes)
    bool *settled;     // (nodes)
    struct item *heap; // smallest first; outdated items stay in it
    size_t heap_count;
    // Lists by counting sort: what is at node n begins at first[n].
    int32_t *step_first, *step_from;   // steps by their ends
    int32_t *call_first, *call_index;  // calls by the nodes behind them
    int32_t *start_first, *start_call; // calls by the starts of their rules
    int32_t *call_from;                // (calls) the node a call is at
};

static void push(struct search *s, int32_t node, int32_t least)
{
    if (least >= s->least[node]) return;
    s->least[node] = least;
    size_t i = s->heap_count++;
    for (; i && s->heap[(i - 1) / 2].least > least; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = (struct item){least, node};
}

static struct item pop(struct search *s)
{
    struct item top = s->heap[0], last = s->heap[--s->heap_count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < s->heap_count; i = child) {
        if (child + 1 < s->heap_count && s->heap[child + 1].least < s->heap[child].least) child++;
        if (s->heap[child].least >= last.least) break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = last;
    return top;
}

static void settle(struct search *s, int32_t n)
{
    const struct grammar *g = s->g;
    int32_t least = s->least[n];
    s->settled[n] = true;
    for (int32_t i = s->step_first[n]; i < s->step_first[n + 1]; i++) push(s, s->step_from[i], least + 1);
    for (int32_t i = s->call_first[n]; i < s->call_first[n + 1]; i++) {
        int32_t c = s->call_index[i], start = g->rules[g->calls[c].rule].start;
        if (s->settled[start]) push(s, s->call_from[c], least + s->least[start]);
    }
    for (int32_t i = s->start_first[n]; i < s->start_first[n + 1]; i++) {
        int32_t c = s->start_call[i], to = g->calls[c].to;
        if (s->settled[to]) push(s, s->call_from[c], least + s->least[to]);
    }
}

// first[n] of counts that stand at first[n + 1], then the places move up as they are handed out.
static void accumulate(int32_t *first, int32_t n)
{
    for (int32_t i = 0; i < n; i++) first[i + 1] += first[i];
}

static void sort_lists(struct search *s, const struct grammar_step *steps, size_t step_count)
{
    const struct grammar *g = s->g;
    int32_t n = g->node_count, calls = g->nodes[n].calls;
    for (int32_t node = 0; node < n; node++)
        for (int32_t c = g->nodes[node].calls; c < g->nodes[node + 1].calls; c++) s->call_from[c] = node;
    for (size_t i = 0; i < step_count; i++) s->step_first[steps[i].to + 1]++;
    for (int32_t c = 0; c < calls; c++) {
        s->call_first[g->calls[c].to + 1]++;
        s->start_first[g->rules[g->calls[c].rule].start + 1]++;
    }
    accumulate(s->step_first, n);
    accumulate(s->call_first, n);
    accumulate(s->start_first, n);
    for (size_t i = step_count; i-- > 0;) s->step_from[s->step_first[steps[i].to]++] = steps[i].from;
    for (int32_t c = calls; c-- > 0;) {
        s->call_index[s->call_first[g->calls[c].to]++] = c;
        s->start_call[s->start_first[g->rules[g->calls[c].rule].start]++] = c;
    }
    memmove(s->step_first + 1, s->step_first, (size_t)n * sizeof *s->step_first);
    memmove(s->call_first + 1, s->call_first, (size_t)n * sizeof *s->call_first);
    memmove(s->start_first + 1, s->start_first, (size_t)n * sizeof *s->start_first);
    s->step_first[0] = s->call_first[0] = s->start_first[0] = 0;
}

enum tlm_status grammar_shortest(const struct grammar *g, const struct grammar_step *steps, size_t step_count,
                                 int32_t *least, struct tlm_error *err)
{
    size_t n = (size_t)g->node_count, calls = (size_t)g->nodes[n].calls;
    struct search s = {.g = g, .least = least};
    // Each step and each call pushes at most twice, and each end once.
    s.heap = malloc((n + step_count + 2 * calls + 1) * sizeof *s.heap);
    s.settled = calloc(n, sizeof *s.settled);
    int32_t *lists = calloc(3 * (n + 1) + step_count + 3 * calls + 1, sizeof *lists), *at = lists;
    enum tlm_status status = TLM_OK;
    if (!s.heap || !s.settled || !lists) {
        status = error_set(err, TLM_ERR_MEMORY, "grammar: no memory for %zu nodes", n);
    } else {
        s.step_first = at, at += n + 1;
        s.call_first = at, at += n + 1;
        s.start_first = at, at += n + 1;
        s.step_from = at, at += step_count;
        s.call_index = at, at += calls;
        s.start_call = at, at += calls;
        s.call_from = at;
        sort_lists(&s, steps, step_count);
        for (size_t i = 0; i < n; i++) least[i] = GRAMMAR_NEVER;
        for (size_t i = 0; i < n; i++)
            if (g->nodes[i].final) push(&s, (int32_t)i, 0);
        while (s.heap_count) {
            struct item top = pop(&s);
            if (!s.settled[top.node]) settle(&s, top.node);
        }
    }
    free(s.heap);
    free(s.settled);
    free(lists);
    return status;
}
