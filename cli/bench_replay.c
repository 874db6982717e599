// cli/bench_replay.c -- what speculation brings on a given text, whatever the weights: the sampler's draws are forced to come to the
// text's tokens, so random weights serve as well as trained ones, and every guess is made, checked and rolled back at full cost.
//
// The first half of the text, or what comes before the tokens to draw, is the prompt. A draft model's guesses are forced likewise: each
// place of the text is guessed right with the chance that was asked for. Each run begins with a drafter that has measured nothing.
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "core/file.h"
#include "core/rng.h"
#include "generate/sample.h"

enum { SEED = 1 };

struct replay {
    const struct tlm_model *model;
    const struct bench_replay *how;
    struct tlm_session *session;
    struct tlm_sampler *sampler;
    struct tlm_model *draft_model;
    struct tlm_session *draft_session;
    struct tlm_sampler *draft_sampler;
    int32_t *tokens, *guesses; // of the text; with some made wrong
    int32_t prompt, answer;    // of the text's tokens
    int64_t drafted, accepted;
};

static enum tlm_status read_text(struct replay *p, struct tlm_error *err)
{
    char *text;
    size_t bytes, count;
    enum tlm_status status = file_read(p->how->text, &text, &bytes, err);
    if (status) return status;
    status = common_encode(p->model, text, bytes, TLM_ADD_BOS, &p->tokens, &count, err);
    free(text);
    if (status) return status;
    if (count < 8 || count > 1 << 20)
        return error_set(err, TLM_ERR_ARGUMENT, "%s: expected 8 to %d tokens, found %zu", p->how->text,
                         1 << 20, count);
    p->answer = (int32_t)count / 2 < p->how->most ? (int32_t)count / 2 : p->how->most;
    p->prompt = (int32_t)count - p->answer;
    p->guesses = malloc(count * sizeof *p->guesses);
    if (!p->guesses) return error_set(err, TLM_ERR_MEMORY, "no memory for %zu tokens", count);
    // Of the answer, exactly that share is right, in places drawn at random.
    int32_t wanted = (int32_t)((double)p->how->accept * p->answer + 0.5);
    for (size_t i = 0; i < count; i++) {
        double left = (double)(count - i);
        bool right = (int32_t)i >= p->prompt && rng_uniform(SEED, 0, i) * left < wanted;
        wanted -= right;
        p->guesses[i] = right ? p->tokens[i] : (p->tokens[i] + 1) % tlm_model_vocab_size(p->model);
    }
    return TLM_OK;
}

static enum tlm_status open_pair(const struct tlm_model *m, const struct bench_result *r,
                                 const int32_t *forced, int32_t count, int32_t context,
                                 struct tlm_session **session, struct tlm_sampler **sampler,
                                 struct tlm_error *err)
{
    struct tlm_session_options options = {.context = context,
                                          .threads = r->n_threads,
                                          .batch = r->n_batch,
                                          .kv_type_k = r->type_k,
                                          .kv_type_v = r->type_v};
    struct tlm_sampler_options greedy = tlm_sampler_defaults();
    greedy.temperature = 0;
    enum tlm_status status = tlm_session_open(session, m, &options, err);
    if (status || (status = tlm_sampler_open(sampler, m, &greedy, err))) return status;
    (*sampler)->forced = forced;
    (*sampler)->forced_count = (uint64_t)count;
    return TLM_OK;
}

static enum tlm_status open_all(struct replay *p, const struct bench_result *r, struct tlm_error *err)
{
    struct tlm_model_options how = {.isa = r->isa};
    enum tlm_status status = read_text(p, err);
    int32_t all = p->prompt + p->answer;
    if (status || (status = open_pair(p->model, r, p->tokens + p->prompt, p->answer, all, &p->session,
                                      &p->sampler, err)))
        return status;
    if (!p->how->draft) return TLM_OK;
    if ((status = tlm_model_open(&p->draft_model, p->how->draft, &how, err))) return status;
    return open_pair(p->draft_model, r, p->guesses + p->prompt, p->answer, all, &p->draft_session,
                     &p->draft_sampler, err);
}

static void close_all(struct replay *p)
{
    tlm_session_close(p->session);
    tlm_sampler_close(p->sampler);
    tlm_session_close(p->draft_session);
    tlm_sampler_close(p->draft_sampler);
    tlm_model_close(p->draft_model);
    free(p->tokens);
    free(p->guesses);
}

// *speed: tokens a second behind the first one, which the prompt's pass brings.
static enum tlm_status run(struct replay *p, bool guess, double *speed, struct tlm_error *err)
{
    struct tlm_generate_options options = {.max_tokens = p->answer};
    struct tlm_generate_result result;
    enum tlm_status status = TLM_OK;
    if (guess && p->draft_model)
        status = tlm_drafter_open_model(&options.drafter, p->draft_session, p->draft_sampler, p->model, err);
    else if (guess)
        status = tlm_drafter_open_lookup(&options.drafter, err);
    if (status) return status;
    tlm_sampler_reset(p->sampler);
    status = tlm_generate(p->session, p->sampler, p->tokens, (size_t)p->prompt, &options, &result, err);
    tlm_drafter_close(options.drafter);
    if (!status) {
        TLM_ASSERT(
            !memcmp(result.tokens, p->tokens, (size_t)(p->prompt + result.new_tokens) * sizeof *p->tokens));
        *speed = (result.new_tokens - 1) / result.new_seconds;
        p->drafted += result.drafted_tokens;
        p->accepted += result.accepted_tokens;
    }
    free(result.tokens);
    return status;
}

// One pair, the order turning from pair to pair.
static enum tlm_status measure(struct replay *p, struct bench_result *r, bool guess_first,
                               struct tlm_error *err)
{
    double speed[2];
    enum tlm_status status;
    for (int i = 0; i < 2; i++) {
        bool guess = (i == 0) == guess_first;
        if ((status = run(p, guess, &speed[guess], err))) return status;
    }
    r->work += p->answer - 1;
    r->seconds += (p->answer - 1) / speed[1];
    if ((status = series_add(&r->samples_ns, 1e9 * (p->answer - 1) / speed[1], err)) ||
        (status = series_add(&r->samples_ts, speed[1], err)) ||
        (status = series_add(&r->rate, speed[1], err)) || (status = series_add(&r->bound, speed[0], err)))
        return status;
    return series_add(&r->share, speed[1] / speed[0], err);
}

enum tlm_status bench_replay(const char *format, const struct tlm_model *model,
                             const struct bench_replay *replay, const struct bench_result *common,
                             int32_t repeats, size_t *results, struct tlm_error *err)
{
    struct replay p = {.model = model, .how = replay};
    struct bench_result r = *common;
    char name[64];
    double speed;
    enum tlm_status status = open_all(&p, &r, err);
    r.what = name;
    r.against = "plain";
    r.n_prompt = p.prompt;
    r.n_gen = p.answer;
    if (!status) status = run(&p, true, &speed, err); // pages of the caches, the prompts
    p.drafted = p.accepted = 0;
    for (int32_t i = 0; i < repeats && !status; i++) status = measure(&p, &r, i % 2, err);
    int percent = p.drafted ? (int)(100 * p.accepted / p.drafted) : 0;
    snprintf(name, sizeof name, "%s, %d%% of %d right", replay->draft ? "draft" : "lookup", percent,
             (int)(p.drafted / (repeats ? repeats : 1)));
    if (!status) bench_report(format, &r, (*results)++);
    bench_result_free(&r);
    close_all(&p);
    return status;
}
