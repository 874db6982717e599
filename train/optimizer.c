// train/optimizer.c -- norm, clipping, skipping, and the updates over chunks of the weights.
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "ops/backend.h"
#include "train/optimizer_internal.h"

// ---- options ------------------------------------------------------------------------------------------------

struct optimizer_options optimizer_defaults(enum optimizer_kind kind)
{
    struct optimizer_options o = {.kind = kind,
                                  .moments = DTYPE_F32,
                                  .beta1 = 0.9,
                                  .beta2 = 0.95,
                                  .eps = 1e-8,
                                  .momentum = 0.9,
                                  .decay = 0.1,
                                  .iterations = 5,
                                  .side_rate = 0.015,
                                  .clip = 1,
                                  .window = 128};
    if (kind == OPTIMIZER_LION) o.beta2 = 0.99, o.decay = 0.3;
    if (kind == OPTIMIZER_MUON) o.momentum = 0.95, o.nesterov = true;
    if (kind == OPTIMIZER_SGD) o.decay = 0;
    return o;
}

static enum tlm_status check_options(const struct optimizer_options *o, struct tlm_error *err)
{
    const struct {
        const char *name;
        double value, end; // 0 <= value < end
    } numbers[] = {{"beta1", o->beta1, 1},        {"beta2", o->beta2, 1},
                   {"eps", o->eps, INFINITY},     {"momentum", o->momentum, 1},
                   {"decay", o->decay, INFINITY}, {"side_rate", o->side_rate, INFINITY},
                   {"clip", o->clip, INFINITY},   {"outlier", o->outlier, INFINITY}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!(numbers[i].value >= 0 && numbers[i].value < numbers[i].end))
            return error_set(err, TLM_ERR_ARGUMENT,
                             "optimizer: %s: expected 0 or more and less than %g, found %g", numbers[i].name,
                             numbers[i].end, numbers[i].value);
    bool narrow = o->moments == DTYPE_BF16 || (o->moments == DTYPE_I8 && o->kind != OPTIMIZER_SGD);
    if (o->moments != DTYPE_F32 && !narrow)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "optimizer: moments: expected F32, BF16 or (not SGD) I8, found type %d", o->moments);
    if (o->window < 2)
        return error_set(err, TLM_ERR_ARGUMENT, "optimizer: window: expected 2 steps or more, found %lld",
                         (long long)o->window);
    if (o->iterations < 1 || o->iterations > 100)
        return error_set(err, TLM_ERR_ARGUMENT, "optimizer: iterations: expected 1 to 100, found %d",
                         o->iterations);
    return TLM_OK;
}

// ---- laying out the moments -----------------------------------------------------------------------------------

static enum rule rule_of(const struct parameter *p, enum optimizer_kind kind)
{
    switch (kind) {
    case OPTIMIZER_ADAMW: return RULE_ADAMW;
    case OPTIMIZER_LION: return RULE_LION;
    case OPTIMIZER_SGD: return RULE_SGD;
    case OPTIMIZER_MUON: return muon_takes(p) ? RULE_MUON : RULE_ADAMW;
    }
    TLM_ASSERT(!"a kind of optimizer");
}

static enum dtype type_of(const struct parameter *p, enum rule rule, enum dtype moments)
{
    bool exact = p->count < SMALL || p->role == ROLE_NORM || rule == RULE_MUON;
    return exact ? DTYPE_F32 : moments;
}

static int64_t blocks_of(int64_t count)
{
    return (count + UPDATE_BLOCK - 1) / UPDATE_BLOCK;
}

static int64_t chunks_of(int64_t count)
{
    return (count + CHUNK - 1) / CHUNK;
}

static size_t moment_bytes(int64_t count, enum dtype type)
{
    size_t scales = type == DTYPE_I8 ? align_up((size_t)blocks_of(count) * sizeof(float), ARENA_ALIGN) : 0;
    return align_up(dtype_row_bytes(type, count), ARENA_ALIGN) + scales;
}

// What a backend is told in front of a step.
static size_t device_step_bytes(const struct parameters *p)
{
    return align_up(sizeof(struct update_limits) + (size_t)p->count * sizeof(struct update_numbers),
                    ARENA_ALIGN);
}

