#include "ops/parts.h"

#include <stdlib.h>

// ---- planning -----------------------------------------------------------------------------------------

static enum tlm_status no_memory(const struct parts *p, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "graph: no memory to plan %lld nodes",
                     (long long)p->whole.node_count);
}

// What is read in other places, sums with others, and the root of all.
static int roots_of(const struct parts *p, int place, struct node **roots)
{
    int count = 0;
    for (int64_t i = 0; i < p->move_count; i++)
        if (p->moves[i].source == place) roots[count++] = p->moves[i].from;
    for (int64_t i = 0; i < p->sum_count; i++)
        if (p->sums[i].to[place]) roots[count++] = p->sums[i].to[place];
    if (place == p->root_place) roots[count++] = p->root;
    return count;
}

static enum tlm_status plan_place(struct parts *p, int place, struct tlm_error *err)
{
    struct graph *g = &p->graph[place];
    const struct parts_site *site = &p->sites[place];
    struct node **roots = malloc((size_t)(p->move_count + p->sum_count + 1) * sizeof(struct node *));
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

static int sum_by_level(const void *a, const void *b)
{
    return ((const struct parts_sum *)a)->level - ((const struct parts_sum *)b)->level;
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
    if (p->sum_count) qsort(p->sums, (size_t)p->sum_count, sizeof *p->sums, sum_by_level);
    for (int64_t i = 0; i < p->move_count; i++) TLM_ASSERT(p->moves[i].from->level < p->moves[i].level);
    for (int64_t i = 0; i < p->sum_count; i++)
        for (int j = 0; j < p->place_count; j++)
            TLM_ASSERT(!p->sums[i].from[j] || p->sums[i].from[j]->level < p->sums[i].level);
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
    free(p->sums);
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

// In the rows that the step has.
static enum tlm_status add_up(const struct parts *p, const struct parts_sum *sum, struct tlm_error *err)
{
    const float *from[PLACES];
    float *to[PLACES];
    const struct backend_class *class = NULL;
    int64_t count = 0;
    for (int i = 1, n = 0; i < p->place_count; i++) {
        if (!sum->from[i]) continue;
        class = p->sites[i].on;
        count = graph_rows(&p->whole, sum->from[i]) * sum->from[i]->out.ne[0];
        from[n] = sum->from[i]->out.data, to[n++] = sum->to[i]->out.data;
    }
    return count ? class->add_up(p->adder, to, from, count, err) : TLM_OK;
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
    for (int64_t i = 0, move = 0, sum = 0, end; i < p->segment_count && !s; i = end) {
        const int level = p->segments[i].level;
        const int64_t first = move;
        for (end = i; end < p->segment_count && p->segments[end].level == level;) end++;
        for (; move < p->move_count && p->moves[move].level <= level; move++) move_rows(p, &p->moves[move]);
        s = wait_for_sources(p, p->moves + first, move - first, err);
        for (; sum < p->sum_count && p->sums[sum].level <= level && !s; sum++)
            s = add_up(p, &p->sums[sum], err);
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
