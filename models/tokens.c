// models/tokens.c -- the tokens section of tinylm.h: a model's vocabulary.
#include "models/model.h"

static enum tlm_status need_tokenizer(const struct tlm_model *m, struct tlm_error *err)
{
    if (m->tokenizer) return TLM_OK;
    if (err) *err = m->tokenizer_error;
    return m->tokenizer_error.code;
}

enum tlm_status tlm_tokenize(const struct tlm_model *m, const char *text, size_t bytes, int flags,
                             int32_t *ids, size_t capacity, size_t *count, struct tlm_error *err)
{
    enum tlm_status s = need_tokenizer(m, err);
    return s ? s : tokenizer_encode(m->tokenizer, text, bytes, flags, ids, capacity, count, err);
}

enum tlm_status tlm_detokenize(const struct tlm_model *m, const int32_t *ids, size_t count, int flags,
                               char *text, size_t capacity, size_t *length, struct tlm_error *err)
{
    enum tlm_status s = need_tokenizer(m, err);
    if (s) return s;
    size_t total = 0;
    bool first = !(flags & TLM_CONTINUE);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tlm_model_vocab_size(m))
            return error_set(err, TLM_ERR_ARGUMENT, "token %zu: expected an id from 0 to %d, found %d", i,
                             tlm_model_vocab_size(m) - 1, ids[i]);
        if (ids[i] >= tokenizer_size(m->tokenizer)) continue; // a row of padding: no text
        size_t room = total < capacity ? capacity - total : 0;
        total += tokenizer_piece(m->tokenizer, ids[i], first, flags & TLM_SHOW_SPECIAL,
                                 text ? text + (capacity - room) : NULL, room);
        // The added space stands before the first token that is text: a leading begin-of-sequence does not count.
        if (tokenizer_type(m->tokenizer, ids[i]) != TOKEN_CONTROL) first = false;
    }
    *length = total;
    return TLM_OK;
}

int32_t tlm_token_bos(const struct tlm_model *m)
{
    return m->tokenizer ? tokenizer_bos(m->tokenizer) : -1;
}

int32_t tlm_token_eos(const struct tlm_model *m)
{
    return m->tokenizer ? tokenizer_eos(m->tokenizer) : -1;
}

bool tlm_token_is_end(const struct tlm_model *m, int32_t token)
{
    return m->tokenizer && token >= 0 && token < tokenizer_size(m->tokenizer) &&
           tokenizer_is_end(m->tokenizer, token);
}

bool tlm_adds_bos(const struct tlm_model *m)
{
    return m->tokenizer && tokenizer_adds_bos(m->tokenizer);
}
