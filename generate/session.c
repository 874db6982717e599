// generate/session.c -- the sessions of tinylm.h: one timeline of tokens over a forward pass of one sequence.
#include "generate/session.h"

#include <limits.h>

#include "generate/draft.h"
#include "generate/shift.h"

enum { DEFAULT_CONTEXT = 4096, DEFAULT_BATCH = 512, MAX_BATCH = 16384, MAX_OUTPUTS = 128 };

static enum tlm_status kv_type(const char *name, const char *option, enum dtype *type, struct tlm_error *err)
{
    int parsed = name ? dtype_parse(name) : DTYPE_F16;
    if (parsed != DTYPE_F32 && parsed != DTYPE_F16 && parsed != DTYPE_BF16 && parsed != DTYPE_F8_E4M3 &&
        parsed != DTYPE_Q8_0 && parsed != DTYPE_Q4_0)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%s: expected f16, f32, bf16, f8_e4m3, q8_0 or q4_0, found '%s'", option, name);
    *type = (enum dtype)parsed;
    return TLM_OK;
}

static enum tlm_status in_range(const char *what, int64_t value, int64_t max, struct tlm_error *err)
{
    if (value >= 1 && value <= max) return TLM_OK;
    return error_set(err, TLM_ERR_ARGUMENT, "%s: expected 1 to %lld, found %lld", what, (long long)max,
                     (long long)value);
}

enum tlm_status session_resolve(const struct tlm_model *m, struct forward_config *c, const char *kv_type_k,
                                const char *kv_type_v, struct tlm_error *err)
{
    enum tlm_status s;
    if (!m->arch)
        return error_set(err, TLM_ERR_ARGUMENT, "session: the model was opened for its vocabulary alone");
    int64_t trained = m->hparams.context;
    if (!c->context) c->context = trained < DEFAULT_CONTEXT ? (int32_t)trained : DEFAULT_CONTEXT;
    if (!c->max_rows) c->max_rows = DEFAULT_BATCH;
    if (!c->threads) c->threads = cpu_count();
    if ((s = in_range("context", c->context, INT32_MAX / 2, err)) ||
        (s = in_range("batch", c->max_rows, MAX_BATCH, err)) ||
        (s = in_range("threads", c->threads, THREADS_MAX, err)) ||
        (s = kv_type(kv_type_k, "type of cached keys", &c->type_k, err)) ||
        (s = kv_type(kv_type_v, "type of cached values", &c->type_v, err)))
        return s;
    if (m->real == DTYPE_F64) c->type_k = c->type_v = DTYPE_F64; // the oracle rounds nothing
    return TLM_OK;
}

enum tlm_status tlm_session_open(struct tlm_session **out, const struct tlm_model *m,
                                 const struct tlm_session_options *options, struct tlm_error *err)
{
    static const struct tlm_session_options defaults;
    *out = NULL;
    if (!options) options = &defaults;
    struct forward_config config = {
        .context = options->context, .max_rows = options->batch, .threads = options->threads};
    enum tlm_status status = session_resolve(m, &config, options->kv_type_k, options->kv_type_v, err);
    if (status) return status;
    if (options->reuse_shifted < 0)
        return error_set(err, TLM_ERR_ARGUMENT, "reuse_shifted: expected 0 or more, found %d",
                         options->reuse_shifted);
    if (options->reuse_shifted && m->backend)
        return error_set(err, TLM_ERR_UNSUPPORTED, "reuse_shifted: not on a GPU yet");
    if (config.max_rows > config.context) config.max_rows = config.context;
    config.max_outputs = config.max_rows < MAX_OUTPUTS ? config.max_rows : MAX_OUTPUTS;
    // One timeline, and what the branches of a draft write behind it.
    config.sequences = DRAFT_BRANCHES;
    config.blocks = kv_blocks(config.context) + DRAFT_BRANCHES * (kv_blocks(DRAFT_MOST + 1) + 1);
    struct tlm_session *s = calloc(1, sizeof *s);
    if (s) s->rows = calloc((size_t)config.max_rows, sizeof *s->rows);
    if (s) s->tokens = calloc((size_t)config.context, sizeof *s->tokens);
    if (!s || !s->rows || !s->tokens) {
        tlm_session_close(s);
        return error_set(err, TLM_ERR_MEMORY, "session: no memory for a context of %d tokens",
                         config.context);
    }
    s->logits_row = -1;
    if ((status = forward_open(&s->forward, m, &config, err))) {
        tlm_session_close(s);
        return status;
    }
    s->sequence = kv_acquire(&s->forward.cache);
    s->reuse = options->reuse_shifted;
    *out = s;
    return TLM_OK;
}

