// text/tokenizer.h -- text to token ids and back, as the vocabulary in a GGUF file says.
//
// One file a kind of tokenizer; text/tokenizer.c opens the vocabulary and shares what all kinds need: the token
// table, special tokens, byte tokens, and decoding. The kinds, by tokenizer.ggml.model: "llama" (SentencePiece BPE,
// text/spm.c), "gpt2" and "gemma4" (BPE by merges over bytes and over characters, text/bpe.c), "t5" (unigram).
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "core/gguf.h"
#include "text/span.h"

struct tokenizer;

enum token_type { // tokenizer.ggml.token_type
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6
};

// Reads the tokenizer.ggml.* keys. The tokenizer keeps pointers into `g`, which must outlive it.
// Errors: FORMAT (missing or inconsistent keys), UNSUPPORTED (a kind we do not have), MEMORY.
enum tlm_status tokenizer_open(struct tokenizer **out, const struct gguf *g, struct tlm_error *err);
// The same for the files of a Hugging Face folder: tokenizer.json, or else SentencePiece's tokenizer.model; with
// tokenizer_config.json where it is there. Errors: also IO.
enum tlm_status tokenizer_open_folder(struct tokenizer **out, const char *folder, struct tlm_error *err);
void tokenizer_close(struct tokenizer *t); // NULL is allowed

// Writes all keys that the tokenizer was opened from (tokenizer.*, tinylm.tokenizer.*), the chat template among them.
void tokenizer_write_gguf(const struct tokenizer *t, struct gguf_writer *w);
// Those keys as they stand; they live as long as the tokenizer.
const struct gguf *tokenizer_keys(const struct tokenizer *t);

int32_t tokenizer_size(const struct tokenizer *t);
enum token_type tokenizer_type(const struct tokenizer *t, int32_t id);
struct gguf_string tokenizer_token(const struct tokenizer *t, int32_t id); // the table's entry, untouched
int32_t tokenizer_bos(const struct tokenizer *t);                          // -1: none; likewise below
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_adds_bos(const struct tokenizer *t);
bool tokenizer_is_end(const struct tokenizer *t, int32_t id); // eos, eot, eom and tokens named like them

// Flags and counts as tlm_tokenize(). Errors: ARGUMENT (more than 2^30 bytes at once), MEMORY.
enum tlm_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, int flags,
                                 int32_t *ids, size_t capacity, size_t *count, struct tlm_error *err);

// The same without flags, for what a chat template wrote: control tokens are found by their names everywhere but in the spans
// `plain` (rising, apart from each other), which are what people and files said. Nothing is added in front.
enum tlm_status tokenizer_encode_rendered(const struct tokenizer *t, const char *text, size_t bytes,
                                          const struct text_span *plain, size_t plain_count, int32_t *ids,
                                          size_t capacity, size_t *count, struct tlm_error *err);

// Appends nothing more than the bytes of token `id` to text[0..capacity) and returns how many it has (at most
// capacity are written). `first` drops the space that encoding added; `special` writes the names of control tokens.
size_t tokenizer_piece(const struct tokenizer *t, int32_t id, bool first, bool special, char *text,
                       size_t capacity);

// How many of `bytes` bytes can be shown now: all but a UTF-8 character at the end that is not yet whole.
// Bytes that can never become a character count as whole.
size_t utf8_complete(const char *text, size_t bytes);

#endif
