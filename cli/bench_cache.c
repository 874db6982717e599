// cli/bench_cache.c -- what the cache's ways cost and bring, each in turn with doing without:
//
//     prompt again, prompt + 32    a session is asked the prompt that it has answered, the same and with 32 tokens more, against the first
//                                  time: speeds of the whole prompt up to its logits
//     steps, paged                 one sequence in blocks, against one stretch of memory
//     steps, scattered             the same where each second block is another sequence's
//     steps xN, shared             N sequences that share their whole depth, against N copies of it
//
// Both caches of a pair are open at the same time, so the pairs are a step or a prompt apart.
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "core/rng.h"
#include "generate/forward.h"

enum { MORE = 32, STEPS = 16, SEED = 7 };

static int32_t any_token(const struct tlm_model *m, uint64_t stream, int32_t at)
{
    return (int32_t)(rng_uniform(SEED, stream, (uint64_t)at) * tlm_model_vocab_size(m));
}

static enum tlm_status add_pair(struct bench_result *r, double tokens, double seconds, double plain_seconds,
                                struct tlm_error *err)
{
    enum tlm_status status;
    r->work += tokens;
    r->seconds += seconds;
    if ((status = series_add(&r->samples_ns, 1e9 * seconds, err)) ||
        (status = series_add(&r->samples_ts, tokens / seconds, err)) ||
        (status = series_add(&r->rate, tokens / seconds, err)) ||
        (status = series_add(&r->bound, tokens / plain_seconds, err)))
        return status;
    return series_add(&r->share, plain_seconds / seconds, err);
}

// ---- prompts ------------------------------------------------------------------------------------------

static enum tlm_status timed_sync(struct tlm_session *s, const int32_t *tokens, int32_t count,
                                  double *seconds, struct tlm_error *err)
{
    double begin = common_seconds();
    enum tlm_status status = tlm_session_sync(s, tokens, (size_t)count, err);
    *seconds = common_seconds() - begin;
    return status;
}

static enum tlm_status prompts(const char *format, const struct tlm_model *m,
                               const struct bench_result *common, int32_t repeats, size_t *results,
                               struct tlm_error *err)
{
    int32_t count = common->n_prompt;
    struct bench_result again = *common, more = *common;
    struct tlm_session_options options = {.context = count + MORE,
                                          .threads = common->n_threads,
                                          .batch = common->n_batch,
                                          .kv_type_k = common->type_k,
                                          .kv_type_v = common->type_v};
    struct tlm_session *s;
    int32_t *tokens = malloc((size_t)(count + MORE) * sizeof *tokens);
    if (!tokens) return error_set(err, TLM_ERR_MEMORY, "no memory for %d tokens", count);
    enum tlm_status status = tlm_session_open(&s, m, &options, err);
    again.what = "prompt again";
    more.what = "prompt + 32";
    again.against = more.against = "plain";
    for (int32_t i = 0; i <= repeats && !status; i++) { // the first time brings the weights
        double first, second, third;
        int32_t one = any_token(m, 1000 + (uint64_t)i, 0);
        for (int32_t t = 0; t < count + MORE; t++) tokens[t] = any_token(m, (uint64_t)i, t);
        if ((status = timed_sync(s, tokens, count, &first, err)) ||
            (status = timed_sync(s, &one, 1, &second, err)) || // somebody else was here
            (status = timed_sync(s, tokens, count, &second, err)) ||
            (status = timed_sync(s, tokens, count + MORE, &third, err)) || !i)
            continue;
        if (!(status = add_pair(&again, count, second, first, err)))
            status = add_pair(&more, count + MORE, third, first * (count + MORE) / count, err);
    }
    if (!status) {
        bench_report(format, &again, (*results)++);
        bench_report(format, &more, (*results)++);
    }
    bench_result_free(&again);
    bench_result_free(&more);
    tlm_session_close(s);
    free(tokens);
    return status;
}

// ---- steps --------------------------------------------------------------------------------------------

struct steps {
    const struct tlm_model *model;
    struct forward forward;
    struct forward_row *rows;
    int32_t count; // sequences that step
};

static enum tlm_status read_rows(struct steps *s, int32_t sequence, int32_t begin, int32_t end,
                                 struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (int32_t at = begin; at < end && !status;) {
        int32_t n = 0;
        for (; at < end && n < s->forward.config.max_rows; at++)
            s->rows[n++] = (struct forward_row){any_token(s->model, 0, at), at, sequence, false};
        status = forward_run(&s->forward, s->rows, n, err);
    }
    return status;
}

