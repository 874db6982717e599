// cli/bench_train.c -- how fast a model is trained: whole steps, forward, back and AdamW, beside the peak of the multiply-adds that they run on.
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "core/rng.h"
#include "train/optimizer.h"
#include "train/pass.h"

static const double SLICE = 0.5; // seconds of a measurement, at least

struct training {
    struct parameters parameters;
    struct gradient_slot *slots;
    struct threads *threads;
    struct pass pass;
    struct optimizer *optimizer;
    struct limits *limits;
    int32_t *rows; // tokens, targets, documents
    double flops;  // of a step
    int64_t steps;
};

static enum tlm_status open_training(struct training *t, const struct tlm_model *m,
                                     const struct bench_train *how, int32_t threads, struct tlm_error *err)
{
    int32_t rows = how->sequences * how->context;
    struct pass_config config = {.rows = rows, .context = how->context, .gradients = true};
    struct optimizer_options adamw = optimizer_defaults(OPTIMIZER_ADAMW);
    enum tlm_status s = parameters_open(&t->parameters, m, how->type, NULL, err);
    if (s || (s = threads_open(&t->threads, threads, err)) ||
        (s = limits_open(&t->limits, m->isa, threads, err)))
        return s;
    t->slots = calloc((size_t)t->parameters.count, sizeof *t->slots);
    t->rows = malloc(3 * (size_t)rows * sizeof *t->rows);
    if (!t->slots || !t->rows) return error_set(err, TLM_ERR_MEMORY, "no memory for %d rows", rows);
    parameters_slots(&t->parameters, t->slots);
    t->flops = 3 * parameters_flops(&t->parameters.model, how->context) * rows;
    if ((s = pass_open(&t->pass, &t->parameters.model, t->slots, t->parameters.count, &config, t->threads,
                       err)))
        return s;
    return optimizer_open(&t->optimizer, &t->parameters, &adamw, m->isa, t->threads, err);
}

static void close_training(struct training *t)
{
    pass_close(&t->pass);
    optimizer_close(t->optimizer);
    parameters_close(&t->parameters);
    threads_close(t->threads);
    limits_close(t->limits);
    free(t->slots);
    free(t->rows);
}

// One step on tokens of its own. *seconds: that it took.
static enum tlm_status step(struct training *t, double *seconds, struct tlm_error *err)
{
    int32_t rows = t->pass.config.rows;
    int64_t vocab = t->parameters.model.hparams.vocab;
    struct pass_batch b = {t->rows, t->rows + rows, t->rows + 2 * rows};
    for (int32_t i = 0; i < rows; i++) {
        t->rows[i] = (int32_t)(rng_uniform(1, (uint64_t)t->steps, (uint64_t)i) * (double)vocab);
        t->rows[rows + i] = (int32_t)(rng_uniform(2, (uint64_t)t->steps, (uint64_t)i) * (double)vocab);
        t->rows[2 * rows + i] = i / t->pass.config.context;
    }
    double begin = common_seconds(), loss;
    enum tlm_status s = pass_run(&t->pass, &b, 1.0 / rows, false, (uint64_t)t->steps++, &loss, err);
    if (!s) optimizer_step(t->optimizer, 1e-4, 1);
    *seconds = common_seconds() - begin;
    return s;
}

// Steps until a slice is filled, then the limit for as long: a pair.
static enum tlm_status measure(struct training *t, struct bench_result *r, struct tlm_error *err)
{
    double seconds = 0, steps = 0, bound, took = 0;
    enum tlm_status s = TLM_OK;
    for (; seconds < SLICE && !s; seconds += took, steps++) s = step(t, &took, err);
    if (s) return s;
    double rate = steps * t->flops / seconds;
    s = bench_limit(&t->parameters.model, t->limits, r->limit, SLICE, &bound, err);
    r->work += steps * t->flops;
    r->seconds += seconds;
    if (s || (s = series_add(&r->samples_ns, 1e9 * seconds / steps, err)) ||
        (s = series_add(&r->samples_ts, t->pass.config.rows * steps / seconds, err)) ||
        (s = series_add(&r->rate, rate, err)) || (s = series_add(&r->bound, bound, err)))
        return s;
    return series_add(&r->share, rate / bound, err);
}

enum tlm_status bench_train(const char *format, const struct tlm_model *model, const struct bench_train *how,
                            const struct bench_result *common, int32_t repeats, size_t *results,
                            struct tlm_error *err)
{
    struct training t = {0};
    struct bench_result r = *common;
    char name[64];
    enum tlm_status s = open_training(&t, model, how, r.n_threads, err);
    snprintf(name, sizeof name, "train %dx%d %s", how->sequences, how->context, dtype_traits[how->type].name);
    r.what = name;
    r.limit = !s && how->type == DTYPE_BF16 && model->kernels.matmul_nn[DTYPE_BF16].x_type == DTYPE_BF16
                  ? LIMIT_BF16
                  : LIMIT_FMA;
    r.n_prompt = how->sequences * how->context;
    double first;
    if (!s) s = step(&t, &first, err); // pages of all arrays
    for (int32_t i = 0; i < repeats && !s; i++) s = measure(&t, &r, err);
    if (!s) {
        struct pass_bytes bytes = pass_size(&t.pass);
        char activations[16];
        bench_report(format, &r, (*results)++);
        fprintf(stderr, "%s: %.3f s a step, median; activations: %s\n", name,
                series_quantile(&r.samples_ns, 0.5) * 1e-9,
                common_human_bytes(bytes.activations, activations, sizeof activations));
    }
    bench_result_free(&r);
    close_training(&t);
    return s;
}
