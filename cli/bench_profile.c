// cli/bench_profile.c -- sums up what a graph's watcher sees.
//
// A thread notes its own: per node (of all graphs of the pass, one behind the other) the seconds that it spent, and the first EVENTS stretches for the trace. What is left of the
// threads' time they waited for each other, or for work.
#include "cli/bench_profile.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"

enum { EVENTS = 1 << 16 };

struct event {
    int32_t node;
    double begin, end;
};

struct watcher {                   // a thread's own
    _Alignas(128) double *seconds; // [nodes]
    struct event *events;          // [EVENTS]
    size_t event_count;
};

struct bench_profile {
    struct forward *forward;
    struct graph_watch watch;
    int threads;
    int64_t nodes;
    struct watcher *watchers; // [threads]
    int64_t *runs;            // [nodes] counted by thread 0
    int64_t *rows;            // [nodes] likewise: rows of all runs
};

// The graph and the number in it of the node that stands at i.
static const struct graph *graph_at(const struct bench_profile *p, int64_t *i)
{
    const struct graph *g;
    for (int at = 0; (g = forward_graph(p->forward, at)) && *i >= g->node_count; at++) *i -= g->node_count;
    return g;
}

// What runs may be a part of the graph, or a thread's replica.
static int64_t place_of(const struct bench_profile *p, const struct graph *g, const struct node *n)
{
    int64_t before = 0;
    const struct graph *other;
    for (int at = 0; (other = forward_graph(p->forward, at)) && other->nodes.base != g->nodes.base; at++)
        before += other->node_count;
    return before + n->index;
}

static void done(void *user, const struct graph *g, const struct node *n, int thread, double begin,
                 double end)
{
    struct bench_profile *p = user;
    struct watcher *w = &p->watchers[thread];
    int64_t index = place_of(p, g, n);
    w->seconds[index] += end - begin;
    if (w->event_count < EVENTS) w->events[w->event_count++] = (struct event){(int32_t)index, begin, end};
    if (thread) return;
    p->runs[index]++;
    p->rows[index] += graph_rows(g, n);
}

enum tlm_status bench_profile_open(struct bench_profile **out, struct forward *f, struct tlm_error *err)
{
    struct bench_profile *p = calloc(1, sizeof *p);
    *out = p;
    if (!p) return error_set(err, TLM_ERR_MEMORY, "profile: no memory");
    p->forward = f;
    p->threads = f->config.threads;
    const struct graph *g;
    for (int i = 0; (g = forward_graph(f, i)); i++) p->nodes += g->node_count;
    p->watch = (struct graph_watch){done, p};
    p->watchers = aligned_alloc(_Alignof(struct watcher), (size_t)p->threads * sizeof *p->watchers);
    p->runs = calloc((size_t)p->nodes, sizeof *p->runs);
    p->rows = calloc((size_t)p->nodes, sizeof *p->rows);
    bool whole = p->watchers && p->runs && p->rows;
    if (p->watchers) memset(p->watchers, 0, (size_t)p->threads * sizeof *p->watchers);
    for (int i = 0; i < p->threads && p->watchers; i++) {
        p->watchers[i].seconds = calloc((size_t)p->nodes, sizeof(double));
        p->watchers[i].events = malloc(EVENTS * sizeof(struct event));
        whole = whole && p->watchers[i].seconds && p->watchers[i].events;
    }
    if (whole) {
        forward_watch(f, &p->watch);
        return TLM_OK;
    }
    int64_t nodes = p->nodes;
    bench_profile_close(p);
    *out = NULL;
    return error_set(err, TLM_ERR_MEMORY, "profile: no memory for %lld nodes", (long long)nodes);
}

void bench_profile_close(struct bench_profile *p)
{
    if (!p) return;
    forward_watch(p->forward, NULL);
    for (int i = 0; i < p->threads && p->watchers; i++)
        free(p->watchers[i].seconds), free(p->watchers[i].events);
    free(p->watchers);
    free(p->runs);
    free(p->rows);
    free(p);
}

// ---- the table ----------------------------------------------------------------------------------------

struct line {
    const struct op *op; // of one backend
    int type;            // of the weights; -1: none
    double runs, seconds, bytes, operations;
};

static const struct node *node_at(const struct bench_profile *p, int64_t i)
{
    const struct graph *g = graph_at(p, &i);
    return (const struct node *)g->nodes.base + i;
}

static const struct op *op_at(const struct bench_profile *p, int64_t i)
{
    const struct graph *g = graph_at(p, &i);
    return &g->ops[((const struct node *)g->nodes.base)[i].op];
}

// Type of the weights that a node multiplies with; -1 where it has none.
static int weight_type(const struct node *n)
{
    bool product = n->op == OP_matmul || n->op == OP_matmul_experts || n->op == OP_matmul_heads;
    return product ? (int)n->in[1]->out.type : -1;
}

