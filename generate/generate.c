// generate/generate.c -- tlm_generate(): the loop from a prompt to an answer, and the text that streams out of it.
#include <string.h>
#include <time.h>

#include "core/error.h"
#include "text/tokenizer.h"

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Text of the answer that was not handed out yet: the tail of a UTF-8 character, or what may become a stop string.
struct stream {
    const struct tlm_generate_options *options;
    const struct tlm_model *model;
    char *text; // held back
    size_t bytes, capacity;
};

// Bytes from the start of the held text that can go out now; *stopped where a stop string is whole. A stop string that may
// still come holds back all from its first byte.
static size_t sendable(const struct stream *s, bool *stopped)
{
    size_t limit = s->bytes;
    *stopped = false;
    for (size_t i = 0; i < s->options->stop_count; i++) {
        const char *stop = s->options->stop[i];
        size_t n = strlen(stop);
        for (size_t at = 0; n && at < limit; at++) {
            size_t rest = s->bytes - at, have = rest < n ? rest : n;
            if (memcmp(s->text + at, stop, have)) continue;
            if (have == n) *stopped = true;
            limit = at; // the earliest wins, whole or not
        }
    }
    if (*stopped) { // only if the earliest match is a whole one does the answer end here
        *stopped = false;
        for (size_t i = 0; i < s->options->stop_count; i++) {
            size_t n = strlen(s->options->stop[i]);
            if (n && n <= s->bytes - limit && !memcmp(s->text + limit, s->options->stop[i], n))
                *stopped = true;
        }
    }
    return *stopped ? limit : utf8_complete(s->text, limit);
}

static int hand_out(struct stream *s, int32_t token, size_t bytes)
{
    int stop = s->options->on_token ? s->options->on_token(s->options->user, token, s->text, bytes) : 0;
    memmove(s->text, s->text + bytes, s->bytes - bytes);
    s->bytes -= bytes;
    return stop;
}

// Appends the token's bytes to what is held back. Errors: MEMORY.
static enum tlm_status append(struct stream *s, int32_t token, struct tlm_error *err)
{
    size_t length = 0;
    enum tlm_status status;
    for (;;) {
        int flags = TLM_CONTINUE | (s->options->special ? TLM_SHOW_SPECIAL : 0);
        if ((status = tlm_detokenize(s->model, &token, 1, flags, s->text + s->bytes, s->capacity - s->bytes,
                                     &length, err)))
            return status;
        if (length <= s->capacity - s->bytes) break;
        char *grown = realloc(s->text, 2 * (s->capacity + length));
        if (!grown)
            return error_set(err, TLM_ERR_MEMORY, "answer: no memory for %zu bytes of text", s->capacity);
        s->text = grown;
        s->capacity = 2 * (s->capacity + length);
    }
    s->bytes += length;
    return TLM_OK;
}

struct loop {
    struct tlm_session *session;
    struct tlm_sampler *sampler;
    const struct tlm_generate_options *options;
    struct tlm_generate_result *result;
    struct stream stream;
    size_t capacity, count; // of result->tokens
};

// Draws one token and says in *finish whether it was the last; false in *more ends the loop.
static enum tlm_status draw(struct loop *l, const struct tlm_model *model, bool *more, struct tlm_error *err)
{
    struct tlm_generate_result *r = l->result;
    int32_t token = tlm_sampler_next(l->sampler, tlm_session_logits(l->session));
    tlm_sampler_accept(l->sampler, token);
    r->tokens[l->count++] = token;
    r->new_tokens++;
    bool end = tlm_token_is_end(model, token), stopped = false;
    enum tlm_status status = end && !l->options->special ? TLM_OK : append(&l->stream, token, err);
    if (status) return status;
    size_t bytes = sendable(&l->stream, &stopped);
    *more = false;
    if (hand_out(&l->stream, token, bytes))
        r->finish = TLM_FINISH_CANCELLED;
    else if (end)
        r->finish = TLM_FINISH_END;
    else if (stopped)
        r->finish = TLM_FINISH_STOP, l->stream.bytes = 0;
    else if (l->options->max_tokens && r->new_tokens >= l->options->max_tokens)
        r->finish = TLM_FINISH_LENGTH;
    else if (l->count >= l->capacity)
        r->finish = TLM_FINISH_CONTEXT;
    else
        *more = true;
    return TLM_OK;
}

enum tlm_status tlm_generate(struct tlm_session *session, struct tlm_sampler *sampler, const int32_t *prompt,
                             size_t count, const struct tlm_generate_options *options,
                             struct tlm_generate_result *result, struct tlm_error *err)
{
    const struct tlm_model *model = tlm_session_model(session);
    *result = (struct tlm_generate_result){0};
    size_t context = (size_t)tlm_session_info(session).context;
    if (count > context)
        return error_set(err, TLM_ERR_CONTEXT, "prompt: %zu tokens do not fit into a context of %zu", count,
                         context);
    // The last drawn token needs no place in the cache.
    size_t capacity = context + 1;
    if (options->max_tokens > 0 && count + (size_t)options->max_tokens < capacity)
        capacity = count + (size_t)options->max_tokens;
    struct loop l = {
        session,  sampler, options, result, {.options = options, .model = model, .capacity = 256},
        capacity, count};
    result->tokens = malloc(capacity * sizeof *result->tokens);
    l.stream.text = malloc(l.stream.capacity);
    enum tlm_status status = TLM_OK;
    if (!result->tokens || !l.stream.text)
        status = error_set(err, TLM_ERR_MEMORY, "answer: no memory for %zu tokens", capacity);
    double start = seconds();
    uint64_t reused = tlm_session_info(session).tokens_reused;
    if (!status) {
        memcpy(result->tokens, prompt, count * sizeof *prompt);
        tlm_sampler_set_history(sampler, prompt, count);
        status = tlm_session_sync(session, prompt, count, err);
    }
    result->prompt_tokens = (int32_t)count;
    result->reused_tokens = (int32_t)(tlm_session_info(session).tokens_reused - reused);
    result->prompt_seconds = seconds() - start;
    bool more = capacity > count;
    if (!more) result->finish = TLM_FINISH_CONTEXT;
    while (!status && more) {
        status = draw(&l, model, &more, err);
        if (!status && more) status = tlm_session_sync(session, result->tokens, l.count, err);
    }
    result->new_seconds = seconds() - start - result->prompt_seconds;
    if (!status && options->on_token) options->on_token(options->user, -1, l.stream.text, l.stream.bytes);
    free(l.stream.text);
    return status;
}
