#include "core/graph.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Room in address space, not memory: pages that are never touched cost nothing.
enum { NODES_MAX = 1 << 17, PARAMS_MAX = 1 << 24 };

enum tlm_status graph_init(struct graph *g, const struct op *ops, const void *kernels, enum dtype real,
                           const int32_t *counts, struct tlm_error *err)
{
    *g = (struct graph){.ops = ops, .kernels = kernels, .real = real, .counts = counts, .layer = -1};
    enum tlm_status s = arena_init(&g->nodes, NODES_MAX * sizeof(struct node), "graph", err);
    return s ? s : arena_init(&g->params, PARAMS_MAX, "graph", err);
}

void graph_free(struct graph *g)
{
    arena_free(&g->nodes);
    arena_free(&g->params);
    free(g->order);
    free(g->replicas);
    *g = (struct graph){0};
}

struct node *graph_node(struct graph *g, int op, struct tensor out, enum extent extent, const void *params,
                        size_t params_size, struct node *const *in, int input_count)
{
    TLM_ASSERT(g->node_count < NODES_MAX && input_count <= GRAPH_MAX_INPUTS);
    struct node *n = (struct node *)g->nodes.base + g->node_count++;
    *n = (struct node){.out = out, .op = op, .extent = extent, .layer = g->layer, .input_count = input_count};
    n->index = (int32_t)(g->node_count - 1);
    for (int i = 0; i < input_count; i++) n->in[i] = in[i];
    if (params_size) {
        void *copy = arena_alloc(&g->params, params_size);
        memcpy(copy, params, params_size);
        n->params = copy;
    }
    return n;
}

struct node *graph_leaf(struct graph *g, const struct tensor *t, enum extent extent)
{
    return graph_node(g, GRAPH_LEAF, *t, extent, NULL, 0, NULL, 0);
}

// ---- planning -----------------------------------------------------------------------------------------

// Wider outputs than this are shared out among the threads whatever the op.
enum { LOCAL_COLUMNS = 1 << 15 };

static bool can_be_local(const struct graph *g, const struct node *n)
{
    return g->threads && n->op != GRAPH_LEAF && g->ops[n->op].light && n->effect == EFFECT_NONE &&
           n->out.ne[0] <= LOCAL_COLUMNS;
}

// What must have run: the inputs, then base and after, which may be NULL.
static int edge_count(const struct node *n)
{
    return n->input_count + 2;
}

static struct node *edge(const struct node *n, int i)
{
    return i < n->input_count ? n->in[i] : i == n->input_count ? n->base : n->after;
}

// A node runs in the first phase of its level in which all that it reads is there: behind the phase of what threads share, within the
// phase of what each has for itself.
static void rank(struct node *n)
{
    for (int i = 0; i < edge_count(n); i++)
        if (edge(n, i) && edge(n, i)->level > n->level) n->level = edge(n, i)->level;
    n->phase = 1;
    for (int i = 0; i < edge_count(n); i++) {
        const struct node *in = edge(n, i);
        bool before = !in || in->op == GRAPH_LEAF || in->level < n->level;
        int phase = before ? 1 : in->local ? in->phase : in->phase + 1;
        if (phase > n->phase) n->phase = phase;
    }
    n->rank = 0;
    for (int i = 0; i < n->input_count; i++) {
        const struct node *in = n->in[i];
        if (in->local && in->level == n->level && in->phase == n->phase && in->rank >= n->rank)
            n->rank = in->rank + 1;
    }
}

// Nodes are added behind their inputs or by passes at the end, so the walk goes by inputs, not by index; depth is bounded by an
// explicit stack.
static void mark(struct node *root, struct node **stack)
{
    int64_t depth = 0;
    stack[depth++] = root;
    while (depth) {
        struct node *n = stack[depth - 1], *open = NULL;
        for (int i = 0; i < edge_count(n) && !open; i++) {
            struct node *in = edge(n, i);
            if (in && in->op != GRAPH_LEAF && !in->phase) open = in;
        }
        if (open) {
            stack[depth++] = open;
        } else {
            if (n->op != GRAPH_LEAF) rank(n);
            depth--;
        }
    }
}

static bool elsewhere(const struct node *n)
{
    return n->op == GRAPH_LEAF || n->effect != EFFECT_NONE;
}

// An output that is added to takes over the bytes of what it is added to, if it is the only one to read that at the end.
static void take_over(struct node *n)
{
    struct node *b = n->base;
    n->place = n;
    if (!b || elsewhere(n) || elsewhere(b) || n->local || b->local) return;
    if (b->last_phase != n->phase || b->last_reads != 1) return;
    n->place = b->place;
    if (n->place->last_phase < n->last_phase) n->place->last_phase = n->last_phase;
}

// Bytes that are taken from one phase to another.
struct stretch {
    size_t begin, end;
    int phase, last_phase;
};

struct places {
    struct stretch *by_begin; // rising
    int64_t count;
    size_t bytes; // that all take
};

