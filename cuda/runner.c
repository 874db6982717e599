// cuda/runner.c -- one pass on the device: its memory, its step, its launches, which are recorded and sent as one from the second run on.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda/backend.h"

// More rows have work for the device while the host launches, and products that want to know how many they are.
enum { RECORDED_ROWS = CUDA_MANY_ROWS - 1 };
enum { MOST_PINNED = 64 << 20 };

// The thread works with the runner's device from here on.
static void use(const struct runner *r)
{
    cuda_use(&r->backend->device);
}

enum tlm_status runner_open(struct backend *b, struct runner **out, struct tlm_error *err)
{
    struct runner *r = *out = calloc(1, sizeof *r);
    if (!r) return error_set(err, TLM_ERR_MEMORY, "cuda: no memory for a pass");
    r->backend = (struct cuda_backend *)b;
    use(r);
    r->stream = cuda_stream_open();
    r->reached = cuda_event_open();
    bool there = r->reached;
    for (int i = 0; i < BACKEND_PASSES; i++) there &= !!(r->marks[i] = cuda_event_open());
    if (!there) return error_set(err, TLM_ERR_MEMORY, "cuda: no event for a pass");
    static const int32_t zeros[CUDA_ARRIVALS];
    void *arrived;
    enum tlm_status s = runner_alloc(r, &arrived, sizeof zeros, "counters", err);
    if (s) return s;
    cuda_copy_in(r->stream, r->arrived = arrived, zeros, sizeof zeros);
    return cuda_sync(r->stream, err);
}

void runner_close(struct runner *r)
{
    if (!r) return;
    use(r);
    for (int64_t i = 0; i < r->kept_count; i++)
        for (int j = 0; j < 4; j++) cuda_recording_free(r->kept[i].recorded[j].recording);
    cuda_recording_free(r->repeated.recording);
    for (int i = 0; i < r->pinned_count; i++) cuda_unpin(r->pinned[i]);
    for (int64_t i = 0; i < r->memory_count; i++) cuda_free(r->memory[i]);
    cuda_event_close(r->reached);
    for (int i = 0; i < BACKEND_PASSES; i++) cuda_event_close(r->marks[i]);
    cuda_stream_close(r->stream);
    arena_free(&r->steps);
    free(r->kept);
    free(r->memory);
    free(r);
}

enum tlm_status runner_alloc(struct runner *r, void **out, size_t bytes, const char *what,
                             struct tlm_error *err)
{
    void **more = realloc(r->memory, (size_t)(r->memory_count + 1) * sizeof *more);
    if (!more) return error_set(err, TLM_ERR_MEMORY, "cuda: %s: no memory", what);
    r->memory = more;
    use(r);
    if (!(*out = cuda_alloc(bytes ? bytes : 1))) return cuda_no_memory(what, bytes, err);
    r->memory[r->memory_count++] = *out;
    return TLM_OK;
}

enum tlm_status runner_set_step(struct runner *r, const struct arena *step, struct tlm_error *err)
{
    void *copy = NULL;
    enum tlm_status s = runner_alloc(r, &copy, step->used, "step data", err);
    r->step = step;
    r->device_step = copy;
    if (s ||
        (s = arena_init(&r->steps, BACKEND_PASSES * align_up(step->used, ARENA_ALIGN), "step data", err)))
        return s;
    runner_pin(r, r->steps.base, r->steps.size);
    return TLM_OK;
}

void runner_copy(struct runner *r, void *to, const void *from, size_t bytes)
{
    use(r);
    cuda_copy(r->stream, to, from, bytes);
}

// From pages that are not pinned, so that they have been read when the call returns.
void runner_bring(struct runner *r, void *to, const void *from, size_t bytes)
{
    use(r);
    cuda_copy_in(r->stream, to, from, bytes);
}

void runner_take(struct runner *r, void *to, const void *from, size_t bytes)
{
    use(r);
    cuda_copy_out(r->stream, to, from, bytes);
}

