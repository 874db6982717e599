// text/bpe_train.h -- makes a vocabulary of texts: by merges of bytes, or of the characters themselves.
//
// Either is a byte-level vocabulary ("gpt2" in GGUF, text/bpe.c), so that every engine reads it:
//
//   merges      special tokens, the 256 bytes in the order of their alphabet, then a token a merge. The merges are those of the
//               BpeTrainer of Hugging Face's tokenizers over the same words.
//   characters  special tokens, then the characters of the texts: those of one byte in order, then all others in order, each
//               behind the beginnings of it that its merges go through. ASCII texts have no merges, and the vocabulary is the
//               set of their characters. A character that did not occur is the unknown token; without one it has no token
//               at all, and encoding drops it, as other engines do.
#ifndef TEXT_BPE_TRAIN_H
#define TEXT_BPE_TRAIN_H

#include "core/gguf.h"
#include "core/threads.h"

struct bpe_train_options {
    const char *pre;       // how texts are cut, a value of tokenizer.ggml.pre; NULL: "gpt-2"
    bool characters;       // instead of merges; what follows in this struct about merges is not used then
    int32_t vocab_size;    // at most so many tokens, special ones and bytes among them
    int64_t min_frequency; // a pair that is seen less often is not merged
    const char *const
        *special; // become tokens 0, 1, ..., each of its own, and end a word where texts have them
    size_t special_count;
    const char *bos, *eos, *unknown; // which of the special ones have these roles; NULL: none has
};

struct bpe_train;

// The options and the pool must outlive it. Errors: ARGUMENT, MEMORY.
enum tlm_status bpe_train_open(struct bpe_train **out, const struct bpe_train_options *options,
                               struct threads *pool, struct tlm_error *err);
void bpe_train_close(struct bpe_train *t); // NULL is allowed
// One more text (a document), of any bytes. Errors: UNSUPPORTED, MEMORY.
enum tlm_status bpe_train_add(struct bpe_train *t, const char *text, size_t bytes, struct tlm_error *err);
// Makes the vocabulary; nothing can be added behind it. Errors: ARGUMENT (no text), MEMORY.
enum tlm_status bpe_train_run(struct bpe_train *t, struct tlm_error *err);
int32_t bpe_train_size(const struct bpe_train *t); // tokens
int64_t bpe_train_merges(const struct bpe_train *t);
int64_t bpe_train_words(const struct bpe_train *t); // different ones that were seen
// Writes the keys of a vocabulary, tokenizer.ggml.*. Errors: MEMORY.
enum tlm_status bpe_train_write(const struct bpe_train *t, struct gguf_writer *w, struct tlm_error *err);

#endif