// Bytes that the node moved in all runs: its weights once a run; else its rows, in and out. Attention's keys depend on lengths that
// the node does not know: 0.
static double bytes_of(const struct bench_profile *p, int64_t i)
{
    const struct node *n = node_at(p, i);
    if (n->op == OP_attention || n->op == OP_attention_prefix) return 0;
    if (weight_type(n) >= 0) return (double)p->runs[i] * (double)tensor_bytes(&n->in[1]->out);
    double row = (double)n->out.nb[1], weights = 0;
    for (int j = 0; j < n->input_count; j++)
        if (n->op >= OP_COUNT &&
            n->in[j]->op == GRAPH_LEAF) // a device's own op: matrices stand among its inputs
            weights += (double)tensor_bytes(&n->in[j]->out);
        else
            row += (double)n->in[j]->out.nb[1];
    return row * (double)p->rows[i] + weights * (double)p->runs[i];
}

static double operations_of(const struct bench_profile *p, int64_t i)
{
    const struct node *n = node_at(p, i);
    if (weight_type(n) < 0) return 0;
    const struct tensor *w = &n->in[1]->out;
    double heads = n->op == OP_matmul_heads ? (double)w->ne[2] : 1;
    return 2 * (double)p->rows[i] * (double)w->ne[0] * (double)w->ne[1] * heads;
}

static int slower(const void *a, const void *b)
{
    double x = ((const struct line *)a)->seconds, y = ((const struct line *)b)->seconds;
    return (x < y) - (x > y);
}

void bench_profile_report(const struct bench_profile *p, const char *test, double seconds)
{
    struct line lines[OP_COUNT * 4] = {0};
    size_t count = 0;
    double busy = 0;
    for (int64_t i = 0; i < p->nodes; i++) {
        const struct node *n = node_at(p, i);
        if (!p->runs[i]) continue;
        size_t at = 0;
        const struct op *op = op_at(p, i);
        while (at < count && (lines[at].op != op || lines[at].type != weight_type(n))) at++;
        if (at == count) {
            if (count == sizeof lines / sizeof *lines) break; // more types in a model than have a line
            lines[count++] = (struct line){.op = op, .type = weight_type(n)};
        }
        lines[at].runs += (double)p->runs[i];
        for (int t = 0; t < p->threads; t++) lines[at].seconds += p->watchers[t].seconds[i] / p->threads;
        lines[at].bytes += bytes_of(p, i);
        lines[at].operations += operations_of(p, i);
    }
    qsort(lines, count, sizeof *lines, slower);
    fprintf(stderr,
            "%s, profile of %.2f s:\n| %-16s | %-8s | %9s | %9s | %7s | %7s | %7s |\n"
            "| %.16s | %.8s | %.8s: | %.8s: | %.6s: | %.6s: | %.6s: |\n",
            test, seconds, "op", "weights", "runs", "ms", "share", "GB/s", "GOP/s", "--------------------",
            "--------------------", "--------------------", "--------------------", "--------------------",
            "--------------------", "--------------------");
    for (size_t i = 0; i < count; i++) {
        const struct line *l = &lines[i];
        char gops[16] = "", gbs[16] = "";
        if (l->operations > 0) snprintf(gops, sizeof gops, "%.1f", l->operations / l->seconds / 1e9);
        if (l->bytes > 0) snprintf(gbs, sizeof gbs, "%.1f", l->bytes / l->seconds / 1e9);
        fprintf(stderr, "| %-16s | %-8s | %9.0f | %9.2f | %6.1f%% | %7s | %7s |\n", l->op->name,
                l->type < 0 ? "" : dtype_traits[l->type].name, l->runs, 1e3 * l->seconds,
                100 * l->seconds / seconds, gbs, gops);
        busy += l->seconds;
    }
    fprintf(stderr, "| %-16s | %-8s | %9s | %9.2f | %6.1f%% | %7s | %7s |\n", "waiting", "", "",
            1e3 * (seconds - busy), 100 * (1 - busy / seconds), "", "");
}

// ---- the trace ----------------------------------------------------------------------------------------

enum tlm_status bench_profile_trace(const struct bench_profile *p, const char *path, struct tlm_error *err)
{
    struct file_writer *w;
    enum tlm_status status = file_writer_open(&w, path, err);
    if (status) return status;
    const struct event *first = p->watchers[0].events;
    double start = p->watchers[0].event_count ? first->begin : 0;
    char text[256];
    const char *separator = "{\"traceEvents\": [\n";
    for (int t = 0; t < p->threads; t++) {
        for (size_t i = 0; i < p->watchers[t].event_count; i++) {
            const struct event *e = &p->watchers[t].events[i];
            const struct node *n = node_at(p, e->node);
            int type = weight_type(n);
            int length = snprintf(
                text, sizeof text,
                "%s{\"name\": \"%s%s%s\", \"ph\": \"X\", \"pid\": 1, \"tid\": %d, \"ts\": %.3f, \"dur\": "
                "%.3f, \"args\": {\"layer\": %d, \"phase\": %d}}",
                separator, op_at(p, e->node)->name, type < 0 ? "" : " ",
                type < 0 ? "" : dtype_traits[type].name, t, 1e6 * (e->begin - start),
                1e6 * (e->end - e->begin), n->layer, n->phase);
            file_writer_write(w, text, (size_t)length);
            separator = ",\n";
        }
    }
    const char *end = p->watchers[0].event_count ? "\n]}\n" : "{\"traceEvents\": []}\n";
    file_writer_write(w, end, strlen(end));
    return file_writer_finish(w, err);
}
