// generate/batch.c -- tlm_batch: continuous batching (Yu et al., "Orca", OSDI 2022) with chunked prompts (Agrawal et al., "Sarathi-Serve",
// OSDI 2024) over one paged cache.
//
// A pass holds, in the order of importance, the next row or two of every running request that has read its prompt, and then chunks of
// the prompts of the others, for as long as there are rows. A request that finds no block for its rows takes those of the least
// important one, which waits and begins anew later: with what the index still has of its tokens, so mostly with little to compute.
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "generate/clock.h"
#include "generate/request.h"
#include "generate/session.h"

struct job {
    struct request r;
    int64_t id;
    int32_t priority;
    tlm_done_fn *done;
    double begin, first_token; // seconds: added; prompt read
    bool running;              // has a sequence
    int32_t first_output;      // in the pass
    int32_t next_output;       // in the one behind it, if r.ahead
    bool in_pass;
};

struct tlm_batch {
    struct forward forward;
    struct forward_row *rows;
    struct job **jobs; // [count] the most important first; those that are done leave
    int64_t count, capacity, ids;
    int32_t parallel, running;
    int32_t rows_ahead; // of the pass that runs already; 0: there is none
    uint64_t passes, computed, preempted;
};

enum { DEFAULT_PARALLEL = 8, MOST_PARALLEL = 4096 };

// ---- opening ------------------------------------------------------------------------------------------

// Blocks of the cache: what was asked for, or room for all requests, but no more than half of the memory that is free.
static int32_t cache_blocks(const struct tlm_model *m, const struct forward_config *c, int32_t parallel,
                            int32_t asked)
{
    if (asked) return kv_blocks(asked);
    int64_t all = (int64_t)parallel * kv_blocks(c->context);
    struct forward_config one = *c;
    one.blocks = 1, one.sequences = 1, one.context = KV_BLOCK;
    int64_t bytes = (int64_t)forward_cache_bytes(m, &one), memory = (int64_t)memory_available() / 2;
    int64_t fit = memory / bytes, least = kv_blocks(c->context);
    return (int32_t)(all < fit ? all : fit > least ? fit : least);
}

enum tlm_status tlm_batch_open(struct tlm_batch **out, const struct tlm_model *m,
                               const struct tlm_batch_options *options, struct tlm_error *err)
{
    static const struct tlm_batch_options defaults;
    const struct tlm_batch_options *o = options ? options : &defaults;
    struct forward_config c = {.context = o->context, .max_rows = o->batch, .threads = o->threads};
    *out = NULL;
    int32_t parallel = o->parallel ? o->parallel : DEFAULT_PARALLEL;
    if (parallel < 1 || parallel > MOST_PARALLEL)
        return error_set(err, TLM_ERR_ARGUMENT, "parallel: expected 1 to %d, found %d", MOST_PARALLEL,
                         parallel);
    if (o->cache < 0)
        return error_set(err, TLM_ERR_ARGUMENT, "cache: expected 0 or more, found %d", o->cache);
    enum tlm_status status = session_resolve(m, &c, o->kv_type_k, o->kv_type_v, err);
    if (status) return status;
    if (c.max_rows < parallel) c.max_rows = parallel;
    c.max_outputs = parallel * (DRAFT_MOST + 1) < c.max_rows ? parallel * (DRAFT_MOST + 1) : c.max_rows;
    c.blocks = cache_blocks(m, &c, parallel, o->cache);
    c.sequences = parallel;
    if (c.blocks < kv_blocks(c.context)) c.context = c.blocks * KV_BLOCK;
    struct tlm_batch *b = calloc(1, sizeof *b);
    if (b) b->rows = calloc((size_t)c.max_rows, sizeof *b->rows);
    if (!b || !b->rows) {
        tlm_batch_close(b);
        return error_set(err, TLM_ERR_MEMORY, "batch: no memory for %d rows", c.max_rows);
    }
    b->parallel = parallel;
    if ((status = forward_open(&b->forward, m, &c, err))) {
        tlm_batch_close(b);
        return status;
    }
    *out = b;
    return TLM_OK;
}

