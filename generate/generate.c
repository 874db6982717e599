// generate/generate.c -- tlm_generate(): one answer on a session.
#include <string.h>

#include "generate/clock.h"
#include "generate/request.h"
#include "generate/session.h"

// Launches the next pass of the request.
static enum tlm_status launch(struct tlm_session *s, struct request *r, struct tlm_error *err)
{
    struct forward *f = &s->forward;
    enum tlm_status status = request_rows(r, s->rows, f->config.max_rows, DRAFT_BRANCHES, err);
    if (status) return status;
    forward_expect_draws(f, r->outputs);
    request_expect(r, 0);
    return forward_launch(f, s->rows, r->rows, err);
}

// And the one behind it, where a device can go on without the host.
static enum tlm_status launch_ahead(struct tlm_session *s, struct request *r, struct tlm_error *err)
{
    struct forward *f = &s->forward;
    struct forward_row row;
    if (!forward_goes_ahead(f) || request_row_ahead(r, 0, &row) != REQUEST_GOES_AHEAD) return TLM_OK;
    forward_expect_draws(f, 1);
    forward_expect_draw(f, 0, r->sampler, &row.token, 1);
    enum tlm_status status = forward_launch(f, &row, 1, err);
    r->ahead = !status;
    return status == TLM_ERR_CONTEXT ? TLM_OK : status; // no room yet
}

// One pass of the request.
static enum tlm_status step(struct tlm_session *s, struct request *r, struct tlm_error *err)
{
    struct forward *f = &s->forward;
    bool prompt = r->count - r->computed > 1;
    double begin = clock_seconds();
    enum tlm_status status = r->ahead ? TLM_OK : launch(s, r, err);
    r->ahead = false;
    if (status || (status = launch_ahead(s, r, err)) || (status = forward_wait(f, err))) return status;
    if (f->lost) {
        request_drop_ahead(r);
        return forward_drop(f, err);
    }
    if (!prompt && r->options.drafter)
        draft_pass_took(&r->options.drafter->control, r->rows, clock_seconds() - begin);
    s->computed += (uint64_t)r->rows;
    if ((status = request_take(r, 0, err))) return status;
    bool stop = prompt && r->options.on_prompt &&
                r->options.on_prompt(r->options.user, r->computed, r->result.prompt_tokens);
    if (stop && !r->done) request_finish(r, TLM_FINISH_CANCELLED);
    return TLM_OK;
}

enum tlm_status tlm_generate(struct tlm_session *session, struct tlm_sampler *sampler, const int32_t *prompt,
                             size_t count, const struct tlm_generate_options *options,
                             struct tlm_generate_result *result, struct tlm_error *err)
{
    *result = (struct tlm_generate_result){0};
    enum tlm_status status = session_check(session, prompt, count, err);
    if (status) return status;
    double begin = clock_seconds(), new_begin = begin;
    session_rewind(session, prompt, count - 1);
    session->reused += (uint64_t)session->length;
    session->logits_row = -1;
    struct request r;
    // The last drawn token needs no place in the cache.
    if ((status = request_open(&r, &session->forward, sampler, prompt, (int32_t)count,
                               session->forward.config.context + 1, session->sequence, session->length,
                               options, err)))
        return status;
    while (!status && !r.done) {
        bool was_prompt = !r.result.new_tokens;
        status = step(session, &r, err);
        if (was_prompt) new_begin = clock_seconds();
    }
    if (session->forward.begun > session->forward.waited) { // a pass that nobody wants
        const enum tlm_status end = forward_drop(&session->forward, status ? NULL : err);
        if (!status) status = end;
        request_drop_ahead(&r);
    }
    r.result.prompt_seconds = new_begin - begin;
    r.result.new_seconds = clock_seconds() - new_begin;
    session->sequence = r.sequence;
    session->length = r.computed;
    memcpy(session->tokens, r.result.tokens, (size_t)r.computed * sizeof *prompt);
    *result = r.result;
    request_close(&r);
    return status;
}
