// train/shard.h -- token shards: corpora on disk as the token ids that training reads.
//
// A GGUF file, so that `tinylm info` shows it and nobody else mistakes it for a model:
//
//     general.architecture         "tinylm-tokens"
//     tinylm.tokens.version        1
//     tinylm.tokens.vocab_size     ids are below it
//     tinylm.tokens.tokenizer      hash of the tokenizer that made the ids, 32 hexadecimal digits
//     tinylm.tokens.bytes          of the texts; .characters likewise
//     tinylm.tokens.source         what it was made of, for people
//     tokens                       i16 that hold 16 unsigned bits where the vocabulary allows it, i32 else
//     documents                    i64, where each document begins; the first is 0
//
// It is mapped when read: opening it reads the tokens once, to check them.
#ifndef TRAIN_SHARD_H
#define TRAIN_SHARD_H

#include "text/tokenizer.h"

struct shard_hash {
    uint64_t part[2];
};

// Of all that decides which ids a text gets. Chat templates and special tokens' roles do not.
struct shard_hash shard_hash_tokenizer(const struct tokenizer *t);
// One more piece in a hash; a new hash is {{1, 2}}.
void shard_hash_add(struct shard_hash *h, const void *data, size_t bytes);

// ---- reading ------------------------------------------------------------------------------------------

struct shard {
    struct gguf *gguf;
    int64_t tokens, documents;
    int32_t vocab_size;
    struct shard_hash tokenizer;
    int64_t bytes, characters; // of the texts; 0: not said
    const uint16_t *narrow;    // (tokens) one of the two, the other is NULL
    const int32_t *wide;
    const int64_t *starts; // (documents) rising, the first is 0
};

// Errors: IO, FORMAT, UNSUPPORTED, MEMORY.
enum tlm_status shard_open(struct shard **out, const char *path, struct tlm_error *err);
void shard_close(struct shard *s); // NULL is allowed
// Refuses a tokenizer that would have given other ids. Errors: ARGUMENT.
enum tlm_status shard_check(const struct shard *s, const struct tokenizer *t, struct tlm_error *err);

static inline int32_t shard_token(const struct shard *s, int64_t i)
{
    return s->narrow ? s->narrow[i] : s->wide[i];
}

// The document that token i belongs to.
int64_t shard_document(const struct shard *s, int64_t i);

// ---- writing ------------------------------------------------------------------------------------------
//
// Ids go to a file without a name until their number is known, so memory holds the documents' places alone.

struct shard_writer;

// `source` is for people. Errors: IO, MEMORY.
enum tlm_status shard_writer_open(struct shard_writer **out, const char *path, const struct tokenizer *t,
                                  const char *source, struct tlm_error *err);
void shard_writer_close(struct shard_writer *w); // without a finish nothing is left; NULL is allowed
// Appends ids to the last document, or to a new one. Errors: IO, MEMORY.
enum tlm_status shard_writer_add(struct shard_writer *w, bool begins, const int32_t *ids, size_t count,
                                 struct tlm_error *err);
// `bytes` and `characters` more of text.
void shard_writer_count(struct shard_writer *w, int64_t bytes, int64_t characters);
int64_t shard_writer_tokens(const struct shard_writer *w);
int64_t shard_writer_characters(const struct shard_writer *w);
int64_t shard_writer_documents(const struct shard_writer *w);
// Errors: IO, MEMORY, ARGUMENT (no token came).
enum tlm_status shard_writer_finish(struct shard_writer *w, struct tlm_error *err);

#endif