static void free_job(struct job *j)
{
    request_close(&j->r);
    free(j);
}

void tlm_batch_close(struct tlm_batch *b)
{
    if (!b) return;
    for (int64_t i = 0; i < b->count; i++) {
        free(b->jobs[i]->r.result.tokens);
        free_job(b->jobs[i]);
    }
    if (b->forward.model) forward_close(&b->forward);
    free(b->jobs);
    free(b->rows);
    free(b);
}

// ---- requests -----------------------------------------------------------------------------------------

static bool before(const struct job *a, const struct job *b)
{
    return a->priority > b->priority || (a->priority == b->priority && a->id < b->id);
}

enum tlm_status tlm_batch_add(struct tlm_batch *b, struct tlm_sampler *sampler, const int32_t *prompt,
                              size_t count, const struct tlm_generate_options *options, int32_t priority,
                              tlm_done_fn *done, int64_t *id, struct tlm_error *err)
{
    const struct forward_config *c = &b->forward.config;
    if (!count) return error_set(err, TLM_ERR_ARGUMENT, "tokens: expected at least one, found none");
    if (count > (size_t)c->context)
        return error_set(err, TLM_ERR_CONTEXT, "context: %zu tokens do not fit into a context of %d", count,
                         c->context);
    enum tlm_status status = session_check_ids(b->forward.model, prompt, 0, count, err);
    if (status) return status;
    if (b->count == b->capacity) {
        int64_t capacity = 2 * b->capacity + 16;
        struct job **jobs = realloc(b->jobs, (size_t)capacity * sizeof *jobs);
        if (!jobs)
            return error_set(err, TLM_ERR_MEMORY, "batch: no memory for %lld requests", (long long)capacity);
        b->jobs = jobs;
        b->capacity = capacity;
    }
    struct job *j = calloc(1, sizeof *j);
    if (!j) return error_set(err, TLM_ERR_MEMORY, "batch: no memory for a request");
    // The last drawn token needs no place in the cache.
    status = request_open(&j->r, &b->forward, sampler, prompt, (int32_t)count, c->context + 1, KV_NONE, 0,
                          options, err);
    if (status) {
        free(j);
        return status;
    }
    j->id = ++b->ids;
    j->priority = priority;
    j->done = done;
    j->begin = clock_seconds();
    int64_t at = b->count++;
    for (; at > 0 && before(j, b->jobs[at - 1]); at--) b->jobs[at] = b->jobs[at - 1];
    b->jobs[at] = j;
    if (id) *id = j->id;
    return TLM_OK;
}

// Takes the sequence from a running request. Its tokens stay, and so does what the index has of them.
static void stop_running(struct tlm_batch *b, struct job *j)
{
    kv_release(&b->forward.cache, j->r.sequence);
    j->r.sequence = KV_NONE;
    j->r.computed = 0;
    j->running = false;
    b->running--;
}

static void leave(struct tlm_batch *b, int64_t at)
{
    struct job *j = b->jobs[at];
    struct tlm_generate_result *r = &j->r.result;
    if (j->running) stop_running(b, j);
    memmove(b->jobs + at, b->jobs + at + 1, (size_t)(b->count - at - 1) * sizeof *b->jobs);
    b->count--;
    double now = clock_seconds(), first = j->first_token ? j->first_token : now;
    r->prompt_seconds = first - j->begin;
    r->new_seconds = now - first;
    if (j->done)
        j->done(j->r.options.user, r);
    else
        free(r->tokens);
    free_job(j);
}

bool tlm_batch_cancel(struct tlm_batch *b, int64_t id)
{
    for (int64_t i = 0; i < b->count; i++) {
        if (b->jobs[i]->id != id) continue;
        request_finish(&b->jobs[i]->r, TLM_FINISH_CANCELLED);
        leave(b, i);
        return true;
    }
    return false;
}

// ---- a pass -------------------------------------------------------------------------------------------

