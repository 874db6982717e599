// text/tokenizer_internal.h -- what text/tokenizer.c shares with the kinds of tokenizer, one file a kind.
//
// Encoding goes in two steps. text/special.c finds the tokens that are matched as they stand (user-defined
// ones, and control tokens where the caller asks for them); what is left between them are spans of plain
// text, which the kind encodes. Decoding is a token at a time: text/tokenizer.c knows control and byte
// tokens, the kind knows how the text of all others becomes bytes.
#ifndef TEXT_TOKENIZER_INTERNAL_H
#define TEXT_TOKENIZER_INTERNAL_H

#include <string.h>

#include "text/tokenizer.h"

// Vocabularies in use have tokens of a few hundred bytes at most. The bound keeps lengths small numbers.
enum { TOKEN_MAX_BYTES = 65535 };

struct token {
    const char *text; // into the file; not terminated
    uint16_t length;
    uint8_t type;      // enum token_type
    bool is_end;       // ends an answer
    uint8_t strip;     // of a special token: 1 takes the white space in front of it along, 2 that behind it
    uint32_t priority; // the score as a whole number: a larger one is merged first
};

struct token_table { // text to id: open addressing, at most half full, linear probing
    struct token_slot {
        uint32_t hash;
        int32_t id; // -1: free
    } * slots;
    uint32_t mask; // slots - 1, a power of two less one
};

struct special { // a token that is found in the text as it stands
    const char *text;
    uint32_t length;
    int32_t id;
    uint32_t rank; // 0 is taken first: longest, then lowest id
    bool always;   // user-defined: also without TLM_PARSE_SPECIAL
};

struct special_index { // sorted by text, so that those with a common beginning stand together
    struct special *items;
    uint32_t count;
    uint32_t first[257]; // items that begin with byte b are first[b] .. first[b + 1]
};

struct tokenizer {
    const struct tokenizer_kind *kind;
    struct token *tokens; // (size)
    int32_t size;
    uint32_t longest; // bytes of the longest token
    struct token_table table;
    struct special_index special;
    int32_t bos, eos, unknown; // -1: none
    bool adds_bos, adds_space; // adds_space: in front of each span of plain text
    int32_t byte_ids[256];     // the token of a byte that no other token covers; -1: none
    void *state;               // of the kind
    const struct gguf *gguf;   // the keys it was opened from
    struct gguf *own;          // the same where a folder's files were made into keys, NULL otherwise
    uint8_t *own_data;
};

struct id_sink { // counts all ids, keeps those that fit
    int32_t *ids;
    size_t capacity, count;
    bool first; // the span begins the input
};

struct byte_sink { // counts all bytes, keeps those that fit
    char *data;
    size_t capacity, count;
    bool drop_space; // the first byte is dropped if it is a space
};

struct tokenizer_kind {
    const char *name; // the value of tokenizer.ggml.model
    // Checks what the kind needs and builds its state; the token table and the special ids are there already.
    enum tlm_status (*open)(struct tokenizer *t, const struct gguf *g, struct tlm_error *err);
    void (*close)(struct tokenizer *t); // also after an open that failed
    // Appends the ids of a span of plain text (bytes > 0), which begins the input or follows a special token.
    enum tlm_status (*encode)(const struct tokenizer *t, const char *text, size_t bytes, struct id_sink *ids,
                              struct tlm_error *err);
    // Appends the bytes that the text of a normal token stands for.
    void (*decode)(const struct token *token, struct byte_sink *bytes);
    int32_t bos, eos, unknown; // what a file means that lacks the keys
    bool adds_bos, adds_space;
};

extern const struct tokenizer_kind tokenizer_spm, tokenizer_bpe, tokenizer_bpe_raw, tokenizer_unigram;

// The decoding of kinds that write a space as U+2581.
void marked_decode(const struct token *token, struct byte_sink *bytes);

uint32_t token_hash(const char *text, size_t length);

// The token whose text is exactly those bytes, or -1.
int32_t token_find(const struct tokenizer *t, const char *text, size_t length);

struct special_match {
    uint32_t start;
    uint32_t item; // in special_index.items
};

enum tlm_status special_index_init(struct special_index *index, const struct tokenizer *t,
                                   struct tlm_error *err);
void special_index_free(struct special_index *index);
// All special tokens of the text, in order, as a new table that the caller frees (NULL where there are none).
// `all`: control tokens too.
enum tlm_status special_find(const struct special_index *index, const char *text, uint32_t bytes, bool all,
                             struct special_match **matches, size_t *count, struct tlm_error *err);

static inline void id_sink_put(struct id_sink *s, int32_t id)
{
    if (s->count < s->capacity) s->ids[s->count] = id;
    s->count++;
}

static inline void byte_sink_put(struct byte_sink *s, char byte)
{
    bool drop = s->drop_space && byte == ' ';
    s->drop_space = false;
    if (drop) return;
    if (s->count < s->capacity) s->data[s->count] = byte;
    s->count++;
}

#endif