// `count` sequences of `depth` tokens: forks of one another, or (scattered) one that grew in turn with another.
static enum tlm_status open_steps(struct steps *s, const struct tlm_model *m, const struct bench_result *r,
                                  int32_t count, enum kv_policy policy, bool scattered, struct tlm_error *err)
{
    struct forward_config config = {.context = r->n_depth + STEPS,
                                    .sequences = scattered ? count + 1 : count,
                                    .max_rows = r->n_batch,
                                    .max_outputs = count,
                                    .threads = r->n_threads,
                                    .type_k = (enum dtype)dtype_parse(r->type_k),
                                    .type_v = (enum dtype)dtype_parse(r->type_v),
                                    .policy = policy};
    *s = (struct steps){.model = m, .count = count};
    if (m->real == DTYPE_F64) config.type_k = config.type_v = DTYPE_F64;
    if (config.max_rows < count) config.max_rows = count;
    s->rows = calloc((size_t)config.max_rows, sizeof *s->rows);
    if (!s->rows) return error_set(err, TLM_ERR_MEMORY, "no memory for %d rows", config.max_rows);
    enum tlm_status status = forward_open(&s->forward, m, &config, err);
    for (int32_t at = 0; scattered && at < r->n_depth + STEPS && !status; at += KV_BLOCK) {
        struct kv_cache *c = &s->forward.cache;
        if (!(status =
                  kv_reserve(c, 0, at + KV_BLOCK < config.context ? at + KV_BLOCK : config.context, err)))
            status = kv_reserve(c, 1, at + KV_BLOCK < config.context ? at + KV_BLOCK : config.context, err);
    }
    if (!status) status = read_rows(s, 0, 0, r->n_depth, err);
    for (int32_t q = 1; q < count && !status; q++) kv_fork(&s->forward.cache, q, 0, r->n_depth);
    return status;
}

static void close_steps(struct steps *s)
{
    if (s->forward.model) forward_close(&s->forward);
    free(s->rows);
}

// STEPS steps behind `depth`; *seconds of all.
static enum tlm_status run_steps(struct steps *s, int32_t depth, double *seconds, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    double begin = common_seconds();
    for (int32_t i = 0; i < STEPS && !status; i++) {
        for (int32_t q = 0; q < s->count; q++)
            s->rows[q] = (struct forward_row){any_token(s->model, (uint64_t)q, i), depth + i, q, true};
        status = forward_run(&s->forward, s->rows, s->count, err);
    }
    *seconds = common_seconds() - begin;
    return status;
}

static enum tlm_status steps(const char *format, const struct tlm_model *m, const struct bench_result *common,
                             int32_t count, bool scattered, int32_t repeats, size_t *results,
                             struct tlm_error *err)
{
    struct bench_result r = *common;
    struct steps with = {0}, without = {0};
    char name[48];
    if (count > 1)
        snprintf(name, sizeof name, "steps x%d, shared %d", count, r.n_depth);
    else
        snprintf(name, sizeof name, "steps, %s @ d%d", scattered ? "scattered" : "paged", r.n_depth);
    r.what = name;
    r.against = "plain";
    r.n_prompt = 0;
    r.n_gen = STEPS;
    r.n_parallel = count;
    enum tlm_status status = open_steps(&with, m, &r, count, KV_PAGED, scattered, err);
    if (!status) status = open_steps(&without, m, &r, count, KV_CONTIGUOUS, false, err);
    for (int32_t i = 0; i <= repeats && !status; i++) {
        double a, b;
        struct steps *order[] = {i % 2 ? &without : &with, i % 2 ? &with : &without};
        double *times[] = {i % 2 ? &b : &a, i % 2 ? &a : &b};
        for (int k = 0; k < 2 && !status; k++) {
            for (int32_t q = 0; q < count; q++) kv_truncate(&order[k]->forward.cache, q, r.n_depth);
            status = run_steps(order[k], r.n_depth, times[k], err);
        }
        if (!status && i) status = add_pair(&r, (double)STEPS * count, a, b, err);
    }
    if (!status) bench_report(format, &r, (*results)++);
    bench_result_free(&r);
    close_steps(&with);
    close_steps(&without);
    return status;
}

enum tlm_status bench_cache(const char *format, const struct tlm_model *model,
                            const struct bench_result *common, int32_t parallel, int32_t repeats,
                            size_t *results, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    if (common->n_prompt) status = prompts(format, model, common, repeats, results, err);
    for (int scattered = 0; scattered < 2 && common->n_depth && !status; scattered++)
        status = steps(format, model, common, 1, scattered, repeats, results, err);
    if (!status && common->n_depth && parallel > 1)
        status = steps(format, model, common, parallel, false, repeats, results, err);
    return status;
}
