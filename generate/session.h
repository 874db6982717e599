// generate/session.h -- inside a session: one timeline of tokens over a forward pass.
#ifndef GENERATE_SESSION_H
#define GENERATE_SESSION_H

#include "generate/forward.h"

struct tlm_session {
    struct forward forward;
    struct forward_row *rows; // [batch]
    int32_t *tokens;          // [context] the timeline; those in the cache are tokens[0..length)
    int32_t length;
    int32_t sequence;   // of the cache
    int32_t logits_row; // output of the last pass that belongs to the timeline's end; -1: none
    int32_t reuse;      // pieces that moved are reused from so many tokens on; 0: never
    uint64_t computed, reused, shifted;
};

// Makes the cache hold the longest beginning of tokens[0..limit) that it can without computing: what the timeline has, or what it had
// before. s->length receives its length, and s->tokens the tokens.
void session_rewind(struct tlm_session *s, const int32_t *tokens, size_t limit);
// Fills what tlm_session_options and tlm_batch_options have in common into *c, which holds what they say; zeros become defaults.
// Errors: ARGUMENT.
enum tlm_status session_resolve(const struct tlm_model *m, struct forward_config *c, const char *kv_type_k,
                                const char *kv_type_v, struct tlm_error *err);
// An id outside the vocabulary among tokens[first..count) is an ARGUMENT error.
enum tlm_status session_check_ids(const struct tlm_model *m, const int32_t *tokens, size_t first,
                                  size_t count, struct tlm_error *err);
// Errors: ARGUMENT (no token, an id outside the vocabulary), CONTEXT.
enum tlm_status session_check(const struct tlm_session *s, const int32_t *tokens, size_t count,
                              struct tlm_error *err);
// As tlm_session_sync(), and draws the next token, where the logits are if that can be: they are not asked for any more then.
enum tlm_status session_draw(struct tlm_session *s, const int32_t *tokens, size_t count,
                             struct tlm_sampler *sampler, int32_t *token, struct tlm_error *err);

#endif