struct optimizer_bytes optimizer_bytes(const struct parameters *p, const struct optimizer_options *options,
                                       int threads)
{
    struct optimizer_bytes b = {0};
    int64_t chunks = 0;
    for (int64_t i = 0; i < p->count; i++) {
        const struct parameter *item = &p->item[i];
        enum rule rule = rule_of(item, options->kind);
        b.moments +=
            moment_bytes(item->count, type_of(item, rule, options->moments)) * (rule == RULE_ADAMW ? 2 : 1);
        chunks += chunks_of(item->count);
    }
    b.all = b.moments + align_up((size_t)p->count * sizeof(struct slot), ARENA_ALIGN) +
            align_up((size_t)chunks * sizeof(double), ARENA_ALIGN) + device_step_bytes(p) +
            (options->kind == OPTIMIZER_MUON ? muon_bytes(p, threads) : 0);
    return b;
}

static struct moment moment_alloc(struct arena *a, int64_t count, enum dtype type)
{
    struct moment m = {.data = arena_alloc(a, dtype_row_bytes(type, count))};
    if (type == DTYPE_I8) m.scale = arena_alloc(a, (size_t)blocks_of(count) * sizeof(float));
    return m;
}

static void lay_out(struct optimizer *o, const struct parameters *p)
{
    o->slot = arena_alloc(&o->memory, (size_t)p->count * sizeof *o->slot);
    o->count = p->count;
    for (int64_t i = 0; i < p->count; i++) {
        const struct parameter *item = &p->item[i];
        struct slot *s = &o->slot[i];
        s->parameter = item;
        s->rule = rule_of(item, o->options.kind);
        s->type = type_of(item, s->rule, o->options.moments);
        s->m = moment_alloc(&o->memory, item->count, s->type);
        if (s->rule == RULE_ADAMW) s->v = moment_alloc(&o->memory, item->count, s->type);
        s->first_chunk = o->chunks;
        o->chunks += chunks_of(item->count);
    }
    o->squares = arena_alloc(&o->memory, (size_t)o->chunks * sizeof *o->squares);
    o->device.host_step = arena_alloc(&o->memory, device_step_bytes(p));
}

enum tlm_status optimizer_open(struct optimizer **out, const struct parameters *p,
                               const struct optimizer_options *options, enum isa isa, struct threads *threads,
                               struct tlm_error *err)
{
    *out = NULL;
    enum tlm_status s = check_options(options, err);
    if (s) return s;
    struct optimizer *o = calloc(1, sizeof *o);
    if (!o) return error_set(err, TLM_ERR_MEMORY, "optimizer: no memory");
    o->options = *options;
    o->kernels = kernels_for(isa == ISA_F64 ? isa_detect() : isa);
    o->threads = threads;
    s = arena_init(&o->memory, optimizer_bytes(p, options, threads_count(threads)).all, "optimizer", err);
    if (s) {
        free(o);
        return s;
    }
    lay_out(o, p);
    if (options->kind == OPTIMIZER_MUON) o->muon = muon_make(&o->memory, p, &o->kernels, threads);
    o->backend = p->model.backend;
    if (o->backend && (s = optimizer_device_open(o, err))) {
        optimizer_close(o);
        return s;
    }
    *out = o;
    return TLM_OK;
}

void optimizer_close(struct optimizer *o)
{
    if (!o) return;
    if (o->backend) optimizer_device_close(o);
    arena_free(&o->memory);
    free(o);
}

// ---- chunks ---------------------------------------------------------------------------------------------------

// Part of a parameter.
struct chunk {
    const struct slot *slot;
    int64_t first, count;
};

// Takes the next chunk nobody has taken; false when all are. A thread goes through them in rising order, so *slot moves forwards.
static bool next_chunk(struct optimizer *o, int64_t *slot, struct chunk *c, int64_t *number)
{
    *number = atomic_fetch_add_explicit(&o->next, 1, memory_order_relaxed);
    if (*number >= o->chunks) return false;
    while (*slot + 1 < o->count && o->slot[*slot + 1].first_chunk <= *number) ++*slot;
    const struct slot *s = &o->slot[*slot];
    int64_t first = (*number - s->first_chunk) * CHUNK, left = s->parameter->count - first;
    *c = (struct chunk){s, first, left < CHUNK ? left : CHUNK};
    return true;
}

static void run_chunks(struct optimizer *o, threads_fn *fn)
{
    atomic_store(&o->next, 0);
    threads_run(o->threads, fn, o);
}

static void square_chunks(void *user, int thread)
{
    (void)thread;
    struct optimizer *o = user;
    struct chunk c;
    for (int64_t slot = 0, i; next_chunk(o, &slot, &c, &i);)
        o->squares[i] = o->kernels.sum_squares(c.slot->parameter->gradient + c.first, c.count);
}

// Of all gradients as they are; infinite or NaN where one of them is.
static double gradient_norm(struct optimizer *o)
{
    run_chunks(o, square_chunks);
    double sum = 0;
    for (int64_t i = 0; i < o->chunks; i++) sum += o->squares[i];
    return sqrt(sum);
}

