// train/dataset.h -- from token shards to training examples.
//
// The shards' tokens are one stream, documents one behind the other; a shard that is named twice is in it twice. An example is a
// window of the stream:
//
//     tokens     a b c $ d e f g     $ is the end-of-text token, here with context 8
//     targets    b c $ . e f g h     the next token of the same document; -1 (.) where there is none, which no loss counts
//     positions  0 1 2 3 0 1 2 3     within the document, or within the part of it that the window has
//     segments   0 0 0 0 1 1 1 1     attention never goes from one to another
//
// Examples have numbers, and number n is a function of the shards, the context, the seed and n alone: a run that stops needs to
// remember one number. An epoch has every window once. Its windows lie side by side on the stream closed to a ring, from a place
// drawn for the epoch on, so that documents are cut elsewhere each time; they come in the order of a permutation drawn for the epoch.
// Each token is in exactly one window of an epoch, and each but the first of a document is a target exactly once. The last window
// on the ring may be short; then its end is padded with tokens 0 without targets, a segment of their own.
#ifndef TRAIN_DATASET_H
#define TRAIN_DATASET_H

#include "train/shard.h"

struct dataset_options {
    int64_t context; // tokens of an example, at least 1
    uint64_t seed;
    bool in_order; // for validation: every epoch from the first token on, window by window
};

struct dataset;

// Opens the shards; `t` is the model's tokenizer, which must be the one that made them, or NULL for any one. Errors: those of
// shard_open(), ARGUMENT (another tokenizer, no shard, a context out of range).
enum tlm_status dataset_open(struct dataset **out, const char *const *paths, size_t count,
                             const struct tokenizer *t, const struct dataset_options *o,
                             struct tlm_error *err);
void dataset_close(struct dataset *ds); // NULL is allowed

int64_t dataset_windows(const struct dataset *ds); // examples an epoch
int64_t dataset_tokens(const struct dataset *ds);  // of the stream
int64_t dataset_targets(const struct dataset *ds); // that an epoch has: tokens but the first of each document
int64_t dataset_documents(const struct dataset *ds);
int64_t dataset_bytes(const struct dataset *ds); // of the texts; 0: not known
int32_t dataset_vocab_size(const struct dataset *ds);

// Writes example `number` of the endless stream of epochs into four arrays (context); any number of threads may do so at once. Returns
// how many targets it has.
int64_t dataset_example(const struct dataset *ds, uint64_t number, int32_t *tokens, int32_t *targets,
                        int32_t *positions, int32_t *segments);

// Which window comes at place i (of n) in the order of an epoch: for every seed and epoch a permutation of 0 .. n - 1.
uint64_t dataset_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i);

#endif