// Makes `r` wait for what `source` was given so far, without the host.
static void follow(struct runner *r, struct runner *source)
{
    use(source);
    cuda_event_record(source->reached, source->stream);
    use(r);
    cuda_event_await(source->reached, r->stream);
}

// The copy waits for the source's work, and what the source does next, perhaps in the same memory, for the copy.
void runner_hand_over(struct runner *r, void *to, struct runner *source, const void *from, size_t bytes)
{
    follow(r, source);
    cuda_copy_between(r->stream, to, &r->backend->device, from, &source->backend->device, bytes);
    follow(source, r);
}

// The system gives up pinned memory for good, and takes its time: not for the logits of whole texts.
void runner_pin(struct runner *r, void *pages, size_t bytes)
{
    if (bytes <= MOST_PINNED && r->pinned_count < PINNED && cuda_pin(pages, bytes))
        r->pinned[r->pinned_count++] = pages;
}

void runner_keep(struct runner *r, const struct graph *g, bool fixed)
{
    struct kept_graph *more = realloc(r->kept, (size_t)(r->kept_count + 1) * sizeof *more);
    if (!more) return; // it runs node by node then
    r->kept = more;
    r->kept[r->kept_count++] = (struct kept_graph){.graph = g, .fixed = fixed};
}

// ---- running ----------------------------------------------------------------------------------------------

// Where it is worth recording. Parts of a pass come one behind the other.
static struct kept_graph *find_kept(struct runner *r, const struct graph *g)
{
    for (int64_t i = 0; i < r->kept_count; i++) {
        struct kept_graph *k = &r->kept[(r->kept_next + i) % r->kept_count];
        if (k->graph != g) continue;
        r->kept_next = k - r->kept + 1;
        return k->fixed || g->counts[EXTENT_ROWS] <= RECORDED_ROWS ? k : NULL;
    }
    return NULL;
}

// The first run loads the kernels, which cannot be recorded; the second is recorded, and it and all behind it are sent as one. With `fixed`
// rows a library may have its part in it; where it does not want to be recorded, nothing is.
static void run_recorded(struct runner *r, struct recorded *k, bool fixed, void (*launch)(void *user),
                         void *user)
{
    if (!k->recording && k->ran && !k->refused) {
        r->recording = !fixed;
        if (r->backend->jit) jit_hold(r->backend->jit, true);
        cuda_record_begin(r->stream);
        launch(user);
        k->recording = cuda_record_end(r->stream);
        if (r->failure.code) cuda_recording_free(k->recording), k->recording = NULL;
        r->failure.code = TLM_OK;
        k->refused = !k->recording;
        r->recording = false;
        if (r->backend->jit) jit_hold(r->backend->jit, false);
    }
    k->ran = true;
    if (k->recording)
        cuda_recording_run(k->recording, r->stream);
    else
        launch(user);
}

void runner_repeat(struct runner *r, void (*launch)(void *user), void *user)
{
    run_recorded(r, &r->repeated, true, launch, user);
}

// A run: the graph, and the draws behind it.
struct graph_launch {
    struct runner *runner;
    const struct graph *graph;
    void *scratch;
    bool draw;
};

