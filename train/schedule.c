// train/schedule.c -- the learning rate of a step.
#include "train/schedule.h"

#include <math.h>

enum tlm_status schedule_check(const struct schedule *s, struct tlm_error *err)
{
    if (!(s->peak >= 0) || isinf(s->peak))
        return error_set(err, TLM_ERR_ARGUMENT, "schedule: learning rate: expected 0 or more, found %g",
                         s->peak);
    if (!(s->minimum >= 0 && s->minimum <= 1))
        return error_set(err, TLM_ERR_ARGUMENT, "schedule: minimum: expected 0 to 1 of the peak, found %g",
                         s->minimum);
    if (s->warmup < 0)
        return error_set(err, TLM_ERR_ARGUMENT, "schedule: warmup: expected 0 steps or more, found %lld",
                         (long long)s->warmup);
    if (s->kind == SCHEDULE_CONSTANT) return TLM_OK;
    bool stable = s->kind == SCHEDULE_WSD || s->kind == SCHEDULE_WSD_SQRT;
    if (stable && s->decay < 0)
        return error_set(err, TLM_ERR_ARGUMENT, "schedule: decay: expected 0 steps or more, found %lld",
                         (long long)s->decay);
    int64_t room = s->steps - (stable ? s->decay : 0);
    if (s->steps < 1 || s->warmup > room)
        return error_set(
            err, TLM_ERR_ARGUMENT,
            "schedule: expected warmup and decay to fit into the steps, found %lld + %lld of %lld",
            (long long)s->warmup, (long long)(stable ? s->decay : 0), (long long)s->steps);
    return TLM_OK;
}

// What is left of the peak above the minimum, from 1 to 0, at `done` of the way down.
static double left(enum schedule_kind kind, double done)
{
    switch (kind) {
    case SCHEDULE_CONSTANT: return 1;
    case SCHEDULE_LINEAR:
    case SCHEDULE_WSD: return 1 - done;
    case SCHEDULE_COSINE: return (1 + cos(M_PI * done)) / 2;
    case SCHEDULE_WSD_SQRT: return 1 - sqrt(done);
    }
    TLM_ASSERT(!"a kind of schedule");
}

double schedule_rate(const struct schedule *s, int64_t step)
{
    if (step < s->warmup) return s->peak * (double)(step + 1) / (double)s->warmup;
    if (s->kind == SCHEDULE_CONSTANT) return s->peak;
    if (step >= s->steps) return s->peak * s->minimum;
    bool stable = s->kind == SCHEDULE_WSD || s->kind == SCHEDULE_WSD_SQRT;
    int64_t begin = stable ? s->steps - s->decay : s->warmup;
    if (step < begin) return s->peak;
    double done = (double)(step - begin) / (double)(s->steps - begin);
    return s->peak * (s->minimum + (1 - s->minimum) * left(s->kind, done));
}