void tlm_session_close(struct tlm_session *s)
{
    if (!s) return;
    if (s->forward.model) forward_close(&s->forward);
    free(s->rows);
    free(s->tokens);
    free(s);
}

enum tlm_status session_check_ids(const struct tlm_model *m, const int32_t *tokens, size_t first,
                                  size_t count, struct tlm_error *err)
{
    for (size_t i = first; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= m->hparams.vocab)
            return error_set(err, TLM_ERR_ARGUMENT, "token %zu: expected an id from 0 to %lld, found %d", i,
                             (long long)m->hparams.vocab - 1, tokens[i]);
    return TLM_OK;
}

// Tokens of the timeline that stay: the common prefix with tokens[0..limit).
static size_t common_prefix(const struct tlm_session *s, const int32_t *tokens, size_t limit)
{
    size_t n = 0;
    while (n < (size_t)s->length && n < limit && s->tokens[n] == tokens[n]) n++;
    return n;
}

enum tlm_status session_check(const struct tlm_session *s, const int32_t *tokens, size_t count,
                              struct tlm_error *err)
{
    if (!count) return error_set(err, TLM_ERR_ARGUMENT, "tokens: expected at least one, found none");
    if (count > (size_t)s->forward.config.context)
        return error_set(err, TLM_ERR_CONTEXT, "context: %zu tokens do not fit into a context of %d", count,
                         s->forward.config.context);
    // Those in front equal the timeline's, which were checked when they came.
    return session_check_ids(s->forward.model, tokens, common_prefix(s, tokens, count), count, err);
}

// Pieces of the old timeline that stand in tokens[at..limit) from `at` on without a gap, each of at least `least` tokens: kept by moving
// them to `to`, or (KV_NONE) only counted. Returns where they end.
static int32_t move_pieces(struct tlm_session *s, const int32_t *tokens, int32_t at, int32_t limit,
                           int32_t to)
{
    int32_t from = at;
    for (;;) {
        int32_t run = 0;
        for (; from < s->length && run < s->reuse; from++) {
            run = 0;
            while (at + run < limit && from + run < s->length && s->tokens[from + run] == tokens[at + run])
                run++;
            if (run >= s->reuse) break;
        }
        if (run < s->reuse) return at;
        if (to != KV_NONE) shift_rows(&s->forward, to, at, s->sequence, from, run);
        at += run;
        from += run;
    }
}

// Takes over what has moved in the timeline since (inexactly). False where there is less of it than `better` tokens, or no room.
static bool move_timeline(struct tlm_session *s, const int32_t *tokens, int32_t keep, int32_t limit,
                          int32_t better)
{
    struct kv_cache *c = &s->forward.cache;
    const struct tlm_model *m = s->forward.model;
    // What was read with learned positions cannot be turned to others.
    if (!s->reuse || m->real != DTYPE_F32 || m->weights.positions) return false;
    int32_t end = move_pieces(s, tokens, keep, limit, KV_NONE), to = end > better ? kv_acquire(c) : KV_NONE;
    if (to == KV_NONE) return false;
    if (kv_fork(c, to, s->sequence, keep) != keep || kv_reserve(c, to, end, NULL)) {
        kv_release(c, to);
        return false;
    }
    kv_mark_inexact(c, to, keep);
    move_pieces(s, tokens, keep, limit, to);
    kv_release(c, s->sequence);
    s->sequence = to;
    s->shifted += (uint64_t)(end - keep);
    s->length = end;
    return true;
}

void session_rewind(struct tlm_session *s, const int32_t *tokens, size_t limit)
{
    struct kv_cache *c = &s->forward.cache;
    int32_t keep = (int32_t)common_prefix(s, tokens, limit), best = 0;
    if (keep != s->length) s->logits_row = -1;
    int32_t other = KV_NONE;
    if (limit - (size_t)keep >= KV_BLOCK) { // maybe an earlier timeline began so
        other = kv_acquire(c);
        best = kv_match(c, other, tokens, (int32_t)limit);
    }
    if (!move_timeline(s, tokens, keep, (int32_t)limit, best > keep ? best : keep)) {
        s->length = kv_truncate(c, s->sequence, keep);
        if (best > s->length) {
            int32_t old = s->sequence;
            s->sequence = other;
            s->length = best;
            other = old;
        }
    }
    if (other != KV_NONE) kv_release(c, other);
    if (s->length)
        memcpy(s->tokens, tokens, (size_t)s->length * sizeof *tokens); // tokens may be NULL for none
}

