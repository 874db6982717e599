#include "generate/request.h"

#include <stdlib.h>
#include <string.h>

#include "generate/sample.h"

enum tlm_status request_open(struct request *r, struct forward *f, struct tlm_sampler *sampler,
                             const int32_t *tokens, int32_t count, int32_t capacity, int32_t sequence,
                             int32_t computed, const struct tlm_generate_options *options,
                             struct tlm_error *err)
{
    *r = (struct request){.forward = f,
                          .sampler = sampler,
                          .options = *options,
                          .count = count,
                          .computed = computed,
                          .sequence = sequence};
    TLM_ASSERT(computed < count && count <= capacity);
    if (options->max_tokens > 0 && options->max_tokens < capacity - count)
        capacity = count + options->max_tokens;
    r->capacity = capacity;
    r->result.prompt_tokens = count;
    r->result.reused_tokens = computed;
    r->result.tokens = malloc((size_t)capacity * sizeof *tokens);
    if (!r->result.tokens) return error_set(err, TLM_ERR_MEMORY, "answer: no memory for %d tokens", capacity);
    enum tlm_status status = stream_open(&r->stream, f->model, &r->options, err);
    if (status) {
        free(r->result.tokens);
        return status;
    }
    memcpy(r->result.tokens, tokens, (size_t)count * sizeof *tokens);
    tlm_sampler_set_history(sampler, tokens, (size_t)count);
    if ((status = sampler_set_budget(sampler, capacity - count, err))) {
        stream_close(&r->stream);
        free(r->result.tokens);
    }
    return status;
}

void request_close(struct request *r)
{
    stream_close(&r->stream);
}

void request_finish(struct request *r, enum tlm_finish finish)
{
    r->result.finish = finish;
    r->done = true;
    stream_end(&r->stream);
}

// ---- rows ---------------------------------------------------------------------------------------------

// A sequence of its own for branch b. Where there is none, or no block for it, the branch is left out.
static bool fork_branch(struct request *r, int32_t b)
{
    struct kv_cache *c = &r->forward->cache;
    int32_t s = kv_acquire(c);
    if (s == KV_NONE) return false;
    r->branch_sequence[b] = s;
    if (kv_fork(c, s, r->sequence, r->computed) == r->computed &&
        kv_reserve(c, s, r->computed + 1 + r->draft.count[b], NULL) == TLM_OK &&
        kv_truncate(c, s, r->computed) == r->computed)
        return true;
    kv_release(c, s);
    return false;
}

static enum tlm_status guess(struct request *r, int32_t room, int32_t branches, struct tlm_error *err)
{
    // Behind the guesses one more token is drawn.
    int32_t left = r->capacity - r->count - 1, most = room - 1 < left ? room - 1 : left;
    if (most > DRAFT_MOST) most = DRAFT_MOST;
    if (r->options.draft_max > 0 && most > r->options.draft_max) most = r->options.draft_max;
    r->draft.branches = 0;
    if (!r->options.drafter || most < 1 || branches < 1 || r->options.max_tokens < 0) return TLM_OK;
    enum tlm_status status = draft_make(r->options.drafter, r->sampler, r->result.tokens, r->count, most,
                                        branches, &r->draft, err);
    int32_t taken = 1 + r->draft.count[0];
    for (int32_t b = 1; !status && b < r->draft.branches; b++) {
        taken += 1 + r->draft.count[b];
        if (taken > room || taken > r->forward->config.max_outputs || !fork_branch(r, b))
            r->draft.branches = b; // this one and those behind it are left out
    }
    return status;
}

static void add_row(struct request *r, struct forward_row *rows, int32_t token, int32_t position,
                    int32_t sequence, bool output)
{
    rows[r->rows++] = (struct forward_row){token, position, sequence, output};
    r->outputs += output;
}

enum tlm_status request_rows(struct request *r, struct forward_row *rows, int32_t room, int32_t branches,
                             struct tlm_error *err)
{
    TLM_ASSERT(room > 0 && !r->done);
    const int32_t *tokens = r->result.tokens;
    r->rows = r->outputs = 0;
    r->draft.branches = 0;
    int32_t pending = r->count - r->computed;
    if (pending > 1) { // of the prompt
        for (int32_t i = r->computed; i < r->count && r->rows < room; i++)
            add_row(r, rows, tokens[i], i, r->sequence, i + 1 == r->count);
        return TLM_OK;
    }
    enum tlm_status status = guess(r, room, branches, err);
    if (status) return status;
    int32_t last = r->count - 1;
    r->branch_sequence[0] = r->sequence;
    add_row(r, rows, tokens[last], last, r->sequence, true);
    for (int32_t b = 0; b < r->draft.branches; b++) {
        if (b) add_row(r, rows, tokens[last], last, r->branch_sequence[b], false);
        r->branch_output[b] = r->outputs;
        for (int32_t i = 0; i < r->draft.count[b]; i++) {
            add_row(r, rows, r->draft.tokens[b][i], r->count + i, r->branch_sequence[b], true);
            r->result.drafted_tokens++;
        }
    }
    return TLM_OK;
}

