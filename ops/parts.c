#include "ops/parts.h"

#include <limits.h>
#include <stdlib.h>

// ---- where a node runs --------------------------------------------------------------------------------

struct share {
    struct parts *p;
    const int32_t *layers;
    int64_t count;       // nodes of the whole graph
    char *used;          // [count] somebody needs it
    int32_t *place;      // [count]
    struct node **known; // (place_count, count) the node as a place sees it
    bool failed;         // for want of memory
};

// Computed in each place that reads it. Of experts' rows only what the router says goes to another place, not the rows by twos and fours.
static bool runs_anywhere(const struct node *n)
{
    return n->op == OP_rope_table || n->op == OP_sort_experts || n->op == OP_gather_experts;
}

static int place_of(const struct share *s, const struct node *n)
{
    switch (n->op) {
    case OP_embed: return n->in[0]->out.place;
    case OP_matmul:
    case OP_matmul_heads:
    case OP_matmul_experts: return n->in[1]->out.place;
    case OP_kv_write:
    case OP_attention:
    case OP_attention_prefix: return s->layers[n->layer];
    case OP_add: // the sums of the layers, and what begins a part of a layer: so little goes from one to the next
    case OP_rmsnorm:
    case OP_layernorm:
        if (n->layer >= 0) return s->layers[n->layer];
        break;
    default: break;
    }
    return s->place[n->in[0]->index];
}

// ---- sharing out --------------------------------------------------------------------------------------

static struct node *nodes_of(const struct graph *g)
{
    return (struct node *)g->nodes.base;
}

enum {
    LEVEL_OPEN = INT_MAX
}; // that of the first reader: of what reads nothing but leaves, and runs anywhere

static struct node *seen(struct share *s, int place, const struct node *x);

// What is read in place `place` of a node elsewhere.
static struct node *moved(struct share *s, int place, const struct node *x)
{
    struct parts *p = s->p;
    const int source = s->place[x->index];
    struct node *from = s->known[source * s->count + x->index];
    if (p->move_count == p->move_room) {
        int64_t room = p->move_room ? 2 * p->move_room : 64;
        struct parts_move *more = realloc(p->moves, (size_t)room * sizeof *more);
        if (!more) {
            s->failed = true;
            return g_move(&p->graph[place], from, 0);
        }
        p->moves = more, p->move_room = room;
    }
    const int level = from->level + 1;
    struct node *to = g_move(&p->graph[place], from, level);
    p->moves[p->move_count++] = (struct parts_move){from, to, source, place, level};
    return to;
}

static struct node *added(struct share *s, int place, const struct node *x)
{
    struct graph *g = &s->p->graph[place];
    struct node *in[GRAPH_MAX_INPUTS];
    int level = 0, computed = 0; // inputs that are no leaves
    for (int i = 0; i < x->input_count; i++) {
        in[i] = seen(s, place, x->in[i]);
        computed += in[i]->op != GRAPH_LEAF;
        if (in[i]->level != LEVEL_OPEN && in[i]->level > level) level = in[i]->level;
    }
    for (int i = 0; i < x->input_count; i++)
        if (in[i]->level > level) in[i]->level = level;
    if (runs_anywhere(x) && !computed) level = LEVEL_OPEN;
    g->layer = x->layer;
    struct node *n = graph_node(g, x->op, x->out, x->extent, NULL, 0, in, x->input_count);
    n->params = x->params;
    n->effect = x->effect;
    n->level = level;
    return n;
}

static struct node *seen(struct share *s, int place, const struct node *x)
{
    struct node **known = &s->known[place * s->count + x->index];
    if (!*known) {
        if (x->op == GRAPH_LEAF || runs_anywhere(x) || s->place[x->index] == place)
            *known = added(s, place, x);
        else
            *known = moved(s, place, x);
    }
    return *known;
}

