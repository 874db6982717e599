// text/vocabulary.h -- the keys of a vocabulary: those of our own, and a writer of keys into memory.
//
// tokenizer.json and tokenizer.model are opened by writing the keys that a GGUF file of the same model would have. What
// GGUF has no keys for stands under names of our own, so that a model that was converted encodes as it did before.
#ifndef TEXT_VOCABULARY_H
#define TEXT_VOCABULARY_H

#include "core/gguf.h"

// The "pre_tokenizer" and "normalizer" of a tokenizer.json, as text; they take the place of what tokenizer.ggml.pre says.
#define VOCABULARY_KEY_PRE_TOKENIZER "tinylm.tokenizer.pre_tokenizer"
#define VOCABULARY_KEY_NORMALIZER    "tinylm.tokenizer.normalizer"
// Of its BPE model.
#define VOCABULARY_KEY_IGNORE_MERGES "tinylm.tokenizer.ignore_merges"
#define VOCABULARY_KEY_FUSE_UNKNOWN  "tinylm.tokenizer.fuse_unknown"
// Scores in double precision.
#define VOCABULARY_KEY_SCORES "tinylm.tokenizer.scores"
// A byte a token: 1 takes the white space in front of a special token along, 2 the white space behind it.
#define VOCABULARY_KEY_STRIP "tinylm.tokenizer.strip"

// Metadata of a GGUF file that is being written into memory.
struct vocabulary {
    uint8_t *data;
    size_t size, room;
    uint64_t keys;
    bool failed; // there was no memory
};

bool vocabulary_open(struct vocabulary *v); // false without memory
void vocabulary_close(struct vocabulary *v);
void vocabulary_string(struct vocabulary *v, const char *key, const char *data, size_t length);
void vocabulary_u32(struct vocabulary *v, const char *key, uint32_t value);
void vocabulary_bool(struct vocabulary *v, const char *key, bool value);
// `items` are `count` numbers of that type.
void vocabulary_array(struct vocabulary *v, const char *key, enum gguf_type item, const void *items,
                      uint64_t count);
// Begins an array of strings; so many calls of vocabulary_item follow.
void vocabulary_strings(struct vocabulary *v, const char *key, uint64_t count);
void vocabulary_item(struct vocabulary *v, const char *data, size_t length);
// Ends the keys. `g` points into v->data, which the caller takes over with it. Errors: MEMORY, those of gguf_open_memory.
enum tlm_status vocabulary_finish(struct vocabulary *v, struct gguf **g, struct tlm_error *err);

#endif
