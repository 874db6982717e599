// generate/draft_model.c -- guesses by a smaller model with the same vocabulary.
//
// Its own sampler, with the options of the one that will draw, takes over that one's history and random numbers: so it draws the same
// token wherever the two models agree well enough.
#include <stdlib.h>
#include <string.h>

#include "generate/draft.h"
#include "generate/sample.h"
#include "generate/session.h"

struct model_drafter {
    struct tlm_drafter base;
    struct tlm_session *session;
    struct tlm_sampler *sampler;
    int32_t *tokens; // [context + DRAFT_MOST]
    int32_t context;
    int32_t vocab; // of the target
};

static int model_kind(struct tlm_drafter *d, const int32_t *tokens, int32_t count, int32_t *branches)
{
    (void)tokens;
    *branches = 1;
    return count < ((struct model_drafter *)d)->context ? 2 : -1; // believed as much as a long match
}

static enum tlm_status model_read(struct tlm_drafter *d, const int32_t *tokens, int32_t count,
                                  struct tlm_error *err)
{
    struct tlm_session *s = ((struct model_drafter *)d)->session;
    if (count - (int32_t)tlm_session_cached(s, tokens, (size_t)count) <= DRAFT_ROWS) return TLM_OK;
    return tlm_session_sync(s, tokens, (size_t)count - 1, err); // the last is read by the pass that guesses
}

static enum tlm_status model_guess(struct tlm_drafter *d, const struct tlm_sampler *sampler,
                                   const int32_t *tokens, int32_t count, int32_t most, int32_t branches,
                                   struct draft *draft, struct tlm_error *err)
{
    (void)branches;
    struct model_drafter *m = (struct model_drafter *)d;
    memcpy(m->tokens, tokens, (size_t)count * sizeof *tokens);
    sampler_copy_state(m->sampler, sampler);
    int32_t n = 0;
    for (; n < most && count + n < m->context; n++) {
        int32_t token;
        enum tlm_status status =
            session_draw(m->session, m->tokens, (size_t)(count + n), m->sampler, &token, err);
        if (status) return status;
        if (token >= m->vocab) break;
        tlm_sampler_accept(m->sampler, token);
        m->tokens[count + n] = draft->tokens[0][n] = token;
        if (tlm_token_is_end(tlm_session_model(m->session), token)) {
            n++;
            break;
        }
    }
    draft->count[0] = n;
    draft->branches = n > 0;
    return TLM_OK;
}

static void model_close(struct tlm_drafter *d)
{
    free(((struct model_drafter *)d)->tokens);
    free(d);
}

// A guess is only of use if a token means the same to both.
static enum tlm_status same_vocabulary(const struct tlm_model *draft, const struct tlm_model *target,
                                       struct tlm_error *err)
{
    int32_t a = tlm_model_vocab_size(draft), b = tlm_model_vocab_size(target);
    for (int32_t id = 0; id < a && id < b; id++) {
        char x[256], y[256];
        size_t n = 0, m = 0;
        if (tlm_detokenize(draft, &id, 1, TLM_SHOW_SPECIAL | TLM_CONTINUE, x, sizeof x, &n, err) ||
            tlm_detokenize(target, &id, 1, TLM_SHOW_SPECIAL | TLM_CONTINUE, y, sizeof y, &m, err))
            return err->code;
        if (n != m || memcmp(x, y, n < sizeof x ? n : sizeof x))
            return error_set(err, TLM_ERR_ARGUMENT,
                             "draft model: expected the vocabulary of the model, found another token %d: "
                             "'%.*s', not '%.*s'",
                             id, (int)(n < 40 ? n : 40), x, (int)(m < 40 ? m : 40), y);
    }
    return TLM_OK;
}

enum tlm_status tlm_drafter_open_model(struct tlm_drafter **out, struct tlm_session *session,
                                       struct tlm_sampler *sampler, const struct tlm_model *target,
                                       struct tlm_error *err)
{
    static const struct drafter_class class = {model_kind, model_read, model_guess, model_close};
    *out = NULL;
    enum tlm_status status = same_vocabulary(tlm_session_model(session), target, err);
    if (status) return status;
    struct model_drafter *m = calloc(1, sizeof *m);
    if (m) m->context = tlm_session_info(session).context;
    if (m) m->tokens = malloc((size_t)(m->context + DRAFT_MOST) * sizeof *m->tokens);
    if (!m || !m->tokens) {
        free(m);
        return error_set(err, TLM_ERR_MEMORY, "drafter: no memory for a timeline");
    }
    m->base.class = &class;
    m->session = session;
    m->sampler = sampler;
    m->vocab = tlm_model_vocab_size(target);
    *out = &m->base;
    return TLM_OK;
}