// Nodes stand behind their inputs.
static void share_nodes(struct share *s, const struct node *root)
{
    const struct node *nodes = nodes_of(&s->p->whole);
    s->used[root->index] = 1;
    for (int64_t i = s->count - 1; i >= 0; i--)
        for (int j = 0; s->used[i] && j < nodes[i].input_count; j++) s->used[nodes[i].in[j]->index] = 1;
    for (int64_t i = 0; i < s->count; i++) {
        const struct node *n = &nodes[i];
        if (!s->used[i] || n->op == GRAPH_LEAF || runs_anywhere(n)) continue;
        s->place[i] = place_of(s, n);
        TLM_ASSERT(s->place[i] < s->p->place_count);
        seen(s, s->place[i], n);
    }
}

static enum tlm_status no_memory(const struct parts *p, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "graph: no memory to share out %lld nodes",
                     (long long)p->whole.node_count);
}

enum tlm_status parts_share(struct parts *p, struct node *root, const struct parts_site *sites,
                            int place_count, const int32_t *layers, struct tlm_error *err)
{
    const size_t count = (size_t)p->whole.node_count;
    struct share s = {.p = p, .layers = layers, .count = p->whole.node_count};
    enum tlm_status status = TLM_OK;
    p->place_count = place_count;
    for (int i = 0; i < place_count && !status; i++) {
        p->sites[i] = sites[i];
        status = graph_init(&p->graph[i], sites[i].ops, sites[i].data, p->whole.real, p->whole.counts, err);
    }
    if (status) return status;
    s.used = calloc(count, sizeof *s.used);
    s.place = calloc(count, sizeof *s.place);
    s.known = calloc((size_t)place_count * count, sizeof(struct node *));
    s.failed = !s.used || !s.place || !s.known;
    if (!s.failed) {
        share_nodes(&s, root);
        p->root_place = s.place[root->index];
        p->root = s.known[p->root_place * s.count + root->index];
    }
    free(s.used);
    free(s.place);
    free(s.known);
    if (s.failed) return no_memory(p, err);
    for (int i = 0; i < place_count; i++) pass_convert(&p->graph[i], sites[i].kernels);
    return TLM_OK;
}

// ---- planning -----------------------------------------------------------------------------------------

// What is read in other places, and the root of all.
static int roots_of(const struct parts *p, int place, struct node **roots)
{
    int count = 0;
    for (int64_t i = 0; i < p->move_count; i++)
        if (p->moves[i].source == place) roots[count++] = p->moves[i].from;
    if (place == p->root_place) roots[count++] = p->root;
    return count;
}

static enum tlm_status plan_place(struct parts *p, int place, struct tlm_error *err)
{
    struct graph *g = &p->graph[place];
    const struct parts_site *site = &p->sites[place];
    struct node **roots = malloc((size_t)(p->move_count + 1) * sizeof(struct node *));
    if (!roots) return no_memory(p, err);
    const int count = roots_of(p, place, roots);
    enum tlm_status s = TLM_OK;
    if (count && site->on && !(s = site->on->place(site->runner, g, err)))
        s = site->on->fuse(g, roots, count, err);
    if (count && !s) s = graph_plan(g, roots, count, err);
    free(roots);
    if (g->level_count > p->level_count) p->level_count = g->level_count;
    return s;
}

static int by_level(const void *a, const void *b)
{
    const struct parts_move *x = a, *y = b;
    return x->level != y->level ? x->level - y->level : x->to->index - y->to->index;
}

static bool works(const struct graph *g)
{
    for (int64_t i = 0; i < g->order_count; i++)
        if (g->order[i]->op != OP_move) return true;
    return false;
}

enum tlm_status parts_plan(struct parts *p, int threads, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    p->graph[0].threads = threads;
    for (int i = 0; i < p->place_count && !s; i++) s = plan_place(p, i, err);
    if (s) return s;
    p->segments = calloc((size_t)(p->level_count * p->place_count), sizeof *p->segments);
    if (!p->segments) return no_memory(p, err);
    if (p->move_count) qsort(p->moves, (size_t)p->move_count, sizeof *p->moves, by_level);
    for (int64_t i = 0; i < p->move_count; i++) TLM_ASSERT(p->moves[i].from->level < p->moves[i].level);
    for (int level = 0; level < p->level_count; level++)
        for (int i = 0; i < p->place_count; i++) {
            struct parts_segment *segment = &p->segments[p->segment_count];
            *segment = (struct parts_segment){graph_level(&p->graph[i], level), i, level, false};
            segment->works = works(&segment->graph);
            p->segment_count += segment->graph.order_count > 0;
        }
    return TLM_OK;
}