// The lowest place for `t` that overlaps with nothing alive in the same phases. Phases are closed by barriers, so what is never alive in
// the same phase may share bytes. t->data becomes the offset, an address in graph_bind.
static void place(struct places *p, struct tensor *t, int phase, int last_phase)
{
    size_t size = align_up(tensor_bytes(t), ARENA_ALIGN), offset = 0;
    int64_t at = 0;
    for (int64_t j = 0; j < p->count; j++) {
        const struct stretch *o = &p->by_begin[j];
        if (o->last_phase < phase || o->phase > last_phase) continue;
        if (o->begin >= offset + size) break;
        if (o->end > offset) offset = o->end;
    }
    while (at < p->count && p->by_begin[at].begin < offset) at++;
    memmove(p->by_begin + at + 1, p->by_begin + at, (size_t)(p->count - at) * sizeof *p->by_begin);
    p->by_begin[at] = (struct stretch){offset, offset + size, phase, last_phase};
    p->count++;
    t->data = (void *)offset;
    if (offset + size > p->bytes) p->bytes = offset + size;
}

// Places all that threads share, or all that is local. Returns the bytes.
static size_t place_all(struct graph *g, bool local, struct stretch *room)
{
    struct places p = {.by_begin = room};
    for (int64_t i = 0; i < g->order_count; i++) {
        struct node *n = g->order[i];
        if (n->local != local) continue;
        if (n->saved.ne[0]) place(&p, &n->saved, n->phase, n->last_phase);
        if (!elsewhere(n) && n->place == n) place(&p, &n->out, n->phase, n->last_phase);
    }
    return p.bytes;
}

static void read_by(struct node *in, const struct node *reader)
{
    if (in->last_phase < reader->phase) in->last_phase = reader->phase, in->last_reads = 0;
    in->last_reads += in->last_phase == reader->phase;
}

static int runs_before(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    if (x->level != y->level) return x->level - y->level;
    if (x->phase != y->phase) return x->phase - y->phase;
    return x->rank != y->rank ? x->rank - y->rank : x->index - y->index;
}

static enum tlm_status out_of_memory(const struct graph *g, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "graph: no memory to plan %lld nodes", (long long)g->node_count);
}

// Counts phases through all levels, of nodes in the order of running.
static void number_phases(struct graph *g)
{
    int before = 0, last = 0; // phases of lower levels, and up to the node before
    for (int64_t i = 0; i < g->order_count; i++) {
        struct node *n = g->order[i];
        if (i && n->level != g->order[i - 1]->level) before = last;
        n->phase += before;
        last = n->phase;
        g->level_count = n->level + 1;
    }
}

// The last phase of the level of order[i]; that in which the next one begins, where that follows at once: what is brought from elsewhere comes
// while what goes there is still read.
static int end_of_level(const struct graph *g, int64_t i)
{
    const int level = g->order[i]->level;
    while (i + 1 < g->order_count && g->order[i + 1]->level == level) i++;
    if (i + 1 < g->order_count && g->order[i + 1]->level == level + 1) i++;
    return g->order[i]->phase;
}

enum tlm_status graph_plan(struct graph *g, struct node *const *roots, int root_count, struct tlm_error *err)
{
    struct node *nodes = (struct node *)g->nodes.base,
                **stack = malloc(2 * (size_t)g->node_count * sizeof *stack);
    g->order = malloc((size_t)g->node_count * sizeof *g->order);
    for (int64_t i = 0; i < g->node_count; i++) nodes[i].local = can_be_local(g, &nodes[i]);
    for (int i = 0; i < root_count && stack; i++) roots[i]->local = false;
    for (int i = 0; i < root_count && stack; i++) mark(roots[i], stack);
    for (int64_t i = 0; i < g->node_count && g->order; i++)
        if (nodes[i].phase) g->order[g->order_count++] = &nodes[i];
    g->replica_count = g->order_count;
    if (g->threads) g->replicas = malloc((size_t)(g->threads * g->replica_count) * sizeof *g->replicas);
    if (!stack || !g->order || (g->threads && !g->replicas)) {
        free(stack);
        return out_of_memory(g, err);
    }
    qsort(g->order, (size_t)g->order_count, sizeof *g->order, runs_before);
    number_phases(g);
    for (int64_t i = 0; i < g->order_count; i++) {
        struct node *n = g->order[i];
        n->at = (int32_t)i;
        if (n->last_phase < n->phase) n->last_phase = n->phase;
        for (int j = 0; j <= n->input_count; j++) // and base, but not after
            if (edge(n, j)) read_by(edge(n, j), n);
        size_t scratch = g->ops[n->op].scratch ? g->ops[n->op].scratch(g, n) : 0;
        if (scratch > g->scratch_bytes) g->scratch_bytes = align_up(scratch, 4096);
    }
    for (int i = 0; i < root_count; i++) {
        const int end = end_of_level(g, roots[i]->at);
        if (end > roots[i]->last_phase) roots[i]->last_phase = end;
        roots[i]->last_reads++;
    }
    for (int64_t i = 0; i < g->order_count; i++) take_over(g->order[i]);
    struct stretch *room = malloc(2 * (size_t)g->order_count * sizeof *room);
    free(stack);
    if (!room) return out_of_memory(g, err);
    g->arena_bytes = place_all(g, false, room);
    g->local_bytes = align_up(place_all(g, true, room), 4096);
    free(room);
    return TLM_OK;
}