static void launch_graph(void *user)
{
    const struct graph_launch *l = user;
    graph_run(l->graph, NULL, l->scratch);
    if (l->draw) cuda_sample(l->runner->stream, &l->runner->draw);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Somebody wants to know what each node takes: the device's time of it, node by node.
static enum tlm_status run_watched(struct runner *r, const struct graph *g, void *scratch,
                                   struct tlm_error *err)
{
    struct cuda_event *begin = cuda_event_open(), *end = cuda_event_open();
    enum tlm_status s = TLM_OK;
    if (!begin || !end) s = error_set(err, TLM_ERR_MEMORY, "cuda: no events to measure with");
    for (int64_t i = 0; i < g->order_count && !s; i++) {
        const struct node *n = g->order[i];
        const int64_t units = g->ops[n->op].units(g, n);
        const double at = now();
        if (!units) continue;
        cuda_event_record(begin, r->stream);
        g->ops[n->op].run(g, n, 0, units, scratch);
        cuda_event_record(end, r->stream);
        s = cuda_sync(r->stream, err);
        if (!s) g->watch->done(g->watch->user, g, n, 0, at, at + cuda_event_seconds(begin, end));
    }
    cuda_event_close(begin);
    cuda_event_close(end);
    return s;
}

void runner_begin(struct runner *r)
{
    use(r);
    r->failure.code = TLM_OK;
    const size_t bytes = r->step->used;
    char *turn = r->steps.base + (size_t)(r->passes++ % BACKEND_PASSES) * align_up(bytes, ARENA_ALIGN);
    memcpy(turn, r->step->base, bytes);
    cuda_copy_in(r->stream, r->device_step, turn, bytes);
}

static enum tlm_status failure_of(const struct runner *r, struct tlm_error *err)
{
    if (r->failure.code && err) *err = r->failure;
    return r->failure.code;
}

enum tlm_status runner_launch(struct runner *r, const struct graph *g, void *scratch, bool draw,
                              struct tlm_error *err)
{
    struct kept_graph *k = find_kept(r, g);
    struct graph_launch l = {r, g, scratch, draw};
    use(r);
    if (g->watch) {
        enum tlm_status s = run_watched(r, g, scratch, err);
        if (s) return s;
        if (draw) cuda_sample(r->stream, &r->draw);
    } else if (k) {
        const bool shared = g->counts[EXTENT_PREFIX_TILES] > 0;
        run_recorded(r, &k->recorded[draw + 2 * shared], k->fixed, launch_graph, &l);
    } else {
        launch_graph(&l);
    }
    return failure_of(r, err);
}

enum tlm_status runner_wait(struct runner *r, struct tlm_error *err)
{
    use(r);
    const enum tlm_status s = cuda_sync(r->stream, err);
    return s ? s : failure_of(r, err);
}

void runner_mark(struct runner *r, int i)
{
    use(r);
    cuda_event_record(r->marks[i], r->stream);
}

enum tlm_status runner_reach(struct runner *r, int i, struct tlm_error *err)
{
    use(r);
    cuda_event_wait(r->marks[i]);
    return cuda_failure(err);
}

// ---- draws ------------------------------------------------------------------------------------------------

enum tlm_status runner_draw_open(struct runner *r, int64_t rows, int64_t vocab, size_t bytes,
                                 struct tlm_error *err)
{
    struct cuda_sample *d = &r->draw;
    void *data = NULL, *drawn = NULL;
    enum tlm_status s;
    if ((s = runner_alloc(r, &data, bytes, "draws", err)) ||
        (s = runner_alloc(r, &drawn, (size_t)rows * sizeof *d->drawn, "draws", err)) ||
        (s = runner_alloc(r, &d->scratch, cuda_sample_scratch(rows, vocab), "draws", err)))
        return s;
    d->data = data, d->drawn = drawn;
    d->most = rows, d->vocab = vocab;
    return TLM_OK;
}

void runner_bring_draws(struct runner *r, void *from, const struct draw_run *d)
{
    use(r);
    r->draw.x = from;
    cuda_copy_in(r->stream, (void *)r->draw.data, d->data, d->bytes);
}

void runner_take_draws(struct runner *r, const struct draw_run *d)
{
    use(r);
    cuda_copy_out(r->stream, d->drawn, r->draw.drawn, (size_t)d->data->count * sizeof *d->drawn);
}

void runner_follow(struct runner *r, const int32_t *tokens, int64_t rows)
{
    use(r);
    cuda_follow(r->stream, (int32_t *)(r->device_step + ((const char *)tokens - r->step->base)), rows,
                &r->draw);
}
