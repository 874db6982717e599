// cli/chat_cache.c -- what chat's cache holds of each turn of the conversation, and freeing by hand.
//
// A turn is a named chunk of the cache: its number, and the tokens that the prompt has of it. The prompts of the conversation up to
// each turn tell where it ends: what they have in common with the whole.
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/chat.h"

enum { SHOWN = 48 }; // characters of a message

static size_t in_common(const struct conversation_prompt *a, const struct conversation_prompt *b)
{
    size_t n = 0;
    while (n < a->count && n < b->count && a->ids[n] == b->ids[n]) n++;
    return n;
}

// Tokens of `whole` in front of message number `messages`.
static enum tlm_status tokens_before(const struct chat *c, const struct conversation_prompt *whole,
                                     size_t messages, size_t *tokens, struct tlm_error *err)
{
    struct conversation_prompt part;
    enum tlm_status status = conversation_prompt_of(&c->conversation, messages, &part, err);
    if (status) return status;
    *tokens = messages < json_array_size(c->conversation.messages) ? in_common(&part, whole) : whole->count;
    free(part.ids);
    return TLM_OK;
}

// The beginning of a message on one line, without what a terminal would take for more than letters.
static void print_beginning(const struct chat *c, size_t message)
{
    const json_t *m = json_array_get(c->conversation.messages, message);
    const char *text = json_string_value(json_object_get(m, "content"));
    size_t shown = 0;
    for (; text && *text && shown < SHOWN; text++) {
        if (((unsigned char)*text & 0xc0) != 0x80) shown++;
        fputc(iscntrl((unsigned char)*text) ? ' ' : *text, stderr);
    }
    fputs(text && *text ? "...\n" : "\n", stderr);
}

static enum tlm_status print_turns(const struct chat *c, const struct conversation_prompt *whole,
                                   struct tlm_error *err)
{
    size_t cached = tlm_session_cached(c->session, whole->ids, whole->count), begin = 0, end;
    size_t messages = json_array_size(c->conversation.messages);
    for (size_t n = 0, first = 0; first < messages; n++, begin = end) {
        size_t next = conversation_turn(&c->conversation, n + 1);
        enum tlm_status status = tokens_before(c, whole, next, &end, err);
        if (status) return status;
        if (next > first) {
            char name[32];
            snprintf(name, sizeof name, n ? "turn %zu" : "system", n);
            size_t held = cached < begin ? 0 : cached < end ? cached - begin : end - begin;
            fprintf(stderr, "%-9s%6zu tokens, %6zu in the cache  ", name, end - begin, held);
            print_beginning(c, first);
        }
        first = next;
    }
    return TLM_OK;
}

bool chat_cache(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)operand;
    struct tlm_session_info info = tlm_session_info(c->session);
    char all[16], held[16], idle[16];
    struct conversation_prompt whole = {0};
    if (json_array_size(c->conversation.messages) && !conversation_prompt(&c->conversation, &whole, err))
        print_turns(c, &whole, err);
    free(whole.ids);
    fprintf(stderr,
            "cache: %s of %s hold this conversation, %s earlier ones; of %" PRIu64
            " tokens looked for in these %" PRIu64 " were found (%.0f%%); %" PRIu64
            " blocks were given up for others\n",
            common_human_bytes(info.kv_bytes_held, held, sizeof held),
            common_human_bytes(info.kv_bytes, all, sizeof all),
            common_human_bytes(info.kv_bytes_idle, idle, sizeof idle), info.cache_asked, info.cache_found,
            info.cache_asked ? 100.0 * (double)info.cache_found / (double)info.cache_asked : 0.0,
            info.cache_evicted);
    return true;
}

// Keeps of the cache what the conversation, as it is now, can use.
static enum tlm_status trim(struct chat *c, struct tlm_error *err)
{
    struct conversation_prompt whole = {0};
    enum tlm_status status = TLM_OK;
    if (conversation_exchanges(&c->conversation)) status = conversation_prompt(&c->conversation, &whole, err);
    if (!status) tlm_session_trim(c->session, whole.ids, whole.count);
    free(whole.ids);
    return status;
}

bool chat_free(struct chat *c, const char *operand, struct tlm_error *err)
{
    struct tlm_session_info before = tlm_session_info(c->session), after;
    bool all = !strcmp(operand, "all");
    char *end, bytes[16];
    long n = strtol(operand, &end, 10);
    if (!all && (*end || end == operand || n < 1 || !conversation_drop_turn(&c->conversation, (size_t)n))) {
        fprintf(stderr, "/free: expected the number of a turn (/cache lists them) or all, found '%s'\n",
                operand);
        return true;
    }
    if (all)
        tlm_session_trim(c->session, NULL, 0);
    else if (trim(c, err))
        return true;
    after = tlm_session_info(c->session);
    uint64_t held = before.kv_bytes_held + before.kv_bytes_idle,
             left = after.kv_bytes_held + after.kv_bytes_idle;
    fprintf(stderr, "%s is free; the cache holds %" PRId32 " tokens of the conversation.\n",
            common_human_bytes(held > left ? held - left : 0, bytes, sizeof bytes), after.length);
    return true;
}