// The least important running request behind jobs[at] that is not in the pass yet; `at` itself where there is none.
static int64_t find_victim(const struct tlm_batch *b, int64_t at)
{
    int64_t victim = b->count - 1;
    while (victim > at && (!b->jobs[victim]->running || b->jobs[victim]->in_pass)) victim--;
    return victim;
}

static void preempt(struct tlm_batch *b, int64_t at)
{
    stop_running(b, b->jobs[at]);
    b->preempted++;
}

// Gives the waiting jobs[at] a sequence with what the index has of its tokens. It must find blocks to read the rest and to go on for a
// while beside the others, but for the first one; requests of lower priority make way.
static bool start_running(struct tlm_batch *b, int64_t at)
{
    struct kv_cache *c = &b->forward.cache;
    struct job *j = b->jobs[at];
    struct request *r = &j->r;
    for (;;) {
        int32_t s = b->running < b->parallel ? kv_acquire(c) : KV_NONE;
        int32_t found = s == KV_NONE ? 0 : kv_match(c, s, r->result.tokens, r->count - 1);
        int32_t need = kv_blocks(r->count) - kv_blocks(found) + 1 + b->running;
        if (s != KV_NONE && (!b->running || need <= c->groups[0].pool.free_count)) {
            r->sequence = s;
            r->computed = found;
            if (!r->result.new_tokens) r->result.reused_tokens = found;
            j->running = true;
            b->running++;
            return true;
        }
        if (s != KV_NONE) kv_release(c, s);
        int64_t victim = find_victim(b, at);
        if (victim == at || b->jobs[victim]->priority == j->priority) return false;
        preempt(b, victim);
    }
}

// Whether a request in front of jobs[at] is just reading whole blocks of the beginning that both have. They are worth waiting for: then
// the index has them.
static bool is_being_read(const struct tlm_batch *b, int64_t at)
{
    const struct request *r = &b->jobs[at]->r;
    for (int64_t i = 0; i < at; i++) {
        const struct request *other = &b->jobs[i]->r;
        if (!b->jobs[i]->running || other->count - other->computed == 1) continue;
        int32_t most = r->count - 1 < other->count ? r->count - 1 : other->count, same = 0;
        while (same < most && r->result.tokens[same] == other->result.tokens[same]) same++;
        if (same - same % KV_BLOCK > other->computed) return true;
    }
    return false;
}

// Makes room for `rows` more positions of jobs[at], at the cost of less important ones. False where there is none.
static bool make_room(struct tlm_batch *b, int64_t at, int32_t rows)
{
    const struct request *r = &b->jobs[at]->r;
    while (kv_reserve(&b->forward.cache, r->sequence, r->computed + rows, NULL)) {
        int64_t victim = find_victim(b, at);
        if (victim == at) return false;
        preempt(b, victim);
    }
    return true;
}

struct pass {
    int32_t rows, outputs;
    int32_t steps; // requests still to come that have read their prompt: a row of the pass is kept for each
};

// Adds the next rows of jobs[at].
static enum tlm_status add_rows(struct tlm_batch *b, int64_t at, struct pass *p, struct tlm_error *err)
{
    struct job *j = b->jobs[at];
    struct request *r = &j->r;
    const struct forward_config *c = &b->forward.config;
    int32_t pending = r->count - r->computed, room = c->max_rows - p->rows - p->steps;
    int32_t outputs = c->max_outputs - p->outputs - p->steps;
    if (pending == 1) {
        // Guesses only where they have room without asking others to leave.
        bool ease = b->forward.cache.groups[0].pool.free_count > b->running + kv_blocks(DRAFT_MOST) + 1;
        int32_t most = !r->options.drafter || !ease ? 1 : DRAFT_MOST + 1;
        if (room > outputs) room = outputs;
        if (room > most) room = most;
    } else if (room > pending) {
        room = pending;
    }
    if (room < 1 || outputs < 1 || !make_room(b, at, room)) return TLM_OK;
    enum tlm_status status = request_rows(r, b->rows + p->rows, room, 1, err);
    if (status) return status;
    j->in_pass = true;
    j->first_output = p->outputs;
    p->outputs += r->outputs;
    p->rows += r->rows;
    return TLM_OK;
}

