// text/bpe_learn.h -- the parts of training: a growing list of tokens, and the merges that make them.
#ifndef TEXT_BPE_LEARN_H
#define TEXT_BPE_LEARN_H

#include "text/word_count.h"

struct
    token_list { // texts as the vocabulary writes them (text/byte_alphabet.h); an id is a place in the list
    struct gguf_string *items;
    uint32_t count, room;
    uint32_t *table; // (mask + 1) ids + 1 by text, open addressing, at most half full; 0: free
    uint32_t mask;
};

void token_list_free(struct token_list *l);
// The id of a text, or -1.
int64_t token_list_find(const struct token_list *l, const char *text, size_t length);
// Adds a text that is not in the list yet; false without memory.
bool token_list_add(struct token_list *l, const char *text, size_t length);

struct learned_merge {
    uint32_t left, right, token;
};

struct merge_learner {
    struct token_list *tokens;    // special ones, then all bytes; the others are added
    uint32_t special_count;       // of the tokens; no merge makes one of them
    const uint32_t *byte_ids;     // (256)
    uint32_t vocab_size;          // learning ends with so many tokens,
    int64_t min_frequency;        // or where no pair is left that is seen so often
    struct learned_merge *merges; // the result, in order; for free()
    size_t merge_count;
};

// Errors: MEMORY.
enum tlm_status merge_learner_run(struct merge_learner *l, const struct counted_word *words, size_t count,
                                  struct tlm_error *err);

#endif