void parts_bind(struct parts *p, void *const memory[PLACES], void *local)
{
    for (int i = 0; i < p->place_count; i++) graph_bind(&p->graph[i], memory[i], i ? NULL : local);
    for (int64_t i = 0; i < p->segment_count; i++) {
        const struct parts_site *site = &p->sites[p->segments[i].place];
        if (site->on) site->on->keep(site->runner, &p->segments[i].graph, false);
    }
}

void parts_watch(struct parts *p, const struct graph_watch *watch)
{
    for (int64_t i = 0; i < p->segment_count; i++) p->segments[i].graph.watch = watch;
}

void parts_free(struct parts *p)
{
    graph_free(&p->whole);
    for (int i = 0; i < PLACES; i++) graph_free(&p->graph[i]);
    free(p->moves);
    free(p->segments);
    *p = (struct parts){0};
}

// ---- running ------------------------------------------------------------------------------------------

// The rows that the step has. From the processor, and between devices, in order with what runs there; what comes to the processor
// is there when it has waited for the source.
static void move_rows(const struct parts *p, const struct parts_move *m)
{
    const struct parts_site *source = &p->sites[m->source], *target = &p->sites[m->target];
    const size_t bytes = m->from->extent == EXTENT_FIXED
                             ? tensor_bytes(&m->from->out)
                             : (size_t)graph_rows(&p->whole, m->from) * m->from->out.nb[1];
    if (!bytes) return;
    if (!source->on)
        target->on->bring(target->runner, m->to->out.data, m->from->out.data, bytes);
    else if (!target->on)
        source->on->take(source->runner, m->to->out.data, m->from->out.data, bytes);
    else
        target->on->hand_over(target->runner, m->to->out.data, source->runner, m->from->out.data, bytes);
}

// Moves m[0 .. n): waits for the devices that the processor gets something from.
static enum tlm_status wait_for_sources(const struct parts *p, const struct parts_move *m, int64_t n,
                                        struct tlm_error *err)
{
    bool wanted[PLACES] = {false};
    enum tlm_status s = TLM_OK;
    for (int64_t i = 0; i < n; i++) wanted[m[i].source] |= m[i].target == 0;
    for (int i = 1; i < p->place_count && !s; i++)
        if (wanted[i]) s = p->sites[i].on->wait(p->sites[i].runner, err);
    return s;
}

void parts_begin(const struct parts *p)
{
    for (int i = 1; i < p->place_count; i++)
        if (p->graph[i].order_count) p->sites[i].on->begin(p->sites[i].runner);
}

enum tlm_status parts_run(const struct parts *p, struct threads *threads, void *const scratch[PLACES],
                          bool draw, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (int64_t i = 0, move = 0, end; i < p->segment_count && !s; i = end) {
        const int level = p->segments[i].level;
        const int64_t first = move;
        for (end = i; end < p->segment_count && p->segments[end].level == level;) end++;
        for (; move < p->move_count && p->moves[move].level <= level; move++) move_rows(p, &p->moves[move]);
        s = wait_for_sources(p, p->moves + first, move - first, err);
        for (int64_t j = i; j < end && !s; j++) { // devices first: they work while the processor does
            const struct parts_segment *segment = &p->segments[end - 1 - (j - i)];
            const struct parts_site *site = &p->sites[segment->place];
            if (!segment->works) continue;
            const bool last = segment->place == p->root_place && level == p->root->level;
            if (site->on)
                s = site->on->launch(site->runner, &segment->graph, scratch[segment->place], draw && last,
                                     err);
            else
                graph_run(&segment->graph, threads, scratch[0]);
        }
    }
    return s;
}