void request_expect(const struct request *r, int32_t first_output)
{
    struct forward *f = r->forward;
    if (!r->outputs || r->options.max_tokens < 0) return;
    forward_expect_draw(f, first_output, r->sampler, NULL, 0);
    for (int32_t b = 0; b < r->draft.branches; b++)
        for (int32_t i = 0; i < r->draft.count[b]; i++)
            forward_expect_draw(f, first_output + r->branch_output[b] + i, r->sampler, r->draft.tokens[b],
                                i + 1);
}

enum request_next request_row_ahead(const struct request *r, int32_t output, struct forward_row *row)
{
    const bool lone = r->outputs == 1 && !r->draft.branches && !r->options.drafter;
    if (r->outputs && r->count + 1 >= r->capacity) return REQUEST_ENDS;
    if (!lone || r->options.max_tokens < 0 || !sampler_goes_ahead(r->sampler)) return REQUEST_WAITS;
    *row = (struct forward_row){~output, r->count, r->sequence, true};
    return REQUEST_GOES_AHEAD;
}

void request_drop_ahead(struct request *r)
{
    r->ahead = false;
    kv_truncate(&r->forward->cache, r->sequence, r->computed);
}

// ---- outputs ------------------------------------------------------------------------------------------

// Draws the next token of the timeline from an output of the pass and hands out its text.
static enum tlm_status draw(struct request *r, int32_t output, struct tlm_error *err)
{
    int32_t token = forward_draw(r->forward, output, r->sampler);
    bool stopped, cancelled;
    tlm_sampler_accept(r->sampler, token);
    r->result.tokens[r->count++] = token;
    r->result.new_tokens++;
    enum tlm_status status = stream_token(&r->stream, token, &stopped, &cancelled, err);
    if (status) return status;
    if (cancelled)
        request_finish(r, TLM_FINISH_CANCELLED);
    else if (tlm_token_is_end(r->forward->model, token))
        request_finish(r, TLM_FINISH_END);
    else if (stopped)
        request_finish(r, TLM_FINISH_STOP);
    else if (sampler_is_over(r->sampler))
        request_finish(r, TLM_FINISH_END);
    else if (r->options.max_tokens && r->result.new_tokens >= r->options.max_tokens)
        request_finish(r, TLM_FINISH_LENGTH);
    else if (r->count >= r->capacity)
        request_finish(r, TLM_FINISH_CONTEXT);
    return TLM_OK;
}

// The branch that guessed what was drawn becomes the timeline's sequence; the others are given back.
static void keep_branch(struct request *r, int32_t winner)
{
    struct kv_cache *c = &r->forward->cache;
    for (int32_t b = 0; b < r->draft.branches; b++)
        if (b != winner) kv_release(c, r->branch_sequence[b]);
    if (r->draft.branches) r->sequence = r->branch_sequence[winner];
}

// Draws for as long as some branch has guessed what is drawn.
static enum tlm_status verify(struct request *r, int32_t first_output, struct tlm_error *err)
{
    int32_t right = 0, winner = 0;
    unsigned alive = (1u << r->draft.branches) - 1;
    enum tlm_status status = draw(r, first_output, err);
    while (!status && !r->done) {
        int32_t drawn = r->result.tokens[r->count - 1];
        for (int32_t b = r->draft.branches; b-- > 0;)
            if (right >= r->draft.count[b] || r->draft.tokens[b][right] != drawn) alive &= ~(1u << b);
        if (!alive) break;
        winner = __builtin_ctz(alive);
        right++;
        status = draw(r, first_output + r->branch_output[winner] + right - 1, err);
    }
    if (r->draft.branches)
        draft_came_out(&r->options.drafter->control, r->options.drafter->kind, r->draft.branches, winner,
                       r->draft.count[winner], right);
    r->result.accepted_tokens += right;
    r->computed += 1 + right;
    keep_branch(r, winner);
    return status;
}

enum tlm_status request_take(struct request *r, int32_t first_output, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    if (r->options.max_tokens < 0 || r->count - r->computed > 1) {
        r->computed += r->rows;
        if (r->outputs && r->options.max_tokens < 0)
            request_finish(r, TLM_FINISH_LENGTH);
        else if (r->outputs)
            status = draw(r, first_output, err);
    } else {
        status = verify(r, first_output, err);
    }
    struct kv_cache *c = &r->forward->cache;
    r->ahead &= !r->done;
    kv_truncate(c, r->sequence, r->computed + r->ahead);
    kv_commit(c, r->sequence, r->result.tokens, r->computed);
    if (r->ahead) r->rows = r->outputs = 1;
    return status;
}
