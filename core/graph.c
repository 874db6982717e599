#include "core/graph.h"

#include <stdatomic.h>
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
    *g = (struct graph){0};
}

struct node *graph_node(struct graph *g, int op, struct tensor out, enum extent extent, const void *params,
                        size_t params_size, struct node *const *in, int input_count)
{
    TLM_ASSERT(g->node_count < NODES_MAX && input_count <= GRAPH_MAX_INPUTS);
    struct node *n = (struct node *)g->nodes.base + g->node_count++;
    *n = (struct node){.out = out, .op = op, .extent = extent, .layer = g->layer, .input_count = input_count};
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

// The phase of a node is one more than the largest of its inputs. Nodes are added behind their inputs or by passes at
// the end, so the walk goes by inputs, not by index; depth is bounded by an explicit stack.
static void mark(struct node *root, struct node **stack)
{
    int64_t depth = 0;
    stack[depth++] = root;
    while (depth) {
        struct node *n = stack[depth - 1];
        int phase = 0;
        struct node *open = NULL;
        for (int i = 0; i < n->input_count && !open; i++) {
            struct node *in = n->in[i];
            if (in->op != GRAPH_LEAF && !in->phase) open = in;
            if (in->phase > phase) phase = in->phase;
        }
        if (open) {
            stack[depth++] = open;
        } else {
            if (n->op != GRAPH_LEAF) n->phase = phase + 1;
            depth--;
        }
    }
}

// A place for each output: the lowest that overlaps with no output alive in the same phases. Phases are closed by
// barriers, so outputs whose phases do not meet may share bytes.
static void place(struct graph *g, struct node **by_offset)
{
    int64_t placed = 0;
    for (int64_t i = 0; i < g->order_count; i++) {
        struct node *n = g->order[i];
        if (n->effect != EFFECT_NONE) continue; // lives in the cache
        size_t size = align_up(tensor_bytes(&n->out), ARENA_ALIGN), offset = 0;
        int64_t at = 0;
        for (int64_t j = 0; j < placed; j++) { // by rising offset
            const struct node *o = by_offset[j];
            size_t begin = (size_t)o->out.data, end = begin + align_up(tensor_bytes(&o->out), ARENA_ALIGN);
            if (o->last_phase >= n->phase && o->phase <= n->last_phase) {
                if (begin >= offset + size) break;
                if (end > offset) offset = end;
            }
        }
        while (at < placed && (size_t)by_offset[at]->out.data < offset) at++;
        memmove(by_offset + at + 1, by_offset + at, (size_t)(placed - at) * sizeof *by_offset);
        by_offset[at] = n;
        placed++;
        n->out.data = (void *)offset; // becomes an address in graph_bind
        if (offset + size > g->arena_bytes) g->arena_bytes = offset + size;
    }
}

enum tlm_status graph_plan(struct graph *g, struct node *const *roots, int root_count, struct tlm_error *err)
{
    struct node *nodes = (struct node *)g->nodes.base,
                **stack = malloc(2 * (size_t)g->node_count * sizeof *stack);
    g->order = malloc((size_t)g->node_count * sizeof *g->order);
    if (!stack || !g->order) {
        free(stack);
        return error_set(err, TLM_ERR_MEMORY, "graph: no memory to plan %lld nodes",
                         (long long)g->node_count);
    }
    int phases = 0;
    for (int i = 0; i < root_count; i++) {
        mark(roots[i], stack);
        if (roots[i]->phase > phases) phases = roots[i]->phase;
    }
    for (int phase = 1; phase <= phases; phase++) // few hundred phases, few thousand nodes
        for (int64_t i = 0; i < g->node_count; i++)
            if (nodes[i].phase == phase) g->order[g->order_count++] = &nodes[i];
    for (int64_t i = 0; i < g->order_count; i++) {
        struct node *n = g->order[i];
        if (n->last_phase < n->phase) n->last_phase = n->phase;
        for (int j = 0; j < n->input_count; j++)
            if (n->in[j]->last_phase < n->phase) n->in[j]->last_phase = n->phase;
        size_t scratch = g->ops[n->op].scratch ? g->ops[n->op].scratch(g, n) : 0;
        if (scratch > g->scratch_bytes) g->scratch_bytes = align_up(scratch, 4096);
    }
    for (int i = 0; i < root_count; i++) roots[i]->last_phase = phases;
    place(g, stack);
    free(stack);
    return TLM_OK;
}

void graph_bind(struct graph *g, void *memory)
{
    for (int64_t i = 0; i < g->order_count; i++) {
        struct tensor *t = &g->order[i]->out;
        if (g->order[i]->effect == EFFECT_NONE) t->data = (char *)memory + (size_t)t->data;
    }
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

static void run_thread(void *user, int thread)
{
    struct run *r = user;
    const struct graph *g = r->g;
    int threads = r->threads ? threads_count(r->threads) : 1, parity = 0;
    void *scratch = r->scratch + (size_t)thread * g->scratch_bytes;
    for (int64_t i = 0; i < g->order_count; parity ^= 1) {
        int64_t end = i;
        int phase = g->order[i]->phase;
        while (end < g->order_count && end - i < PHASE_NODES_MAX && g->order[end]->phase == phase) end++;
        if (thread == 0 && threads > 1)
            for (int64_t j = 0; j < PHASE_NODES_MAX && atomic_load(&r->counter[!parity][j].next); j++)
                atomic_store_explicit(&r->counter[!parity][j].next, 0, memory_order_relaxed);
        for (int64_t j = i; j < end; j++) {
            double begin = g->watch ? now() : 0;
            run_node(r, g->order[j], &r->counter[parity][j - i].next, threads, scratch);
            if (g->watch) g->watch->done(g->watch->user, g, g->order[j], thread, begin, now());
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
