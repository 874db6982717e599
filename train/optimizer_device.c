// train/optimizer_device.c -- the optimizer where the model is on a backend: weights, gradients and moments are there, and so are they updated,
// a launch a tensor.
//
// Whether a step is taken is decided there, too; what changes from step to step goes there in one copy in front of it. So the launches of all
// steps are the same and are recorded, and what the host hears of a step is its verdict.
#include <math.h>

#include "train/optimizer_internal.h"

static enum tlm_status twin_of(const struct optimizer *o, void **out, void *data, enum dtype type,
                               const struct parameter *p, struct tlm_error *err)
{
    if (!data) return TLM_OK; // no copy: it has no type
    struct tensor t = tensor_shape(type, p->cols, p->rows, p->depth, 1);
    t.data = data;
    return o->backend->class->training->twin(o->backend, &t, out, err);
}

// 8-bit codes and their scales are rows of bytes and numbers of no shape.
static enum tlm_status twin_of_moment(const struct optimizer *o, void **out, void **scale,
                                      const struct moment *m, const struct slot *s, struct tlm_error *err)
{
    enum tlm_status status = twin_of(o, out, m->data, s->type, s->parameter, err);
    if (status || !m->scale) return status;
    struct tensor t =
        tensor_shape(DTYPE_F32, (s->parameter->count + UPDATE_BLOCK - 1) / UPDATE_BLOCK, 1, 1, 1);
    t.data = m->scale;
    return o->backend->class->training->twin(o->backend, &t, scale, err);
}

