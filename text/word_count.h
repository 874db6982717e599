// text/word_count.h -- how often each word of a corpus occurs: what a tokenizer is trained on.
//
// Texts are cut into words as encoding will cut them, so that what is learned is what will be met. They are gathered into
// batches whose pieces the threads share; each thread counts into a table of its own, and the tables are joined at the end.
// The counts do not depend on the number of threads.
#ifndef TEXT_WORD_COUNT_H
#define TEXT_WORD_COUNT_H

#include "core/gguf.h"
#include "core/threads.h"
#include "text/pretokenizer.h"

// A longer word (a line of base64, say) is counted in pieces of this many bytes: no useful token is longer, and looking for
// pairs in it again and again would take for ever.
enum { COUNTED_WORD_MAX = 1024 };

struct counted_word {
    const char *text; // not terminated
    uint32_t bytes, hash;
    int64_t count;
};

struct word_counter;

// `special` are texts that stand for tokens of their own: they end a word and are not counted. They and the pool must outlive the
// counter. Errors: FORMAT, MEMORY.
enum tlm_status word_counter_open(struct word_counter **out, const struct pretokenizer_info *pre,
                                  const struct gguf_string *special, size_t special_count,
                                  struct threads *pool, struct tlm_error *err);
void word_counter_close(struct word_counter *c); // NULL is allowed
// Counts the words of one more text, which may be freed then. Errors: UNSUPPORTED (an expression ran over its limits), MEMORY.
enum tlm_status word_counter_add(struct word_counter *c, const char *text, size_t bytes,
                                 struct tlm_error *err);
// All words, each once, in no particular order; the array and the texts live as long as the counter. Nothing can be added behind it.
enum tlm_status word_counter_finish(struct word_counter *c, const struct counted_word **words, size_t *count,
                                    struct tlm_error *err);

#endif
