// train/optimizer.c -- norm, clipping, skipping, and the updates over chunks of the weights.
#include "train/optimizer.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "core/arena.h"
#include "core/rng.h"
#include "ops/backend.h"
#include "train/muon.h"

// A chunk's gradient, value and moments fit into a core's cache; 1024 chunks are enough for any number of threads.
enum { CHUNK = 1 << 16 };
_Static_assert(CHUNK % UPDATE_BLOCK == 0, "chunks are whole blocks");
enum { SMALL = 4096 };

enum rule { RULE_ADAMW, RULE_LION, RULE_SGD, RULE_MUON };

// What is kept of a parameter.
struct slot {
    const struct parameter *parameter;
    enum rule rule;
    enum dtype type;
    struct moment m, v; // v.data is NULL but for AdamW
    int64_t first_chunk;
    struct twins { // on the backend
        void *value, *copy, *gradient, *m, *v;
    } device;
};

struct optimizer {
    struct optimizer_options options;
    struct kernels kernels;
    struct threads *threads;
    struct slot *slot;
    int64_t count, chunks;
    double *squares;  // [chunks]
    struct muon muon; // of OPTIMIZER_MUON
    struct arena memory;
    struct backend *backend; // of the model; NULL: the CPU
    struct runner *runner;
    double *device_squares; // [chunks], there
    struct optimizer_progress progress;
    // of the step under way
    atomic_llong next;
    double rate, factor;
};

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
            align_up((size_t)chunks * sizeof(double), ARENA_ALIGN) +
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
}

// ---- on a backend -----------------------------------------------------------------------------------------------

static enum tlm_status twin_of(const struct optimizer *o, void **out, void *data, enum dtype type,
                               const struct parameter *p, struct tlm_error *err)
{
    if (!data) return TLM_OK; // no copy: it has no type
    struct tensor t = tensor_shape(type, p->cols, p->rows, p->depth, 1);
    t.data = data;
    return o->backend->class->training->twin(o->backend, &t, out, err);
}

static enum tlm_status open_slot(const struct optimizer *o, struct slot *s, struct tlm_error *err)
{
    const struct parameter *p = s->parameter;
    enum tlm_status status;
    const char *other = s->rule != RULE_ADAMW    ? "another rule"
                        : s->type == DTYPE_I8    ? "moments of 8 bits"
                        : p->grid != DTYPE_COUNT ? "weights on a grid"
                                                 : NULL;
    if (other)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "optimizer: on %s: expected AdamW with moments of f32 or bf16, found %s",
                         o->backend->class->name, other);
    if ((status = twin_of(o, &s->device.value, p->value, DTYPE_F32, p, err)) ||
        (status = twin_of(o, &s->device.copy, p->copy, p->copy_type, p, err)) ||
        (status = twin_of(o, &s->device.gradient, p->gradient, DTYPE_F32, p, err)) ||
        (status = twin_of(o, &s->device.m, s->m.data, s->type, p, err)))
        return status;
    return twin_of(o, &s->device.v, s->v.data, s->type, p, err);
}

static enum tlm_status open_device(struct optimizer *o, struct tlm_error *err)
{
    const struct backend_class *class = o->backend->class;
    void *squares = NULL;
    enum tlm_status s = TLM_OK;
    TLM_ASSERT(class->training->squares == CHUNK);
    for (int64_t i = 0; i < o->count && !s; i++) s = open_slot(o, &o->slot[i], err);
    if (s || (s = class->runner_open(o->backend, &o->runner, err))) return s;
    s = class->alloc(o->runner, &squares, (size_t)o->chunks * sizeof *o->squares, "sums of squares", err);
    o->device_squares = squares;
    return s;
}

static enum tlm_status square_on_device(struct optimizer *o, struct tlm_error *err)
{
    const struct backend_training *training = o->backend->class->training;
    for (int64_t i = 0; i < o->count; i++) {
        const struct slot *s = &o->slot[i];
        training->sum_squares(o->runner, o->device_squares + s->first_chunk, s->device.gradient,
                              s->parameter->count);
    }
    return training->fetch(o->runner, o->squares, o->device_squares, (size_t)o->chunks * sizeof *o->squares,
                           err);
}

// All arrays of moments, this way or that.
static enum tlm_status move_moments(const struct optimizer *o, bool pull, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (int64_t i = 0; o->backend && i < optimizer_state_count(o) && !status; i++) {
        const struct optimizer_state state = optimizer_state(o, i);
        const struct backend_training *training = o->backend->class->training;
        struct tensor t = tensor_shape(state.type, state.ne[0], state.ne[1], state.ne[2], 1);
        t.data = state.data;
        status = pull ? training->pull(o->backend, &t, err) : training->push(o->backend, &t, err);
    }
    return status;
}

enum tlm_status optimizer_pull(const struct optimizer *o, struct tlm_error *err)
{
    return move_moments(o, true, err);
}

enum tlm_status optimizer_push(const struct optimizer *o, struct tlm_error *err)
{
    return move_moments(o, false, err);
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
    if (o->backend && (s = open_device(o, err))) {
        optimizer_close(o);
        return s;
    }
    *out = o;
    return TLM_OK;
}