static enum tlm_status open_slot(const struct optimizer *o, struct slot *s, struct tlm_error *err)
{
    const struct parameter *p = s->parameter;
    enum tlm_status status;
    if ((status = twin_of(o, &s->device.value, p->value, DTYPE_F32, p, err)) ||
        (status = twin_of(o, &s->device.copy, p->copy, p->copy_type, p, err)) ||
        (status = twin_of(o, &s->device.gradient, p->gradient, DTYPE_F32, p, err)) ||
        (status = twin_of_moment(o, &s->device.m, &s->device.m_scale, &s->m, s, err)))
        return status;
    return twin_of_moment(o, &s->device.v, &s->device.v_scale, &s->v, s, err);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// Room for Muon's iterations on the largest matrix.
static enum tlm_status open_muon(struct optimizer *o, struct tlm_error *err)
{
    int64_t numbers = 0, side = 0, rows = 0;
    for (int64_t i = 0; i < o->count; i++) {
        const struct parameter *p = o->slot[i].parameter;
        if (o->slot[i].rule != RULE_MUON) continue;
        numbers = larger(numbers, p->rows * p->cols);
        side = larger(side, smaller(p->rows, p->cols));
        rows = larger(rows, p->rows);
    }
    const struct {
        void **to;
        size_t bytes;
    } room[] = {{(void **)&o->device.x, (size_t)numbers * sizeof(float)},
                {(void **)&o->device.y, (size_t)numbers * sizeof(float)},
                {(void **)&o->device.square, (size_t)(side * side) * sizeof(float)},
                {(void **)&o->device.second, (size_t)(side * side) * sizeof(float)},
                {(void **)&o->device.row_squares, (size_t)rows * sizeof(double)}};
    enum tlm_status s = TLM_OK;
    for (size_t i = 0; i < sizeof room / sizeof *room && numbers && !s; i++)
        s = o->backend->class->alloc(o->device.runner, room[i].to, room[i].bytes, "Muon's iterations", err);
    return s;
}

enum tlm_status optimizer_device_open(struct optimizer *o, struct tlm_error *err)
{
    const struct backend_class *class = o->backend->class;
    struct optimizer_device *d = &o->device;
    void *squares = NULL, *verdict = NULL, *step = NULL;
    enum tlm_status s = TLM_OK;
    TLM_ASSERT(class->training->squares == CHUNK);
    d->step_bytes = sizeof(struct update_limits) + (size_t)o->count * sizeof(struct update_numbers);
    for (int64_t i = 0; i < o->count && !s; i++) s = open_slot(o, &o->slot[i], err);
    if (s || (s = class->runner_open(o->backend, &d->runner, err)) ||
        (s = class->alloc(d->runner, &squares, (size_t)o->chunks * sizeof *o->squares, "sums of squares",
                          err)) ||
        (s = class->alloc(d->runner, &verdict, sizeof *d->verdict, "the verdict", err)) ||
        (s = class->alloc(d->runner, &step, d->step_bytes, "numbers of the step", err)))
        return s;
    d->squares = squares, d->verdict = verdict, d->step = step;
    return open_muon(o, err);
}

void optimizer_device_close(struct optimizer *o)
{
    if (o->device.runner) o->backend->class->runner_close(o->device.runner);
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

// ---- a step ---------------------------------------------------------------------------------------------------

static const struct update_numbers *numbers_at(const struct optimizer *o, int64_t slot)
{
    return (const struct update_numbers *)(o->device.step + sizeof(struct update_limits)) + slot;
}

// Of a stack of matrices one after the other.
static void launch_matrices(struct optimizer *o, const struct slot *s, const struct update_numbers *now)
{
    const struct optimizer_device *d = &o->device;
    const struct parameter *p = s->parameter;
    const int64_t size = p->rows * p->cols;
    for (int64_t i = 0; i < p->depth; i++) {
        const struct update_matrix u = {
            .value = (float *)s->device.value + i * size,
            .momentum = (float *)s->device.m + i * size,
            .gradient = (const float *)s->device.gradient + i * size,
            .x = d->x,
            .y = d->y,
            .square = d->square,
            .second = d->second,
            .squares = d->row_squares,
            .rows = p->rows,
            .cols = p->cols,
            .iterations = o->options.iterations,
            .beta = (float)o->options.momentum,
            .slow = (float)(1 - (double)(float)o->options.momentum),
            .nesterov = o->options.nesterov,
            .now = now,
            .verdict = d->verdict,
        };
        o->backend->class->training->update_matrix(d->runner, &u);
    }
}

static void launch_update(struct optimizer *o, const struct slot *s, const struct update_numbers *now)
{
    static const enum update_rule rules[] = {
        [RULE_ADAMW] = UPDATE_ADAMW, [RULE_LION] = UPDATE_LION, [RULE_SGD] = UPDATE_SGD};
    const struct parameter *p = s->parameter;
    struct update_launch u = {.rule = rules[s->rule],
                              .of = optimizer_numbers(o, s, 0, p->count),
                              .now = now,
                              .verdict = o->device.verdict};
    u.of.value = s->device.value;
    u.of.copy = optimizer_writes_copy(p) ? s->device.copy : NULL;
    u.of.gradient = s->device.gradient;
    u.of.m = (struct moment){s->device.m, s->device.m_scale};
    u.of.v = (struct moment){s->device.v, s->device.v_scale};
    o->backend->class->training->update(o->device.runner, &u);
}

// All launches of a step.
static void launch_step(void *user)
{
    struct optimizer *o = user;
    const struct backend_training *training = o->backend->class->training;
    struct optimizer_device *d = &o->device;
    for (int64_t i = 0; i < o->count; i++)
        training->sum_squares(d->runner, d->squares + o->slot[i].first_chunk, o->slot[i].device.gradient,
                              o->slot[i].parameter->count);
    training->decide(d->runner, d->verdict, d->squares, o->chunks, (const struct update_limits *)d->step);
    for (int64_t i = 0; i < o->count; i++) {
        const struct slot *s = &o->slot[i];
        const struct parameter *p = s->parameter;
        if (s->rule == RULE_MUON)
            launch_matrices(o, s, numbers_at(o, i));
        else
            launch_update(o, s, numbers_at(o, i));
        if (p->copy && p->grid == DTYPE_COUNT && (s->rule == RULE_MUON || !optimizer_writes_copy(p)))
            training->convert(d->runner, s->device.copy, p->copy_type, s->device.value, p->count);
    }
}

// Numbers on a grid are found by the processor (quant/), whose threads share them: values come to it, and copies go back.
static enum tlm_status round_to_grids(struct optimizer *o, struct tlm_error *err)
{
    const struct backend_training *training = o->backend->class->training;
    enum tlm_status s = TLM_OK;
    bool any = false;
    for (int64_t i = 0; i < o->count && !s; i++) {
        const struct parameter *p = o->slot[i].parameter;
        if (p->grid == DTYPE_COUNT) continue;
        struct tensor value = tensor_shape(DTYPE_F32, p->cols, p->rows, p->depth, 1);
        value.data = p->value;
        s = training->pull(o->backend, &value, err);
        any = true;
    }
    if (any && !s) optimizer_copy_grids(o);
    for (int64_t i = 0; i < o->count && !s; i++) {
        const struct parameter *p = o->slot[i].parameter;
        if (p->grid == DTYPE_COUNT) continue;
        struct tensor copy = tensor_shape(p->copy_type, p->cols, p->rows, p->depth, 1);
        copy.data = p->copy;
        s = training->push(o->backend, &copy, err);
    }
    return s;
}

enum tlm_status optimizer_device_step(struct optimizer *o, double scale, struct update_verdict *verdict,
                                      struct tlm_error *err)
{
    struct optimizer_device *d = &o->device;
    struct update_limits *limits = (struct update_limits *)(void *)d->host_step;
    struct update_numbers *now = (struct update_numbers *)(void *)(d->host_step + sizeof *limits);
    *limits = (struct update_limits){scale, o->options.clip, optimizer_most(o)};
    for (int64_t i = 0; i < o->count; i++) {
        const struct update_args a = optimizer_numbers(o, &o->slot[i], 0, o->slot[i].parameter->count);
        now[i] = (struct update_numbers){a.rate, a.keep, a.root_factor, a.key};
    }
    o->backend->class->bring(d->runner, d->step, d->host_step, d->step_bytes);
    o->backend->class->training->repeat(d->runner, launch_step, o);
    enum tlm_status s =
        o->backend->class->training->fetch(d->runner, verdict, d->verdict, sizeof *verdict, err);
    return s || !verdict->taken ? s : round_to_grids(o, err);
}