// ---- updates ----------------------------------------------------------------------------------------------------

static struct moment moment_at(const struct moment *m, enum dtype type, int64_t first)
{
    if (!m->data) return *m;
    return (struct moment){.data = (char *)m->data + dtype_row_bytes(type, first),
                           .scale = m->scale ? m->scale + first / UPDATE_BLOCK : NULL};
}

static uint32_t chance_key(const struct optimizer *o, const struct slot *s)
{
    uint32_t r[4];
    rng_philox(o->options.seed, (uint64_t)(s - o->slot), (uint64_t)o->progress.updates, r);
    return r[0];
}

// The copy of values that a kernel did not write, while they are in the cache.
static void copy_values(const struct optimizer *o, const struct parameter *p, int64_t first, int64_t count)
{
    if (!p->copy) return;
    struct parameter part = *p;
    part.value += first, part.count = count;
    part.copy = (char *)p->copy + dtype_row_bytes(p->copy_type, first);
    parameter_copy(&part, &o->kernels);
}

bool optimizer_writes_copy(const struct parameter *p)
{
    return p->copy && p->copy_type == DTYPE_BF16 && p->grid == DTYPE_COUNT;
}

struct update_args optimizer_numbers(const struct optimizer *o, const struct slot *s, int64_t first,
                                     int64_t count)
{
    const struct optimizer_options *options = &o->options;
    // Step numbers count from 1. In double: 1 - beta^t in float would lose what it is there for.
    double t = (double)o->progress.updates, decay = s->parameter->decay ? options->decay : 0;
    double side = options->kind == OPTIMIZER_MUON && s->rule != RULE_MUON ? options->side_rate : 1;
    double rate = o->rate * side;
    struct update_args a = {.moments = s->type,
                            .count = count,
                            .first = first,
                            .key = chance_key(o, s),
                            .factor = (float)o->factor,
                            .rate = (float)rate,
                            .keep = (float)(1 - rate * decay),
                            .decay = (float)decay,
                            .beta1 = (float)options->beta1,
                            .beta2 = (float)options->beta2,
                            .slow1 = (float)(1 - options->beta1),
                            .slow2 = (float)(1 - options->beta2),
                            .eps = (float)options->eps,
                            .nesterov = options->nesterov};
    if (s->rule == RULE_ADAMW) {
        a.rate = (float)(rate / (1 - pow(options->beta1, t)));
        a.root_factor = (float)(1 / sqrt(1 - pow(options->beta2, t)));
    }
    if (s->rule == RULE_SGD) a.beta1 = (float)options->momentum;
    return a;
}

static void update_chunk(const struct optimizer *o, const struct chunk *c)
{
    const struct parameter *p = c->slot->parameter;
    const struct slot *s = c->slot;
    struct update_args a = optimizer_numbers(o, s, c->first, c->count);
    a.value = p->value + c->first;
    a.copy = optimizer_writes_copy(p) ? (uint16_t *)p->copy + c->first : NULL;
    a.gradient = p->gradient + c->first;
    a.m = moment_at(&s->m, s->type, c->first);
    a.v = moment_at(&s->v, s->type, c->first);
    switch (s->rule) {
    case RULE_ADAMW: o->kernels.update_adamw(&a); break;
    case RULE_LION: o->kernels.update_lion(&a); break;
    case RULE_SGD: o->kernels.update_sgd(&a); break;
    case RULE_MUON: break; // update_matrices() has been there
    }
    if (s->rule == RULE_MUON || !optimizer_writes_copy(p)) copy_values(o, p, c->first, c->count);
}

static void copy_grid_chunks(void *user, int thread)
{
    (void)thread;
    struct optimizer *o = user;
    struct chunk c;
    for (int64_t slot = 0, i; next_chunk(o, &slot, &c, &i);)
        if (c.slot->parameter->grid != DTYPE_COUNT) copy_values(o, c.slot->parameter, c.first, c.count);
}

void optimizer_copy_grids(struct optimizer *o)
{
    run_chunks(o, copy_grid_chunks);
}

// All threads together on one matrix after the other.
static void update_matrices(struct optimizer *o)
{
    for (int64_t i = 0; i < o->count; i++) {
        const struct slot *s = &o->slot[i];
        if (s->rule != RULE_MUON) continue;
        double decay = s->parameter->decay ? o->options.decay : 0;
        muon_update(&o->muon, &(struct muon_update){.parameter = s->parameter,
                                                    .momentum = s->m.data,
                                                    .factor = (float)o->factor,
                                                    .beta = (float)o->options.momentum,
                                                    .rate = (float)o->rate,
                                                    .keep = (float)(1 - o->rate * decay),
                                                    .nesterov = o->options.nesterov,
                                                    .iterations = o->options.iterations});
    }
}