void optimizer_close(struct optimizer *o)
{
    if (!o) return;
    if (o->runner) o->backend->class->runner_close(o->runner);
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
static enum tlm_status gradient_norm(struct optimizer *o, double *norm, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    if (o->backend)
        s = square_on_device(o, err);
    else
        run_chunks(o, square_chunks);
    double sum = 0;
    for (int64_t i = 0; i < o->chunks; i++) sum += o->squares[i];
    *norm = sqrt(sum);
    return s;
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

// The kernels of updates write copies that are the values in BF16.
static bool writes_copy(const struct parameter *p)
{
    return p->copy && p->copy_type == DTYPE_BF16 && p->grid == DTYPE_COUNT;
}

// What the update of a chunk is given, but for its pointers.
static struct update_args update_numbers(const struct optimizer *o, const struct chunk *c)
{
    const struct optimizer_options *options = &o->options;
    // Step numbers count from 1. In double: 1 - beta^t in float would lose what it is there for.
    double t = (double)o->progress.updates, decay = c->slot->parameter->decay ? options->decay : 0;
    double rate = o->rate * (options->kind == OPTIMIZER_MUON ? options->side_rate : 1);
    struct update_args a = {.moments = c->slot->type,
                            .count = c->count,
                            .first = c->first,
                            .key = chance_key(o, c->slot),
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
    if (c->slot->rule == RULE_ADAMW) {
        a.rate = (float)(rate / (1 - pow(options->beta1, t)));
        a.root_factor = (float)(1 / sqrt(1 - pow(options->beta2, t)));
    }
    if (c->slot->rule == RULE_SGD) a.beta1 = (float)options->momentum;
    return a;
}

static void update_chunk(const struct optimizer *o, const struct chunk *c)
{
    const struct parameter *p = c->slot->parameter;
    const struct slot *s = c->slot;
    struct update_args a = update_numbers(o, c);
    a.value = p->value + c->first;
    a.copy = writes_copy(p) ? (uint16_t *)p->copy + c->first : NULL;
    a.gradient = p->gradient + c->first;
    a.m = moment_at(&s->m, s->type, c->first);
    a.v = moment_at(&s->v, s->type, c->first);
    switch (s->rule) {
    case RULE_ADAMW: o->kernels.update_adamw(&a); break;
    case RULE_LION: o->kernels.update_lion(&a); break;
    case RULE_SGD: o->kernels.update_sgd(&a); break;
    case RULE_MUON: break; // update_matrices() has been there
    }
    if (s->rule == RULE_MUON || !writes_copy(p)) copy_values(o, p, c->first, c->count);
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

static enum tlm_status update_on_device(struct optimizer *o, struct tlm_error *err)
{
    const struct backend_training *training = o->backend->class->training;
    for (int64_t i = 0; i < o->count; i++) {
        const struct slot *s = &o->slot[i];
        const struct parameter *p = s->parameter;
        struct update_args a = update_numbers(o, &(struct chunk){s, 0, p->count});
        a.value = s->device.value;
        a.copy = writes_copy(p) ? s->device.copy : NULL;
        a.gradient = s->device.gradient;
        a.m.data = s->device.m, a.v.data = s->device.v;
        training->adamw(o->runner, &a);
        if (p->copy && !writes_copy(p))
            training->convert(o->runner, s->device.copy, p->copy_type, s->device.value, p->count);
    }
    return training->fetch(o->runner, NULL, NULL, 0, err); // passes are on streams of their own
}

static void update_chunks(void *user, int thread)
{
    (void)thread;
    struct optimizer *o = user;
    struct chunk c;
    for (int64_t slot = 0, i; next_chunk(o, &slot, &c, &i);) update_chunk(o, &c);
}

// ---- a step -------------------------------------------------------------------------------------------------------

// Whether a norm stands out, and the norm's place in the statistics. One that stands out joins them as the largest that would
// not have: where norms have risen for good, the average follows and steps are taken again.
static bool is_outlier(struct optimizer *o, double norm)
{
    struct optimizer_progress *p = &o->progress;
    double most = p->mean + o->options.outlier * sqrt(p->variance);
    bool outlier = o->options.outlier > 0 && p->norms >= o->options.window && norm > most;
    if (outlier) norm = most;
    p->norms++;
    double weight = 1 / (double)(p->norms < o->options.window ? p->norms : o->options.window);
    double away = norm - p->mean;
    p->mean += weight * away;
    p->variance += weight * (away * (norm - p->mean) - p->variance);
    return outlier;
}

struct optimizer_report optimizer_step(struct optimizer *o, double rate, double scale)
{
    struct optimizer_report report = {.outcome = OPTIMIZER_STEPPED, .clipped = 1};
    if (gradient_norm(o, &report.norm, &report.error)) {
        report.outcome = OPTIMIZER_FAILED;
        return report;
    }
    report.norm *= fabs(scale);
    if (!isfinite(report.norm)) {
        report.outcome = OPTIMIZER_NOT_FINITE;
        o->progress.not_finite++;
        return report;
    }
    if (is_outlier(o, report.norm)) {
        report.outcome = OPTIMIZER_OUTLIER;
        o->progress.outliers++;
        return report;
    }
    // 1e-6 as in PyTorch's clip_grad_norm_
    double clip = o->options.clip;
    if (clip > 0) report.clipped = fmin(1, clip / (report.norm + 1e-6));
    o->progress.updates++;
    o->rate = rate;
    o->factor = scale * report.clipped;
    if (o->backend) {
        if (update_on_device(o, &report.error)) report.outcome = OPTIMIZER_FAILED;
        return report;
    }
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
