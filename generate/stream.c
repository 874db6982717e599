#include "generate/stream.h"

#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

enum tlm_status stream_open(struct stream *s, const struct tlm_model *model,
                            const struct tlm_generate_options *options, struct tlm_error *err)
{
    *s = (struct stream){.model = model, .options = options, .capacity = 256};
    s->text = malloc(s->capacity);
    return s->text ? TLM_OK
                   : error_set(err, TLM_ERR_MEMORY, "answer: no memory for %zu bytes of text", s->capacity);
}

void stream_close(struct stream *s)
{
    free(s->text);
    *s = (struct stream){0};
}

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

enum tlm_status stream_token(struct stream *s, int32_t token, bool *stopped, bool *cancelled,
                             struct tlm_error *err)
{
    *stopped = *cancelled = false;
    if (!tlm_token_is_end(s->model, token) || s->options->special) {
        enum tlm_status status = append(s, token, err);
        if (status) return status;
    }
    size_t bytes = sendable(s, stopped);
    *cancelled = hand_out(s, token, bytes);
    if (*stopped) s->bytes = 0;
    return TLM_OK;
}

void stream_end(struct stream *s)
{
    if (s->options->on_token) s->options->on_token(s->options->user, -1, s->text, s->bytes);
}