// Computes tokens[length..count), with the logits of tokens[first_output..count).
static enum tlm_status advance(struct tlm_session *s, const int32_t *tokens, size_t count,
                               size_t first_output, tlm_logits_fn *report, void *user, struct tlm_error *err)
{
    struct kv_cache *cache = &s->forward.cache;
    s->logits_row = -1;
    s->reused += (uint64_t)s->length;
    while ((size_t)s->length < count) {
        int32_t rows = 0, outputs = 0, begin = s->length;
        while (rows < s->forward.config.max_rows && (size_t)(begin + rows) < count) {
            bool output = (size_t)(begin + rows) >= first_output;
            if (output && outputs == s->forward.config.max_outputs) break;
            s->rows[rows] = (struct forward_row){tokens[begin + rows], begin + rows, s->sequence, output};
            outputs += output;
            rows++;
        }
        enum tlm_status status = forward_run(&s->forward, s->rows, rows, err);
        if (status) {
            kv_truncate(cache, s->sequence, begin);
            return status;
        }
        memcpy(s->tokens + begin, tokens + begin, (size_t)rows * sizeof *tokens);
        s->length += rows;
        s->computed += (uint64_t)rows;
        kv_commit(cache, s->sequence, s->tokens, s->length);
        for (int32_t i = 0; report && i < outputs; i++)
            if (report(user, (size_t)(s->length - outputs + i), forward_logits(&s->forward, i)))
                return error_set(err, TLM_ERR_CANCELLED, "stopped at token %d", s->length - outputs + i);
        s->logits_row = s->forward.drawn ? -1 : outputs - 1;
    }
    return TLM_OK;
}

enum tlm_status tlm_session_sync(struct tlm_session *s, const int32_t *tokens, size_t count,
                                 struct tlm_error *err)
{
    enum tlm_status status = session_check(s, tokens, count, err);
    if (status) return status;
    if (s->logits_row >= 0 && (size_t)s->length == count && common_prefix(s, tokens, count) == count) {
        s->reused += count;
        return TLM_OK;
    }
    session_rewind(s, tokens, count - 1); // the last token is computed, for its logits
    return advance(s, tokens, count, count - 1, NULL, NULL, err);
}

enum tlm_status session_draw(struct tlm_session *s, const int32_t *tokens, size_t count,
                             struct tlm_sampler *sampler, int32_t *token, struct tlm_error *err)
{
    struct forward *f = &s->forward;
    enum tlm_status status = session_check(s, tokens, count, err);
    if (status) return status;
    session_rewind(s, tokens, count - 1);
    if (count - (size_t)s->length <= (size_t)f->config.max_rows) { // one pass, whose last row is drawn from
        forward_expect_draws(f, 1);
        forward_expect_draw(f, 0, sampler, NULL, 0);
    }
    if (!(status = advance(s, tokens, count, count - 1, NULL, NULL, err)))
        *token = forward_draw(f, 0, sampler);
    return status;
}

enum tlm_status tlm_session_logits_each(struct tlm_session *s, const int32_t *tokens, size_t count,
                                        size_t first, tlm_logits_fn *report, void *user,
                                        struct tlm_error *err)
{
    enum tlm_status status = session_check(s, tokens, count, err);
    if (status) return status;
    if (first >= count)
        return error_set(err, TLM_ERR_ARGUMENT, "first: expected 0 to %zu, found %zu", count - 1, first);
    session_rewind(s, tokens, first);
    return advance(s, tokens, count, first, report, user, err);
}

size_t tlm_session_cached(const struct tlm_session *s, const int32_t *tokens, size_t count)
{
    return common_prefix(s, tokens, count);
}

void tlm_session_trim(struct tlm_session *s, const int32_t *tokens, size_t count)
{
    session_rewind(s, tokens, count);
    kv_forget(&s->forward.cache);
}

const float *tlm_session_logits(const struct tlm_session *s)
{
    return s->logits_row < 0 ? NULL : forward_logits(&s->forward, s->logits_row);
}

struct tlm_session_info tlm_session_info(const struct tlm_session *s)
{
    const struct forward *f = &s->forward;
    const struct kv_stats cache = kv_stats(&f->cache);
    return (struct tlm_session_info){
        .context = f->config.context,
        .threads = f->config.threads,
        .batch = f->config.max_rows,
        .length = s->length,
        .kv_bytes = kv_bytes(&f->cache),
        .scratch_bytes = f->arena.size + f->step.memory.size,
        .tokens_computed = s->computed,
        .tokens_reused = s->reused,
        .tokens_shifted = s->shifted,
        .kv_bytes_held = (uint64_t)cache.bytes_held,
        .kv_bytes_idle = (uint64_t)cache.bytes_idle,
        .cache_asked = (uint64_t)cache.asked,
        .cache_found = (uint64_t)cache.found,
        .cache_evicted = (uint64_t)cache.evicted,
    };
}

const struct tlm_model *tlm_session_model(const struct tlm_session *s)
{
    return s->forward.model;
}
