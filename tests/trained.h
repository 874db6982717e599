// tests/trained.h -- vocabularies that a test trains.
#ifndef TESTS_TRAINED_H
#define TESTS_TRAINED_H

#include <check.h>
#include <string.h>

#include "core/file.h"
#include "text/bpe_train.h"
#include "text/tokenizer.h"

struct trained { // a vocabulary, opened
    struct gguf *g;
    void *data;
    struct tokenizer *t;
};

static inline struct trained trained_open(const struct bpe_train_options *o, int threads,
                                          const char *const *texts, const size_t *sizes, size_t count,
                                          const char *template)
{
    struct tlm_error err = {0};
    struct threads *pool;
    struct bpe_train *train;
    struct gguf_writer *w;
    struct trained v;
    size_t size;
    ck_assert(!threads_open(&pool, threads, &err));
    ck_assert_msg(!bpe_train_open(&train, o, pool, &err), "%s", err.text);
    for (size_t i = 0; i < count; i++) ck_assert(!bpe_train_add(train, texts[i], sizes[i], &err));
    ck_assert_msg(!bpe_train_run(train, &err), "%s", err.text);
    ck_assert(!gguf_writer_open_memory(&w, "trained", &err));
    ck_assert(!bpe_train_write(train, w, &err));
    if (template) gguf_set_string(w, "tokenizer.chat_template", template, strlen(template));
    ck_assert(!gguf_writer_take(w, &v.data, &size, &err));
    gguf_writer_close(w);
    ck_assert_msg(!gguf_open_memory(&v.g, v.data, size, "trained", &err), "%s", err.text);
    ck_assert_msg(!tokenizer_open(&v.t, v.g, &err), "%s", err.text);
    ck_assert_int_eq(tokenizer_size(v.t), bpe_train_size(train));
    bpe_train_close(train);
    threads_close(pool);
    return v;
}

static inline void trained_close(struct trained *v)
{
    tokenizer_close(v->t);
    gguf_close(v->g);
    free(v->data);
}

// Of tests/golden/tales.txt: 600 tokens, of which <|endoftext|> (0) ends a text, <|user|> is 1 and <|end|> is 2.
static inline struct trained trained_demo(const char *template)
{
    static const char *const special[] = {"<|endoftext|>", "<|user|>", "<|end|>"};
    struct bpe_train_options o = {
        .vocab_size = 600, .min_frequency = 2, .special = special, .special_count = 3, .eos = special[0]};
    struct tlm_error err = {0};
    char *text;
    size_t size;
    ck_assert(!file_read("tests/golden/tales.txt", &text, &size, &err));
    struct trained v = trained_open(&o, 2, (const char *const[]){text}, &size, 1, template);
    free(text);
    return v;
}

#endif
