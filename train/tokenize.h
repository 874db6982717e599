// train/tokenize.h -- a corpus becomes token shards: in parallel, in the order of its documents, in bounded memory.
//
// A document's ids are what the tokenizer makes of its text, with the token that begins a text where the tokenizer adds one, and
// the end-of-text token behind it where there is one. A conversation is what the chat template makes of it. Long texts are cut where
// no word is cut, so that threads can share them: the ids are those of the whole text.
#ifndef TRAIN_TOKENIZE_H
#define TRAIN_TOKENIZE_H

#include "core/threads.h"
#include "text/template.h"
#include "train/corpus.h"
#include "train/shard.h"

struct tokenize_options {
    const struct tokenizer *tokenizer;
    const struct template *template; // NULL: conversations are refused
    struct corpus_options corpus;
    bool special; // names of control tokens in texts become those tokens
    bool dedup;   // a document with the text of an earlier one is left out
    double
        validation; // which share of each file that is one document, its end, and of all other documents, by lot, goes
                    // to the second shard;
    int64_t validation_every; // or, where this is not 0, each so manieth document does
    struct threads *pool;
    bool (*progress)(void *user,
                     uint64_t bytes); // of text so far; false stops the work (ARGUMENT); NULL: none
    void *user;
};

// Writes to writers[0], and the validation part to writers[1], which may be NULL where no part is wanted. `duplicates` receives how
// many documents were left out. Errors: FORMAT (a line; a character that the vocabulary has no token for), UNSUPPORTED, IO, MEMORY.
enum tlm_status tokenize_corpus(const struct tokenize_options *o, struct corpus *corpus,
                                struct shard_writer *writers[2], int64_t *duplicates, struct tlm_error *err);

// The longest piece of a text from its beginning on, of about 64 KiB or longer, whose ids and those of the rest are the ids of the
// whole: the cut is in front of a line's end behind a letter, where the known pre-tokenizers of byte-level vocabularies cut.
size_t tokenize_cut(const char *text, size_t bytes);

#endif
