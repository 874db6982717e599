// text/tokenizer.h -- text to token ids and back, as the vocabulary in a GGUF file says.
//
// One file a kind of tokenizer; text/tokenizer.c opens the vocabulary and shares what all kinds need: the token
// table, special tokens, byte tokens, and decoding. Today: SentencePiece BPE as GGUF stores it
// (tokenizer.ggml.model = "llama"): tokens, scores, types; an added space; unknown characters as byte tokens.
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "core/gguf.h"

struct tokenizer;

enum token_type { // tokenizer.ggml.token_type
    TOKEN_NORMAL = 1, TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER_DEFINED = 4, TOKEN_UNUSED = 5, TOKEN_BYTE = 6
};

// Reads the tokenizer.ggml.* keys. The tokenizer keeps pointers into `g`, which must outlive it.
// Errors: FORMAT (missing or inconsistent keys), UNSUPPORTED (a kind we do not have), MEMORY.
enum tlm_status tokenizer_open(struct tokenizer **out, const struct gguf *g, struct tlm_error *err);
void tokenizer_close(struct tokenizer *t); // NULL is allowed

int32_t tokenizer_size(const struct tokenizer *t);
enum token_type tokenizer_type(const struct tokenizer *t, int32_t id);
struct gguf_string tokenizer_token(const struct tokenizer *t, int32_t id); // the table's entry, untouched
int32_t tokenizer_bos(const struct tokenizer *t);                          // -1: none; likewise below
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_adds_bos(const struct tokenizer *t);
bool tokenizer_is_end(const struct tokenizer *t, int32_t id); // eos, eot, eom and tokens named like them

// Flags and counts as tlm_tokenize(). Errors: ARGUMENT (more than 2^30 bytes at once), MEMORY.
enum tlm_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, int flags, int32_t *ids,
                                 size_t capacity, size_t *count, struct tlm_error *err);

// Appends nothing more than the bytes of token `id` to text[0..capacity) and returns how many it has (at most
// capacity are written). `first` drops the space that encoding added; `special` writes the names of control tokens.
size_t tokenizer_piece(const struct tokenizer *t, int32_t id, bool first, bool special, char *text, size_t capacity);

// How many of `bytes` bytes can be shown now: all but a UTF-8 character at the end that is not yet whole.
// Bytes that can never become a character count as whole.
size_t utf8_complete(const char *text, size_t bytes);

#endif