// Each thread's nodes read each thread's nodes; leaves are the same for all.
static void bind_replicas(struct graph *g, char *local)
{
    for (int t = 0; t < g->threads; t++) {
        struct node *own = g->replicas + t * g->replica_count;
        for (int64_t i = 0; i < g->order_count; i++) {
            own[i] = *g->order[i];
            if (own[i].local) own[i].out.data = local + (size_t)t * g->local_bytes + (size_t)own[i].out.data;
            for (int j = 0; j < own[i].input_count; j++)
                if (own[i].in[j]->op != GRAPH_LEAF) own[i].in[j] = own + own[i].in[j]->at;
        }
    }
}

void graph_bind(struct graph *g, void *memory, void *local)
{
    for (int64_t i = 0; i < g->order_count; i++) {
        struct node *n = g->order[i];
        if (n->local) continue;
        if (n->saved.ne[0]) n->saved.data = (char *)memory + (size_t)n->saved.data;
        if (!elsewhere(n))
            n->out.data = n->place == n ? (char *)memory + (size_t)n->out.data : n->place->out.data;
    }
    if (g->threads) bind_replicas(g, local);
}

struct graph graph_level(const struct graph *g, int level)
{
    struct graph part = *g;
    int64_t begin = 0, end;
    while (begin < g->order_count && g->order[begin]->level < level) begin++;
    for (end = begin; end < g->order_count && g->order[end]->level == level;) end++;
    part.order += begin;
    part.order_count = end - begin;
    if (part.replicas) part.replicas += begin;
    return part;
}

// ---- running ------------------------------------------------------------------------------------------

// Threads take chunks of a node's units from a counter of their phase. The counters of two phases are used in turn:
// while one phase runs, thread 0 has already cleared the next phase's.
enum { PHASE_NODES_MAX = 256 };

struct run {
    const struct graph *g;
    struct threads *threads;
    char *scratch;
    struct {
        _Alignas(64) atomic_llong next;
    } counter[2][PHASE_NODES_MAX];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_node(struct run *r, const struct node *n, atomic_llong *next, int threads, void *scratch)
{
    const struct op *op = &r->g->ops[n->op];
    int64_t units = op->units(r->g, n);
    if (threads == 1) {
        if (units) op->run(r->g, n, 0, units, scratch);
        return;
    }
    // Half of a fair share of what is left: long stretches first, which memory likes, and small ones at the end, so that a
    // thread which lost its processor for a while holds up little.
    long long begin = atomic_load_explicit(next, memory_order_relaxed);
    for (;;) {
        long long chunk = (units - begin) / (2 * threads), end = begin + (chunk > 0 ? chunk : 1);
        // The counter passes `units` only where there is nothing to do: it must not stay 0, see run_thread.
        if (!atomic_compare_exchange_weak_explicit(next, &begin, end, memory_order_relaxed,
                                                   memory_order_relaxed))
            continue;
        if (begin >= units) return;
        op->run(r->g, n, begin, end, scratch);
        begin = atomic_load_explicit(next, memory_order_relaxed);
    }
}

static const struct node *node_of(const struct graph *g, int thread, int64_t i)
{
    return g->replicas ? &g->replicas[thread * g->replica_count + i] : g->order[i];
}

static void run_thread(void *user, int thread)
{
    struct run *r = user;
    const struct graph *g = r->g;
    int threads = r->threads ? threads_count(r->threads) : 1, parity = 0;
    TLM_ASSERT(!g->replicas || threads <= g->threads);
    void *scratch = r->scratch + (size_t)thread * g->scratch_bytes;
    for (int64_t i = 0; i < g->order_count; parity ^= 1) {
        int64_t end = i, shared = 0; // nodes that have a counter
        int phase = g->order[i]->phase;
        while (end < g->order_count && shared < PHASE_NODES_MAX && g->order[end]->phase == phase)
            shared += !g->order[end++]->local;
        if (thread == 0 && threads > 1)
            for (int64_t j = 0; j < PHASE_NODES_MAX && atomic_load(&r->counter[!parity][j].next); j++)
                atomic_store_explicit(&r->counter[!parity][j].next, 0, memory_order_relaxed);
        shared = 0;
        for (int64_t j = i; j < end; j++) {
            const struct node *n = node_of(g, thread, j);
            double begin = g->watch ? now() : 0;
            if (n->local)
                run_node(r, n, NULL, 1, scratch);
            else
                run_node(r, n, &r->counter[parity][shared++].next, threads, scratch);
            if (g->watch) g->watch->done(g->watch->user, g, n, thread, begin, now());
        }
        if (threads > 1) threads_barrier(r->threads);
        i = end;
    }
}

void graph_run(const struct graph *g, struct threads *t, void *scratch)
{
    struct run r = {.g = g, .threads = t, .scratch = scratch};
    if (t)
        threads_run(t, run_thread, &r);
    else
        run_thread(&r, 0);
}