static void update_chunks(void *user, int thread)
{
    (void)thread;
    struct optimizer *o = user;
    struct chunk c;
    for (int64_t slot = 0, i; next_chunk(o, &slot, &c, &i);) update_chunk(o, &c);
}

// ---- a step -------------------------------------------------------------------------------------------------------

double optimizer_most(const struct optimizer *o)
{
    const struct optimizer_progress *p = &o->progress;
    bool watched = o->options.outlier > 0 && p->norms >= o->options.window;
    return watched ? p->mean + o->options.outlier * sqrt(p->variance) : INFINITY;
}

// Whether a norm stands out, and the norm's place in the statistics. One that stands out joins them as the largest that would
// not have: where norms have risen for good, the average follows and steps are taken again.
static bool is_outlier(struct optimizer *o, double norm)
{
    struct optimizer_progress *p = &o->progress;
    double most = optimizer_most(o);
    bool outlier = norm > most;
    if (outlier) norm = most;
    p->norms++;
    double weight = 1 / (double)(p->norms < o->options.window ? p->norms : o->options.window);
    double away = norm - p->mean;
    p->mean += weight * away;
    p->variance += weight * (away * (norm - p->mean) - p->variance);
    return outlier;
}

// Counts a step of the report's norm. Is it taken?
static bool judge(struct optimizer *o, struct optimizer_report *r)
{
    if (!isfinite(r->norm)) {
        r->outcome = OPTIMIZER_NOT_FINITE;
        o->progress.not_finite++;
        return false;
    }
    if (is_outlier(o, r->norm)) {
        r->outcome = OPTIMIZER_OUTLIER;
        o->progress.outliers++;
        return false;
    }
    // 1e-6 as in PyTorch's clip_grad_norm_
    double clip = o->options.clip;
    if (clip > 0) r->clipped = fmin(1, clip / (r->norm + 1e-6));
    return true;
}

// The backend judges alike.
static void step_on_backend(struct optimizer *o, double scale, struct optimizer_report *r)
{
    struct update_verdict verdict;
    o->progress.updates++;
    if (optimizer_device_step(o, scale, &verdict, &r->error)) {
        r->outcome = OPTIMIZER_FAILED;
        return;
    }
    r->norm = verdict.norm;
    bool taken = judge(o, r);
    TLM_ASSERT(taken == verdict.taken);
    if (!taken) o->progress.updates--;
}

struct optimizer_report optimizer_step(struct optimizer *o, double rate, double scale)
{
    struct optimizer_report report = {.outcome = OPTIMIZER_STEPPED, .clipped = 1};
    o->rate = rate;
    if (o->backend) {
        step_on_backend(o, scale, &report);
        return report;
    }
    report.norm = gradient_norm(o) * fabs(scale);
    if (!judge(o, &report)) return report;
    o->progress.updates++;
    o->factor = scale * report.clipped;
    update_matrices(o);
    run_chunks(o, update_chunks);
    return report;
}

// ---- what a checkpoint keeps ----------------------------------------------------------------------------------------

struct optimizer_progress *optimizer_progress(struct optimizer *o)
{
    return &o->progress;
}

static int64_t arrays_of(const struct slot *s)
{
    return (s->v.data ? 2 : 1) * (s->type == DTYPE_I8 ? 2 : 1);
}

int64_t optimizer_state_count(const struct optimizer *o)
{
    int64_t count = 0;
    for (int64_t i = 0; i < o->count; i++) count += arrays_of(&o->slot[i]);
    return count;
}

struct optimizer_state optimizer_state(const struct optimizer *o, int64_t i)
{
    const struct slot *s = o->slot;
    for (; i >= arrays_of(s); s++) i -= arrays_of(s);
    const struct parameter *p = s->parameter;
    bool coded = s->type == DTYPE_I8, is_scale = coded && i % 2, is_v = i >= (coded ? 2 : 1);
    const struct moment *m = is_v ? &s->v : &s->m;
    struct optimizer_state state = {.type = s->type, .ne = {p->cols, p->rows, p->depth}, .data = m->data};
    if (is_scale)
        state =
            (struct optimizer_state){.type = DTYPE_F32, .ne = {blocks_of(p->count), 1, 1}, .data = m->scale};
    state.bytes = dtype_row_bytes(state.type, state.ne[0] * state.ne[1] * state.ne[2]);
    snprintf(state.name, sizeof state.name, "%s%s%s", p->name, is_v ? ".v" : ".m", is_scale ? "_scale" : "");
    return state;
}