// ---- a pass behind the pass -------------------------------------------------------------------------------

// The rows of the next pass, if it can begin before the tokens of this one are known: each running request has one, or ends with its token.
// Where others wait for a place that is free, or will be, they come first.
static int32_t add_rows_ahead(struct tlm_batch *b)
{
    int32_t rows = 0, ends = 0;
    for (int64_t i = 0; i < b->count; i++) {
        struct job *j = b->jobs[i];
        if (!j->running) continue;
        const enum request_next next =
            j->in_pass ? request_row_ahead(&j->r, j->first_output, &b->rows[rows]) : REQUEST_WAITS;
        if (next == REQUEST_WAITS) return 0;
        j->r.ahead = next == REQUEST_GOES_AHEAD;
        if (j->r.ahead)
            j->next_output = rows++;
        else
            ends++;
    }
    return b->count > b->running && (b->running < b->parallel || ends) ? 0 : rows;
}

static void drop_ahead(struct tlm_batch *b)
{
    b->rows_ahead = 0;
    for (int64_t i = 0; i < b->count; i++)
        if (b->jobs[i]->running && b->jobs[i]->r.ahead) request_drop_ahead(&b->jobs[i]->r);
}

// The requests whose rows these are do not know whether their blocks will do; where they do not, the next pass is composed as ever.
static enum tlm_status launch_ahead(struct tlm_batch *b, struct tlm_error *err)
{
    struct forward *f = &b->forward;
    if (!forward_goes_ahead(f)) return TLM_OK;
    const int32_t rows = add_rows_ahead(b);
    enum tlm_status status = TLM_ERR_CONTEXT;
    if (rows) {
        forward_expect_draws(f, rows);
        for (int64_t i = 0; i < b->count; i++) {
            const struct job *j = b->jobs[i];
            if (j->running && j->r.ahead)
                forward_expect_draw(f, j->next_output, j->r.sampler, &b->rows[j->next_output].token, 1);
        }
        status = forward_launch(f, b->rows, rows, err);
        if (!status) b->rows_ahead = rows;
    }
    for (int64_t i = 0; i < b->count && status; i++) {
        struct request *r = &b->jobs[i]->r;
        if (!b->jobs[i]->running || !r->ahead) continue;
        r->ahead = false;
        kv_truncate(&f->cache, r->sequence, r->computed + r->rows);
    }
    return status == TLM_ERR_CONTEXT ? TLM_OK : status;
}

// The pass that runs already is the next one. False where nobody wants it any more.
static bool take_over(struct tlm_batch *b, struct pass *p)
{
    *p = (struct pass){.rows = b->rows_ahead, .outputs = b->rows_ahead};
    b->rows_ahead = 0;
    bool any = false;
    for (int64_t i = 0; i < b->count; i++) {
        struct job *j = b->jobs[i];
        j->in_pass = j->running && j->r.ahead;
        j->r.ahead = false;
        j->first_output = j->next_output;
        any |= j->in_pass;
    }
    return any;
}

static bool has_read(const struct job *j)
{
    return j->running && j->r.count - j->r.computed == 1;
}

static enum tlm_status compose(struct tlm_batch *b, struct pass *p, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    bool admit = true; // nobody overtakes one that waits for room
    int32_t held = 0;  // that wait for the one that reads their beginning
    *p = (struct pass){0};
    for (int64_t i = 0; i < b->count; i++) b->jobs[i]->in_pass = false;
    for (int64_t i = 0; i < b->count; i++) p->steps += has_read(b->jobs[i]);
    for (int64_t i = 0; i < b->count && !status; i++) {
        struct job *j = b->jobs[i];
        if (!j->running) {
            if (!admit || p->rows + p->steps >= b->forward.config.max_rows) continue;
            if (held && b->running + held >= b->parallel) continue; // their places are kept
            if (b->running < b->parallel && is_being_read(b, i)) {
                held++;
                continue;
            }
            if (!(admit = start_running(b, i))) continue;
        } else if (has_read(j)) {
            p->steps--;
        }
        int32_t running = b->running;
        status = add_rows(b, i, p, err);
        if (running != b->running) { // some had to leave
            p->steps = 0;
            for (int64_t k = i + 1; k < b->count; k++) p->steps += has_read(b->jobs[k]);
        }
    }
    return status;
}

// Composes a pass and launches it.
static enum tlm_status launch(struct tlm_batch *b, struct pass *p, struct tlm_error *err)
{
    enum tlm_status status = compose(b, p, err);
    if (status) {
        for (int64_t i = 0; i < b->count; i++)
            if (b->jobs[i]->running)
                kv_truncate(&b->forward.cache, b->jobs[i]->r.sequence, b->jobs[i]->r.computed);
        return status;
    }
    TLM_ASSERT(p->rows > 0); // the first one always finds room: the cache holds at least one context
    forward_expect_draws(&b->forward, p->outputs);
    for (int64_t i = 0; i < b->count; i++)
        if (b->jobs[i]->in_pass) request_expect(&b->jobs[i]->r, b->jobs[i]->first_output);
    return forward_launch(&b->forward, b->rows, p->rows, err);
}

// Hands each request of the pass its outputs; those that are done leave.
static enum tlm_status take(struct tlm_batch *b, double seconds, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (int64_t i = 0; i < b->count; i++) {
        struct job *j = b->jobs[i];
        if (!j->in_pass) continue;
        bool step = has_read(j);
        // What a guess costs is what its rows add to the pass, which the rows of others make as long as it is.
        if (step && j->r.options.drafter) draft_pass_took(&j->r.options.drafter->control, j->r.rows, seconds);
        enum tlm_status s = request_take(&j->r, j->first_output, err);
        if (s && !status) status = s;
        if (s) request_finish(&j->r, TLM_FINISH_CANCELLED);
        if (!step && j->r.result.new_tokens == 1) j->first_token = clock_seconds();
    }
    for (int64_t i = 0; i < b->count;)
        if (b->jobs[i]->r.done)
            leave(b, i);
        else
            i++;
    return status;
}

enum tlm_status tlm_batch_step(struct tlm_batch *b, int64_t *left, struct tlm_error *err)
{
    struct forward *f = &b->forward;
    struct pass p;
    enum tlm_status status = TLM_OK;
    *left = b->count;
    bool runs = b->rows_ahead > 0;
    if (runs && !take_over(b, &p)) {
        if ((status = forward_drop(f, err))) return status;
        runs = false;
    }
    if (!b->count) return TLM_OK;
    double begin = clock_seconds();
    if (!runs && (status = launch(b, &p, err))) return status;
    if ((status = launch_ahead(b, err)) || (status = forward_wait(f, err)) || f->lost) {
        const enum tlm_status end = forward_drop(f, status ? NULL : err);
        drop_ahead(b);
        return status ? status : end;
    }
    b->passes++;
    b->computed += (uint64_t)p.rows;
    status = take(b, clock_seconds() - begin, err);
    *left = b->count;
    return status;
}

struct tlm_batch_info tlm_batch_info(const struct tlm_batch *b)
{
    const struct forward_config *c = &b->forward.config;
    struct kv_stats s = kv_stats(&b->forward.cache);
    return (struct tlm_batch_info){
        .parallel = b->parallel,
        .context = c->context,
        .cache = b->forward.cache.groups[0].pool.count * KV_BLOCK,
        .threads = c->threads,
        .batch = c->max_rows,
        .running = b->running,
        .waiting = (int32_t)(b->count - b->running),
        .kv_bytes = kv_bytes(&b->forward.cache),
        .kv_bytes_held = (uint64_t)s.bytes_held,
        .tokens_asked = (uint64_t)s.asked,
        .tokens_found = (uint64_t)s.found,
        .passes = b->passes,
        .rows = b->computed,
        .preempted = b->preempted,
        .evicted = (uint64_t)s.evicted,
    };
}
